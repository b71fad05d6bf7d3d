use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::image::{Balancing, Endpoint, Locality, Policy, Priority, Table};
use crate::outlier::testing::ANYBODY;
use crate::resource::Health;
use crate::state::{SlotAllocator, testing};

const START: Millis = 1_000_000;
const NOBODY: [usize; 0] = [];

/// A cluster of some endpoints, and the leader that looks after it.
struct Rig {
    mesh: Mesh,
    state: State,
    leader: Outliers,
}

fn mesh_of(hosts: u8, settings: Option<Settings>, book: &mut SlotAllocator) -> Mesh {
    let hash = hash_bytes(b"c");
    let endpoint = |nth: u8| {
        let address = SocketAddr::from(([127, 0, 1, nth + 1], 80));
        let slot = book.slot(endpoint_tag(hash, WordAddr::new(address.ip()), 80));
        Endpoint { address, weight: 1, health: Health::Healthy, takes_mtls: false, slot }
    };
    let endpoints = (0..hosts).map(endpoint).collect();
    let locality = Locality { name: String::new(), weight: 1, slot: None, endpoints };
    let cluster = Cluster {
        name: "c".into(),
        owner: None,
        policy: Policy::RoundRobin,
        balancing: Balancing::default(),
        priorities: Some(vec![Priority { slot: None, localities: vec![locality], table: Table::None }]),
        slot: book.slot(named_tag(SlotKind::Cluster, hash)),
        connect_timeout: Duration::from_millis(1_500),
        max_connections: None,
        keepalive: None,
        panic_threshold: 50.0,
        overprovisioning_factor: 140,
        locality_weighted: false,
        outlier: settings,
    };
    Mesh { clusters: vec![cluster], ..Mesh::default() }
}

impl Rig {
    fn new(hosts: u8, settings: Settings) -> Self {
        let state = testing::state(32);
        let mesh = mesh_of(hosts, Some(settings), &mut SlotAllocator::recover(state));
        let mut leader = Outliers::new(7);
        leader.compiled(&mesh, all(&mesh), state, START);
        Self { mesh, state, leader }
    }

    fn member(&self, nth: usize) -> Member {
        Endpoints::of(&self.mesh.clusters[0], self.state).counted[nth].0
    }

    fn slot(&self, nth: usize) -> Slot<'static> {
        self.member(nth).endpoint(&self.state).unwrap()
    }

    /// Counts connects as processes would, without acting on rows.
    fn connects(&self, nth: usize, successes: u32, failures: u32, now: Millis) {
        (0..failures).for_each(|_| drop_detected(self.slot(nth), now));
        (0..successes).for_each(|_| self.slot(nth).succeeded(now));
    }

    fn sweep(&mut self, now: Millis) {
        self.leader.sweep(&self.mesh, self.state, now);
    }

    fn ejected(&self, now: Millis) -> Vec<usize> {
        let all = Endpoints::of(&self.mesh.clusters[0], self.state).counted;
        (0..all.len()).filter(|nth| all[*nth].1.is_ejected(now)).collect()
    }
}

fn drop_detected(slot: Slot<'_>, now: Millis) {
    assert!(!slot.failed(crate::outlier::Thresholds::NEVER, now).any());
}

/// One bad endpoint among five, each with 100 connects.
fn one_of_five(rig: &Rig, now: Millis) {
    (0..4).for_each(|nth| rig.connects(nth, 100, 0, now));
    rig.connects(4, 50, 50, now);
}

/// The places of all clusters.
fn all(mesh: &Mesh) -> std::ops::Range<u32> {
    0..mesh.clusters.len() as u32
}

#[test]
fn success_rates_are_of_one_interval_and_eject_at_its_end() {
    let mut rig = Rig::new(5, ANYBODY);
    one_of_five(&rig, START + 1);
    assert_eq!(rig.leader.next_due(), Some(START + 10_000));
    rig.sweep(START + 9_999);
    assert_eq!(rig.ejected(START + 9_999), NOBODY);
    rig.sweep(START + 10_000);
    assert_eq!(rig.ejected(START + 10_000), [4]);
    let ejection = rig.slot(4).ejection();
    assert_eq!((ejection.detector, ejection.until), (Some(Detector::SuccessRate), START + 40_000));
    assert!(rig.member(4).cluster(&rig.state).unwrap().is_ejected(START + 39_999), "pickers count exactly");
    // Half of the volume in each of two intervals is too little in both.
    let mut rig = Rig::new(5, ANYBODY);
    for interval in [1, 2] {
        (0..4).for_each(|nth| rig.connects(nth, 50, 0, START));
        rig.connects(4, 25, 25, START);
        rig.sweep(START + interval * 10_000);
    }
    assert_eq!(rig.ejected(START + 20_000), NOBODY);
}

