//! Messages that are old, out of order, incomplete, contradictory or empty.

use std::time::Instant;

use ctests::{Counters, Finished, GoMesh, Mode, Pod, Variant, c_program, wait_until};

use crate::fixture::{Fixture, SOON, connect, count};

#[track_caller]
pub fn stale_nonces(variant: Variant) {
    let pod = Pod::without_name_table();
    let Some(mut it) = Fixture::start(&pod, variant) else { return };
    it.moves_to(2);
    it.server.await_ack("EDS");
    let before = it.server.counters();
    it.server.replay("EDS", 100);
    let answered = |now: &Counters| count(now, "EDS").0 > count(&before, "EDS").0;
    it.server.wait_for("an answer", SOON, answered);
    for _ in 0..20 {
        it.stays_at(2);
    }
    it.moves_to(3);
    it.server.await_ack("EDS");
    let after = it.server.counters();
    let (asked, said) =
        (count(&after, "EDS").0 - count(&before, "EDS").0, count(&after, "EDS").1 - count(&before, "EDS").1);
    println!("{variant:?}: {said} responses, {asked} requests");
    assert_eq!(said, 101, "{after:?}");
    assert!(asked <= said, "at most one request for each response: {after:?}");
    assert_eq!((after.nacks_of_all(), after.streams_total), (0, 1), "{after:?}");
}

#[track_caller]
pub fn crossed_subscription(variant: Variant) {
    let pod = Pod::without_name_table();
    let Some(mut it) = Fixture::start(&pod, variant) else { return };
    it.server.hold(&["EDS"]);
    let before = it.server.counters();
    it.server.serve(&GoMesh::at(2, 4));
    // The server has said the next version and expects its nonce; the client cannot know, and subscribes to a second name.
    let mut second = pod.mesh(c_program("dial"));
    let mut second = ctests::Running::start(second.args(["10.96.0.11", "80"]));
    let subscribed = |now: &Counters| count(now, "EDS").0 > count(&before, "EDS").0;
    it.server.wait_for("it subscribes to the second one", SOON, subscribed);
    it.stays_at(1);
    assert!(!second.has_ended(), "it had no endpoints to choose from");
    it.server.release(&["EDS"]);
    let done = second.finish();
    assert_eq!(done.field("backend"), Some("greeter-4"), "{done}");
    it.goes_to(2, "the version that was held back");
    assert_eq!(it.server.counters().nacks_of_all(), 0);
}

#[track_caller]
pub fn any_order(variant: Variant) {
    // Of a leader that knows nothing: listeners before clusters, clusters before listeners, routes last.
    for order in [["LDS", "RDS", "CDS", "EDS"], ["CDS", "LDS", "EDS", "RDS"], ["RDS", "EDS", "LDS", "CDS"]] {
        let pod = Pod::without_name_table();
        let _backends = pod.greeters(Mode::Echo, 2);
        let Some(mut server) = pod.go_control_plane(variant, &GoMesh::at(2, 1)) else { return };
        server.hold(&order);
        server.lead();
        let mut dial = pod.mesh(c_program("dial"));
        let mut dial = ctests::Running::start(dial.args(["10.96.0.10", "80"]));
        server.wait_for("a stream", SOON, |now| now.streams_open == 1);
        for kind in order {
            assert!(!dial.has_ended(), "{order:?}: not before {kind}");
            server.release(&[kind]);
        }
        let done = dial.finish();
        assert_eq!(done.field("backend"), Some("greeter-2"), "{order:?}: {done}\n{}", pod.dump());
        assert_eq!(server.counters().nacks_of_all(), 0);
    }
}

#[track_caller]
pub fn endpoints_first(variant: Variant) {
    let pod = Pod::without_name_table();
    let Some(mut it) = Fixture::start(&pod, variant) else { return };
    it.server.hold(&["CDS", "LDS", "RDS"]);
    it.server.serve(&GoMesh::at(2, 1));
    it.server.end(ctests::End::Reset);
    it.server.wait_for("another stream", SOON, |now| now.streams_total == 2);
    it.goes_to(2, "the endpoints, which come alone");
    for _ in 0..20 {
        it.stays_at(2);
    }
    it.server.release(&["RDS", "LDS", "CDS"]);
    it.server.await_ack("CDS");
    for _ in 0..20 {
        it.stays_at(2);
    }
    it.moves_to(3);
}

