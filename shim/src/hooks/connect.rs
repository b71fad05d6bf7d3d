//! connect and glibc's `__connect`.

use std::ffi::c_int;

use libc::{sockaddr, socklen_t};

use super::reals::{CONNECT, CONNECT_ALIAS, Connect};
use crate::core::connect::{Attempt, Step};
use crate::core::{guarded, socket};

/// connect(2): to an endpoint of the mesh where the address is one of its destinations.
///
/// # Safety
/// As connect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the program's arguments.
    unsafe { hooked(real(), fd, address, length) }
}

/// glibc's other name of connect.
///
/// # Safety
/// As connect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the program's arguments.
    unsafe { hooked(real_alias(), fd, address, length) }
}

/// Frames below the real call: no destructor, no catch, no call that could unwind into them.
#[inline(always)]
unsafe extern "C" fn hooked(real: Connect, fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    let mut attempt = Attempt::FRESH;
    loop {
        // SAFETY: `attempt` is whole; the rest are the program's arguments.
        match unsafe { step(&raw mut attempt, fd, address, length) } {
            // SAFETY: the call as the program made it.
            Step::Pass => return unsafe { real(fd, address, length) },
            Step::Call => {
                let target = &raw const attempt.target as *const sockaddr;
                // SAFETY: an address of ours.
                attempt.outcome = unsafe { real(fd, target, attempt.length) };
            }
            Step::Done => return attempt.outcome,
        }
    }
}

/// Decides; on the way out `errno` is what the program shall see.
#[inline(never)]
unsafe extern "C" fn step(attempt: *mut Attempt, fd: c_int, address: *const sockaddr, length: socklen_t) -> Step {
    let errno = socket::errno();
    // SAFETY: the hook's own local, borrowed for this call alone.
    let attempt = unsafe { &mut *attempt };
    // SAFETY: the program's address, as it promises connect(2).
    let step = guarded(|| unsafe { attempt.step(fd, address, length, errno) });
    // After a fault of ours the last real call's outcome stands; without one the call passes.
    let step = step.unwrap_or_else(|| {
        attempt.errno = errno;
        if attempt.is_redirected() { Step::Done } else { Step::Pass }
    });
    if matches!(step, Step::Done) {
        socket::set_errno(attempt.errno);
    }
    step
}

extern "C" fn real() -> Connect {
    CONNECT.get().unwrap_or(by_system_call)
}

extern "C" fn real_alias() -> Connect {
    CONNECT_ALIAS.get().unwrap_or(real())
}

/// Where libc exports none (it always does).
unsafe extern "C" fn by_system_call(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the program's arguments.
    unsafe { libc::syscall(libc::SYS_connect, i64::from(fd), address, i64::from(length)) as c_int }
}
