//! The worked examples of Envoy's documentation, a test for each page of
//! https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/

use xds_runtime::resource::*;

use crate::rig::*;

const PICKS: u32 = 100_000;

/// Percent of the picks that went to the ports of each thousand from 1000 on.
fn split(rig: &mut Rig) -> Vec<f64> {
    let tally = rig.tally(PICKS);
    let share = |first: u16| tally.range(first..first + 1000).map(|(_, count)| count).sum::<u64>() as f64;
    (1..=7).map(|thousand| share(thousand * 1000) * 100.0 / f64::from(PICKS)).collect()
}

/// Five standard deviations of a share of all picks, percent: chance exceeds them once in two million. None of a share
/// that is nothing or everything.
fn noise(percent: f64) -> f64 {
    let share = percent / 100.0;
    500.0 * (share * (1.0 - share) / f64::from(PICKS)).sqrt()
}

/// Each expected percentage is exact: Envoy's loads are whole, and what rounding leaves goes to the first that has any.
#[track_caller]
fn check(rig: &mut Rig, expected: &[f64]) {
    let split = split(rig);
    for (nth, share) in split.iter().enumerate() {
        let expected = expected.get(nth).copied().unwrap_or(0.0);
        assert!((share - expected).abs() <= noise(expected), "{split:?}, not {expected:?}");
    }
}

/// A point of load is no noise, whatever the load.
#[test]
fn the_bound_tells_a_point_of_load() {
    assert!((0..=100).all(|percent| noise(f64::from(percent)) < 1.0));
    assert!(noise(0.0) == 0.0 && noise(100.0) == 0.0, "nothing is nothing");
}

/// A priority with so many endpoints healthy, degraded and unhealthy, of ports that begin at 1000 times its number.
fn priority(nth: u32, (healthy, degraded, unhealthy): (u16, u16, u16)) -> LocalityEndpoints {
    zone(0, nth, 1, hosts(1000 * (nth as u16 + 1), healthy, degraded, unhealthy))
}

/// A cluster of priorities with so many of a hundred endpoints healthy, which never panics.
fn calm(percents: &[u16]) -> Cluster {
    Cluster { panic_threshold: 0.0, ..healthy(percents) }
}

/// The same with a panic threshold of 50 %.
fn healthy(percents: &[u16]) -> Cluster {
    let tiers = (0..).zip(percents).map(|(nth, healthy)| priority(nth, (*healthy, 0, 100 - healthy)));
    cluster("c", LbPolicy::Random, tiers.collect())
}

/// Priority levels. The page leaves panic out of account.
#[test]
fn priority_levels() {
    let two: [(u16, u16, [f64; 2]); 12] = [
        (100, 100, [100.0, 0.0]),
        (72, 100, [100.0, 0.0]),
        (71, 100, [99.0, 1.0]),
        (50, 100, [70.0, 30.0]),
        (25, 100, [35.0, 65.0]),
        (0, 100, [0.0, 100.0]),
        (72, 72, [100.0, 0.0]),
        (71, 71, [99.0, 1.0]),
        (50, 50, [70.0, 30.0]),
        (25, 100, [35.0, 65.0]),
        (25, 25, [50.0, 50.0]),
        // Health scores of 28 and 42.
        (20, 30, [40.0, 60.0]),
    ];
    for (first, second, expected) in two {
        check(&mut Rig::new(vec![calm(&[first, second])]), &expected);
    }
    let three: [([u16; 3], [f64; 3]); 7] = [
        ([100, 100, 100], [100.0, 0.0, 0.0]),
        ([72, 72, 100], [100.0, 0.0, 0.0]),
        ([71, 71, 100], [99.0, 1.0, 0.0]),
        ([50, 50, 100], [70.0, 30.0, 0.0]),
        ([25, 100, 100], [35.0, 65.0, 0.0]),
        ([25, 25, 100], [35.0, 35.0, 30.0]),
        // Of 98: the page rounds to 36, 36 and 28.
        ([25, 25, 20], [37.0, 35.0, 28.0]),
    ];
    for (percents, expected) in three {
        check(&mut Rig::new(vec![calm(&percents)]), &expected);
    }
}

/// Whether unhealthy endpoints of each priority are picked.
fn panics(rig: &mut Rig, healthy: &[u16]) -> Vec<bool> {
    let tally = rig.tally(PICKS);
    let ill = |(nth, healthy): (u16, &u16)| tally.range(1000 * (nth + 1) + healthy..1000 * (nth + 2)).next().is_some();
    (0..).zip(healthy).map(ill).collect()
}

