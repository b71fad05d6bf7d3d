//! glibc's getaddrinfo_a: what is the mesh's is answered before the real call, which is made for the rest.
//!
//! The real call skips null entries, tells of the end when all others are done, and at once when there are none; so it
//! also notifies for answers of ours. A request is pending while its code is `EAI_INPROGRESS`, which ours never are.
//! Without an image GAI_NOWAIT waits for one as any lookup of the pod does, once and with the same deadline: libc's own
//! threads would ask a nameserver that does not know the name.

use std::ffi::{c_char, c_int};

use libc::{addrinfo, sigevent};

use super::names::is_answered;
use super::reals::GETADDRINFO_A;
use crate::core::{process, socket};

/// `struct gaicb`.
#[repr(C)]
pub struct Request {
    name: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut addrinfo,
    /// What gai_error(3) returns, and gai_suspend(3) waits for.
    code: c_int,
    reserved: [c_int; 5],
}

/// getaddrinfo_a(3).
///
/// # Safety
/// As getaddrinfo_a(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getaddrinfo_a(
    mode: c_int,
    list: *mut *mut Request,
    count: c_int,
    event: *mut sigevent,
) -> c_int {
    // SAFETY: the program's list.
    let rest = unsafe { copy_of(mode, list, count) };
    if rest.is_null() {
        // SAFETY: the call as the program made it.
        return unsafe { real(mode, list, count, event) };
    }
    let mut place = 0;
    while place < count as usize {
        // SAFETY: the copy has `count` entries.
        unsafe { take_answered(rest.add(place)) };
        place += 1;
    }
    // SAFETY: the call as the program made it, without what is answered; the real call keeps no list, and no thread is
    // cancelled while it waits in there.
    let code = unsafe { real(mode, rest, count, event) };
    // SAFETY: the copy.
    unsafe { free(rest) };
    code
}

/// A copy of the list; null = the call is libc's: nothing is ever decided here, there is no list, or no memory.
#[inline(never)]
unsafe extern "C" fn copy_of(mode: c_int, list: *mut *mut Request, count: c_int) -> *mut *mut Request {
    // GAI_WAIT, GAI_NOWAIT; what libc refuses is its own.
    let is_list = matches!(mode, 0 | 1) && count > 0 && !list.is_null();
    if !is_list || !process::is_configured() {
        return std::ptr::null_mut();
    }
    let errno = socket::errno();
    // SAFETY: copies the program's entries into as large a room.
    unsafe {
        let copy: *mut *mut Request = libc::calloc(count as usize, size_of::<*mut Request>()).cast();
        if !copy.is_null() {
            std::ptr::copy_nonoverlapping(list, copy, count as usize);
        }
        socket::set_errno(errno);
        copy
    }
}

/// Answers a request and takes it off the list, if it is the mesh's.
#[inline(never)]
unsafe extern "C" fn take_answered(entry: *mut *mut Request) {
    // SAFETY: an entry of the copy: null, or the program's request, which is the library's until it is done.
    unsafe {
        let request = *entry;
        if request.is_null() {
            return;
        }
        let mut code = 0;
        let result = &raw mut (*request).result;
        // This is no cancellation point, as getaddrinfo is.
        let former = socket::cancel_off();
        if is_answered((*request).name, (*request).service, (*request).hints, result, &raw mut code) {
            (*request).code = code;
            *entry = std::ptr::null_mut();
        }
        socket::cancel_restore(former);
    }
}

#[inline(never)]
unsafe extern "C" fn free(list: *mut *mut Request) {
    // Some libcs change it.
    let errno = socket::errno();
    // SAFETY: allocated by `copy_of`.
    unsafe { libc::free(list.cast()) };
    socket::set_errno(errno);
}

super::macros::or_unavailable! {
    GETADDRINFO_A => real(mode: c_int, list: *mut *mut Request, count: c_int, event: *mut sigevent)
        -> c_int = libc::EAI_SYSTEM;
}
