//! connect and glibc's `__connect`.

use std::ffi::c_int;

use libc::{sockaddr, socklen_t};

use super::attempts::attempts;
use super::reals::{CONNECT, CONNECT_ALIAS, Connect};
use super::system_call;
use crate::core::connect::Attempt;

/// connect(2): to an endpoint of the mesh where the address is one of its destinations.
///
/// # Safety
/// As connect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    let real = real();
    // SAFETY: the real call with the program's arguments, or with an address of ours.
    attempts!(Attempt::connect(), fd, address, length, |to, length| unsafe { real(fd, to, length) })
}

/// glibc's other name of connect.
///
/// # Safety
/// As connect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    let real = CONNECT_ALIAS.get().unwrap_or(real());
    // SAFETY: as above.
    attempts!(Attempt::connect(), fd, address, length, |to, length| unsafe { real(fd, to, length) })
}

extern "C" fn real() -> Connect {
    CONNECT.get().unwrap_or(by_system_call)
}

/// Where libc exports none (it always does).
unsafe extern "C" fn by_system_call(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the program's arguments.
    unsafe {
        system_call::real()(libc::SYS_connect, i64::from(fd), address as i64, i64::from(length), 0, 0, 0) as c_int
    }
}
