//! A container whose cgroup is frozen, the leader in it: the rest of the pod goes on, and so does it once it thaws.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ctests::process::Process;
use ctests::{Client, Finished, Manifest, Mode, Pod, skipped, wait_until};

/// A cgroup of the machine's that can be frozen; its processes are given back when this is dropped.
struct Freezer {
    base: &'static Path,
    folder: PathBuf,
    /// The file and its two words.
    state: (&'static str, &'static str, &'static str),
}

impl Freezer {
    /// `None` where the machine lets nobody make one.
    fn new() -> Option<Self> {
        let (base, state) = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            (Path::new("/sys/fs/cgroup"), ("cgroup.freeze", "1", "0"))
        } else {
            (Path::new("/sys/fs/cgroup/freezer"), ("freezer.state", "FROZEN", "THAWED"))
        };
        let folder = base.join(format!("ldmesh-test-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        Some(Self { base, folder, state })
    }

    #[track_caller]
    fn take(&self, process: Process) {
        fs::write(self.folder.join("cgroup.procs"), process.0.to_string()).unwrap();
    }

    #[track_caller]
    fn freeze(&self) {
        fs::write(self.folder.join(self.state.0), self.state.1).unwrap();
    }

    #[track_caller]
    fn thaw(&self) {
        fs::write(self.folder.join(self.state.0), self.state.2).unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.folder.join(self.state.0), self.state.2);
        for pid in fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(self.base.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
fn a_frozen_container_loses_the_lead_and_thaws_into_the_mesh() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let control_plane = pod.serve(&Manifest::greeter(2));
    let (mut frozen, mut other) = (Client::start(&pod), Client::start(&pod));
    let Some(freezer) = Freezer::new() else { return skipped("no cgroup can be made here") };
    let led = pod.agents();
    freezer.take(frozen.process());
    led.iter().for_each(|agent| freezer.take(*agent));
    freezer.freeze();
    frozen.ask();
    // The frozen leader's stream stays open.
    let replaced = || {
        assert!(other.connect().starts_with("backend=greeter-"));
        control_plane.stats().streams_total() == 2
    };
    wait_until("another leader's stream", Duration::from_secs(10), || pod.dump(), replaced);
    freezer.thaw();
    assert!(frozen.answer().starts_with("backend=greeter-"));
    control_plane.wait_for_stats("one stream again", Duration::from_secs(10), |stats| {
        (stats.streams_total(), stats.streams_open()) == (2, 1)
    });
    let status = Finished::of(&mut pod.ldmesh(&["status"]));
    assert!(!status.success().contains("switch"), "{status}");
}
