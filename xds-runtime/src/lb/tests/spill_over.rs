use super::*;

/// A priority of `total` endpoints with ports from `first`, of which `healthy` are healthy.
fn tier(first: u16, healthy: usize, total: usize) -> Tier {
    let health = |n| if n < healthy { Health::Healthy } else { Health::Unhealthy };
    vec![(1, (0..total).map(|n| (first + n as u16, 1, health(n))).collect())]
}

/// Percent of the picks that went to the priorities whose ports begin at 1000 and 2000.
fn split(rig: &mut Rig) -> (f64, f64) {
    const PICKS: usize = 10_000;
    let tally = rig.tally(PICKS);
    let share = |from: u16| tally.range(from..from + 1000).map(|(_, n)| n).sum::<usize>() as f64 * 100.0 / PICKS as f64;
    (share(1000), share(2000))
}

#[track_caller]
fn check_split(first: (usize, usize), second: (usize, usize), expected: f64) {
    let shape = vec![tier(1000, first.0, first.1), tier(2000, second.0, second.1)];
    let (to_first, to_second) = split(&mut Rig::new(cluster_of(LbPolicy::Random, &shape)));
    assert!((to_first - expected).abs() < 1.5, "{first:?} {second:?}: {to_first} / {to_second}, not {expected}");
    assert!((to_first + to_second - 100.0).abs() < 0.01);
}

// https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority
#[test]
fn load_spills_over_as_envoy_documents() {
    check_split((100, 100), (100, 100), 100.0);
    check_split((72, 100), (100, 100), 100.0);
    check_split((71, 100), (100, 100), 99.0);
    check_split((50, 100), (100, 100), 70.0);
    check_split((25, 100), (100, 100), 35.0);
    check_split((0, 100), (100, 100), 0.0);
    check_split((25, 100), (25, 100), 50.0);
}

/// A priority that no locality has is empty, and still one (Envoy).
#[test]
fn priorities_may_be_missing() {
    let ring = LbPolicy::RingHash { minimum_ring_size: 1024, maximum_ring_size: 1024, murmur2: false };
    for policy in [LbPolicy::Random, LbPolicy::RoundRobin, LEAST_REQUEST, ring, LbPolicy::Maglev { table_size: 101 }] {
        let shape = vec![vec![], tier(1000, 2, 4), vec![], vec![], tier(2000, 4, 4)];
        let mut rig = Rig::edited(vec![(cluster_of(policy.clone(), &shape), 1)], |mesh| {
            assert_eq!(mesh.clusters[0].priorities.as_ref().unwrap().len(), 5);
            if let crate::image::Action::Clusters { hash, .. } = &mut mesh.destinations[0].action {
                *hash = crate::image::HashOn::Nothing;
            }
        });
        let (to_first, to_second) = split(&mut rig);
        assert!((to_first - 70.0).abs() < 1.5 && to_first + to_second > 99.99, "{policy:?}: {to_first} {to_second}");
        // All in panic, the empty ones too: by the number of endpoints.
        let ill = vec![vec![], tier(1000, 0, 6), vec![], tier(2000, 0, 2)];
        let mut rig = Rig::new(cluster_of(LbPolicy::Random, &ill));
        let (to_first, _) = split(&mut rig);
        assert!((to_first - 75.0).abs() < 1.5, "{to_first}");
    }
}

#[test]
fn ejected_endpoints_spill_over_too() {
    let shape = vec![tier(1000, 4, 4), tier(2000, 4, 4)];
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &shape));
    rig.eject(1000);
    rig.eject(1001);
    let (to_first, _) = split(&mut rig);
    assert!((to_first - 70.0).abs() < 1.5, "{to_first}");
}

#[test]
fn an_ejection_that_is_over_counts_no_more() {
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &weights(&[1, 1])));
    let pick = rig.slots_of(1);
    eject(&rig.state, &pick, NOW);
    assert_eq!(rig.tally(100), BTreeMap::from([(1, 50), (2, 50)]));
}

