//! `ldmesh serve` inside a pod, with a manifest that a test rewrites.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::Process;
use crate::run::Running;
use crate::wait::{must, wait_for};
use crate::{Manifest, Pod, artifacts};

pub(crate) const LISTEN: &str = "127.0.0.1:15010";
/// Where each pod has its control plane.
pub const CONTROL_PLANE_URL: &str = "http://127.0.0.1:15010";
const READY: Duration = Duration::from_secs(5);

/// The control plane of a pod; it is killed when this is dropped.
#[derive(Debug)]
pub struct ControlPlane<'pod> {
    pod: &'pod Pod,
    manifest: PathBuf,
    stats: PathBuf,
    running: Option<Running>,
}

impl Pod {
    /// Starts `ldmesh serve` over a manifest and waits until it serves.
    #[track_caller]
    pub fn serve(&self, manifest: &Manifest) -> ControlPlane<'_> {
        let mut control_plane = ControlPlane {
            pod: self,
            manifest: self.folder().join("mesh.yaml"),
            stats: self.folder().join("stats.json"),
            running: None,
        };
        control_plane.apply(manifest);
        control_plane.start();
        control_plane
    }
}

impl ControlPlane<'_> {
    /// Replaces the manifest, as an editor does: a new file and a rename.
    #[track_caller]
    pub fn apply(&self, manifest: &Manifest) {
        let fresh = self.manifest.with_extension("new");
        must(
            fs::write(&fresh, manifest.as_str())
                .and_then(|()| fs::rename(&fresh, &self.manifest))
                .context("write the manifest"),
        );
    }

    /// Starts it again after [`ControlPlane::kill`].
    #[track_caller]
    pub fn start(&mut self) {
        let _ = fs::remove_file(&self.stats);
        let mut command = self.pod.command(&artifacts::artifacts().ldmesh);
        command.arg("serve").arg(&self.manifest).args(["--listen", LISTEN]);
        command.arg("--stats").arg(&self.stats);
        let is_ready = |_: &Running| self.try_stats().is_ok();
        self.running = Some(self.pod.start_until("a control plane that serves", READY, &mut command, is_ready));
    }

    /// Kills it with SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(Signal::KILL);
            running.finish();
        }
    }

    /// Its process, while it runs.
    pub fn process(&self) -> Option<Process> {
        self.running.as_ref().map(Running::process)
    }

    /// What it has counted so far.
    #[track_caller]
    pub fn stats(&self) -> Stats {
        must(self.try_stats())
    }

    fn try_stats(&self) -> Result<Stats> {
        let text = fs::read_to_string(&self.stats).context("read the statistics")?;
        Stats::parse(&text)
    }

    /// Waits until its statistics are as `check` wants them.
    #[track_caller]
    pub fn wait_for_stats(&self, what: &str, deadline: Duration, check: impl Fn(&Stats) -> bool) {
        wait_for(
            what,
            deadline,
            || format!("{:?}\n{}", self.try_stats(), self.pod.dump()),
            || self.try_stats().ok().filter(&check),
        );
    }
}

/// The statistics file of `ldmesh serve`: one JSON object of counters.
#[derive(Debug, Clone)]
pub struct Stats(Value);

impl Stats {
    /// Reads the file's text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(Self(serde_json::from_str(text).context("parse the statistics")?))
    }

    /// Streams open now.
    pub fn streams_open(&self) -> u64 {
        self.count("streams_open")
    }

    /// The most streams that were ever open at one time.
    pub fn streams_peak(&self) -> u64 {
        self.count("streams_peak")
    }

    /// Streams opened since it started.
    pub fn streams_total(&self) -> u64 {
        self.count("streams_total")
    }

    /// The generation of the manifest that it serves; 1 is the first.
    pub fn generation(&self) -> u64 {
        self.count("generation")
    }

    /// The generation that every open stream has accepted of a type (`LDS`, `RDS`, `CDS`, `EDS`,
    /// `NDS`); 0 before the first.
    pub fn acked(&self, kind: &str) -> u64 {
        self.of_type(kind, "acked").and_then(Value::as_u64).unwrap_or_default()
    }

    /// The message of the last NACK of a type.
    pub fn last_nack(&self, kind: &str) -> Option<&str> {
        self.of_type(kind, "last_nack")?.as_str()
    }

    fn of_type(&self, kind: &str, field: &str) -> Option<&Value> {
        self.0.get("types")?.get(kind)?.get(field)
    }

    /// A counter by name.
    ///
    /// # Panics
    /// When there is none of that name: the file's format changed.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        match self.0.get(name).and_then(Value::as_u64) {
            Some(count) => count,
            None => panic!("the statistics have no counter {name}: {}", self.0),
        }
    }
}
