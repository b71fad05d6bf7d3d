//! Waiting with a deadline, and a dump of the state when it passes.

use std::time::{Duration, Instant};

/// Waits until `check` gives something; panics with `dump` when `deadline` passes.
#[track_caller]
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    dump: impl FnOnce() -> String,
    mut check: impl FnMut() -> Option<T>,
) -> T {
    let until = Instant::now() + deadline;
    loop {
        if let Some(found) = check() {
            return found;
        }
        if Instant::now() > until {
            panic!("not within {deadline:?}: {what}\n{}", dump());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `check` holds; panics with `dump` when `deadline` passes.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, dump: impl FnOnce() -> String, mut check: impl FnMut() -> bool) {
    wait_for(what, deadline, dump, || check().then_some(()));
}

/// The value, or a panic with the error's whole chain.
#[track_caller]
pub(crate) fn must<T>(result: anyhow::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:#}"),
    }
}
