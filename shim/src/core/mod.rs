//! What a call means.
//!
//! ```text
//! process (settings, attachment) -> resolve / connect / peer / reverse -> Verdict
//! ```
//! Nothing here locks, and the connect path allocates nothing; nothing here is a cancellation point.

pub mod address;
pub mod choose;
pub mod connect;
pub mod hostent;
pub mod lead;
pub mod log;
pub mod lookup;
pub mod mesh;
pub mod peer;
pub mod process;
pub mod resolve;
pub mod reverse;
pub mod socket;

pub mod verdict;

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use verdict::Why;

/// Runs a decision with `errno` kept and panics caught: `None` = a fault of ours, the call passes.
///
/// pthread_cancel waits meanwhile: files that a decision reads are cancellation points, and an unwinding thread
/// must not meet the catch.
pub fn guarded<T>(decide: impl FnOnce() -> T) -> Option<T> {
    let saved = socket::errno();
    let former = process::is_configured().then(socket::cancel_off);
    let outcome = catch_unwind(AssertUnwindSafe(decide));
    if let Some(former) = former {
        socket::cancel_restore(former);
    }
    socket::set_errno(saved);
    outcome.map_err(|_| Why::Panicked.count()).ok()
}

/// An errno.
pub type Errno = c_int;
