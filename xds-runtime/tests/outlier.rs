//! From failures that any process counts to picks that every process makes: over an image and STATE, without a leader.
#![allow(clippy::unwrap_used)] // a test: what fails here is to be seen

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use proptest::prelude::*;
use xds_runtime::boot::BootId;
use xds_runtime::image::*;
use xds_runtime::lb::{Call, Choice, Pick, Seeded, choose};
use xds_runtime::outlier::{Detector, Ejected, FailurePercentage, Settings, SuccessRate, failed_in};
use xds_runtime::resource::Health;
use xds_runtime::shm::{Millis, WordAddr, hash_bytes};
use xds_runtime::state::{SlotAllocator, SlotKind, State, endpoint_tag, named_tag, state_words};

const VIP: [u8; 4] = [10, 96, 0, 1];
const BOOT: BootId = BootId::from_words([1, 2]);
const NOW: Millis = 1_000_000;

const SETTINGS: Settings = Settings {
    split: false,
    row: 3,
    enforcing_row: 100,
    gateway: 0,
    enforcing_gateway: 0,
    success_rate: SuccessRate { enforcing: 0, minimum_hosts: 5, request_volume: 100, stdev_factor: 1900 },
    failure_percentage: FailurePercentage { enforcing: 0, threshold: 85, minimum_hosts: 5, request_volume: 50 },
    interval: 10_000,
    base_ejection_time: 30_000,
    max_ejection_time: 300_000,
    max_ejection_time_jitter: 0,
    max_ejection_percent: 50,
    always_eject_one_host: false,
    draining: 0,
};

fn words(count: usize) -> &'static [AtomicU64] {
    Box::leak((0..count).map(|_| AtomicU64::new(0)).collect())
}

/// A pod whose one destination has endpoints 127.0.0.1, 127.0.0.2.. by priority, behind a cluster of another name.
struct Pod {
    image: ImageFile,
    publisher: Publisher,
    state: State,
    book: SlotAllocator,
}

fn cluster(name: &str, tiers: &[u8], settings: Option<Settings>, panic: f64, book: &mut SlotAllocator) -> Cluster {
    let hash = hash_bytes(name.as_bytes());
    let mut last = 0;
    let mut endpoint = || {
        last += 1;
        let address = WordAddr::new([127, 0, 0, last].into());
        let slot = book.slot(endpoint_tag(hash, address, 80));
        Endpoint { address: address.socket(80), weight: 1, health: Health::Healthy, takes_mtls: false, slot }
    };
    let mut tier = |count: &u8| {
        let endpoints = (0..*count).map(|_| endpoint()).collect();
        let locality = Locality { name: String::new(), weight: 1, slot: None, endpoints };
        Priority { slot: None, localities: vec![locality], table: Table::None }
    };
    let priorities = Some(tiers.iter().map(&mut tier).collect());
    Cluster {
        name: name.into(),
        owner: None,
        balancing: Balancing::default(),
        policy: Policy::Random,
        priorities,
        slot: book.slot(named_tag(SlotKind::Cluster, hash)),
        connect_timeout: Duration::from_secs(1),
        max_connections: None,
        keepalive: None,
        panic_threshold: panic,
        overprovisioning_factor: 140,
        locality_weighted: false,
        outlier: settings,
    }
}

impl Pod {
    fn new(tiers: &[u8], settings: Option<Settings>, panic: f64) -> Self {
        let state = State::format(words(state_words(64)), BOOT).unwrap();
        let file = words(1 << 14);
        let publisher = Publisher::format(file, BOOT, 1, 0).unwrap();
        let image = ImageFile::open(file, BOOT, 1).unwrap();
        let mut pod = Self { image, publisher, state, book: SlotAllocator::recover(state) };
        pod.publish(tiers, settings, panic, 0);
        pod
    }

