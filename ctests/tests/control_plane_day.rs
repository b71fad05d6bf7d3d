//! A day of a control plane in a minute: thousands of reconnects and pushes, and nothing grows.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use ctests::process::Process;
use ctests::{Client, End, GoMesh, Mode, Pod, Variant, wait_until};

const RECONNECTS: u32 = 2_000;
const PUSHES: u32 = 10_000;
/// By then caches and allocators have what they need.
const WARM: u32 = RECONNECTS / 10;
/// No divisor of the pushes between two reconnects: each image is another one.
const ENDPOINTS: u8 = 7;

/// What must not grow.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    resident_kib: u64,
    descriptors: usize,
    threads: usize,
    mappings: usize,
}

impl Sizes {
    fn of(process: Process) -> Self {
        Self {
            resident_kib: process.resident_kib().unwrap(),
            descriptors: process.descriptors().len(),
            threads: process.threads().len(),
            mappings: process.mapping_count(),
        }
    }
}

/// The greeter at one endpoint after the other.
fn mesh(push: u32) -> GoMesh {
    let nth = u8::try_from(push % u32::from(ENDPOINTS)).unwrap() + 1;
    GoMesh::at(nth, 1)
}

/// The generation of the image that is published.
fn generation(pod: &Pod) -> u64 {
    let status = pod.status();
    status.pointer("/image/generation").and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{status}"))
}

#[track_caller]
fn check_a_day(variant: Variant) {
    let pod = Pod::without_name_table();
    let Some(mut server) = pod.go_control_plane(variant, &mesh(0)) else { return };
    server.lead();
    let _backends = pod.greeters(Mode::Echo, ENDPOINTS);
    let mut client = Client::start(&pod);
    let leader = server.leader();
    let (started, first_generation) = (Instant::now(), generation(&pod));
    let mut warm = None;
    let mut push = 0;
    for reconnect in 0..RECONNECTS {
        if reconnect == WARM {
            warm = Some((Sizes::of(leader), generation(&pod), server.counters()));
        }
        for _ in 0..PUSHES / RECONNECTS {
            push += 1;
            server.serve(&mesh(push));
            server.await_ack("EDS");
        }
        // Whichever is published: there is always one that answers.
        let answer = client.connect();
        assert!(answer.starts_with("backend=greeter-"), "{answer}\n{}", pod.dump());
        server.end(End::ALL[reconnect as usize % End::ALL.len()]);
        // A stream that is new. By delta the client says what it has, and only wildcards are answered for all that.
        let answered: &[&str] = if variant == Variant::Delta { &["CDS", "LDS"] } else { &["CDS", "LDS", "RDS", "EDS"] };
        for kind in answered {
            server.await_ack(kind);
        }
    }
    let last = format!("backend=greeter-{}", push % u32::from(ENDPOINTS) + 1);
    wait_until("the last push is used", Duration::from_secs(5), || pod.dump(), || client.connect() == last);
    let took = started.elapsed();
    let (warm, warm_generation, warm_counters) = warm.unwrap();
    let (sizes, generation, counters) = (Sizes::of(leader), generation(&pod), server.counters());
    println!(
        "{variant:?}: {} streams on {} connections, {push} pushes, {} images in {took:?}; after a tenth {warm:?}, in the \
         end {sizes:?}; {} requests",
        counters.streams_total,
        counters.connections_total,
        generation - first_generation,
        counters.requests_of_all(),
    );
    assert_eq!(push, PUSHES);
    assert!(counters.streams_total > u64::from(RECONNECTS), "{counters:?}");
    assert_eq!((counters.streams_open, counters.streams_peak), (1, 1), "{counters:?}");
    wait_until(
        "one connection is open",
        Duration::from_secs(5),
        || pod.dump(),
        || server.counters().connections_open == 1,
    );
    assert_eq!(counters.nacks_of_all(), 0, "{counters:?}");
    // At most 50 images a second, and each of them another endpoint.
    assert!(generation - warm_generation > 500, "{warm_generation} -> {generation}");
    assert_eq!(server.leader(), leader);
    assert!(sizes.resident_kib <= warm.resident_kib + 1_024, "{warm:?} -> {sizes:?}");
    assert!(sizes.descriptors <= warm.descriptors, "{warm:?} -> {sizes:?}");
    assert!(sizes.threads <= warm.threads, "{warm:?} -> {sizes:?}");
    assert!(sizes.mappings <= warm.mappings + 4, "{warm:?} -> {sizes:?}");
    // A stream has a first request of each type and their acknowledgements; state of the world has news of every type.
    let since = counters.requests_of_all() - warm_counters.requests_of_all();
    let pushes = u64::from(PUSHES - WARM * (PUSHES / RECONNECTS));
    let most = 10 * u64::from(RECONNECTS - WARM) + pushes * if variant == Variant::Delta { 1 } else { 4 };
    assert!(since <= most, "{since} requests, at most {most} expected");
}

#[test]
fn two_thousand_reconnects_and_ten_thousand_pushes_by_delta_grow_nothing() {
    check_a_day(Variant::Delta);
}

#[test]
fn two_thousand_reconnects_and_ten_thousand_pushes_by_state_of_the_world_grow_nothing() {
    check_a_day(Variant::Sotw);
}
