//! A process that finds a live image needs nothing of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, Trace, artifacts, c_program, wait_until};

/// A pod with a leader that has published, and knows the endpoints of the greeter.
#[track_caller]
fn warm_up(pod: &Pod) {
    let spread = || {
        let dial = Finished::of(pod.mesh(c_program("dial")).args(["10.96.0.10", "80"]));
        dial.status.success() && dial.field("backend").is_some_and(|name| name.starts_with("gree"))
    };
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80"])).success();
    wait_until("the greeter is known", Duration::from_secs(5), || pod.dump(), spread);
}

#[track_caller]
fn check_quiet(trace: &Trace, sockets: usize) {
    assert!(trace.finished.status.success(), "{}", trace.finished);
    let threads: Vec<_> = trace.named(&["clone", "clone3", "fork", "vfork"]).collect();
    assert!(threads.is_empty(), "{threads:?}");
    let opened: Vec<_> = trace.named(&["socket", "socketpair"]).collect();
    assert_eq!(opened.len(), sockets, "{opened:?}");
    let sent: Vec<_> = trace.named(&["sendto", "sendmsg", "sendmmsg", "recvfrom"]).collect();
    assert!(sent.is_empty(), "{sent:?}");
}

#[test]
fn a_warm_lookup_has_no_thread_and_no_socket() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    warm_up(&pod);
    let program = c_program("lookup");
    let trace = Trace::of(&pod, true, &[], &[program.to_str().unwrap(), "greeter", "80", "inet"]);
    check_quiet(&trace, 0);
    assert!(trace.finished.stdout.contains("addr=10.96.0.10"), "{}", trace.finished);
}

#[test]
fn a_warm_connect_has_no_thread_and_only_the_programs_socket() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    warm_up(&pod);
    let program = c_program("dial");
    let trace = Trace::of(&pod, true, &[], &[program.to_str().unwrap(), "10.96.0.10", "80"]);
    check_quiet(&trace, 1);
    let first = trace.named(&["connect"]).next().unwrap();
    assert!(first.rest.contains("127.0.1."), "{first:?}");
}

#[test]
fn a_warm_program_takes_less_than_1_ms_more_than_without_the_library() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    warm_up(&pod);
    let mut timed = pod.command(c_program("time_exec"));
    timed.env("LDMESH_XDS", ctests::CONTROL_PLANE_URL).args(["400", artifacts().library.to_str().unwrap()]);
    timed.arg(c_program("lookup")).args(["greeter", "127.0.0.1", "80", "inet"]);
    let finished = Finished::of(&mut timed);
    assert_eq!(finished.field("failed"), Some("0"), "{finished}");
    println!("exec to answer: {}", finished.success());
    let least = |key: &str| -> i64 { finished.field(key).unwrap().parse().unwrap() };
    let more = least("least_with_us") - least("least_without_us");
    assert!(more < 1000, "{finished}");
}
