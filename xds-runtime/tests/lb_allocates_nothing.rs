//! A pick allocates nothing, and neither does an ejection: they may happen in a signal handler, or under the program's own malloc lock.
#![allow(clippy::unwrap_used)] // a test: what fails here is to be seen

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use xds_runtime::boot::BootId;
use xds_runtime::image::*;
use xds_runtime::lb::{Call, Choice, Seeded, choose};
use xds_runtime::outlier::{FailurePercentage, Settings, SuccessRate, failed_in};
use xds_runtime::resource::Health;
use xds_runtime::shm::{WordAddr, Words, hash_bytes};
use xds_runtime::state::{SlotAllocator, SlotKind, State, endpoint_tag, named_tag, state_words};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the calling thread's allocations.
struct Counting;

// SAFETY: everything is the system allocator's; the counter is a plain thread-local that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DETECTION: Settings = Settings {
    split: false,
    row: 2,
    enforcing_row: 100,
    gateway: 3,
    enforcing_gateway: 100,
    success_rate: SuccessRate { enforcing: 100, minimum_hosts: 5, request_volume: 100, stdev_factor: 1900 },
    failure_percentage: FailurePercentage { enforcing: 0, threshold: 85, minimum_hosts: 5, request_volume: 50 },
    interval: 10_000,
    base_ejection_time: 100,
    max_ejection_time: 1_000,
    max_ejection_time_jitter: 10,
    max_ejection_percent: 50,
    always_eject_one_host: false,
    draining: 0,
};

fn mesh(policy: Policy, balancing: Balancing, book: &mut SlotAllocator) -> Mesh {
    let hash = hash_bytes(b"c");
    let mut endpoint = |n: u8, health| {
        let address = WordAddr::new([127, 0, 0, n].into());
        let slot = book.slot(endpoint_tag(hash, address, 80));
        Endpoint { address: address.socket(80), weight: u32::from(n % 3) + 1, health, takes_mtls: false, slot }
    };
    let mut tier = |from: u8| {
        let zone = |name: &str, endpoints| Locality { name: name.into(), weight: 2, slot: None, endpoints };
        let all = vec![endpoint(from, Health::Healthy), endpoint(from + 1, Health::Unhealthy)];
        let more = vec![endpoint(from + 2, Health::Degraded), endpoint(from + 3, Health::Healthy)];
        let localities = vec![zone("a", all), zone("b", more)];
        let table = match policy {
            Policy::RingHash => Table::Ring(vec![(7, 0), (1 << 40, 3), (1 << 60, 0)]),
            Policy::Maglev => Table::Maglev(vec![0, 3, 3, 0, 0]),
            _ => Table::None,
        };
        Priority { slot: None, localities, table }
    };
    let mut priorities = vec![tier(1), tier(10)];
    for (nth, priority) in (0..).zip(&mut priorities) {
        priority.slot = book.slot(priority_tag(hash, nth));
    }
    let cluster = Cluster {
        owner: None,
        name: "c".into(),
        policy,
        balancing,
        priorities: Some(priorities),
        slot: book.slot(named_tag(SlotKind::Cluster, hash)),
        connect_timeout: Duration::from_secs(1),
        max_connections: None,
        keepalive: None,
        panic_threshold: 50.0,
        overprovisioning_factor: 140,
        locality_weighted: true,
        outlier: Some(DETECTION),
    };
    let destination = Destination {
        address: [10, 0, 0, 1].into(),
        port: 80,
        action: Action::Clusters { shares: vec![(0, 1), (1, 2)], hash: HashOn::SourceIp },
        name: None,
        rules_left_out: String::new(),
    };
    let aggregate = Cluster {
        name: "all".into(),
        policy: Policy::Aggregate(vec![0]),
        balancing: Balancing::default(),
        priorities: Some(Vec::new()),
        ..cluster.clone()
    };
    Mesh { destinations: vec![destination], clusters: vec![cluster, aggregate], ..Mesh::default() }
}

