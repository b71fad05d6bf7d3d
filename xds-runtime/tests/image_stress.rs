//! Readers under thousands of publishes a second never see parts of two generations in one pick.
//!
//! Generation `g` says `g` in every part of a pick: the endpoint's address, its port, the cluster's connect timeout.
//! A publisher that forgets the epoch is caught by the same readers, so the test can fail.
#![allow(clippy::unwrap_used)] // a test: what fails here is to be seen

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use xds_runtime::boot::BootId;
use xds_runtime::image::*;
use xds_runtime::lb::{Call, Choice, Pick, Seeded, choose};
use xds_runtime::resource::Health;
use xds_runtime::shm::{WordAddr, map_read, map_write};

const BOOT: BootId = BootId::from_words([1, 2]);
const TERM: u32 = 3;
const VIP: [u8; 4] = [10, 96, 0, 1];
const CLUSTERS: u32 = 8;
const DEADLINE: Duration = Duration::from_secs(60);

/// A mesh whose every pick says `generation`.
fn content(generation: u64) -> Vec<u64> {
    let [.., high, middle, low] = generation.to_be_bytes();
    let endpoint = |weight| Endpoint {
        address: SocketAddr::new([127, high, middle, low].into(), port(generation)),
        weight,
        health: Health::Healthy,
        takes_mtls: false,
        slot: None,
    };
    let cluster = |n: u32| Cluster {
        name: format!("cluster {n}"),
        policy: Policy::Random,
        owner: None,
        balancing: Balancing::default(),
        priorities: Some(vec![Priority {
            slot: None,
            table: Table::None,
            localities: vec![Locality {
                name: String::new(),
                weight: 1,
                slot: None,
                endpoints: (1..40).map(endpoint).collect(),
            }],
        }]),
        slot: None,
        connect_timeout: Duration::from_millis(generation & 0xff_ffff),
        max_connections: None,
        keepalive: None,
        panic_threshold: 50.0,
        overprovisioning_factor: 140,
        locality_weighted: false,
        outlier: None,
    };
    let destination = Destination {
        address: VIP.into(),
        port: 80,
        action: Action::Clusters { shares: (0..CLUSTERS).map(|n| (n, n + 1)).collect(), hash: HashOn::Nothing },
        name: None,
        rules_left_out: String::new(),
    };
    let clusters = (0..CLUSTERS).map(cluster).collect();
    encode(&Mesh { destinations: vec![destination], clusters, ..Mesh::default() }).unwrap()
}

fn port(generation: u64) -> u16 {
    (generation % 60_000) as u16 + 1
}

/// Whether a pick is of one generation.
fn is_whole(pick: &Pick) -> bool {
    let generation = u64::from(pick.connect_timeout_ms);
    let [.., high, middle, low] = generation.to_be_bytes();
    pick.address == WordAddr::new([127, high, middle, low].into()) && pick.port == port(generation)
}

/// What a reader saw.
#[derive(Debug, Default)]
struct Seen {
    whole: u64,
    torn: u64,
    generations: u64,
    busy: u64,
}

fn read(image: &ImageFile, stop: &AtomicBool, torn: &AtomicU64) -> Seen {
    let (mut seen, mut last) = (Seen::default(), 0);
    let mut entropy = Seeded(1);
    while !stop.load(Ordering::Relaxed) {
        let vip = WordAddr::new(VIP.into());
        let call = Call { address: vip, port: 80, source: &|| None, now: 0, avoid: &[] };
        match image.read(|view| choose(view, None, &call, &mut entropy)) {
            Ok(Choice::Endpoint(pick)) => {
                if is_whole(&pick) {
                    seen.whole += 1;
                } else {
                    seen.torn += 1;
                    torn.fetch_add(1, Ordering::Relaxed);
                }
                seen.generations += u64::from(u64::from(pick.connect_timeout_ms) != last);
                last = u64::from(pick.connect_timeout_ms);
            }
            Err(ReadError::Busy) => seen.busy += 1,
            // A view of two generations may also contradict itself.
            other => {
                seen.torn += 1;
                torn.fetch_add(1, Ordering::Relaxed);
                assert!(!matches!(other, Ok(Choice::NotMesh)) || seen.torn > 0);
            }
        }
    }
    seen
}

/// Publishes while two readers read, until `enough`. Returns what they saw and the publishes per second.
fn race(
    writable: &'static [AtomicU64],
    readable: &'static [AtomicU64],
    mut publish: impl FnMut(&mut Publisher, &[u64]) + Send,
    enough: impl Fn(u64, u64) -> bool,
) -> (Vec<Seen>, f64) {
    // Prepared, so that the writer does nothing but write.
    let contents: Vec<_> = (1..=64).map(content).collect();
    let mut publisher = Publisher::format(writable, BOOT, TERM, 0).unwrap();
    publisher.publish(&contents[0]).unwrap();
    let image = ImageFile::open(readable, BOOT, TERM).unwrap();
    let (stop, torn) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| read(&image, &stop, &torn))).collect();
        let mut published = 0;
        while !enough(published, torn.load(Ordering::Relaxed)) && begin.elapsed() < DEADLINE {
            for content in &contents {
                publish(&mut publisher, content);
                published += 1;
            }
        }
        let rate = published as f64 / begin.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        (readers.into_iter().map(|reader| reader.join().unwrap()).collect(), rate)
    })
}

fn memory() -> &'static [AtomicU64] {
    Box::leak((0..file_words(content(1).len())).map(|_| AtomicU64::new(0)).collect())
}

#[track_caller]
fn check_never_torn(writable: &'static [AtomicU64], readable: &'static [AtomicU64]) {
    let publish = |publisher: &mut Publisher, content: &[u64]| {
        publisher.publish(content).unwrap();
    };
    let (seen, rate) = race(writable, readable, publish, |published, torn| published >= 50_000 || torn > 0);
    assert!(seen.iter().all(|seen| seen.torn == 0), "{seen:?}");
    assert!(seen.iter().all(|seen| seen.generations > 20 && seen.whole > 1000), "too little was read: {seen:?}");
    assert!(rate > 1000.0, "{rate} publishes a second");
}

#[test]
fn no_pick_is_torn_in_memory() {
    let words = memory();
    check_never_torn(words, words);
}

#[test]
fn no_pick_is_torn_between_two_mappings_of_a_file() {
    let file: File = tempfile::tempfile().unwrap();
    let words = file_words(content(1).len());
    file.set_len(words as u64 * 8).unwrap();
    let writable = map_write(file.as_fd(), words).unwrap();
    let readable = map_read(file.as_fd(), words).unwrap();
    check_never_torn(writable, readable);
}

#[test]
fn a_publisher_that_forgets_the_epoch_is_caught() {
    let words = memory();
    let forgetful = |publisher: &mut Publisher, content: &[u64]| {
        // Over the current arena, epoch and flip left alone.
        let arena = publisher.capacity() + 2;
        let start = HEADER_WORDS + (publisher.generation() & 1) as usize * arena + 2;
        for (cell, word) in words[start..].iter().zip(content) {
            cell.store(*word, Ordering::Relaxed);
        }
    };
    let (seen, _) = race(words, words, forgetful, |_, torn| torn > 0);
    assert!(seen.iter().any(|seen| seen.torn > 0), "the readers caught nothing: {seen:?}");
}
