//! Messages that are large, slow or cut off, and connections that end.

use std::time::{Duration, Instant};

use ctests::{GoMesh, Pod, Variant};

use crate::fixture::{AFTER_BACK_OFF, Fixture, SOON, connect};

#[track_caller]
pub fn fifty_megabytes(variant: Variant) {
    let pod = Pod::without_name_table();
    let Some(mut it) = Fixture::start(&pod, variant) else { return };
    let leader = it.server.leader();
    let kib =
        |field: &str| -> u64 { leader.status(field).unwrap().split_whitespace().next().unwrap().parse().unwrap() };
    let before = kib("VmHWM");
    let started = Instant::now();
    it.server.serve(&GoMesh { fillers: 5_000, filler_bytes: 10_486, ..GoMesh::at(2, 1) });
    let mut connects = 0;
    while is_at_last_good(&mut it) {
        connects += 1;
        assert!(started.elapsed() < Duration::from_secs(60), "{}", pod.dump());
    }
    it.server.await_ack("CDS");
    let (took, first, resident) = (started.elapsed(), kib("VmHWM"), kib("VmRSS"));
    // Again and again, each cluster another one each time; then as a single resource.
    for n in 1..=4 {
        it.server.serve(&GoMesh { fillers: 5_000, filler_bytes: 10_486 + n, ..GoMesh::at(2, 1) });
        it.server.await_ack("CDS");
    }
    let peak = kib("VmHWM");
    it.server.serve(&GoMesh { padding: 52 << 20, ..GoMesh::at(4, 1) });
    it.goes_to(4, "the endpoint that is told in 52 MB");
    let single = kib("VmHWM");
    it.moves_to(3);
    it.server.await_ack("EDS");
    println!(
        "{variant:?}: 52 MB of clusters in {took:?}, {connects} connects meanwhile; the leader's peak {before} -> {first} \
         KiB, resident then {resident}; peak after four more {peak}, after 52 MB in one resource {single}; resident \
         without them {}",
        kib("VmRSS")
    );
    it.server.leader();
    assert!(first < 192 << 10 && peak < 320 << 10 && single < 400 << 10, "{first}, {peak}, {single} KiB");
    let after = it.server.counters();
    assert_eq!((after.nacks_of_all(), after.streams_total), (0, 1), "{after:?}");
}

/// Whether a connection still has the last good endpoint; panics when it has neither that nor the new one.
#[track_caller]
fn is_at_last_good(it: &mut Fixture<'_>) -> bool {
    let answer = connect(&mut it.client);
    assert!(["backend=greeter-1", "backend=greeter-2"].contains(&answer.as_str()), "{answer}");
    answer == "backend=greeter-1"
}

#[track_caller]
pub fn slow_drip(variant: Variant) {
    let pod = Pod::without_name_table();
    let Some(mut it) = Fixture::start(&pod, variant) else { return };
    // 16 KB, 16 bytes in 2 ms: 2 s at the least.
    it.server.drip(16, Duration::from_millis(2));
    let started = Instant::now();
    it.server.serve(&GoMesh { padding: 16 << 10, ..GoMesh::at(2, 1) });
    let mut last_good = 0;
    while is_at_last_good(&mut it) {
        last_good += 1;
        assert!(started.elapsed() < Duration::from_secs(60), "{}", pod.dump());
    }
    println!("{variant:?}: {last_good} connects to the last good endpoint, the new one after {:?}", started.elapsed());
    assert!(last_good > 100, "nothing trickled: {last_good}");
    it.server.await_ack("EDS");
    it.server.drip(0, Duration::ZERO);
    it.moves_to(3);
    let after = it.server.counters();
    assert_eq!((after.nacks_of_all(), after.streams_total), (0, 1), "{after:?}");
}

#[track_caller]
pub fn mid_frame_reset(variant: Variant) {
    let pod = Pod::without_name_table();
    let Some(mut it) = Fixture::start(&pod, variant) else { return };
    let before = it.server.counters();
    it.server.cut(Some(50_000));
    it.server.serve(&GoMesh { padding: 200_000, ..GoMesh::at(2, 1) });
    let started = Instant::now();
    let mut connects = 0_u32;
    while started.elapsed() < Duration::from_secs(3) {
        it.stays_at(1);
        connects += 1;
    }
    let during = it.server.counters();
    let streams = during.streams_total - before.streams_total;
    println!(
        "{variant:?}: {connects} connects, {} cuts, {streams} streams, {} requests in {:?}",
        during.cuts,
        during.requests_of_all() - before.requests_of_all(),
        started.elapsed()
    );
    assert!(during.cuts >= 2, "{during:?}");
    assert!(streams < 700, "more than the shortest back-off allows: {during:?}");
    it.server.cut(None);
    it.server.wait_for("a stream", AFTER_BACK_OFF, |now| now.streams_open == 1);
    it.moves_to(3);
    let after = it.server.counters();
    assert_eq!((after.nacks_of_all(), after.connections_open), (0, 1), "{after:?}");
}

#[track_caller]
pub fn goaway_storm(variant: Variant) {
    let pod = Pod::without_name_table();
    let Some(mut it) = Fixture::start(&pod, variant) else { return };
    let before = it.server.counters();
    it.server.goaways(Some(Duration::from_millis(20)));
    let started = Instant::now();
    let mut moves = 0_u8;
    while started.elapsed() < Duration::from_secs(5) {
        it.moves_to(1 + moves % 6);
        moves = moves.wrapping_add(1);
        for _ in 0..10 {
            it.stays_at(1 + (moves - 1) % 6);
        }
    }
    let took = started.elapsed();
    let during = it.server.counters();
    it.server.goaways(None);
    let streams = during.streams_total - before.streams_total;
    let requests = during.requests_of_all() - before.requests_of_all();
    println!("{variant:?}: {streams} streams, {requests} requests, {moves} moves in {took:?}");
    assert!(streams > 20, "no storm: {during:?}");
    // Each server lives for 20 ms at the least, and has one stream.
    let most = took.as_millis() as u64 / 20 + 2;
    assert!(streams <= most, "{streams} streams, at most {most}");
    assert!(requests <= streams * 10 + u64::from(moves) * 5 + 20, "{during:?}");
    it.server.wait_for("one connection is left", SOON, |now| now.connections_open == 1 && now.streams_open == 1);
    it.moves_to(6);
    it.moves_to(5);
    assert_eq!(it.server.counters().nacks_of_all(), 0);
}

#[test]
fn a_connection_that_is_reset_before_any_answer_is_tried_ever_less_often() {
    let pod = Pod::without_name_table();
    let Some(mut it) = Fixture::start(&pod, Variant::Delta) else { return };
    it.server.cut(Some(0));
    it.server.serve(&GoMesh::at(2, 1));
    let before = it.server.counters();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        it.stays_at(1);
    }
    let during = it.server.counters();
    let connections = during.connections_total - before.connections_total;
    println!("{connections} connections in {:?}", started.elapsed());
    assert!((2..40).contains(&connections), "{during:?}");
    it.server.cut(None);
    it.goes_to(2, "what was served meanwhile");
}
