//! getsockopt: SO_ERROR tells the program, and us, how a non-blocking connect ended. The value is passed on untouched.

use std::ffi::{c_int, c_void};

use libc::socklen_t;

use super::macros::or_unavailable;
use super::reals::GETSOCKOPT;
use crate::core::{guarded, outcome};

or_unavailable! {
    GETSOCKOPT => real(
        fd: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut socklen_t
    ) -> c_int = -1;
}

/// getsockopt(2).
///
/// # Safety
/// As getsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: the call as the program made it.
    let answer = unsafe { real(fd, level, name, value, length) };
    if outcome::is_told_by(level, name) && answer == 0 {
        // SAFETY: the real call wrote through both pointers.
        unsafe { learn(fd, value, length) };
    }
    answer
}

#[inline(never)]
unsafe extern "C" fn learn(fd: c_int, value: *const c_void, length: *const socklen_t) {
    // SAFETY: as the caller says. A fault of ours is counted, and nothing learned.
    let _ = guarded(|| unsafe { outcome::told(fd, value, length) });
}