/// Panic threshold.
#[test]
fn panic_threshold() {
    let one_sided = [(72, [100.0, 0.0]), (71, [99.0, 1.0]), (50, [70.0, 30.0]), (25, [35.0, 65.0]), (0, [0.0, 100.0])];
    for (first, expected) in one_sided {
        check(&mut Rig::new(vec![healthy(&[first, 100])]), &expected);
        assert_eq!(panics(&mut Rig::new(vec![healthy(&[first, 100])]), &[first, 100]), [false, false], "{first}");
    }
    let both: [(u16, u16, [f64; 2], [bool; 2]); 6] = [
        (72, 72, [100.0, 0.0], [false, false]),
        (71, 71, [99.0, 1.0], [false, false]),
        // The page says 50 and 50 for 50 % and 60 %; its own formula, and the page of priorities, 70 and 30.
        (50, 60, [70.0, 30.0], [false, false]),
        (25, 100, [35.0, 65.0], [false, false]),
        (25, 25, [50.0, 50.0], [true, true]),
        // Of 98: the page rounds to 7 and 93.
        (5, 65, [8.0, 92.0], [true, false]),
    ];
    for (first, second, expected, panic) in both {
        check(&mut Rig::new(vec![healthy(&[first, second])]), &expected);
        assert_eq!(panics(&mut Rig::new(vec![healthy(&[first, second])]), &[first, second]), panic, "{first} {second}");
    }
    // Everything ill: by number of endpoints; never, with a threshold of 0; no endpoint, where panic fails.
    let all_ill = || cluster("c", LbPolicy::Random, vec![priority(0, (0, 0, 60)), priority(1, (0, 0, 20))]);
    check(&mut Rig::new(vec![all_ill()]), &[75.0, 25.0]);
    assert_eq!(Rig::new(vec![Cluster { panic_threshold: 0.0, ..all_ill() }]).pick_from(None), None);
    let mut failing = healthy(&[25, 25]);
    failing.balancing.zone_aware.fail_traffic_on_panic = true;
    assert_eq!(Rig::new(vec![failing]).pick_from(None), None);
}

/// Degraded endpoints: percent to the healthy and to the degraded ones of one priority.
#[test]
fn degraded_endpoints() {
    let cases: [((u16, u16, u16), f64, f64); 5] = [
        ((100, 0, 0), 100.0, 0.0),
        ((71, 0, 29), 100.0, 0.0),
        ((71, 29, 0), 99.0, 1.0),
        ((25, 65, 10), 35.0, 65.0),
        // Of 98: the page rounds to 71 and 29.
        ((50, 20, 30), 72.0, 28.0),
    ];
    for ((healthy, degraded, ill), to_healthy, to_degraded) in cases {
        let counts = (healthy, degraded, ill);
        let mut rig = Rig::new(vec![cluster("c", LbPolicy::Random, vec![priority(0, counts)])]);
        let tally = rig.tally(PICKS);
        let percent = |ports: std::ops::Range<u16>| {
            tally.range(ports).map(|(_, count)| count).sum::<u64>() as f64 * 100.0 / f64::from(PICKS)
        };
        let first = percent(1000..1000 + healthy);
        let second = percent(1000 + healthy..1000 + healthy + degraded);
        assert!(
            (first - to_healthy).abs() <= noise(to_healthy) && (second - to_degraded).abs() <= noise(to_degraded),
            "{counts:?}: {first} {second}"
        );
    }
    // 5 % healthy, none degraded: panic, all of them.
    let mut rig = Rig::new(vec![cluster("c", LbPolicy::Random, vec![priority(0, (5, 0, 95))])]);
    assert_eq!(rig.tally(PICKS).len(), 100);
}

/// Locality weighted load balancing: X weighs 1, Y 2 and is healthy.
#[test]
fn locality_weights() {
    let of = |healthy: u16, degraded: bool| {
        let sick = 100 - healthy;
        // Degraded endpoints in the place of healthy ones: the same arithmetic.
        let hosts_of = |first, n: u16, sick| if degraded { hosts(first, 0, n, sick) } else { hosts(first, n, 0, sick) };
        let x = zone(0, 0, 1, hosts_of(1000, healthy, sick));
        let y = zone(1, 0, 2, hosts_of(2000, 100, 0));
        Cluster { locality_weighted: true, ..cluster("c", LbPolicy::Random, vec![x, y]) }
    };
    for degraded in [false, true] {
        // The page's percentages are rounded, or cut.
        let table = [(100, 33.0), (70, 33.0), (69, 32.0), (50, 26.0), (25, 15.0), (0, 0.0)];
        for (healthy, page) in table {
            let x = (1.4 * f64::from(healthy) / 100.0).min(1.0);
            let to_x = 100.0 * x / (x + 2.0);
            assert!((to_x - page).abs() < 1.0, "{to_x}, and the page has {page}");
            check(&mut Rig::new(vec![of(healthy, degraded)]), &[to_x, 100.0 - to_x]);
        }
    }
}