#[test]
fn a_successor_goes_on_with_the_interval_that_its_predecessor_began() {
    let rig = Rig::new(5, ANYBODY);
    one_of_five(&rig, START + 1);
    let mut successor = Outliers::new(8);
    successor.compiled(&rig.mesh, all(&rig.mesh), rig.state, START + 8_000);
    assert_eq!(successor.next_due(), Some(START + 10_000));
    successor.sweep(&rig.mesh, rig.state, START + 10_000);
    assert_eq!(rig.ejected(START + 10_000), [4]);
    let mut third = Outliers::new(9);
    third.compiled(&rig.mesh, all(&rig.mesh), rig.state, START + 11_000);
    assert_eq!(rig.ejected(START + 11_000), [4], "a take-over keeps ejections");
    assert_eq!(third.next_due(), Some(START + 20_000));
}

#[test]
fn failure_percentages_eject_who_was_not_by_its_success_rate_and_only_where_enforced() {
    let by_percentage = |enforcing| {
        let mut settings = ANYBODY;
        settings.success_rate.enforcing = 0;
        settings.failure_percentage.enforcing = enforcing;
        let mut rig = Rig::new(5, settings);
        (0..3).for_each(|nth| rig.connects(nth, 50, 0, START));
        (3..5).for_each(|nth| rig.connects(nth, 0, 50, START));
        rig.sweep(START + 10_000);
        assert!(
            rig.ejected(START + 10_000)
                .iter()
                .all(|nth| { rig.slot(*nth).ejection().detector == Some(Detector::FailurePercentage) })
        );
        rig.ejected(START + 10_000)
    };
    assert_eq!(by_percentage(100), [3, 4]);
    assert_eq!(by_percentage(0), NOBODY);
}

#[test]
fn the_share_holds_for_statistics_too() {
    let mut settings = Settings { max_ejection_percent: 40, ..ANYBODY };
    settings.failure_percentage.enforcing = 100;
    let mut rig = Rig::new(5, settings);
    (0..5).for_each(|nth| rig.connects(nth, 0, 50, START));
    rig.sweep(START + 10_000);
    assert_eq!(rig.ejected(START + 10_000).len(), 2);
}

#[test]
fn the_multiplier_grows_with_each_ejection_and_shrinks_with_each_interval_back() {
    let mut rig = Rig::new(1, Settings { row: 1, ..ANYBODY });
    let mut now = START;
    for (multiplier, lasts) in [(1, 30_000), (2, 60_000), (3, 90_000)] {
        let (mesh, member) = (rig.mesh.clone(), rig.member(0));
        let ejected = rig.leader.failed(&mesh, rig.state, &member, now).unwrap();
        assert_eq!((ejected.until - now, rig.slot(0).ejection().multiplier), (lasts, multiplier));
        now = ejected.until;
    }
    // Back since `now`: the first interval that ends at least an interval later is the first to count.
    rig.sweep(now + 9_999);
    assert_eq!(rig.slot(0).ejection().multiplier, 3);
    for (intervals, left) in [(2, 2), (3, 1), (4, 0), (5, 0)] {
        rig.sweep(now + intervals * 10_000);
        assert_eq!(rig.slot(0).ejection().multiplier, left, "after {intervals} intervals");
    }
    let (mesh, member) = (rig.mesh.clone(), rig.member(0));
    now += 60_000;
    assert_eq!(rig.leader.failed(&mesh, rig.state, &member, now).unwrap().until - now, 30_000);
}

#[test]
fn an_endpoint_that_stays_keeps_its_ejection_when_others_come_and_go() {
    let mut rig = Rig::new(3, Settings { row: 1, ..ANYBODY });
    let (mesh, member) = (rig.mesh.clone(), rig.member(1));
    rig.leader.failed(&mesh, rig.state, &member, START).unwrap();
    for hosts in [2, 7] {
        rig.mesh = mesh_of(hosts, Some(Settings { row: 1, ..ANYBODY }), &mut SlotAllocator::recover(rig.state));
        rig.leader.compiled(&rig.mesh, all(&rig.mesh), rig.state, START + 5);
        assert_eq!(rig.ejected(START + 5), [1], "{hosts} endpoints");
    }
}

#[test]
fn what_happened_without_outlier_detection_is_not_judged_later() {
    let mut rig = Rig::new(5, ANYBODY);
    let book = || SlotAllocator::recover(rig.state);
    let without = mesh_of(5, None, &mut book());
    rig.leader.compiled(&without, all(&without), rig.state, START);
    assert_eq!(rig.leader.next_due(), None);
    one_of_five(&rig, START + 1);
    rig.leader.compiled(&rig.mesh, all(&rig.mesh), rig.state, START + 60_000);
    assert_eq!(rig.leader.next_due(), Some(START + 70_000), "an interval of its own begins");
    rig.sweep(START + 70_000);
    assert_eq!(rig.ejected(START + 70_000), NOBODY);
}

#[test]
fn a_short_interval_does_not_make_the_leader_spin() {
    let mut rig = Rig::new(1, Settings { interval: 1, ..ANYBODY });
    assert_eq!(rig.leader.next_due(), Some(START + INTERVAL_LEAST_MS));
    rig.sweep(START + 500);
    assert_eq!(rig.leader.next_due(), Some(START + 500 + INTERVAL_LEAST_MS));
}
