//! Aggregates: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/aggregate_cluster

use super::*;

/// An aggregate of clusters with these policies and shapes, and perhaps a destination's direct share of each.
fn aggregate(members: Vec<Cluster>, direct: u32) -> Rig {
    let names = members.iter().map(|member| member.name.clone()).collect();
    let mut all = cluster_of(LbPolicy::ClusterProvided, &vec![]);
    (all.name, all.discovery) = ("all".into(), Discovery::Aggregate(names));
    let members = members.into_iter().map(|member| (member, direct));
    Rig::edited(std::iter::once((all, 1)).chain(members).collect(), |_| {})
}

fn member(name: &str, policy: LbPolicy, shape: &Shape) -> Cluster {
    Cluster { name: name.into(), ..cluster_of(policy, shape) }
}

/// A locality of `total` endpoints from a port on, of which the first are healthy.
fn tier(first: u16, healthy: u16, total: u16) -> Tier {
    let health = |n| if n < healthy { Health::Healthy } else { Health::Unhealthy };
    vec![(1, (0..total).map(|n| (first + n, 1, health(n))).collect())]
}

/// Percent of the picks that went to each thousand of ports from 1000 on.
fn split(rig: &mut Rig) -> Vec<f64> {
    const PICKS: usize = 10_000;
    let tally = rig.tally(PICKS);
    let share = |from: u16| tally.range(from..from + 1000).map(|(_, n)| n).sum::<usize>() as f64 * 100.0 / PICKS as f64;
    (1..8).map(|thousand| share(thousand * 1000)).collect()
}

#[track_caller]
fn check_split(rig: &mut Rig, expected: &[f64]) {
    let split = split(rig);
    for (nth, share) in split.iter().enumerate() {
        let expected = expected.get(nth).copied().unwrap_or(0.0);
        assert!((share - expected).abs() < 1.5, "{split:?}, not {expected:?}");
    }
}

/// The documentation's three clusters of 3, 2 and 2 priorities, healthy in one of the seven only.
#[test]
fn priorities_are_those_of_the_clusters_one_after_the_other() {
    for healthy in 0..7_u16 {
        let of = |nth: u16| tier(1000 * (nth + 1), if nth == healthy { 4 } else { 0 }, 4);
        let member = |name, tiers: std::ops::Range<u16>| member(name, LbPolicy::Random, &tiers.map(of).collect());
        let mut rig = aggregate(vec![member("primary", 0..3), member("secondary", 3..5), member("tertiary", 5..7)], 0);
        let mut expected = vec![0.0; 7];
        expected[usize::from(healthy)] = 100.0;
        check_split(&mut rig, &expected);
    }
}

#[test]
fn load_spills_over_from_one_cluster_to_the_next() {
    let two = |first, second| {
        let primary = member("primary", LbPolicy::Random, &vec![tier(1000, first, 100)]);
        aggregate(vec![primary, member("secondary", LbPolicy::RoundRobin, &vec![tier(2000, second, 100)])], 0)
    };
    check_split(&mut two(100, 100), &[100.0, 0.0]);
    check_split(&mut two(72, 100), &[100.0, 0.0]);
    check_split(&mut two(71, 100), &[99.0, 1.0]);
    check_split(&mut two(50, 100), &[70.0, 30.0]);
    check_split(&mut two(25, 100), &[35.0, 65.0]);
    check_split(&mut two(0, 100), &[0.0, 100.0]);
    check_split(&mut two(25, 25), &[50.0, 50.0]);
    let shape = |first| vec![tier(first, 25, 100), tier(first + 1000, 25, 100)];
    let primary = member("primary", LbPolicy::Random, &shape(1000));
    let secondary = member("secondary", LbPolicy::Random, &shape(3000));
    check_split(&mut aggregate(vec![primary, secondary], 0), &[35.0, 35.0, 30.0, 0.0]);
}

#[test]
fn whether_a_priority_is_in_panic_is_its_own_cluster_s_business() {
    let rig = |threshold| {
        let mut primary = member("primary", LbPolicy::Random, &vec![tier(1000, 1, 4)]);
        primary.panic_threshold = threshold;
        aggregate(vec![primary, member("secondary", LbPolicy::Random, &vec![tier(2000, 4, 4)])], 0)
    };
    // Envoy shares the load as if nobody were in panic; then the member, which sees its own endpoints only, is.
    let ports = |rig: &mut Rig| rig.tally(2000).range(..2000).map(|(port, _)| *port).collect::<Vec<_>>();
    check_split(&mut rig(50.0), &[35.0, 65.0]);
    assert_eq!(ports(&mut rig(50.0)), [1000, 1001, 1002, 1003]);
    check_split(&mut rig(0.0), &[35.0, 65.0]);
    assert_eq!(ports(&mut rig(0.0)), [1000]);
}

