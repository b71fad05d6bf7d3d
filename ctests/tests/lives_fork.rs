//! Programs that fork while their other threads are inside our hooks, or while one of their threads leads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, c_program, wait_until};

/// A machine under load makes a leader late; no lookup here is meant to be answered without it.
fn led_by(lead: &str) -> Pod {
    Pod::builder().env("LDMESH_LEAD", lead).build()
}

/// Forks a thousand children and more among threads that look up and connect without pause.
#[track_caller]
fn check_forks_among_threads(lead: &str, children: &str) {
    let pod = led_by(lead);
    let _backends = pod.greeters(Mode::Echo, 3);
    let control_plane = pod.serve(&Manifest::greeter(3));
    let mut forks = pod.mesh(c_program("forks_among_threads"));
    let forks = Finished::of_within(forks.args(["greeter", "80", "6", children]), Duration::from_secs(60));
    forks.success();
    let found = ["children", "failed", "hung", "threads_failed"].map(|key| forks.field(key).unwrap());
    assert_eq!(found, [children, "0", "0", "0"], "LDMESH_LEAD={lead}: {forks}");
    assert_eq!(control_plane.stats().streams_peak(), 1, "LDMESH_LEAD={lead}");
}

#[test]
fn a_thousand_children_forked_among_threads_inside_hooks_all_find_and_reach_a_service() {
    check_forks_among_threads("agent", "1100");
}

#[test]
fn children_forked_among_threads_while_another_thread_leads_all_find_and_reach_a_service() {
    check_forks_among_threads("thread", "1100");
}

#[test]
fn programs_that_end_among_threads_inside_hooks_do_not_trip_the_switch() {
    let pod = led_by("agent");
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    let mut ends = pod.mesh(c_program("exits_among_threads"));
    assert_eq!(Finished::of(ends.args(["greeter", "80", "8", "100"])).success(), "failed=0");
    // Marks that ended programs left are judged after 5 s; the agent looks every second.
    let judged = std::time::Instant::now() + Duration::from_secs(8);
    let works = || {
        Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
        std::time::Instant::now() > judged
    };
    wait_until("the marks are judged", Duration::from_secs(20), || pod.dump(), works);
}

#[test]
fn children_of_a_leader_at_its_start_work_and_have_none_of_its_descriptors() {
    let pod = led_by("thread");
    let _backends = pod.greeters(Mode::Echo, 2);
    let control_plane = pod.serve(&Manifest::greeter(2));
    let mut leader = pod.mesh(c_program("forks_from_leader"));
    leader.args(["greeter", "80", "40"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut leader = leader.spawn().unwrap();
    // std's wait() would close it.
    let input = leader.stdin.take();
    let mut output = BufReader::new(leader.stdout.take().unwrap());
    let (mut line, mut children) = (String::new(), 0);
    while output.read_line(&mut line).unwrap() > 0 && !line.starts_with("failed=") {
        assert!(line.starts_with("threads=1 more=0 child=greeter-"), "{line}");
        children += 1;
        line.clear();
    }
    assert_eq!((children, line.trim()), (40, "failed=0"));
    assert_eq!(leader.wait().unwrap().code(), Some(0));
    // The child that stays has no part in the stream: it ended with the leader.
    control_plane.wait_for_stats("the stream ends", Duration::from_secs(5), |stats| {
        (stats.streams_total(), stats.streams_open()) == (1, 0)
    });
    drop(input);
    line.clear();
    output.read_to_string(&mut line).unwrap();
    assert!(line.contains("child=greeter-"), "{line}");
}

#[test]
fn children_forked_before_there_is_any_configuration_pass_and_do_not_hang() {
    let pod = Pod::builder().env("LDMESH_READY_TIMEOUT", "0ms").env("LDMESH_LEAD", "thread").build();
    let mut forks = pod.mesh(c_program("forks_from_leader"));
    let forks = Finished::of(forks.args(["greeter", "80", "40"]));
    assert_eq!(forks.stdout.matches("child=unknown").count(), 41, "{forks}");
}
