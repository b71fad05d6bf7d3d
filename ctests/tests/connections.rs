//! Connected sockets: whose peer they name, and what programs do to descriptors.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use ctests::{Finished, Manifest, Mode, Pod, Service, c_program};

const VIP: &str = "10.96.0.10";

/// A pod in which the mesh is known, by a lookup that waited for it.
#[track_caller]
fn ready(pod: &Pod) {
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    Finished::of(pod.mesh(c_program("dial")).args([VIP, "80"])).success();
}

#[test]
fn every_way_to_write_the_address_reaches_an_endpoint_and_names_it_back() {
    let pod = Pod::new();
    let _v4 = pod.greeters(Mode::Echo, 1);
    let _v6 = pod.backend_of(Mode::Echo, "[2001:db8::2]:8080", "six");
    let _control_plane = pod.serve(&Manifest::of(&[
        Service::new("greeter", "default", &[VIP], &["127.0.1.1"]),
        Service::new("six", "default", &["2001:db8:96::6"], &["2001:db8::2"]),
    ]));
    ready(&pod);
    Finished::of(pod.mesh(c_program("lookup")).args(["six", "80"])).success();
    for (address, peer, length, backend) in [
        (VIP, "10.96.0.10:80", "16", "greeter-1"),
        ("::ffff:10.96.0.10", "[::ffff:10.96.0.10]:80", "28", "greeter-1"),
        ("2001:db8:96::6", "[2001:db8:96::6]:80", "28", "six"),
    ] {
        let answer = Finished::of(pod.mesh(c_program("dial")).args([address, "80"]));
        answer.success();
        assert_eq!(answer.field("backend"), Some(backend), "{answer}");
        assert_eq!(answer.field("peer"), Some(peer), "{answer}");
        assert_eq!(answer.field("length"), Some(length), "{answer}");
        assert_eq!(answer.field("echo"), Some("ping"), "{answer}");
    }
}

#[test]
fn a_further_address_of_the_pods_own_is_not_redirected() {
    let pod = Pod::new();
    pod.ip("address add 10.244.0.9/32 dev eth0");
    let _own = pod.backend_of(Mode::Echo, "10.244.0.9:80", "own");
    let _greeters = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::of(&[
        Service::new("greeter", "default", &[VIP], &["127.0.1.1"]),
        Service::new("self", "default", &["10.244.0.9"], &["127.0.1.1"]),
    ]));
    ready(&pod);
    Finished::of(pod.mesh(c_program("lookup")).args(["self", "80"])).success();
    let answer = Finished::of(pod.mesh(c_program("dial")).args(["10.244.0.9", "80"]));
    answer.success();
    assert_eq!(answer.field("backend"), Some("own"), "{answer}");
}

#[test]
fn a_connection_keeps_its_peer_over_dup_fork_passing_and_exec() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    ready(&pod);
    let answer = Finished::of(pod.mesh(c_program("peer_inheritance")).args([VIP, "80"]));
    answer.success();
    for key in ["peer", "dup", "fork", "passed", "exec"] {
        assert_eq!(answer.field(key), Some("10.96.0.10:80"), "{key}: {answer}");
    }
}

#[test]
fn a_descriptor_that_was_closed_unseen_does_not_keep_its_peer() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _plain = pod.backend_of(Mode::Echo, "127.0.0.1:9000", "plain");
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready(&pod);
    let mut reuse = pod.mesh(c_program("peer_of_a_reused_descriptor"));
    let answer = Finished::of(reuse.args([VIP, "80", "9000"]));
    answer.success();
    assert_eq!(answer.field("first"), Some("10.96.0.10:80"), "{answer}");
    assert_eq!(answer.field("closed"), Some("127.0.0.1:9000"), "{answer}");
    assert_eq!(answer.field("dup2"), Some("127.0.0.1:9000"), "{answer}");
}

#[test]
fn forked_workers_resolve_and_connect_on_their_own() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    for lead in ["agent", "thread"] {
        let mut prefork = pod.mesh(c_program("fork_after_lookup"));
        prefork.env("LDMESH_LEAD", lead).args(["greeter", "80", "20"]);
        let answer = Finished::of(&mut prefork);
        answer.success();
        assert_eq!(answer.stdout.matches("backend=greeter-").count(), 21, "{lead}: {answer}");
    }
}

#[test]
fn a_daemon_that_closes_every_descriptor_still_connects_and_gets_descriptor_0() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready(&pod);
    let file = pod.folder().join("daemon");
    Finished::of(pod.mesh(c_program("daemon_closes_all")).args([VIP, "80"]).arg(&file)).success();
    let said = std::fs::read_to_string(&file).unwrap();
    assert_eq!(said.trim(), "first=0 socket=1 backend=greeter-1");
}

#[test]
fn a_full_descriptor_table_stops_neither_connect_nor_lookup() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready(&pod);
    let mut full = pod.mesh(c_program("full_descriptor_table"));
    let answer = Finished::of(full.args(["greeter", VIP, "80"]));
    // The process mapped nothing before its table was full, so the call must pass as without us;
    // where the library had its files already, the mesh answers.
    let code = answer.field("lookup").unwrap();
    assert!(["0", "-2", "-3", "-11"].contains(&code), "{answer}");
    let connect = answer.field("connect").unwrap();
    assert!(["OK", "ENETUNREACH"].contains(&connect), "{answer}");
}