/// The overprovisioning factor of 1.4: from 72 % on a priority is whole. Another factor moves that.
#[test]
fn overprovisioning_factor() {
    let of = |factor, healthy_percent: u16| {
        let mut cluster = healthy(&[healthy_percent, 100]);
        if let Discovery::Static(assignment) = &mut cluster.discovery {
            assignment.overprovisioning_factor = factor;
        }
        Rig::new(vec![cluster])
    };
    check(&mut of(140, 72), &[100.0, 0.0]);
    check(&mut of(140, 71), &[99.0, 1.0]);
    check(&mut of(100, 72), &[72.0, 28.0]);
    check(&mut of(200, 50), &[100.0, 0.0]);
    check(&mut of(200, 25), &[50.0, 50.0]);
}

/// Aggregate clusters: the page's three clusters with 3, 2 and 2 priorities.
#[test]
fn aggregate_cluster() {
    let rig = |percents: [u16; 7]| {
        let of = |name, from: usize, to: usize| {
            let tiers = (from..to).map(|nth| {
                let healthy = percents[nth] / 10;
                let hosts = hosts(1000 * (nth as u16 + 1), healthy, 0, 10 - healthy);
                zone(0, (nth - from) as u32, 1, hosts)
            });
            // Panic is a member's own business (`lb/tests/aggregate`): here only the order counts.
            Cluster { panic_threshold: 0.0, ..cluster(name, LbPolicy::Random, tiers.collect()) }
        };
        let members = [of("primary", 0, 3), of("secondary", 3, 5), of("tertiary", 5, 7)];
        Rig::new([vec![aggregate(&members)], members.to_vec()].concat())
    };
    check(&mut rig([100; 7]), &[100.0]);
    check(&mut rig([0, 100, 100, 100, 100, 100, 100]), &[0.0, 100.0]);
    check(&mut rig([0, 0, 50, 100, 100, 100, 100]), &[0.0, 0.0, 70.0, 30.0]);
    check(&mut rig([0, 0, 0, 0, 50, 100, 0]), &[0.0, 0.0, 0.0, 0.0, 70.0, 30.0]);
    check(&mut rig([10, 10, 10, 10, 10, 10, 100]), &[14.0, 14.0, 14.0, 14.0, 14.0, 14.0, 16.0]);
    check(&mut rig([0, 0, 0, 0, 0, 0, 100]), &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 100.0]);
}

/// Subsets: the page's four hosts, and the routes of its first table.
#[test]
fn subsets() {
    let of = |port, v, stage| carrying(&[("v", v), ("stage", stage)], host(port));
    let all = vec![of(1, "1.0", "prod"), of(2, "1.0", "prod"), of(3, "1.1", "canary"), of(4, "1.2-pre", "dev")];
    let selector = |keys: &[&str], fallback| Selector {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        fallback,
        single_host: false,
    };
    let mut cluster = flat(LbPolicy::RoundRobin, all);
    cluster.balancing.subsets = Some(Box::new(Subsets {
        fallback: Fallback::DefaultSubset,
        default_subset: metadata(&[("stage", "prod")]),
        selectors: vec![
            selector(&["v", "stage"], None),
            selector(&["stage"], Some(SelectorFallback::To(Fallback::Nothing))),
        ],
        locality_weight_aware: false,
        scale_locality_weight: false,
        panic_mode_any: false,
        list_as_any: false,
        allow_redundant_keys: false,
    }));
    type Route<'a> = (&'a [(&'a str, &'a str)], &'a [u16]);
    let cases: [Route<'_>; 6] = [
        (&[("stage", "canary")], &[3]),
        (&[("v", "1.2-pre"), ("stage", "dev")], &[4]),
        (&[("v", "1.0")], &[1, 2]),
        (&[("other", "x")], &[1, 2]),
        (&[], &[1, 2]),
        // An empty cluster.
        (&[("stage", "test")], &[0]),
    ];
    for (asked, expected) in cases {
        let asked = WeightedCluster { metadata: metadata(asked), ..share("c", 1) };
        let tally = Rig::to(vec![cluster.clone()], vec![asked.clone()]).tally(1000);
        let each = 1000 / expected.len() as u64;
        assert_eq!(tally, expected.iter().map(|port| (*port, each)).collect(), "{asked:?}");
    }
}