/// STATE, and an image of a mesh with this policy, whose endpoints were added at 1.
fn published(policy: Policy, balancing: Balancing) -> (State, ImageFile, Vec<u64>) {
    let boot = BootId::from_words([1, 2]);
    let state = State::format(Box::leak((0..state_words(64)).map(|_| AtomicU64::new(0)).collect()), boot).unwrap();
    let mut book = SlotAllocator::recover(state);
    book.at(1);
    let mesh = mesh(policy, balancing, &mut book);
    let content = encode(&mesh).unwrap();
    let words = Box::leak((0..file_words(content.len())).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>());
    Publisher::format(words, boot, 1, 0).unwrap().publish(&content).unwrap();
    (state, ImageFile::open(words, boot, 1).unwrap(), content)
}

#[test]
fn a_failure_that_ejects_and_the_picks_after_it_allocate_nothing() {
    let (state, image, _) = published(Policy::Random, Balancing::default());
    let mut entropy = Seeded(1);
    let vip = WordAddr::new([10, 0, 0, 1].into());
    let before = ALLOCATIONS.get();
    let (mut ejections, mut picked) = (0, 0);
    for now in 1..5_000 {
        let call = Call { address: vip, port: 80, source: &|| None, now, avoid: &[] };
        let Ok(Choice::Endpoint(pick)) = image.read(|view| choose(view, Some(&state), &call, &mut entropy)) else {
            continue;
        };
        picked += 1;
        ejections += u32::from(failed_in(Some(&image), &state, &pick.member(), now, &mut entropy).is_some());
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(ejections > 10 && picked > 4_000, "{ejections} ejections, {picked} picks");
}

#[test]
fn a_pick_allocates_nothing() {
    let policies = [
        Policy::RoundRobin,
        Policy::Random,
        Policy::LeastRequest { choice_count: 3, active_request_bias: 1.0 },
        Policy::LeastRequest { choice_count: 3, active_request_bias: 0.7 },
        Policy::RingHash,
        Policy::Maglev,
    ];
    let plain = policies.into_iter().map(|policy| (policy, Balancing::default()));
    let slow_start = SlowStart { window_ms: 1000, aggression_thousandths: 1500, min_weight: 1000 };
    let starting = [Policy::RoundRobin, Policy::LeastRequest { choice_count: 2, active_request_bias: 1.0 }];
    let starting = starting.map(|policy| (policy, Balancing { slow_start: Some(slow_start), ..Balancing::default() }));
    let zones = |by_weight| ZoneAware {
        local: 0,
        own: Some(1),
        routing_enabled: 99,
        min_cluster_size: 1,
        by_weight,
        force_local: None,
    };
    let zoned = [true, false].map(|by_weight| {
        (Policy::RoundRobin, Balancing { zone_aware: Some(zones(by_weight)), ..Balancing::default() })
    });
    let scan = Balancing { full_scan: true, ..Balancing::default() };
    let bounded = Balancing { hash_balance_factor: Some(100), ..Balancing::default() };
    let failing = Balancing { fail_on_panic: true, ..zoned[0].1 };
    let others = [
        (Policy::LeastRequest { choice_count: 2, active_request_bias: 1.0 }, scan),
        (Policy::RingHash, bounded),
        (Policy::Maglev, bounded),
        (Policy::Random, failing),
    ];
    for (policy, balancing) in plain.chain(starting).chain(zoned).chain(others) {
        let (state, image, content) = published(policy.clone(), balancing);
        let view_of_content: Vec<_> = content.iter().map(|word| AtomicU64::new(*word)).collect();
        let view = View::new(Words::new(&view_of_content));
        let vip = WordAddr::new([10, 0, 0, 1].into());
        let tried = [(WordAddr::new([127, 0, 0, 1].into()), 80)];
        let mut entropy = Seeded(1);
        let call = Call { address: vip, port: 80, source: &|| Some([10, 1, 2, 3].into()), now: 5, avoid: &tried };
        let before = ALLOCATIONS.get();
        let mut picked = 0;
        for _ in 0..1000 {
            let choice = image.read(|view| choose(view, Some(&state), &call, &mut entropy));
            picked += u32::from(matches!(choice, Ok(Choice::Endpoint(_))));
            let choice = choose(&view, Some(&state), &call, &mut entropy);
            picked += u32::from(matches!(choice, Ok(Choice::Endpoint(_))));
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{policy:?} {balancing:?}");
        assert_eq!(picked, 2000, "{policy:?} {balancing:?}");
        drop(Box::new(1));
        assert!(ALLOCATIONS.get() > before, "the counter counts");
    }
}
