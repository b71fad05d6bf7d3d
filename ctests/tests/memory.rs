//! The pod's memory does not grow with the generations of the configuration.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use ctests::{ControlPlane, Manifest, Mode, Pod, Service, c_program};

const IDLE: usize = 200;
const GENERATIONS: u64 = 500;

struct Idle(Child);

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program of the mesh that looked up, connected once, and now waits.
fn start_idle(pod: &Pod) -> Idle {
    let mut command = pod.mesh(c_program("holds_mesh"));
    command.args(["greeter", "80"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let idle = Idle(child);
    assert!(lines.any(|line| line.unwrap() == "ready"));
    idle
}

/// A mesh of 200 services whose endpoints change with the generation. The greeter is the one whose
/// endpoints the pod subscribes to; its second one is never connected to.
fn mesh(generation: u64) -> Manifest {
    let second = format!("127.0.1.{}", 2 + generation % 200);
    let endpoints = ["127.0.1.1", &second];
    let used = if generation == 0 { &endpoints[..1] } else { &endpoints };
    let greeter = Service::new("greeter", "default", &["10.96.0.10"], used);
    let others = (0..200_u64).map(|n| {
        let address = format!("10.96.1.{n}");
        let endpoint = format!("127.1.{}.{}", n, 1 + generation % 250);
        Service::new(&format!("other-{n}"), "default", &[&address], &[&endpoint])
    });
    Manifest::of(&std::iter::once(greeter).chain(others).collect::<Vec<_>>())
}

/// Pushes generations `from` to `to`, each accepted before the next.
fn push(control_plane: &ControlPlane, from: u64, to: u64) {
    for generation in from..to {
        let before = control_plane.stats().generation();
        control_plane.apply(&mesh(generation));
        control_plane.wait_for_stats("it is accepted", Duration::from_secs(10), |stats| {
            stats.generation() > before && stats.acked("EDS") == stats.generation()
        });
    }
}

fn used_kib(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => used_kib(&entry.path()),
            Ok(data) => data.blocks() / 2,
            Err(_) => 0,
        })
        .sum()
}

/// What the programs and the leader have in memory together, and the run directory's size, in KiB.
fn memory(pod: &Pod, idle: &[Idle]) -> (u64, u64) {
    let members: Vec<_> = idle.iter().map(|one| ctests::process::Process(one.0.id())).collect();
    let all = members.iter().chain(&pod.agents()).filter_map(|one| one.proportional_kib()).sum();
    (all, used_kib(&pod.run_dir()))
}

#[test]
fn two_hundred_idle_programs_hold_no_old_generation() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let control_plane = pod.serve(&mesh(0));
    let idle: Vec<_> = (0..IDLE).map(|_| start_idle(&pod)).collect();
    // The first generations fill both arenas and the leader's own memory.
    push(&control_plane, 1, 50);
    let (before, files_before) = memory(&pod, &idle);
    push(&control_plane, 50, GENERATIONS);
    let (after, files_after) = memory(&pod, &idle);
    println!("programs and leader: {before} -> {after} KiB; files: {files_before} -> {files_after} KiB");
    assert!(after < before + before / 10 + 1024, "{before} -> {after} KiB");
    assert!(files_after <= files_before + files_before / 10, "{files_before} -> {files_after} KiB");
}
