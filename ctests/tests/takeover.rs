//! The leader dies, freezes or cannot write: traffic goes on, and another one leads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use ctests::process::Process;
use ctests::{Client, Finished, Manifest, Mode, Pod, c_program, wait_for, wait_until};
use rustix::process::Signal;

#[track_caller]
fn the_agent(pod: &Pod, but_not: Option<Process>) -> Process {
    let other = || pod.agents().into_iter().find(|agent| Some(*agent) != but_not);
    wait_for("another agent", Duration::from_secs(2), || pod.dump(), other)
}

/// The new leader follows the control plane: what it serves now is reached, and no connection fails
/// on the way.
#[track_caller]
fn check_follows(pod: &Pod, client: &mut Client, expected: &str) {
    let reached = || {
        let answer = client.connect();
        assert!(answer.starts_with("backend="), "{answer}\n{}", pod.dump());
        answer == format!("backend={expected}")
    };
    wait_until("the new endpoint", Duration::from_secs(5), || pod.dump(), reached);
}

fn only(n: u8) -> Manifest {
    let address = format!("127.0.1.{n}");
    Manifest::of(&[ctests::Service::new("greeter", "default", &["10.96.0.10"], &[&address])])
}

#[test]
fn a_killed_leader_is_replaced_within_2_s_of_the_next_call_and_nothing_fails() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let control_plane = pod.serve(&only(1));
    let mut client = Client::start(&pod);
    let killed = the_agent(&pod, None);
    killed.signal(Signal::KILL).unwrap();
    // Calls go on; the first one after the heartbeat stopped for 1.5 s starts another agent.
    let replaced = || {
        assert_eq!(client.connect(), "backend=greeter-1");
        pod.agents().iter().any(|agent| *agent != killed)
    };
    wait_until("another agent", Duration::from_secs(2), || pod.dump(), replaced);
    control_plane.apply(&only(2));
    check_follows(&pod, &mut client, "greeter-2");
}

#[test]
fn a_stopped_leader_is_replaced_and_steps_down_when_it_is_resumed() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let control_plane = pod.serve(&only(1));
    let mut client = Client::start(&pod);
    let stopped = the_agent(&pod, None);
    stopped.signal(Signal::STOP).unwrap();
    // The calls notice the old heartbeat; none of them fails meanwhile.
    let replaced = || {
        assert_eq!(client.connect(), "backend=greeter-1");
        pod.agents().len() == 2
    };
    wait_until("a second agent", Duration::from_secs(7), || pod.dump(), replaced);
    control_plane.apply(&only(2));
    check_follows(&pod, &mut client, "greeter-2");
    stopped.signal(Signal::CONT).unwrap();
    control_plane.wait_for_stats("one stream", Duration::from_secs(5), |stats| stats.streams_open() == 1);
    for _ in 0..50 {
        assert_eq!(client.connect(), "backend=greeter-2");
    }
}

#[test]
fn the_last_good_configuration_survives_the_leader_and_the_control_plane() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let mut control_plane = pod.serve(&Manifest::greeter(2));
    let mut client = Client::start(&pod);
    control_plane.kill();
    let killed = the_agent(&pod, None);
    killed.signal(Signal::KILL).unwrap();
    wait_until("it ends", Duration::from_secs(2), || pod.dump(), || !killed.is_alive());
    for _ in 0..20 {
        let answer = client.connect();
        assert!(answer.starts_with("backend=greeter-"), "{answer}");
    }
    let fresh = Finished::of(pod.mesh(c_program("dial")).args(["10.96.0.10", "80"]));
    fresh.success();
    let lookup = Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"]));
    assert!(lookup.success().contains("addr=10.96.0.10"), "{lookup}");
}

#[test]
fn a_full_run_directory_fails_no_connection() {
    let pod = Pod::builder().run_dir_size("16m").build();
    let _backends = pod.greeters(Mode::Echo, 2);
    let control_plane = pod.serve(&Manifest::greeter(2));
    let mut client = Client::start(&pod);
    let mut fill = pod.command("dd");
    fill.args(["if=/dev/zero", "of=/run/ldmesh/filler", "bs=4k"]);
    assert!(Finished::of(&mut fill).stderr.contains("No space left"));
    the_agent(&pod, None).signal(Signal::KILL).unwrap();
    control_plane.apply(&only(1));
    for _ in 0..50 {
        let answer = client.connect();
        assert!(answer.starts_with("backend=greeter-"), "{answer}");
    }
    std::fs::remove_file(pod.run_dir().join("filler")).unwrap();
    // Both endpoints answer until the new configuration is published; then one.
    let follows = || (0..20).all(|_| client.connect() == "backend=greeter-1");
    wait_until("the new configuration", Duration::from_secs(20), || pod.dump(), follows);
}

#[test]
fn a_host_that_changes_its_user_goes_on_as_the_new_one() {
    if !ctests::can_map_users() {
        return ctests::skipped("only root can map several users");
    }
    for lead in ["agent", "thread"] {
        let pod = Pod::builder().env("LDMESH_LEAD", lead).build();
        let _backends = pod.greeters(Mode::Echo, 2);
        let _control_plane = pod.serve(&Manifest::greeter(2));
        let mut command = pod.mesh(c_program("setuid_then_dial"));
        let finished = Finished::of(command.args(["1234", "greeter", "80"]));
        finished.success();
        let both = (finished.field("root"), finished.field("user"));
        assert_eq!(both, (Some("OK"), Some("OK")), "LDMESH_LEAD={lead}: {finished}");
        let dialled = finished.field("roots_peer");
        assert_eq!(dialled, Some("10.96.0.10:80"), "the other user's own connection: {finished}");
    }
}