#[test]
fn every_endpoint_is_used_in_panic() {
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &vec![tier(1000, 1, 4)]));
    assert_eq!(rig.tally(400).len(), 4, "one of four healthy is under half");
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &vec![tier(1000, 2, 4)]));
    assert_eq!(rig.tally(400).len(), 2, "half is not");
}

#[test]
fn a_priority_is_not_in_panic_while_another_makes_up_for_it() {
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &vec![tier(1000, 1, 4), tier(2000, 4, 4)]));
    let tally = rig.tally(2000);
    assert_eq!(tally.range(1000..2000).map(|(port, _)| *port).collect::<Vec<_>>(), [1000]);
}

#[test]
fn without_any_healthy_endpoint_load_goes_by_numbers() {
    let mut rig = Rig::new(cluster_of(LbPolicy::Random, &vec![tier(1000, 0, 3), tier(2000, 0, 1)]));
    let (to_first, _) = split(&mut rig);
    assert!((to_first - 75.0).abs() < 1.5, "{to_first}");
}

#[test]
fn a_panic_threshold_of_zero_never_panics() {
    let mut cluster = cluster_of(LbPolicy::RoundRobin, &vec![tier(1000, 1, 4)]);
    cluster.panic_threshold = 0.0;
    assert_eq!(Rig::new(cluster.clone()).tally(100).len(), 1);
    cluster.discovery = Discovery::Static(assignment(&vec![tier(1000, 0, 4)]));
    assert_eq!(Rig::new(cluster).choose(&[]), Choice::Pass(PassReason::NoHealthyEndpoint));
}

#[test]
fn degraded_endpoints_take_what_the_healthy_ones_of_all_priorities_cannot() {
    let mixed = |first: u16| {
        vec![(1, vec![(first, 1, Health::Healthy), (first + 1, 1, Health::Degraded), (first + 2, 1, Health::Degraded)])]
    };
    let mut rig = Rig::new(cluster_of(LbPolicy::Random, &vec![mixed(1000), mixed(2000)]));
    let tally = rig.tally(20_000);
    // Healthy availability is 46 percent in each priority; the remaining 8 go to degraded ones of the first.
    let shares = [(1000, 46.0), (2000, 46.0), (1001, 4.0), (1002, 4.0)];
    check_shares(&tally, &shares);
}

#[test]
fn locality_weights_split_a_priority() {
    let zones = |healthy| vec![vec![(3, tier(1000, healthy, 4)[0].1.clone()), (1, tier(2000, 4, 4)[0].1.clone())]];
    let mut cluster = cluster_of(LbPolicy::RoundRobin, &zones(4));
    cluster.locality_weighted = true;
    let (first, _) = split(&mut Rig::new(cluster.clone()));
    assert!((first - 75.0).abs() < 1.5, "{first}");
    // Half of it healthy: its weight counts 70 percent.
    cluster.discovery = Discovery::Static(assignment(&zones(2)));
    let (first, _) = split(&mut Rig::new(cluster.clone()));
    assert!((first - 100.0 * 2.1 / 3.1).abs() < 1.5, "{first}");
    // Without locality weighting all endpoints of the priority are one set.
    cluster.discovery = Discovery::Static(assignment(&zones(4)));
    cluster.locality_weighted = false;
    let (first, _) = split(&mut Rig::new(cluster));
    assert!((first - 50.0).abs() < 0.01, "{first}");
}

#[test]
fn a_locality_without_weight_gets_nothing() {
    let zones = vec![vec![(0, tier(1000, 4, 4)[0].1.clone()), (1, tier(2000, 4, 4)[0].1.clone())]];
    let mut cluster = cluster_of(LEAST_REQUEST, &zones);
    cluster.locality_weighted = true;
    assert_eq!(split(&mut Rig::new(cluster)), (0.0, 100.0));
}
