//! gethostbyname, gethostbyname2 and their `_r` forms; and how any gethostby* call ends.
//!
//! Their reals ask the DNS and are cancellation points, so these hooks decide in `extern "C"` functions.

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int};

use libc::{AF_INET, hostent, size_t};

use super::reals::{GETHOSTBYNAME, GETHOSTBYNAME_R, GETHOSTBYNAME2, GETHOSTBYNAME2_R};
use crate::core::hostent::{Outcome, Room, by_name};
use crate::core::{answered, guarded_lookup};

/// The result of a form without `_r`: the caller's by contract until the next call of the same form, in whatever thread.
/// glibc and musl have one for each form, and programs compare what one says with what another one does.
pub struct Own {
    entry: UnsafeCell<hostent>,
    buffer: UnsafeCell<[u64; 512]>,
}

// SAFETY: gethostbyname(3) is not to be called in two threads at once; that is the program's care, as with libc's.
unsafe impl Sync for Own {}

static BY_NAME: Own = Own::new();
static BY_NAME2: Own = Own::new();

impl Own {
    /// Room for the largest answer.
    pub const fn new() -> Self {
        Self {
            entry: UnsafeCell::new(hostent {
                h_name: std::ptr::null_mut(),
                h_aliases: std::ptr::null_mut(),
                h_addrtype: 0,
                h_length: 0,
                h_addr_list: std::ptr::null_mut(),
            }),
            buffer: UnsafeCell::new([0; 512]),
        }
    }

    /// As room for an answer.
    pub const fn room(&self) -> Room {
        Room { entry: self.entry.get(), buffer: self.buffer.get().cast(), length: size_of::<[u64; 512]>() }
    }
}

/// What is left to do.
#[repr(C)]
pub enum Rest<T> {
    /// The real call.
    Whole,
    /// Nothing; this is the answer.
    Done(T),
}

unsafe extern "C" {
    fn __h_errno_location() -> *mut c_int;
}

/// Sets this thread's h_errno.
pub fn set_h_errno(h_errno: c_int) {
    // SAFETY: libc's place for it.
    unsafe { *__h_errno_location() = h_errno };
}

/// Ends a call without `_r` that had this room.
pub fn finish(outcome: Option<Outcome>, own: &Own) -> Rest<*mut hostent> {
    match outcome {
        None | Some(Outcome::Pass) => Rest::Whole,
        Some(Outcome::Filled) => Rest::Done(own.entry.get()),
        Some(Outcome::Failed(h_errno, _)) => {
            set_h_errno(h_errno);
            Rest::Done(std::ptr::null_mut())
        }
    }
}

/// Ends a call with `_r`.
///
/// # Safety
/// `result` and `h_errno` as for gethostbyname_r(3).
pub unsafe fn finish_r(
    outcome: Option<Outcome>,
    entry: *mut hostent,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> Rest<c_int> {
    let (found, h_error, code) = match outcome {
        None | Some(Outcome::Pass) => return Rest::Whole,
        Some(Outcome::Filled) => (entry, 0, 0),
        Some(Outcome::Failed(h_error, code)) => (std::ptr::null_mut(), h_error, code),
    };
    // SAFETY: where the real call would write too.
    unsafe {
        *result = found;
        if !h_errno.is_null() {
            *h_errno = h_error;
        }
    }
    Rest::Done(code)
}

/// gethostbyname(3).
///
/// # Safety
/// As gethostbyname(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname(name: *const c_char) -> *mut hostent {
    // SAFETY: the program's name.
    match unsafe { named(name, AF_INET, &BY_NAME) } {
        Rest::Done(entry) => entry,
        // SAFETY: the call as the program made it, and what it answered.
        Rest::Whole => unsafe { note(name, real(name)) },
    }
}

/// gethostbyname2(3).
///
/// # Safety
/// As gethostbyname2(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
    // SAFETY: the program's name.
    match unsafe { named(name, family, &BY_NAME2) } {
        Rest::Done(entry) => entry,
        // SAFETY: the call as the program made it, and what it answered.
        Rest::Whole => unsafe { note(name, real2(name, family)) },
    }
}

/// gethostbyname_r(3).
///
/// # Safety
/// As gethostbyname_r(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname_r(
    name: *const c_char,
    entry: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> c_int {
    // SAFETY: the program's arguments.
    match unsafe { named_r(name, AF_INET, entry, buffer, length, result, h_errno) } {
        Rest::Done(code) => code,
        // SAFETY: the call as the program made it, and what it answered.
        Rest::Whole => unsafe { note_r(name, result, real_r(name, entry, buffer, length, result, h_errno)) },
    }
}

/// gethostbyname2_r(3).
///
/// # Safety
/// As gethostbyname2_r(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    entry: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> c_int {
    // SAFETY: the program's arguments.
    match unsafe { named_r(name, family, entry, buffer, length, result, h_errno) } {
        Rest::Done(code) => code,
        // SAFETY: the call as the program made it, and what it answered.
        Rest::Whole => unsafe { note_r(name, result, real2_r(name, family, entry, buffer, length, result, h_errno)) },
    }
}

/// libc answered; gives its answer on.
#[inline(never)]
unsafe extern "C" fn note(name: *const c_char, entry: *mut hostent) -> *mut hostent {
    // SAFETY: null, or the entry of a call that succeeded.
    let _ = guarded_lookup(|| unsafe { answered::by_entry(name, entry) });
    entry
}

#[inline(never)]
unsafe extern "C" fn note_r(name: *const c_char, result: *mut *mut hostent, code: c_int) -> c_int {
    if code == 0 {
        // SAFETY: a call that succeeded wrote null or its entry.
        let _ = guarded_lookup(|| unsafe { answered::by_entry(name, *result) });
    }
    code
}

#[inline(never)]
unsafe extern "C" fn named(name: *const c_char, family: c_int, own: &Own) -> Rest<*mut hostent> {
    // SAFETY: the program's name; the room is the called form's own.
    finish(guarded_lookup(|| unsafe { by_name(name, family, own.room()) }), own)
}

#[inline(never)]
unsafe extern "C" fn named_r(
    name: *const c_char,
    family: c_int,
    entry: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> Rest<c_int> {
    // SAFETY: the program's name and room.
    let outcome = guarded_lookup(|| unsafe { by_name(name, family, Room { entry, buffer, length }) });
    // SAFETY: the program's pointers.
    unsafe { finish_r(outcome, entry, result, h_errno) }
}

super::macros::or_unavailable! {
    GETHOSTBYNAME => real(name: *const c_char) -> *mut hostent = std::ptr::null_mut();
    GETHOSTBYNAME2 => real2(name: *const c_char, family: c_int) -> *mut hostent = std::ptr::null_mut();
    GETHOSTBYNAME_R => real_r(
        name: *const c_char, entry: *mut hostent, buffer: *mut c_char, length: size_t,
        result: *mut *mut hostent, h_errno: *mut c_int
    ) -> c_int = libc::ENOSYS;
    GETHOSTBYNAME2_R => real2_r(
        name: *const c_char, family: c_int, entry: *mut hostent, buffer: *mut c_char, length: size_t,
        result: *mut *mut hostent, h_errno: *mut c_int
    ) -> c_int = libc::ENOSYS;
}
