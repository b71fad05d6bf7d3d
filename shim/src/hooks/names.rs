//! getaddrinfo.

use std::ffi::{c_char, c_int};

use libc::addrinfo;

use super::reals::GETADDRINFO;
use crate::core::resolve::{Lookup, Step};
use crate::core::{answered, guarded, guarded_lookup};

/// getaddrinfo(3): answers names of the mesh with its addresses.
///
/// # Safety
/// As getaddrinfo(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    let mut code = 0;
    // SAFETY: the program's arguments, and a place for the code.
    if unsafe { is_answered(node, service, hints, result, &raw mut code) } {
        return code;
    }
    // SAFETY: the call as the program made it; a list that it left.
    unsafe {
        code = real(node, service, hints, result);
        if code == 0 {
            note(node, result);
        }
    }
    code
}

/// libc answered: destinations of the mesh may depend on the name that an address stands for.
#[inline(never)]
unsafe extern "C" fn note(node: *const c_char, result: *mut *mut addrinfo) {
    // SAFETY: a call that succeeded wrote its list.
    let _ = guarded(|| unsafe { answered::by_list(node, *result) });
}

/// Answers a name of the mesh: true with the code in its place; false = the call is libc's.
///
/// # Safety
/// As getaddrinfo(3); `code` writable.
#[inline(never)]
pub unsafe extern "C" fn is_answered(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
    code: *mut c_int,
) -> bool {
    let mut lookup = Lookup::FRESH;
    loop {
        // SAFETY: `lookup` is whole; the rest are the program's arguments.
        match unsafe { step(&raw mut lookup, node, hints, result) } {
            Step::Pass => return false,
            Step::Call => {
                if lookup.list().is_null() {
                    // Digits are no cancellation point; the lookup that they stand for is one. Nothing is held yet.
                    // SAFETY: ends this thread, or returns.
                    unsafe { pthread_testcancel() };
                }
                let digits = &raw const lookup.digits as *const c_char;
                // SAFETY: digits, hints and result are ours, the service is the program's.
                lookup.code = unsafe { real(digits, service, &raw const lookup.hints, &raw mut lookup.part) };
            }
            Step::Done => {
                // SAFETY: writable, as the caller says.
                unsafe { *code = lookup.code };
                return true;
            }
        }
    }
}

/// Decides; hands out the list when it is done.
#[inline(never)]
unsafe extern "C" fn step(
    lookup: *mut Lookup,
    node: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> Step {
    // SAFETY: the hook's own local, borrowed for this call alone.
    let lookup = unsafe { &mut *lookup };
    // SAFETY: the program's arguments, as it promises getaddrinfo(3).
    let step = guarded_lookup(|| unsafe { lookup.step(node, hints) }).unwrap_or(Step::Pass);
    if matches!(step, Step::Done) && lookup.code == 0 {
        // SAFETY: where the real call would write too.
        unsafe { *result = lookup.list() };
    }
    step
}

super::macros::or_unavailable! {
    GETADDRINFO => real(
        node: *const c_char, service: *const c_char, hints: *const addrinfo, result: *mut *mut addrinfo
    ) -> c_int = libc::EAI_FAIL;
}

unsafe extern "C" {
    fn pthread_testcancel();
}
