//! max_connections: a limit of the whole pod, whatever its processes do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, Running, c_program, wait_until};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

const VIP: &str = "10.96.0.10";

fn dial(pod: &Pod) -> Finished {
    Finished::of(pod.mesh(c_program("dial")).args([VIP, "80"]))
}

/// A program that holds connections until it is killed, and what it said first.
fn holder(pod: &Pod, count: &str) -> Running {
    let mut command = pod.mesh(c_program("holds_connections"));
    command.args([VIP, "80", count]).stdin(Stdio::piped());
    Running::start(&mut command)
}

/// The active connections of the cluster as the pod counts them.
fn active(pod: &Pod) -> Option<u64> {
    let status = Finished::of(&mut pod.ldmesh(&["status", "--json"]));
    let status: serde_json::Value = serde_json::from_str(status.success()).ok()?;
    let clusters = status.get("clusters")?.as_array()?;
    clusters.iter().find(|cluster| cluster["name"].as_str().is_some_and(|name| name.contains("greeter")))?["active"]
        .as_u64()
}

fn now_us() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[test]
fn eight_processes_of_four_threads_never_exceed_the_limit() {
    let pod = Pod::new();
    let backend = pod.backend_of(Mode::Echo, "127.0.1.1:8080", "greeter-1");
    let _control_plane = pod.serve(&Manifest::greeter(1).limited(10));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    let answer = Finished::of(pod.mesh(c_program("churns")).args([VIP, "80", "8", "4", "5"]));
    answer.success();
    let field = |key: &str| -> usize { answer.field(key).unwrap().parse().unwrap() };
    assert_eq!(field("failed"), 0, "{answer}");
    // More than once over, so that closed connections made room, and more wanted than could.
    assert!(field("made") > 20 && field("refused") > 0, "{answer}");
    wait_until("the backend said all", Duration::from_secs(5), || pod.dump(), || backend.accepted() >= field("made"));
    assert_eq!(backend.peak(), 10, "{answer}");
}

#[test]
fn connections_in_time_wait_do_not_count() {
    let pod = Pod::new();
    let _backend = pod.backend_of(Mode::Echo, "127.0.1.1:8080", "greeter-1");
    let _control_plane = pod.serve(&Manifest::greeter(1).limited(2));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    for _ in 0..6 {
        let again = || dial(&pod).status.success();
        wait_until("a closed connection makes room", Duration::from_secs(5), || pod.dump(), again);
    }
    let sockets = Finished::of(pod.command("ss").args(["-tanH", "state", "time-wait"]));
    let waiting = sockets.success().lines().filter(|line| line.contains("127.0.1.1:8080")).count();
    assert!(waiting > 2, "more than the limit are in TIME_WAIT: {sockets}");
}

#[test]
fn a_killed_process_gives_its_connections_back_within_a_second_whatever_the_peer_does() {
    let pod = Pod::new();
    let _backend = pod.backend_of(Mode::Hold, "127.0.1.1:8080", "greeter-1");
    let _control_plane = pod.serve(&Manifest::greeter(1).limited(4));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    for _ in 0..3 {
        let mut held = holder(&pod, "6");
        let input = held.stdin();
        wait_until("the limit is reached", Duration::from_secs(5), || pod.dump(), || active(&pod) == Some(4));
        let mut command = pod.mesh(c_program("dials_until_made"));
        let mut waiting = command.args([VIP, "80"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(waiting.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "refused\n");
        held.signal(Signal::KILL);
        let ended = held.finish();
        let ended_us = now_us();
        drop(input);
        assert_eq!((ended.field("held"), ended.field("refused")), (Some("4"), Some("2")), "{ended}");
        line.clear();
        output.read_line(&mut line).unwrap();
        waiting.wait().unwrap();
        let last_refused = line.strip_prefix("last_refused=").and_then(|line| line.strip_suffix(" connect=OK\n"));
        let last_refused: i64 = last_refused.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        println!("connects were refused until {} us after the end", last_refused - ended_us);
        assert!(last_refused - ended_us <= 1_000_000, "{} us", last_refused - ended_us);
        wait_until("the count is right again", Duration::from_secs(5), || pod.dump(), || active(&pod) == Some(0));
    }
}

/// Connections in turn, by some processes; all are made.
#[track_caller]
fn check_turns(pod: &Pod, arguments: &[&str]) -> Finished {
    let turns = Finished::of(pod.mesh(c_program("takes_turns")).args([VIP, "80"]).args(arguments));
    println!("{arguments:?}: {}", turns.success().trim());
    let [_, count, ..] = arguments else { panic!("{arguments:?}") };
    assert_eq!((turns.field("made"), turns.field("refused")), (Some(*count), Some("0")), "{turns}");
    turns
}

#[test]
fn four_thousand_short_connections_in_a_row_are_made_below_a_limit_of_two() {
    let pod = Pod::new();
    let backend = pod.backend_of(Mode::Echo, "127.0.1.1:8080", "greeter-1");
    let _control_plane = pod.serve(&Manifest::greeter(1).limited(2));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    let plain = Finished::of(pod.command(c_program("takes_turns")).args(["127.0.1.1", "8080", "1", "4000", "client"]));
    println!("without us: {}", plain.success().trim());
    for closes in ["backend", "client"] {
        let turns = check_turns(&pod, &["1", "4000", closes]);
        // No descriptor of ours stays.
        assert_eq!(turns.field("fds"), plain.field("fds"), "{turns}\n{plain}");
        check_turns(&pod, &["8", "1000", closes]);
    }
    check_turns(&pod, &["1", "1000", "client", "nonblocking"]);
    assert_eq!(backend.accepted(), 15_000);
}

#[test]
fn a_closed_connection_makes_room_at_once_and_a_full_cluster_refuses_without_much_ado() {
    for limit in [2, 100, 1000] {
        let pod = Pod::new();
        let _backend = pod.backend_of(Mode::Echo, "127.0.1.1:8080", "greeter-1");
        let _control_plane = pod.serve(&Manifest::greeter(1).limited(limit));
        Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
        let rounds = Finished::of(pod.mesh(c_program("makes_room")).args([VIP, "80", "200"]));
        println!("{}", rounds.success().trim());
        let number = |key: &str| rounds.field(key).unwrap().parse::<u32>().unwrap();
        assert_eq!(number("held"), limit, "{rounds}");
        // One look asks about 128 of them; above that it may take more than one, each a millisecond later.
        assert!(limit > 128 || number("at_once") == 200, "{rounds}");
        assert!(number("longest_us") < 400_000, "before the leader looked: {rounds}");
    }
}
