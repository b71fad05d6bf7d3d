//! Programs that close what they find, start others with little, and own their low descriptor numbers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;
use std::time::Duration;

use ctests::{ControlPlane, Finished, Manifest, Mode, Pod, c_program, wait_for};

fn led_by(lead: &str) -> Pod {
    Pod::builder().env("LDMESH_LEAD", lead).build()
}

/// A program that has to find a descriptor table as it is without the library, and a service twice.
#[track_caller]
fn check_sweep(pod: &Pod, control_plane: &ControlPlane<'_>, how: &str) {
    let program = c_program("sweeps");
    let plain = Finished::of(pod.command(&program).args(["127.0.1.1", "8080", how]));
    let mesh = Finished::of(pod.mesh(&program).args(["greeter", "80", how]));
    mesh.success();
    assert_eq!(mesh.field("lowest"), plain.field("lowest"), "{how}: {mesh}");
    for visit in ["before", "after"] {
        assert_eq!(plain.field(visit), Some("greeter-1"), "{how}: {plain}");
        assert_eq!(mesh.field(visit), Some("greeter-1"), "{how}: {mesh}");
    }
    let streams = control_plane.stats();
    assert_eq!(streams.streams_peak(), 1, "{how}");
}

const SWEEPS: [&str; 5] = ["loop", "closefrom", "close_range", "cloexec", "unshare"];

#[test]
fn a_program_that_closes_every_descriptor_goes_on_and_so_does_its_agent() {
    let pod = led_by("agent");
    let _backends = pod.greeters(Mode::Echo, 1);
    let control_plane = pod.serve(&Manifest::greeter(1));
    for how in SWEEPS {
        check_sweep(&pod, &control_plane, how);
    }
    assert_eq!((pod.agents().len(), control_plane.stats().streams_total()), (1, 1), "{}", pod.dump());
}

#[test]
fn a_program_that_closes_every_descriptor_leaves_its_leading_thread_alone() {
    for how in SWEEPS {
        let pod = led_by("thread");
        let _backends = pod.greeters(Mode::Echo, 1);
        let control_plane = pod.serve(&Manifest::greeter(1));
        check_sweep(&pod, &control_plane, how);
        assert_eq!(control_plane.stats().streams_total(), 1, "{how}: {}", pod.dump());
    }
}

#[test]
fn a_daemon_that_forked_twice_and_closed_everything_finds_services() {
    for lead in ["agent", "thread"] {
        let pod = led_by(lead);
        let _backends = pod.greeters(Mode::Echo, 1);
        let _control_plane = pod.serve(&Manifest::greeter(1));
        let told = pod.folder().join("daemon");
        Finished::of(pod.mesh(c_program("sweeps")).args(["greeter", "80", "all"]).arg(&told)).success();
        let line = || std::fs::read_to_string(&told).ok().filter(|text| text.ends_with('\n'));
        let line = wait_for("the daemon's word", Duration::from_secs(20), || pod.dump(), line);
        // Files got 0 and 1; 2 is free.
        assert_eq!(line, "before=greeter-1 lowest=2 after=greeter-1\n", "LDMESH_LEAD={lead}");
    }
}

#[test]
fn a_thread_that_closes_every_descriptor_without_end_harms_only_what_it_closes() {
    let pod = led_by("agent");
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    let swept = Finished::of(pod.mesh(c_program("sweeps_without_end")).args(["10.96.0.10", "80", "5000"]));
    swept.success();
    assert!(swept.field("last").unwrap().starts_with("greeter-"), "{swept}");
    assert_eq!(swept.field("failed"), Some("0"), "{swept}");
}

#[test]
fn nothing_of_ours_takes_the_number_of_a_closed_standard_stream() {
    for lead in ["agent", "thread"] {
        for log in [false, true] {
            let pod = led_by(lead);
            let _backends = pod.greeters(Mode::Echo, 1);
            let _control_plane = pod.serve(&Manifest::greeter(1));
            let told = pod.folder().join("told");
            let mut shell = pod.mesh("sh");
            shell.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).arg(c_program("keeps_its_low_numbers"));
            shell.arg(&told).args(["greeter", "80"]);
            if log {
                shell.env("LDMESH_LOG", "trace").env("LDMESH_LOG_FILE", pod.folder().join("log"));
            }
            Finished::of(&mut shell).success();
            let told = std::fs::read_to_string(told).unwrap();
            assert_eq!(told, "numbers=0,1,2 visit=greeter-1\n", "LDMESH_LEAD={lead}, log: {log}");
            assert_eq!(pod.folder().join("log").exists(), log);
        }
    }
}

#[test]
fn children_started_in_any_way_are_in_the_mesh_but_for_one_without_its_environment() {
    let pod = led_by("agent");
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let start = |how: &str| {
        let mut starts: Command = pod.mesh(c_program("starts"));
        Finished::of(starts.arg(how).arg(c_program("lookup")).args(["greeter", "80", "inet"]))
    };
    for how in ["vfork", "posix_spawn"] {
        assert!(start(how).success().contains("addr=10.96.0.10"), "{how}");
    }
    let emptied = start("emptied");
    assert!(emptied.stdout.starts_with("code=EAI_AGAIN") && emptied.stderr.is_empty(), "{emptied}");
    let mut cleared = pod.mesh("env");
    let cleared = Finished::of(cleared.arg("-i").arg(c_program("lookup")).args(["greeter", "80", "inet"]));
    assert!(cleared.stdout.starts_with("code=EAI_AGAIN") && cleared.stderr.is_empty(), "{cleared}");
}
