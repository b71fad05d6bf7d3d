//! From an attachment to a term: what every host does first.

use std::sync::Arc;

use tokio::sync::Notify;

use super::host::thread::{self, StartError};
use super::run::{Ended, Host, HostKind, Leadership, lead};
use super::run_dir::RunDirError;
use crate::config::{ConfigError, Pod as PodFiles, Settings, Upstream};
use crate::pod::Pod;
use crate::shm::{Millis, now};

/// After the control plane could not be known, the pod tries again after this long.
const UNCONFIGURED_PAUSE_MS: Millis = 10_000;

/// Why this process does not lead.
#[derive(Debug, thiserror::Error)]
pub enum NotLeading {
    /// Another one does.
    #[error("another process leads already")]
    Led,
    /// The CONTROL it is attached to is nobody else's any more: its terms would clash with those of the new one.
    #[error("the run directory was made anew since this process attached to it; start it again")]
    Orphaned,
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
    if pod.is_orphaned() {
        return Err(NotLeading::Orphaned);
    }
    // What may fail or take time comes before the term.
    let dir = pod.run_dir()?;
    let upstream = Upstream::gather(settings, &PodFiles::current()).inspect_err(|_| {
        // A bootstrap that cannot be read now cannot be read in a second either; each try costs a process.
        control.postpone_attempt(now().saturating_add(UNCONFIGURED_PAUSE_MS));
    })?;
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
        let host = Host { kind: HostKind::Thread, enter, stop: Arc::new(Notify::new()), give_back: || () };
        match attempt(pod, settings, host) {
            Ok(ended) => log::info!("the term of this process ended: {ended:?}"),
            Err(NotLeading::Led) => {}
            Err(error) => log::warn!("this process cannot lead: {error}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_attached_to_a_control_that_was_replaced_does_not_lead() {
        let base = tempfile::tempdir().unwrap();
        let variables = [("LDMESH_XDS", "http://127.0.0.1:1"), ("LDMESH_RUN_DIR", base.path().to_str().unwrap())];
        let settings: &'static Settings = Box::leak(Box::new(Settings::from_env(variables)));
        let pod = Pod::attach(settings).unwrap();
        pod.run_dir().unwrap().remove_file(crate::pod::names::CONTROL).unwrap();
        let host = Host { kind: HostKind::Thread, enter: || (), stop: Arc::new(Notify::new()), give_back: || () };
        assert!(matches!(attempt(&pod, settings, host), Err(NotLeading::Orphaned)));
        assert!(!pod.control().lead().is_alive(now()));
    }
}
