//! What every hook that connects does: ask, call, ask again, until there is an answer.

use std::ffi::c_int;

use libc::{sockaddr, socklen_t};

use crate::core::connect::{Attempt, Step};
use crate::core::{guarded, socket};

/// Makes real calls until one is the answer. A macro, because the frame below a real call must be the hook's own: no
/// destructor, no catch, no call that could unwind into it.
macro_rules! attempts {
    ($attempt:expr, $fd:expr, $address:expr, $length:expr, |$to:ident, $size:ident| $call:expr) => {{
        let mut attempt = $attempt;
        loop {
            // SAFETY: `attempt` is whole; the rest are the program's arguments.
            match unsafe { $crate::hooks::attempts::step(&raw mut attempt, $fd, $address, $length) } {
                $crate::core::connect::Step::Pass => {
                    let ($to, $size) = ($address, $length);
                    break $call;
                }
                $crate::core::connect::Step::Call => {
                    let ($to, $size) = ((&raw const attempt.target).cast::<libc::sockaddr>(), attempt.length);
                    attempt.outcome = $call as isize;
                }
                $crate::core::connect::Step::Done => break attempt.outcome as _,
            }
        }
    }};
}

pub(super) use attempts;

/// Decides; on the way out `errno` is what the program shall see.
#[inline(never)]
pub(super) unsafe extern "C" fn step(
    attempt: *mut Attempt,
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> Step {
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