    /// Publishes with so many other clusters before the one that counts.
    fn publish(&mut self, tiers: &[u8], settings: Option<Settings>, panic: f64, before: u32) {
        let mut clusters: Vec<_> =
            (0..before).map(|nth| cluster(&format!("other {nth}"), &[1], None, panic, &mut self.book)).collect();
        clusters.push(cluster("c", tiers, settings, panic, &mut self.book));
        let destination = Destination {
            address: VIP.into(),
            port: 80,
            action: Action::Clusters { shares: vec![(before, 1)], hash: HashOn::Nothing },
            name: None,
            rules_left_out: String::new(),
        };
        let mesh = Mesh { destinations: vec![destination], clusters, ..Mesh::default() };
        self.publisher.publish(&encode(&mesh).unwrap()).unwrap();
    }

    fn choose(&self, now: Millis, seed: u64) -> Choice {
        let call = Call { address: WordAddr::new(VIP.into()), port: 80, source: &|| None, now, avoid: &[] };
        self.image.read(|view| choose(view, Some(&self.state), &call, &mut Seeded(seed))).unwrap()
    }

    /// What is picked of each endpoint in some picks.
    fn tally(&self, now: Millis) -> BTreeMap<String, u32> {
        let mut tally = BTreeMap::new();
        for seed in 0..600 {
            if let Choice::Endpoint(pick) = self.choose(now, seed) {
                *tally.entry(pick.address.ip().to_string()).or_default() += 1;
            }
        }
        tally
    }

    /// A pick of this endpoint, as a process had it before.
    fn pick(&self, nth: u8) -> Pick {
        let hash = hash_bytes(b"c");
        let (endpoint_tag, cluster_tag) =
            (endpoint_tag(hash, WordAddr::new([127, 0, 0, nth].into()), 80), named_tag(SlotKind::Cluster, hash));
        let slot = |tag: u64| (0..64).find(|at| self.state.slot(*at, tag).is_some());
        Pick {
            address: WordAddr::new([127, 0, 0, nth].into()),
            port: 80,
            endpoint_slot: slot(endpoint_tag),
            endpoint_tag,
            cluster: 0,
            cluster_slot: slot(cluster_tag),
            cluster_tag,
            connect_timeout_ms: 0,
            max_connections: None,
            keepalive: None,
            alternatives: false,
        }
    }

    fn fail(&self, nth: u8, now: Millis) -> Option<Ejected> {
        failed_in(Some(&self.image), &self.state, &self.pick(nth).member(), now, &mut Seeded(now))
    }

    fn fail_times(&self, nth: u8, times: u32) {
        for _ in 0..times {
            self.fail(nth, NOW);
        }
    }

    fn ejected(&self, hosts: u8, now: Millis) -> usize {
        (1..=hosts).filter(|nth| self.pick(*nth).member().endpoint(&self.state).unwrap().is_ejected(now)).count()
    }
}

#[test]
fn the_failure_that_completes_a_row_takes_the_endpoint_out_of_every_pick_until_its_time_is_over() {
    let pod = Pod::new(&[4], Some(SETTINGS), 50.0);
    assert_eq!((pod.fail(2, NOW), pod.fail(2, NOW + 1)), (None, None));
    let ejected = Ejected { until: NOW + 30_002, detector: Detector::Consecutive5xx };
    assert_eq!(pod.fail(2, NOW + 2), Some(ejected));
    assert_eq!(pod.tally(NOW + 30_001).len(), 3);
    assert!(!pod.tally(NOW + 30_001).contains_key("127.0.0.2"));
    assert_eq!(pod.tally(NOW + 30_002).len(), 4);
}

#[test]
fn half_may_be_ejected_and_the_others_stay_however_they_fail() {
    let pod = Pod::new(&[4], Some(SETTINGS), 0.0);
    for nth in 1..=4 {
        pod.fail_times(nth, 9);
    }
    assert_eq!(pod.tally(NOW).into_keys().collect::<Vec<_>>(), ["127.0.0.3", "127.0.0.4"]);
}

