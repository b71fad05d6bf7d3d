//! SIGTERM and SIGINT, for the commands that end in good order.
//!
//! Not by tokio: its signal driver keeps descriptors for the whole process, and the library, which is built with the
//! same features, starts runtimes in threads that have descriptor tables of their own.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::Notify;

/// A thread that waits for the first SIGTERM or SIGINT, notifies, and ends.
pub fn notify_on_stop(stop: Arc<Notify>) -> Result<JoinHandle<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot handle SIGINT and SIGTERM")?;
    let wait = move || {
        signals.forever().next();
        stop.notify_one();
    };
    Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .context("cannot start a thread: is the limit of processes reached?")
}
