//! The host sees nothing of the agent that it started, and threads can be cancelled in our hooks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use ctests::process::Process;
use ctests::{Finished, Manifest, Mode, Pod, c_program, wait_for, wait_until};

#[track_caller]
fn the_agent(pod: &Pod) -> Process {
    let one = || match pod.agents()[..] {
        [agent] => Some(agent),
        _ => None,
    };
    wait_for("one agent", Duration::from_secs(5), || pod.dump(), one)
}

#[test]
fn the_host_sees_no_child_no_signal_and_no_descriptor_of_the_agent() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let seen = Finished::of(pod.mesh(c_program("no_child_seen")).arg("greeter"));
    seen.success();
    let expected = [("lookup", "0"), ("sigchld", "0"), ("wait", "ECHILD"), ("mask", "same"), ("umask", "027")];
    for (key, value) in expected {
        assert_eq!(seen.field(key), Some(value), "{seen}");
    }
    assert_eq!(seen.field("fds_before"), seen.field("fds_after"), "{seen}");
    the_agent(&pod);
}

#[test]
fn the_agent_inherits_no_descriptor_no_folder_and_no_preload() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let mut shell = pod.mesh("sh");
    let lookup = c_program("lookup");
    let script = "exec 9</etc/passwd; trap '' INT; exec \"$0\" greeter 80 inet";
    shell.args(["-c", script]).arg(lookup).current_dir(pod.folder());
    Finished::of(&mut shell).success();
    let agent = the_agent(&pod);
    let inherited = agent.descriptors().into_iter().find(|(_, to)| to == Path::new("/etc/passwd"));
    assert_eq!(inherited, None);
    for (number, to) in agent.descriptors().into_iter().take(3) {
        assert_eq!(to, Path::new("/dev/null"), "descriptor {number}");
    }
    let root = std::fs::read_link(format!("/proc/{}/cwd", agent.0)).unwrap();
    assert_eq!(root, Path::new("/"));
    let environment = std::fs::read(format!("/proc/{}/environ", agent.0)).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains("LD_PRELOAD="), "{environment}");
    // Rust's own start ignores SIGPIPE, bit 12.
    let ignored = u64::from_str_radix(&agent.status("SigIgn").unwrap(), 16).unwrap();
    assert_eq!(ignored & !(1 << 12), 0, "ignored signals");
    assert_eq!(agent.status("SigBlk").unwrap().trim_start_matches('0'), "", "blocked signals");
}

#[test]
fn a_host_that_is_pid_1_and_waits_for_all_children_ends_at_once_and_leads_by_a_thread() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let waited = Finished::of(pod.mesh_as_init(c_program("init_waits")).arg("greeter"));
    waited.success();
    assert_eq!((waited.field("pid"), waited.field("lookup")), (Some("1"), Some("0")), "{waited}");
    assert_eq!(waited.field("children"), Some("0"), "{waited}");
    let took: u64 = waited.field("took_ms").unwrap().parse().unwrap();
    assert!(took < 200, "{waited}");
    assert_eq!(pod.agents(), [], "{}", pod.dump());
}

#[test]
fn a_pid_1_whose_child_started_the_agent_ends_within_2_s() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let mut init = pod.mesh_as_init(c_program("init_waits"));
    let waited = Finished::of(init.args(["greeter", "spawner"]));
    waited.success();
    assert_eq!(waited.field("lookup"), Some("0"), "{waited}");
    let took: u64 = waited.field("took_ms").unwrap().parse().unwrap();
    assert!(took < 2000, "{waited}");
}

#[test]
fn a_thread_cancelled_in_a_lookup_or_a_connect_ends_alone() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    for arguments in [&["lookup", "greeter"][..], &["connect", "10.96.0.10", "80"]] {
        let cancelled = Finished::of(pod.mesh(c_program("cancel")).args(arguments));
        cancelled.success();
        assert_eq!(cancelled.field("cancelled"), Some("5"), "{arguments:?}: {cancelled}");
        assert_eq!(cancelled.field("cleanups"), Some("5"), "{arguments:?}: {cancelled}");
    }
}

#[test]
fn a_thread_that_was_cancelled_before_the_first_call_ends_alone() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    for arguments in [&["lookup", "greeter"][..], &["connect", "10.96.0.10", "80"]] {
        // Without a log and with one, of which each line is written in the call.
        for log in ["off", "trace"] {
            let mut program = pod.mesh(c_program("cancel_pending"));
            program.env("LDMESH_LOG", log).env("LDMESH_LOG_FILE", pod.folder().join("log"));
            let cancelled = Finished::of(program.args(arguments));
            assert_eq!(cancelled.success(), "cancelled=1 after=0", "{arguments:?} {log}: {cancelled}");
        }
    }
}

#[test]
fn an_agent_that_nobody_asks_goes_away() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let agent = ctests::Running::start(&mut pod.ldmesh(&["agent", "--idle-exit", "1s"]));
    the_agent(&pod);
    let gone = || pod.agents().is_empty();
    wait_until("the agent ends", Duration::from_secs(10), || pod.dump(), gone);
    agent.finish().success();
}
