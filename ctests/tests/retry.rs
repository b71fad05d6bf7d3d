//! What a connect to a service does when endpoints refuse or hang.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, c_program, wait_until};

fn dial(pod: &Pod, program: &str, more: &[&str]) -> Finished {
    Finished::of(pod.mesh(c_program(program)).args(["10.96.0.10", "80"]).args(more))
}

/// The configuration is there: the mesh, not the kernel, answers for the VIP.
#[track_caller]
fn wait_for_mesh(pod: &Pod) {
    let known = || {
        let lookup = Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"]));
        // Without a configuration the kernel says that there is no route.
        lookup.status.success() && dial(pod, "dial_nonblocking", &[]).field("connect") != Some("ENETUNREACH")
    };
    wait_until("the mesh knows the greeter", Duration::from_secs(5), || pod.dump(), known);
}

fn took_ms(finished: &Finished) -> u64 {
    finished.field("took_ms").unwrap().parse().unwrap()
}

#[test]
fn a_blocking_connect_succeeds_while_any_endpoint_accepts() {
    let pod = Pod::new();
    let _alive = pod.backend_of(Mode::Echo, "127.0.1.2:8080", "greeter-2");
    let _refusing: Vec<_> =
        [1, 3].map(|n| pod.backend_of(Mode::Refuse, &format!("127.0.1.{n}:8080"), "refuses")).into();
    let _control_plane = pod.serve(&Manifest::greeter(3));
    wait_for_mesh(&pod);
    for _ in 0..60 {
        let answer = dial(&pod, "dial", &[]);
        answer.success();
        assert_eq!(answer.field("backend"), Some("greeter-2"), "{answer}");
        assert_eq!(answer.field("peer"), Some("10.96.0.10:80"), "{answer}");
        assert_eq!(answer.field("errno"), Some("77"), "errno is not kept: {answer}");
    }
}

#[test]
fn when_all_endpoints_refuse_so_does_the_connect() {
    let pod = Pod::new();
    let _refusing = pod.greeters(Mode::Refuse, 3);
    let _control_plane = pod.serve(&Manifest::greeter(3));
    wait_for_mesh(&pod);
    let answer = dial(&pod, "dial", &[]);
    assert_eq!(answer.field("connect"), Some("ECONNREFUSED"), "{answer}");
}

#[test]
fn a_killed_backend_costs_no_failed_request() {
    let pod = Pod::new();
    let mut backends = pod.greeters(Mode::Http, 3);
    let _control_plane = pod.serve(&Manifest::greeter(3));
    let answers = || pod.curl("http://greeter/").output().is_ok_and(|output| output.status.success());
    wait_until("the greeter answers", Duration::from_secs(5), || pod.dump(), answers);
    backends.remove(1).kill();
    for _ in 0..60 {
        let answer = Finished::of(&mut pod.curl("http://greeter/"));
        assert!(!answer.success().starts_with("greeter-2"), "{answer}");
    }
}

/// The greeter with a connect timeout of 1 s.
fn impatient(count: u8) -> Manifest {
    Manifest::greeter(count).and(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: greeter, namespace: default}\n\
         spec:\n  host: greeter.default.svc.cluster.local\n  trafficPolicy:\n    connectionPool:\n      \
         tcp: {connectTimeout: 1s}\n",
    )
}

#[test]
fn a_blocking_connect_leaves_an_endpoint_that_hangs_after_the_clusters_connect_timeout() {
    let pod = Pod::new();
    let _alive = pod.backend_of(Mode::Echo, "127.0.1.2:8080", "greeter-2");
    let _hanging = pod.backend_of(Mode::Hang, "127.0.1.1:8080", "greeter-1");
    let _control_plane = pod.serve(&impatient(2));
    wait_for_mesh(&pod);
    let went_on = (0..30).any(|_| {
        let answer = dial(&pod, "dial", &[]);
        answer.success();
        assert_eq!(answer.field("backend"), Some("greeter-2"), "{answer}");
        assert!(answer.took < Duration::from_secs(10), "{answer}");
        answer.took >= Duration::from_millis(900)
    });
    assert!(went_on, "no connect met the endpoint that hangs");
}

#[test]
fn when_all_endpoints_hang_the_connect_times_out() {
    let pod = Pod::new();
    let _hanging = pod.greeters(Mode::Hang, 2);
    let _control_plane = pod.serve(&impatient(2));
    wait_for_mesh(&pod);
    let answer = dial(&pod, "dial", &[]);
    assert_eq!(answer.field("connect"), Some("ETIMEDOUT"), "{answer}");
    assert!((Duration::from_millis(1900)..Duration::from_secs(10)).contains(&answer.took), "{answer}");
}

