//! Zones: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/zone_aware
//! The node is in zone 0.

use super::*;

/// As many healthy endpoints in each zone; ports begin at 1000, 2000.
fn zones(counts: &[u16]) -> Tier {
    let zone =
        |(nth, count): (u16, &u16)| (1, (0..*count).map(|n| (1000 * (nth + 1) + n, 1, Health::Healthy)).collect());
    (0..).zip(counts).map(zone).collect()
}

fn callers(counts: &[u16]) -> Cluster {
    Cluster { name: "callers".into(), ..cluster_of(LbPolicy::RoundRobin, &vec![shifted(zones(counts))]) }
}

/// Ports of their own.
fn shifted(mut tier: Tier) -> Tier {
    tier.iter_mut().flat_map(|(_, hosts)| hosts).for_each(|(port, ..)| *port += 20_000);
    tier
}

fn rig(called: Cluster, callers: Cluster) -> Rig {
    Rig::edited(vec![(called, 1), (callers, 0)], |_| {})
}

fn called(policy: LbPolicy, counts: &[u16]) -> Cluster {
    cluster_of(policy, &vec![zones(counts)])
}

/// Percent of the picks that went to each zone.
fn split(rig: &mut Rig, zones: usize) -> Vec<f64> {
    const PICKS: usize = 10_000;
    let tally = rig.tally(PICKS);
    let share = |from: u16| tally.range(from..from + 1000).map(|(_, n)| n).sum::<usize>() as f64 * 100.0 / PICKS as f64;
    (1..=zones as u16).map(|thousand| share(thousand * 1000)).collect()
}

#[track_caller]
fn check(rig: &mut Rig, expected: &[f64]) {
    let split = split(rig, expected.len());
    assert!(split.iter().zip(expected).all(|(is, should)| (is - should).abs() < 2.0), "{split:?}, not {expected:?}");
}

/// What the documentation describes, in whole numbers: what stays, and the rest by the room that is left.
fn documented(callers: &[u16], called: &[u16]) -> Vec<f64> {
    let shares = |counts: &[u16]| -> Vec<f64> {
        let whole: u16 = counts.iter().sum();
        counts.iter().map(|count| f64::from(*count) * 100.0 / f64::from(whole)).collect()
    };
    let (local, upstream) = (shares(callers), shares(called));
    let stays = if upstream[0] >= local[0] { 1.0 } else { upstream[0] / local[0] };
    let room = |zone: usize| if zone == 0 { 0.0 } else { (upstream[zone] - local[zone]).max(0.0) };
    let rooms: f64 = (0..called.len()).map(room).sum();
    let rest = |zone: usize| if rooms > 0.0 { (1.0 - stays) * room(zone) / rooms * 100.0 } else { 0.0 };
    (0..called.len()).map(|zone| rest(zone) + if zone == 0 { stays * 100.0 } else { 0.0 }).collect()
}

#[test]
fn what_is_fair_stays_and_the_rest_goes_where_room_is() {
    let cases: [(&[u16], &[u16]); 7] = [
        (&[4, 4, 2], &[2, 4, 2]),
        (&[1, 3], &[3, 3]),
        (&[1, 1, 1], &[2, 2, 2]),
        (&[5, 1, 1], &[2, 2, 4]),
        (&[8, 2], &[1, 9]),
        (&[3, 1, 1], &[0, 3, 3]),
        (&[2, 2, 4], &[1, 7, 2]),
    ];
    for policy in [LbPolicy::RoundRobin, LbPolicy::Random, LEAST_REQUEST] {
        for (from, to) in cases {
            check(&mut rig(called(policy.clone(), to), callers(from)), &documented(from, to));
        }
    }
    // 40, 40 and 20 percent of the callers, 25, 50 and 25 of the called.
    assert_eq!(documented(&[4, 4, 2], &[2, 4, 2]).map_percent(), [63, 25, 13]);
}

trait Percent {
    fn map_percent(&self) -> Vec<u32>;
}

impl Percent for Vec<f64> {
    fn map_percent(&self) -> Vec<u32> {
        self.iter().map(|share| share.round() as u32).collect()
    }
}

#[test]
fn what_cannot_be_compared_is_balanced_plainly() {
    let plain = |called: &[u16]| {
        let whole: u16 = called.iter().sum();
        called.iter().map(|count| f64::from(*count) * 100.0 / f64::from(whole)).collect::<Vec<_>>()
    };
    let six = called(LbPolicy::RoundRobin, &[2, 4]);
    // Nobody knows who calls.
    check(&mut Rig::new(six.clone()), &plain(&[2, 4]));
    // The node's own zone has none of the callers, or all of them are in one zone.
    check(&mut rig(six.clone(), callers(&[0, 2, 2])), &plain(&[2, 4]));
    check(&mut rig(six.clone(), callers(&[3])), &plain(&[2, 4]));
    // Too small, unless that is allowed.
    let mut small = called(LbPolicy::RoundRobin, &[1, 4]);
    check(&mut rig(small.clone(), callers(&[1, 9])), &plain(&[1, 4]));
    small.balancing.zone_aware.min_cluster_size = 5;
    check(&mut rig(small, callers(&[1, 9])), &[100.0, 0.0]);
    // Locality weights come first.
    let mut weighted = six.clone();
    weighted.locality_weighted = true;
    check(&mut rig(weighted, callers(&[1, 9])), &[50.0, 50.0]);
    // The callers are in panic.
    let mut ill = callers(&[1, 9]);
    let Discovery::Static(assignment) = &mut ill.discovery else { panic!("inline") };
    assignment.localities[1].endpoints.iter_mut().for_each(|endpoint| endpoint.health = Health::Unhealthy);
    check(&mut rig(six.clone(), ill.clone()), &plain(&[2, 4]));
    let mut failing = six;
    failing.balancing.zone_aware.fail_traffic_on_panic = true;
    assert_eq!(rig(failing.clone(), ill.clone()).choose(&[]), Choice::Pass(PassReason::NoHealthyEndpoint));
    // Where zones do not count, neither does who calls.
    failing.balancing.zone_aware.routing_enabled = 0.0;
    check(&mut rig(failing.clone(), ill.clone()), &plain(&[2, 4]));
    let mut five = called(LbPolicy::RoundRobin, &[1, 4]);
    five.balancing.zone_aware.fail_traffic_on_panic = true;
    check(&mut rig(five, ill.clone()), &plain(&[1, 4]));
    // For a share of the picks.
    failing.balancing.zone_aware.routing_enabled = 30.0;
    let mut some = rig(failing, ill);
    let failed = (0..10_000).filter(|_| some.choose(&[]) == Choice::Pass(PassReason::NoHealthyEndpoint)).count();
    assert!((2800..3200).contains(&failed), "{failed}");
}

