//! sendto and sendmsg with MSG_FASTOPEN, which connect. Every other send is one test away from the real call.

use std::ffi::{c_int, c_void};

use libc::{MSG_FASTOPEN, msghdr, size_t, sockaddr, socklen_t, ssize_t};

use super::attempts::attempts;
use super::macros::or_unavailable;
use super::reals::{SENDMSG, SENDTO};
use crate::core::address::plausible;
use crate::core::connect::Attempt;

or_unavailable! {
    SENDTO => real_sendto(
        fd: c_int, data: *const c_void, size: size_t, flags: c_int, address: *const sockaddr, length: socklen_t
    ) -> ssize_t = -1;
    SENDMSG => real_sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t = -1;
}

/// sendto(2).
///
/// # Safety
/// As sendto(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    data: *const c_void,
    size: size_t,
    flags: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> ssize_t {
    if flags & MSG_FASTOPEN == 0 {
        // SAFETY: the call as the program made it.
        return unsafe { real_sendto(fd, data, size, flags, address, length) };
    }
    // SAFETY: as above.
    unsafe { sendto_opening(fd, data, size, flags, address, length) }
}

/// Not inlined, so that every other send goes without this frame.
#[inline(never)]
unsafe extern "C" fn sendto_opening(
    fd: c_int,
    data: *const c_void,
    size: size_t,
    flags: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> ssize_t {
    // SAFETY: the call as the program made it, or with an address of ours.
    attempts!(Attempt::send(flags), fd, address, length, |to, length| unsafe {
        real_sendto(fd, data, size, flags, to, length)
    })
}

/// sendmsg(2).
///
/// # Safety
/// As sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    if flags & MSG_FASTOPEN == 0 || !plausible(message) {
        // SAFETY: the call as the program made it.
        return unsafe { real_sendmsg(fd, message, flags) };
    }
    // SAFETY: as above.
    unsafe { sendmsg_opening(fd, message, flags) }
}

#[inline(never)]
unsafe extern "C" fn sendmsg_opening(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the program's message, as it promises sendmsg(2).
    let own = unsafe { message.read_unaligned() };
    let address: *const sockaddr = own.msg_name.cast();
    // SAFETY: its copy, or one with an address of ours.
    attempts!(Attempt::send(flags), fd, address, own.msg_namelen, |to, length| unsafe {
        let message = msghdr { msg_name: to.cast_mut().cast(), msg_namelen: length, ..own };
        real_sendmsg(fd, &raw const message, flags)
    })
}