#[test]
fn an_ejected_priority_spills_over_and_panics_as_an_unhealthy_one_does() {
    let all = Settings { max_ejection_percent: 100, ..SETTINGS };
    // One of two is ejected: 1 of 2, times 1.4, is 70 %; the next priority gets 30 %.
    let pod = Pod::new(&[2, 1], Some(all), 50.0);
    pod.fail_times(1, 3);
    let tally = pod.tally(NOW);
    assert!(!tally.contains_key("127.0.0.1"), "{tally:?}");
    assert!((370..470).contains(&tally["127.0.0.2"]) && (130..230).contains(&tally["127.0.0.3"]), "{tally:?}");
    // Both: everything goes to the next one.
    pod.fail_times(2, 3);
    assert_eq!(pod.tally(NOW).into_keys().collect::<Vec<_>>(), ["127.0.0.3"]);
    // All three: panic, ejected ones included; without a threshold nobody.
    pod.fail_times(3, 3);
    assert_eq!(pod.tally(NOW).len(), 3);
    let pod = Pod::new(&[1], Some(all), 0.0);
    pod.fail_times(1, 3);
    assert_eq!(pod.choose(NOW, 1), Choice::Pass(PassReason::NoHealthyEndpoint));
}

#[test]
fn settings_are_those_of_the_image_by_now_wherever_the_cluster_is_in_it() {
    let mut pod = Pod::new(&[4], None, 50.0);
    (0..9).for_each(|_| assert_eq!(pod.fail(1, NOW), None, "no outlier detection"));
    // Three clusters further on, which the slot's hint does not know.
    pod.pick(1).member().cluster(&pod.state).unwrap().set_index(0);
    pod.publish(&[4], Some(SETTINGS), 50.0, 3);
    assert!(pod.fail(1, NOW).is_some(), "nine in a row are over three");
    assert_eq!(pod.tally(NOW).len(), 3);
    // An update of endpoints changes nothing for those that stay; the end of outlier detection brings all back.
    pod.publish(&[5], Some(SETTINGS), 50.0, 3);
    assert!(!pod.tally(NOW).contains_key("127.0.0.1"));
    pod.publish(&[5], None, 50.0, 3);
    assert_eq!(pod.tally(NOW).len(), 5);
}

#[test]
fn while_another_process_decides_a_detection_is_kept_for_the_next_failure() {
    let pod = Pod::new(&[4], Some(SETTINGS), 50.0);
    let cluster = pod.pick(1).member().cluster(&pod.state).unwrap();
    let claim = cluster.claim(NOW, 1).unwrap();
    (0..9).for_each(|_| assert_eq!(pod.fail(1, NOW), None));
    cluster.give_back(claim);
    assert!(pod.fail(1, NOW).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn processes_that_fail_at_will_never_eject_over_the_share_and_never_pick_who_is_ejected(
        tiers in proptest::collection::vec(1_u8..6, 1..3),
        percent in 0_u8..=100,
        always in any::<bool>(),
        steps in proptest::collection::vec((1_u8..11, 0_u64..4_000), 1..200),
    ) {
        let hosts: u8 = tiers.iter().sum();
        let settings = Settings { max_ejection_percent: percent, always_eject_one_host: always, row: 2, ..SETTINGS };
        // No panic: outside of it, nobody ejected is ever picked.
        let pod = Pod::new(&tiers, Some(settings), 0.0);
        let most = (usize::from(percent) * usize::from(hosts) / 100).max(usize::from(always));
        let mut now = NOW;
        for (nth, later) in steps {
            now += later;
            let nth = nth % hosts + 1;
            pod.fail(nth, now);
            prop_assert!(pod.ejected(hosts, now) <= most);
            match pod.choose(now, now) {
                Choice::Endpoint(pick) => {
                    prop_assert!(!pick.member().endpoint(&pod.state).unwrap().is_ejected(now));
                }
                other => {
                    prop_assert_eq!(other, Choice::Pass(PassReason::NoHealthyEndpoint));
                    prop_assert_eq!(pod.ejected(hosts, now), usize::from(hosts));
                }
            }
        }
    }
}
