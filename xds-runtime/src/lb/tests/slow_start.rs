//! Envoy's formula: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/slow_start

use super::*;

const WINDOW: Millis = 60_000;

fn starting(policy: LbPolicy, weighted: &[u32], aggression: f64, min_weight_percent: f64) -> Cluster {
    let mut cluster = cluster_of(policy, &weights(weighted));
    let window = Duration::from_millis(WINDOW);
    cluster.balancing.slow_start = Some(SlowStart { window, aggression, min_weight_percent });
    cluster
}

/// A rig whose endpoints have these ages, in milliseconds.
fn aged(cluster: Cluster, ages: &[Millis]) -> Rig {
    let mut rig = Rig::new(cluster);
    for (port, age) in (1..).zip(ages) {
        let pick = rig.slots_of(port);
        rig.state.slot(pick.endpoint_slot.unwrap(), pick.endpoint_tag).unwrap().set_added(NOW - age);
        let newest = NOW - ages.iter().min().unwrap();
        rig.state.slot(pick.cluster_slot.unwrap(), pick.cluster_tag).unwrap().set_added(newest);
    }
    rig
}

/// The formula of the documentation, in floating point of its own.
fn share(age: Millis, aggression: f64, min_weight_percent: f64) -> f64 {
    let time = age.max(1) as f64 / WINDOW as f64;
    if time >= 1.0 { 1.0 } else { time.powf(1.0 / aggression).max(min_weight_percent / 100.0) }
}

#[test]
fn a_new_endpoint_has_the_documented_share_at_every_age() {
    for policy in [LbPolicy::RoundRobin, LEAST_REQUEST] {
        for (aggression, least) in [(1.0, 10.0), (2.0, 10.0), (0.5, 1.0), (1.5, 30.0)] {
            for age in [0, 1_000, 6_000, 15_000, 30_000, 59_000, 60_000, 90_000] {
                let cluster = starting(policy.clone(), &[2, 1, 1], aggression, least);
                let tally = aged(cluster, &[WINDOW, 2 * WINDOW, age]).tally(10_000);
                check_shares(&tally, &[(1, 2.0), (2, 1.0), (3, share(age, aggression, least))]);
            }
        }
    }
}

#[test]
fn endpoints_of_several_ages_are_scaled_each_by_its_own() {
    let cluster = starting(LbPolicy::RoundRobin, &[1, 1, 1, 5], 1.0, 10.0);
    let tally = aged(cluster, &[30_000, 15_000, 0, 45_000]).tally(20_000);
    check_shares(&tally, &[(1, 0.5), (2, 0.25), (3, 0.1), (4, 3.75)]);
}

#[test]
fn a_large_set_keeps_the_proportions_too() {
    for policy in [LbPolicy::RoundRobin, LEAST_REQUEST] {
        let ages: Vec<Millis> = (0..40).map(|n| if n < 20 { 15_000 } else { WINDOW }).collect();
        let tally = aged(starting(policy, &[1; 40], 1.0, 10.0), &ages).tally(20_000);
        let shares: Vec<_> = (1..=40).map(|port| (port, if port <= 20 { 0.25 } else { 1.0 })).collect();
        check_shares(&tally, &shares);
    }
}

#[test]
fn endpoints_that_are_equally_new_take_turns_exactly() {
    let mut rig = aged(starting(LbPolicy::RoundRobin, &[1, 2, 1], 1.0, 10.0), &[500, 500, 500]);
    assert_eq!(rig.tally(400), BTreeMap::from([(1, 100), (2, 200), (3, 100)]));
}

#[test]
fn once_all_are_grown_turns_are_exact_and_least_request_compares_two() {
    let mut rig = aged(starting(LbPolicy::RoundRobin, &[1, 1], 1.0, 10.0), &[WINDOW, WINDOW]);
    assert_eq!(rig.tally(100), BTreeMap::from([(1, 50), (2, 50)]));
    let mut rig = aged(starting(LEAST_REQUEST, &[1, 1], 1.0, 10.0), &[WINDOW, WINDOW]);
    rig.set_active(1, 5);
    check_shares(&rig.tally(8000), &[(1, 1.0), (2, 3.0)]);
}

#[test]
fn while_one_is_new_least_request_weighs_connections_too() {
    let mut rig = aged(starting(LEAST_REQUEST, &[1, 1], 1.0, 10.0), &[WINDOW, 30_000]);
    rig.set_active(1, 3);
    check_shares(&rig.tally(8000), &[(1, 0.25), (2, 0.5)]);
}

#[test]
fn an_endpoint_of_unknown_age_is_not_new() {
    let mut rig = aged(starting(LbPolicy::RoundRobin, &[1, 1], 1.0, 10.0), &[NOW, 30_000]);
    check_shares(&rig.tally(8000), &[(1, 1.0), (2, 0.5)]);
}

#[test]
fn settings_that_leave_nothing_still_pick_somebody() {
    let mut rig = aged(starting(LbPolicy::RoundRobin, &[1, 1], 0.001, 0.0), &[1, 1]);
    assert_eq!(rig.tally(10), BTreeMap::from([(1, 5), (2, 5)]));
    let mut rig = aged(starting(LEAST_REQUEST, &[1, 1], 0.001, 0.0), &[1, 1]);
    assert_eq!(rig.tally(100).len(), 2);
}

#[test]
fn the_leader_tells_a_cluster_of_its_newest_endpoint() {
    let cluster = starting(LbPolicy::RoundRobin, &[1, 1], 1.0, 10.0);
    let (mut tags, mut told) = (None, None);
    let rig = Rig::edited(vec![(cluster, 1)], |mesh| {
        let of = |cluster: &crate::image::Cluster| {
            let endpoints = &cluster.priorities.as_ref().unwrap()[0].localities[0].endpoints;
            (cluster.slot.unwrap(), endpoints.iter().map(|e| e.slot.unwrap()).collect::<Vec<_>>())
        };
        tags = Some(of(&mesh.clusters[0]));
        told = Some(mesh.clone());
    });
    let ((cluster, endpoints), mesh) = (tags.unwrap(), told.unwrap());
    let added = |slot| rig.state.slot_at(slot).unwrap().added();
    assert_eq!(added(cluster), 0, "the test's book says no time");
    rig.state.slot_at(endpoints[0]).unwrap().set_added(500);
    rig.state.slot_at(endpoints[1]).unwrap().set_added(700);
    tell_additions(&mesh, &rig.state);
    assert_eq!(added(cluster), 700);
    rig.state.slot_at(endpoints[1]).unwrap().set_added(300);
    tell_additions(&mesh, &rig.state);
    assert_eq!(added(cluster), 700, "it is still looked at for as long as somebody was new");
}
