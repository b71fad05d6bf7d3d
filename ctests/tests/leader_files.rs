//! The leader and its files: what a cleaner removes comes back, and a limit of file sizes ends nobody.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, c_program, wait_until};
use rustix::process::Signal;

/// The files of the run directory whose names begin so.
fn files(folder: &Path, kinds: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path(), kinds));
        } else if kinds.iter().any(|kind| entry.file_name().to_string_lossy().starts_with(kind)) {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn what_a_cleaner_of_temporary_files_removes_comes_back_for_programs_that_start_later() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let mut control_plane = pod.serve(&Manifest::greeter(2));
    let dial = || Finished::of(pod.mesh(c_program("fork_after_lookup")).args(["greeter", "80", "3"]));
    dial().success();
    let kinds = ["image-", "state", "accepted-"];
    for file in files(&pod.run_dir(), &kinds) {
        fs::remove_file(file).unwrap();
    }
    let is_back = || kinds.iter().all(|kind| !files(&pod.run_dir(), &[kind]).is_empty());
    wait_until("the files are back", Duration::from_secs(4), || pod.dump(), is_back);
    let newcomer = Finished::of(pod.mesh(c_program("dial")).args(["10.96.0.10", "80"]));
    newcomer.success();
    assert_eq!(newcomer.field("peer"), Some("10.96.0.10:80"), "STATE knows the connection: {newcomer}");
    // Last good is on disk again, too.
    control_plane.kill();
    for agent in pod.agents() {
        agent.signal(Signal::KILL).unwrap();
    }
    wait_until("the leader is gone", Duration::from_secs(2), || pod.dump(), || pod.agents().is_empty());
    for file in files(&pod.run_dir(), &["image-"]) {
        fs::remove_file(file).unwrap();
    }
    let led = || dial().stdout.contains("backend=greeter-");
    wait_until("a successor serves last good", Duration::from_secs(10), || pod.dump(), led);
}

#[test]
fn a_write_past_the_limit_of_file_sizes_does_not_end_the_leader() {
    let pod = Pod::builder().env("LDMESH_LOG", "debug").env("LDMESH_LOG_FILE", "/run/ldmesh/log").build();
    let _backends = pod.greeters(Mode::Http, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    // Image and STATE fit under the limit; the log is past it.
    File::create(pod.run_dir().join("log")).unwrap().set_len(32 << 20).unwrap();
    let mut limited = pod.mesh("sh");
    limited.args(["-c", "ulimit -f 16384; exec curl -sS --max-time 10 http://greeter/"]);
    let answer = Finished::of(&mut limited);
    assert!(answer.success().starts_with("greeter-1 "), "{answer}");
    assert_eq!(pod.agents().len(), 1, "{}", pod.dump());
    assert_eq!(fs::metadata(pod.run_dir().join("log")).unwrap().len(), 32 << 20, "nothing was written");
}