#[test]
fn it_is_in_force_for_the_percentage_that_is_set() {
    let mut half = called(LbPolicy::RoundRobin, &[3, 3]);
    half.balancing.zone_aware.routing_enabled = 50.0;
    check(&mut rig(half.clone(), callers(&[1, 3])), &[75.0, 25.0]);
    half.balancing.zone_aware.routing_enabled = 0.0;
    check(&mut rig(half, callers(&[1, 3])), &[50.0, 50.0]);
}

#[test]
fn ejections_on_either_side_move_the_shares() {
    let mut rig = rig(called(LbPolicy::RoundRobin, &[4, 4]), callers(&[4, 4]));
    check(&mut rig, &[100.0, 0.0]);
    rig.eject(1000);
    rig.eject(1001);
    // Two of six are left at home: a third of the called for half of the callers.
    check(&mut rig, &documented(&[4, 4], &[2, 4]));
    let view = View::new(Words::new(&rig.content));
    let local = (0..view.cluster_count().unwrap()).map(|index| view.cluster(index).unwrap());
    let local = local.into_iter().find(|cluster| view.string(cluster.name).unwrap() == "callers").unwrap();
    let home = view.locality(&view.priority(&local, 0).unwrap(), 0).unwrap();
    for nth in 0..2 {
        let endpoint = view.endpoint(&home.set, nth).unwrap();
        rig.state.slot_at(endpoint.slot.unwrap()).unwrap().eject(NOW + 1, 1, Detector::Consecutive5xx);
    }
    rig.state.slot_at(local.slot.unwrap()).unwrap().somebody_is_ejected(NOW + 1);
    // Two of six callers are at home as well.
    check(&mut rig, &[100.0, 0.0]);
}

#[test]
fn zones_may_count_by_weight_and_be_forced() {
    let mut weighed = called(LbPolicy::Random, &[1, 5]);
    let Discovery::Static(assignment) = &mut weighed.discovery else { panic!("inline") };
    assignment.localities[0].endpoints[0].weight = 5;
    check(&mut rig(weighed.clone(), callers(&[2, 2])), &documented(&[2, 2], &[1, 5]));
    weighed.balancing.zone_aware.by_weight = true;
    check(&mut rig(weighed.clone(), callers(&[2, 2])), &[100.0, 0.0]);
    let mut forced = called(LbPolicy::Random, &[2, 8]);
    forced.balancing.zone_aware.force_local_zone = Some(2);
    check(&mut rig(forced.clone(), callers(&[4, 2])), &[100.0, 0.0]);
    check(&mut rig(forced.clone(), callers(&[4])), &[100.0, 0.0]);
    forced.balancing.zone_aware.force_local_zone = Some(3);
    check(&mut rig(forced, callers(&[4, 2])), &documented(&[4, 2], &[2, 8]));
}

#[test]
fn only_the_first_priority_is_routed_by_zone() {
    let mut ill = zones(&[3, 3]);
    ill.iter_mut().flat_map(|(_, hosts)| hosts).for_each(|(_, _, health)| *health = Health::Unhealthy);
    let mut next = zones(&[3, 3]);
    next.iter_mut().flat_map(|(_, hosts)| hosts).for_each(|(port, ..)| *port += 4000);
    let mut rig = rig(cluster_of(LbPolicy::RoundRobin, &vec![ill, next]), callers(&[1, 3]));
    let tally = rig.tally(6000);
    let home: usize = tally.range(5000..6000).map(|(_, n)| n).sum();
    assert_eq!((home, tally.values().sum::<usize>()), (3000, 6000));
}

#[test]
fn panic_fails_where_that_is_said() {
    for zones in [true, false] {
        let shape =
            vec![vec![(1, vec![(1, 1, Health::Healthy), (2, 1, Health::Unhealthy), (3, 1, Health::Unhealthy)])]];
        let mut cluster = cluster_of(LbPolicy::RoundRobin, &shape);
        cluster.balancing.zone_aware.fail_traffic_on_panic = true;
        let mut rig = if zones { rig(cluster, callers(&[1, 1])) } else { Rig::new(cluster) };
        assert_eq!(rig.choose(&[]), Choice::Pass(PassReason::NoHealthyEndpoint));
    }
    let mut calm = cluster_of(LbPolicy::RoundRobin, &weights(&[1, 1]));
    calm.balancing.zone_aware.fail_traffic_on_panic = true;
    assert_eq!(Rig::new(calm).tally(100), BTreeMap::from([(1, 50), (2, 50)]));
}
