//! Reloads the input when its files change.
//!
//! The system tells of changes in the folders (`notify`); where it cannot, the texts are read again twice a second.
//! A change is acted on when nothing more happened for a moment, so that several files written together come as one
//! configuration. Input that cannot be used is one line in the log, and the last good configuration stays.

use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::input::InputError;
use crate::{Handle, Snapshot, Source};

/// Quiet time after the last change.
const QUIET: Duration = Duration::from_millis(50);
/// A steady stream of changes is acted on at least this often.
const PATIENCE: Duration = Duration::from_secs(1);
/// Interval of reading where the system does not tell of changes.
const POLL: Duration = Duration::from_millis(500);

/// Keeps the configuration behind `handle` equal to `source` until the task is dropped.
pub async fn watch(source: Source, handle: Handle) {
    let mut reloads = Reloads { seen: Some(handle.fingerprint()), source, handle };
    let (events, mut changes) = mpsc::channel(1);
    let watcher = watcher(&reloads.source, events);
    if let Err(error) = &watcher {
        log::warn!("cannot watch files: {error}; reading them every {POLL:?} instead");
    }
    // Between the first loading and the watch something may have changed.
    reloads.reload();
    loop {
        match &watcher {
            Ok(_) => {
                if changes.recv().await.is_none() {
                    return;
                }
                let quiet = async { while timeout(QUIET, changes.recv()).await.is_ok_and(|event| event.is_some()) {} };
                // Either way it is time to look.
                let _ = timeout(PATIENCE, quiet).await;
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
        reloads.reload();
    }
}

fn watcher(source: &Source, events: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let only_read = event.as_ref().is_ok_and(|event| event.kind.is_access());
        if !only_read {
            // Full: a change that nobody looked at yet is already noted.
            let _ = events.try_send(());
        }
    })?;
    for folder in source.folders() {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

struct Reloads {
    source: Source,
    handle: Handle,
    /// Fingerprint of the texts that were last looked at; `None` when they could not be read.
    seen: Option<u64>,
}

impl Reloads {
    /// Reads the input and serves it if it changed and can be used.
    fn reload(&mut self) {
        match self.source.read() {
            Ok(texts) => {
                let fingerprint = texts.fingerprint();
                if self.seen.replace(fingerprint) != Some(fingerprint) {
                    self.serve(texts.parse());
                }
            }
            Err(error) => {
                if self.seen.take().is_some() {
                    self.refuse(&error);
                }
            }
        }
    }

    fn serve(&self, parsed: Result<Snapshot, InputError>) {
        match parsed {
            Ok(snapshot) => {
                for warning in snapshot.warnings() {
                    log::warn!("{warning}");
                }
                let services = snapshot.service_count();
                let generation = self.handle.set_snapshot(snapshot);
                log::info!("configuration {generation}: {services} services");
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&self, error: &InputError) {
        log::error!("{error}");
        self.handle.set_config_error(&error.to_string());
    }
}