#[test]
fn a_send_timeout_holds_in_total() {
    let pod = Pod::new();
    let _hanging = pod.greeters(Mode::Hang, 3);
    let _control_plane = pod.serve(&Manifest::greeter(3));
    wait_for_mesh(&pod);
    let answer = dial(&pod, "dial_timeout", &["3000"]);
    // What Linux says when SO_SNDTIMEO ends a connect.
    assert_eq!(answer.field("connect"), Some("EINPROGRESS"), "{answer}");
    // Twice as long, had it held for two endpoints.
    assert!((2900..5900).contains(&took_ms(&answer)), "{answer}");
    assert_eq!(answer.field("timeout_ms"), Some("3000"), "the option was changed: {answer}");
}

#[test]
fn a_send_timeout_bounds_the_wait_for_configuration_too() {
    let pod = Pod::builder().env("LDMESH_READY_TIMEOUT", "20s").build();
    let answer = dial(&pod, "dial_timeout", &["500"]);
    assert_eq!(answer.field("connect"), Some("ENETUNREACH"), "there is no control plane: {answer}");
    assert!((400..10_000).contains(&took_ms(&answer)), "{answer}");
    assert_eq!(answer.field("timeout_ms"), Some("500"), "the option was changed: {answer}");
}

#[test]
fn a_connect_that_was_given_up_with_af_unspec_begins_anew() {
    let pod = Pod::new();
    let _hanging = pod.backend_of(Mode::Hang, "127.0.1.1:8080", "greeter-1");
    let _alive = pod.backend_of(Mode::Echo, "127.0.1.2:8080", "greeter-2");
    let _control_plane = pod.serve(&Manifest::greeter(2));
    wait_for_mesh(&pod);
    let answer = dial(&pod, "disconnects", &[]);
    answer.success();
    assert_eq!(answer.field("backend"), Some("greeter-2"), "{answer}");
    assert_eq!(answer.field("peer"), Some("10.96.0.10:80"), "the new connection is recorded: {answer}");
}

#[test]
fn a_signal_ends_a_connect_that_hangs() {
    let pod = Pod::new();
    let _hanging = pod.greeters(Mode::Hang, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    wait_for_mesh(&pod);
    let answer = dial(&pod, "dial_interrupted", &[]);
    assert_eq!(answer.field("connect"), Some("EINTR"), "{answer}");
    assert_eq!(answer.field("signals"), Some("1"), "{answer}");
    assert!(took_ms(&answer) < 5000, "{answer}");
}

#[test]
fn a_non_blocking_connect_waits_no_longer_than_the_handshake_and_keeps_its_mode() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    wait_for_mesh(&pod);
    // The grace is for a refusal: it ends with the handshake.
    let mut command = pod.mesh(c_program("dial_nonblocking"));
    command.env("LDMESH_CONNECT_GRACE", "10s").args(["10.96.0.10", "80"]);
    let answer = Finished::of(&mut command);
    answer.success();
    assert_eq!(answer.field("connect"), Some("EINPROGRESS"), "{answer}");
    assert_eq!(answer.field("so_error"), Some("OK"), "{answer}");
    assert_eq!(answer.field("flags"), None, "{answer}");
    assert_eq!(answer.field("peer"), Some("10.96.0.10:80"), "{answer}");
    assert!(took_ms(&answer) < 5000, "{answer}");
}

#[test]
fn a_non_blocking_connect_that_is_refused_at_once_goes_on_with_another_endpoint() {
    let pod = Pod::new();
    let _alive = pod.backend_of(Mode::Echo, "127.0.1.2:8080", "greeter-2");
    let _refusing: Vec<_> =
        [1, 3].map(|n| pod.backend_of(Mode::Refuse, &format!("127.0.1.{n}:8080"), "refuses")).into();
    let _control_plane = pod.serve(&Manifest::greeter(3));
    wait_for_mesh(&pod);
    for _ in 0..40 {
        let answer = dial(&pod, "dial_nonblocking", &[]);
        assert_eq!(answer.field("connect"), Some("EINPROGRESS"), "{answer}");
        assert_eq!(answer.field("so_error"), Some("OK"), "{answer}");
        assert_eq!(answer.field("peer"), Some("10.96.0.10:80"), "{answer}");
    }
}

#[test]
fn a_non_blocking_connect_is_watched_for_the_grace_only_where_there_is_another_endpoint() {
    let took = |endpoints: u8, grace: &str| {
        let pod = Pod::new();
        let _hanging = pod.greeters(Mode::Hang, endpoints);
        let _control_plane = pod.serve(&Manifest::greeter(endpoints));
        Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
        let mut command = pod.mesh(c_program("dial_nonblocking"));
        command.env("LDMESH_CONNECT_GRACE", grace).args(["10.96.0.10", "80", "1"]);
        let answer = Finished::of(&mut command);
        assert_eq!(answer.field("connect"), Some("EINPROGRESS"), "{answer}");
        took_ms(&answer)
    };
    let watched = took(2, "4s");
    assert!((4000..8000).contains(&watched), "watched for {watched} ms");
    assert!(took(1, "4s") < 3000, "there is nowhere else to go");
    assert!(took(2, "0") < 3000, "never");
}
