//! What a call means.
//!
//! ```text
//! process (settings, attachment) -> resolve / connect / peer / reverse -> Verdict
//! ```
//! Nothing here locks, and the connect path allocates nothing; nothing here is a cancellation point.

pub mod address;
pub mod answer;
pub mod answered;
pub mod ask;
pub mod choose;
pub mod connect;
pub mod endpoint;
pub mod failure;
pub mod grace;
pub mod hostent;
pub mod keepalive;
pub mod lead;
pub mod list;
pub mod log;
pub mod lookup;
pub mod mesh;
pub mod outcome;
pub mod peer;
pub mod process;
pub mod query;
pub mod resolve;
pub mod reverse;
pub mod room;
pub mod socket;

#[cfg(test)]
mod testing;
pub mod verdict;

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use verdict::Why;

use crate::memory;

/// Runs a decision with `errno` kept and panics caught: `None` = a fault of ours, the call passes.
///
/// For what is no lookup: nothing in it is a cancellation point, so that a handler may jump out of it as it may out of
/// the call itself.
pub fn guarded<T>(decide: impl FnOnce() -> T) -> Option<T> {
    let saved = socket::errno();
    let outcome = catch_unwind(AssertUnwindSafe(|| memory::with_malloc(decide)));
    socket::set_errno(saved);
    outcome.map_err(|_| Why::Panicked.count()).ok()
}

/// [`guarded`] for a lookup. pthread_cancel waits meanwhile: a lookup starts threads and calls libc, where there are
/// cancellation points, and an unwinding thread must not meet the catch.
pub fn guarded_lookup<T>(decide: impl FnOnce() -> T) -> Option<T> {
    let former = process::is_configured().then(socket::cancel_off);
    let outcome = guarded(decide);
    if let Some(former) = former {
        socket::cancel_restore(former);
    }
    outcome
}

/// An errno.
pub type Errno = c_int;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_ours_is_caught_and_counted_and_errno_kept() {
        let before = Why::Panicked.counted();
        socket::set_errno(libc::EAGAIN);
        let outcome = guarded(|| {
            socket::set_errno(libc::EBADF);
            std::panic::panic_any("on purpose");
        });
        assert_eq!(outcome, None::<()>);
        assert_eq!(socket::errno(), libc::EAGAIN);
        assert_eq!(Why::Panicked.counted(), before + 1);
    }
}
