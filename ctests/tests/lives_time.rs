//! A program whose clock jumps by days: nothing of the mesh goes by it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ctests::{Finished, Manifest, Mode, Pod, artifacts, c_program};
use rustix::time::{ClockId, clock_gettime};

const DAY: i64 = 86_400;

/// Which clocks jump.
#[derive(Clone, Copy, PartialEq)]
enum Clocks {
    /// As where someone sets the machine's time.
    Wall,
    /// The monotonic one, too, which this library makes another wall clock unless asked not to.
    All,
}

/// Where Debian has the library that tells programs another time.
#[track_caller]
fn libfaketime() -> String {
    let path = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    assert!(Path::new(&path).exists(), "{path} is missing: scripts/test.sh installs it");
    path
}

/// The program's clock goes ten days on, back, and ten days into the past, while it visits; whoever leads stays, and
/// the program is in the mesh all along.
#[track_caller]
fn check_jumps(lead: &str, clocks: Clocks) {
    let pod = Pod::builder().env("LDMESH_LEAD", lead).build();
    let _backends = pod.greeters(Mode::Echo, 2);
    let control_plane = pod.serve(&Manifest::greeter(2));
    let offset = pod.folder().join("offset");
    std::fs::write(&offset, "+0d").unwrap();
    let mut program = pod.mesh("env");
    // Set by env(1), which itself has the right time.
    let preload = format!("LD_PRELOAD={} {}", libfaketime(), artifacts().library.display());
    program.arg(preload).arg(format!("FAKETIME_TIMESTAMP_FILE={}", offset.display())).arg("FAKETIME_NO_CACHE=1");
    program.arg(format!("FAKETIME_DONT_FAKE_MONOTONIC={}", i32::from(clocks == Clocks::Wall)));
    program.arg(c_program("visits_in_time")).args(["greeter", "80"]);
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for (text, days) in [("+0d", 0), ("+10d", 10), ("+0d", 0), ("-10d", -10), ("+3650d", 3650)] {
        std::fs::write(&offset, text).unwrap();
        let (mut reached, begun) = (BTreeSet::new(), Instant::now());
        // Long enough for what is looked at once a second.
        while reached.len() < 2 || begun.elapsed() < Duration::from_millis(1200) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{text}: {reached:?}\n{}", pod.dump());
            writeln!(input, "again").unwrap();
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            let [wall, monotonic, backend] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
            let jumped = |told: &str, clock| told.parse::<i64>().unwrap() - clock_gettime(clock).tv_sec;
            let (wall, monotonic) = (jumped(wall, ClockId::Realtime), jumped(monotonic, ClockId::Monotonic));
            assert!((wall - days * DAY).abs() < 60, "{text}: the wall clock is {wall} s off");
            let elsewhere = monotonic.abs() > DAY;
            assert_eq!(elsewhere, clocks == Clocks::All, "{text}: the monotonic clock is {monotonic} s off");
            reached.insert(backend.to_owned());
            // The pace of the program, not a proof of anything.
            std::thread::sleep(Duration::from_millis(20));
        }
        let both = ["greeter-1", "greeter-2"].map(str::to_owned).into();
        assert_eq!(reached, both, "{text}\n{}", pod.dump());
    }
    let status = Finished::of(&mut pod.ldmesh(&["status"]));
    drop(input);
    assert!(child.wait().unwrap().success());
    assert!(status.success().contains("epoch 1,"), "{status}");
    assert!(!status.stdout.contains("switch") && !status.stdout.contains("breaker"), "{status}");
    assert_eq!(control_plane.stats().streams_total(), 1);
}

#[test]
fn a_wall_clock_that_jumps_by_days_changes_nothing_for_a_program_with_an_agent() {
    check_jumps("agent", Clocks::Wall);
}

#[test]
fn a_wall_clock_that_jumps_by_days_changes_nothing_for_a_program_whose_thread_leads() {
    check_jumps("thread", Clocks::Wall);
}

#[test]
fn a_program_that_is_told_another_monotonic_time_disturbs_nobody() {
    check_jumps("agent", Clocks::All);
}