#[track_caller]
pub fn missing_resources(variant: Variant) {
    for kind in ["EDS", "RDS", "CDS"] {
        let pod = Pod::without_name_table();
        // The kernel's own path, where the mesh knows no better.
        pod.ip("route add local 10.96.0.0/16 dev lo");
        let _kernel = pod.backend_of(Mode::Echo, "10.96.0.10:80", "kernel");
        let _backends = pod.greeters(Mode::Echo, 2);
        let lacking = GoMesh { without: vec![kind], ..GoMesh::at(2, 1) };
        let Some(mut server) = pod.go_control_plane(variant, &lacking) else { return };
        server.lead();
        let dial = || {
            let done = Finished::of(pod.mesh(c_program("dial")).args(["10.96.0.10", "80"]));
            done.field("backend").unwrap_or_else(|| panic!("{done}")).to_owned()
        };
        let started = Instant::now();
        assert_eq!(dial(), "kernel", "without {kind}");
        println!("{variant:?}, without {kind}: the kernel's path after {:?}", started.elapsed());
        let before = server.counters();
        for _ in 0..20 {
            assert_eq!(dial(), "kernel", "without {kind}");
        }
        let asked = server.counters().requests_of_all() - before.requests_of_all();
        assert!(asked <= 4, "{asked} requests although nothing changed");
        server.serve(&GoMesh::at(2, 1));
        wait_until("what was missing", SOON, || pod.dump(), || dial() == "greeter-2");
        assert_eq!(server.counters().nacks_of_all(), 0);
    }
}

#[track_caller]
pub fn duplicate_names(variant: Variant) {
    let pod = Pod::without_name_table();
    let Some(mut it) = Fixture::start(&pod, variant) else { return };
    // The same twice says nothing twice.
    it.server.twice("EDS", &GoMesh::at(2, 1), &GoMesh::at(2, 1));
    it.goes_to(2, "what both say");
    assert_eq!(it.server.counters().nacks_of_all(), 0);
    it.server.twice("EDS", &GoMesh::at(3, 1), &GoMesh::at(4, 1));
    let rejected = |now: &Counters| now.nacks_of_all() == 1;
    let after = it.server.wait_for("a NACK", SOON, rejected);
    let text = &after.last_nack["EDS"];
    assert!(text.contains("greeter") && text.contains("twice"), "{text}");
    it.goes_to(3, "the first of both");
    for _ in 0..20 {
        it.stays_at(3);
    }
    it.moves_to(5);
    assert_eq!(it.server.counters().streams_total, 1);
}

#[track_caller]
pub fn empty_responses(variant: Variant) {
    let pod = Pod::without_name_table();
    pod.ip("route add local 10.96.0.0/16 dev lo");
    let _kernel = pod.backend_of(Mode::Echo, "10.96.0.10:80", "kernel");
    let Some(mut it) = Fixture::start(&pod, variant) else { return };
    // Of types that are asked for by name absence says nothing, and by delta nothing is ever a full list.
    let harmless: &[&str] = if variant == Variant::Delta { &["EDS", "RDS", "LDS", "CDS"] } else { &["EDS", "RDS"] };
    for kind in harmless {
        let before = it.server.counters();
        it.server.empty(kind);
        it.server.wait_for("an answer", SOON, |now| count(now, kind).0 > count(&before, kind).0);
        for _ in 0..20 {
            it.stays_at(1);
        }
    }
    if variant == Variant::Sotw {
        for kind in ["CDS", "LDS"] {
            it.server.empty(kind);
            let (pod, client) = (it.pod, &mut it.client);
            let passed = || connect(client) == "backend=kernel";
            wait_until("nothing is left to balance", SOON, || pod.dump(), passed);
            it.moves_to(if kind == "CDS" { 2 } else { 3 });
        }
    }
    it.moves_to(4);
    let after = it.server.counters();
    assert_eq!((after.nacks_of_all(), after.streams_total), (0, 1), "{after:?}");
}
