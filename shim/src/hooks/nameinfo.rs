//! getnameinfo, gethostbyaddr, gethostbyaddr_r.

use std::ffi::{c_char, c_int, c_void};

use libc::{hostent, size_t, sockaddr, socklen_t};

use super::hostbyname::{Own, Rest as Answer, finish, finish_r};
use super::reals::{GETHOSTBYADDR, GETHOSTBYADDR_R, GETNAMEINFO};
use crate::core::guarded_lookup;
use crate::core::hostent::{Room, by_address};
use crate::core::reverse::{HostPart, name_info};
use crate::core::verdict::Verdict;

static BY_ADDRESS: Own = Own::new();

/// What is left to do of a getnameinfo.
#[repr(C)]
enum Rest {
    /// All of it.
    Whole,
    /// The service part.
    Service,
    /// Nothing; this is the answer.
    Done(c_int),
}

/// getnameinfo(3): a VIP has its service's name.
///
/// # Safety
/// As getnameinfo(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getnameinfo(
    address: *const sockaddr,
    length: socklen_t,
    host: *mut c_char,
    host_length: socklen_t,
    service: *mut c_char,
    service_length: socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: the program's arguments.
    match unsafe { host_part(address, length, host, host_length, service, service_length, flags) } {
        // SAFETY: the call as the program made it.
        Rest::Whole => unsafe { real_name_info(address, length, host, host_length, service, service_length, flags) },
        // SAFETY: the same call without a host part.
        Rest::Service => unsafe {
            real_name_info(address, length, host, 0, service, service_length, flags & !libc::NI_NAMEREQD)
        },
        Rest::Done(code) => code,
    }
}

#[inline(never)]
unsafe extern "C" fn host_part(
    address: *const sockaddr,
    length: socklen_t,
    host: *mut c_char,
    host_length: socklen_t,
    service: *mut c_char,
    service_length: socklen_t,
    flags: c_int,
) -> Rest {
    // SAFETY: the program's arguments, as it promises getnameinfo(3).
    let verdict =
        guarded_lookup(|| unsafe { name_info(address, length, HostPart { host, length: host_length }, flags) });
    match verdict {
        None | Some(Verdict::Pass(_)) => Rest::Whole,
        Some(Verdict::Fail(code)) => Rest::Done(code),
        Some(Verdict::Redirect(())) if service.is_null() || service_length == 0 => Rest::Done(0),
        Some(Verdict::Redirect(())) => Rest::Service,
    }
}

/// gethostbyaddr(3).
///
/// # Safety
/// As gethostbyaddr(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyaddr(address: *const c_void, length: socklen_t, family: c_int) -> *mut hostent {
    // SAFETY: the program's arguments.
    match unsafe { addressed(address, length, family) } {
        Answer::Done(entry) => entry,
        // SAFETY: the call as the program made it.
        Answer::Whole => unsafe { real_by_address(address, length, family) },
    }
}

/// gethostbyaddr_r(3).
///
/// # Safety
/// As gethostbyaddr_r(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyaddr_r(
    address: *const c_void,
    length: socklen_t,
    family: c_int,
    entry: *mut hostent,
    buffer: *mut c_char,
    size: size_t,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> c_int {
    // SAFETY: the program's arguments.
    match unsafe { addressed_r(address, length, family, entry, buffer, size, result, h_errno) } {
        Answer::Done(code) => code,
        // SAFETY: the call as the program made it.
        Answer::Whole => unsafe { real_by_address_r(address, length, family, entry, buffer, size, result, h_errno) },
    }
}

#[inline(never)]
unsafe extern "C" fn addressed(address: *const c_void, length: socklen_t, family: c_int) -> Answer<*mut hostent> {
    // SAFETY: the program's address; the room is gethostbyaddr's own.
    finish(guarded_lookup(|| unsafe { by_address(address, length as usize, family, BY_ADDRESS.room()) }), &BY_ADDRESS)
}

#[inline(never)]
unsafe extern "C" fn addressed_r(
    address: *const c_void,
    length: socklen_t,
    family: c_int,
    entry: *mut hostent,
    buffer: *mut c_char,
    size: size_t,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> Answer<c_int> {
    let room = Room { entry, buffer, length: size };
    // SAFETY: the program's address and room.
    let outcome = guarded_lookup(|| unsafe { by_address(address, length as usize, family, room) });
    // SAFETY: the program's pointers.
    unsafe { finish_r(outcome, entry, result, h_errno) }
}

super::macros::or_unavailable! {
    GETNAMEINFO => real_name_info(
        address: *const sockaddr, length: socklen_t, host: *mut c_char, host_length: socklen_t,
        service: *mut c_char, service_length: socklen_t, flags: c_int
    ) -> c_int = libc::EAI_FAIL;
    GETHOSTBYADDR => real_by_address(address: *const c_void, length: socklen_t, family: c_int)
        -> *mut hostent = std::ptr::null_mut();
    GETHOSTBYADDR_R => real_by_address_r(
        address: *const c_void, length: socklen_t, family: c_int, entry: *mut hostent, buffer: *mut c_char,
        size: size_t, result: *mut *mut hostent, h_errno: *mut c_int
    ) -> c_int = libc::ENOSYS;
}
