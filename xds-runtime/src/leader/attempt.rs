//! From an attachment to a term: what every host does first.

use std::sync::Arc;

use tokio::sync::Notify;

use super::host::thread::{self, StartError};
use super::run::{Ended, Host, HostKind, Leadership, lead};
use super::run_dir::RunDirError;
use crate::config::{ConfigError, Pod as PodFiles, Settings, Upstream};
use crate::pod::Pod;
use crate::shm::now;

/// Why this process does not lead.
#[derive(Debug, thiserror::Error)]
pub enum NotLeading {
    /// Another one does.
    #[error("another process leads already")]
    Led,
    /// The control plane is not known.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The run directory cannot be used.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
}

/// Leads if nobody does. Blocks until the term ends.
///
/// # Errors
/// [`NotLeading`] when no term was begun.
pub fn attempt(pod: &Pod, settings: &Settings, host: Host) -> Result<Ended, NotLeading> {
    let control = pod.control();
    if control.lead().is_alive(now()) {
        return Err(NotLeading::Led);
    }
    // What may fail or take time comes before the term.
    let dir = pod.run_dir()?;
    let upstream = Upstream::gather(settings, &PodFiles::current())?;
    let term = control.take_lead(now()).ok_or(NotLeading::Led)?;
    let settings = settings.clone();
    Ok(lead(Leadership { dir, boot: pod.boot(), control, term, settings, upstream, host }))
}

/// Starts a thread of this program that leads if nobody does. To be called from a name lookup only. `enter` sets, in
/// each thread of the runtime, the flag that lets its own calls through the hooks.
///
/// # Errors
/// [`StartError`] when there is no thread to be had.
pub fn lead_in_thread(pod: &'static Pod, settings: &'static Settings, enter: fn()) -> Result<(), StartError> {
    thread::start(enter, move |own_descriptors| {
        if let Err(error) = own_descriptors {
            log::warn!("this process cannot lead: no descriptor table for a thread: {error}");
            return;
        }
        let host = Host { kind: HostKind::Thread, enter, stop: Arc::new(Notify::new()) };
        match attempt(pod, settings, host) {
            Ok(ended) => log::info!("the term of this process ended: {ended:?}"),
            Err(NotLeading::Led) => {}
            Err(error) => log::warn!("this process cannot lead: {error}"),
        }
    })
}