#[test]
fn with_everything_in_panic_load_goes_by_number_of_endpoints() {
    let primary = member("primary", LbPolicy::Random, &vec![tier(1000, 0, 6)]);
    let secondary = member("secondary", LbPolicy::Random, &vec![tier(2000, 0, 2)]);
    check_split(&mut aggregate(vec![primary, secondary], 0), &[75.0, 25.0]);
}

#[test]
fn each_cluster_balances_by_its_own_policy() {
    let ring = LbPolicy::RingHash { minimum_ring_size: 1024, maximum_ring_size: 1 << 20, murmur2: false };
    let members = |healthy| {
        let primary = member("primary", LbPolicy::RoundRobin, &vec![tier(1000, healthy, 4)]);
        vec![primary, member("secondary", ring.clone(), &vec![tier(2000, 4, 4)])]
    };
    let tally = aggregate(members(4), 0).tally(400);
    assert_eq!(tally, BTreeMap::from([(1000, 100), (1001, 100), (1002, 100), (1003, 100)]), "exact turns");
    let own = aggregate(members(0), 0).tally(400);
    assert_eq!(own.len(), 1, "one source, one endpoint: {own:?}");
    assert!(own.keys().all(|port| *port >= 2000));
}

#[test]
fn slots_limits_and_turns_are_those_of_the_cluster_used_directly() {
    let mut primary = member("primary", LbPolicy::RoundRobin, &weights(&[1, 1, 1]));
    (primary.max_connections, primary.connect_timeout) = (Some(5), Duration::from_millis(77));
    let mut rig = aggregate(vec![primary], 1);
    let mut slots = BTreeMap::new();
    for _ in 0..300 {
        let pick = rig.pick(&[]);
        assert_eq!((pick.max_connections, pick.connect_timeout_ms), (Some(5), 77));
        let of = (pick.cluster, pick.cluster_slot, pick.cluster_tag, pick.endpoint_slot, pick.endpoint_tag);
        assert_eq!(*slots.entry(pick.port).or_insert(of), of, "by whichever way it was reached");
        assert!(rig.state.slot(pick.endpoint_slot.unwrap(), pick.endpoint_tag).is_some());
    }
    // About half of the turns were the aggregate's, half its own; together they are exact.
    assert_eq!(rig.tally(300), BTreeMap::from([(1, 100), (2, 100), (3, 100)]));
}

#[test]
fn an_ejection_counts_in_every_way_to_the_cluster() {
    let primary = member("primary", LbPolicy::RoundRobin, &vec![tier(1000, 4, 4)]);
    let mut rig = aggregate(vec![primary, member("secondary", LbPolicy::RoundRobin, &vec![tier(2000, 4, 4)])], 0);
    rig.eject(1000);
    rig.eject(1001);
    check_split(&mut rig, &[70.0, 30.0]);
}

#[test]
fn a_second_try_may_go_to_the_next_cluster() {
    let one = |name, port| member(name, LbPolicy::RoundRobin, &vec![tier(port, 1, 1)]);
    let mut rig = aggregate(vec![one("primary", 1000), one("secondary", 2000)], 0);
    let first = rig.pick(&[]);
    assert_eq!((first.port, first.alternatives), (1000, true));
    let second = rig.pick(&[1000]);
    assert_eq!((second.port, second.alternatives), (2000, false));
}

/// Everything in panic by the aggregate's threshold, but not by its member's: the draw is for healthy endpoints.
#[test]
fn the_last_usable_endpoint_is_picked_again_whatever_its_health() {
    let endpoints = [Health::Degraded, Health::Unhealthy, Health::Unhealthy];
    let tier = vec![(1, (1..).zip(endpoints).map(|(port, health)| (port, 1, health)).collect())];
    let calm = Cluster { panic_threshold: 0.0, ..member("primary", LbPolicy::RoundRobin, &vec![tier]) };
    let mut rig = aggregate(vec![calm, member("secondary", LbPolicy::RoundRobin, &vec![])], 0);
    assert_eq!(rig.pick(&[]).port, 1);
    assert_eq!(rig.pick(&[1]).port, 1);
}
