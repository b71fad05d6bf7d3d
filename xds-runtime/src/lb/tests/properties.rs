//! Whatever the cluster: what is picked may be picked.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Case {
    shape: Shape,
    policy: LbPolicy,
    locality_weighted: bool,
    panic_threshold: f64,
    ejected: Vec<u16>,
    avoid: Vec<u16>,
    seed: u64,
    extras: Extras,
}

/// What may be set beside the policy, or around the cluster.
#[derive(Clone, Copy, Debug)]
struct Extras {
    /// Slow start, with endpoints of every age.
    starting: bool,
    /// The node's cluster is known, and zones count.
    zones: bool,
    fail_on_panic: bool,
    full_scan: bool,
    hash_balance: bool,
    /// The first priority and the others are two clusters, members of an aggregate.
    aggregate: bool,
}

fn extras() -> impl Strategy<Value = Extras> {
    any::<[bool; 6]>().prop_map(|[starting, zones, fail_on_panic, full_scan, hash_balance, aggregate]| Extras {
        starting,
        zones,
        fail_on_panic,
        full_scan,
        hash_balance,
        aggregate,
    })
}

fn case() -> impl Strategy<Value = Case> {
    let health = prop_oneof![
        4 => Just(Health::Healthy),
        1 => Just(Health::Degraded),
        1 => Just(Health::Unhealthy),
        1 => Just(Health::Draining)
    ];
    let endpoints = proptest::collection::vec((1_u32..6, health), 0..6);
    let locality = (0_u32..4, endpoints);
    let shape = proptest::collection::vec(proptest::collection::vec(locality, 0..3), 1..4);
    let policy = prop_oneof![
        Just(LbPolicy::RoundRobin),
        Just(LbPolicy::Random),
        Just(LEAST_REQUEST),
        Just(LbPolicy::RingHash { minimum_ring_size: 64, maximum_ring_size: 64, murmur2: true }),
        Just(LbPolicy::Maglev { table_size: 101 })
    ];
    let ports = || proptest::collection::vec(1_u16..20, 0..4);
    let panic_threshold = prop_oneof![Just(0.0), Just(50.0), Just(100.0)];
    (shape, policy, any::<bool>(), panic_threshold, ports(), ports(), any::<u64>(), extras()).prop_map(
        |(shape, policy, locality_weighted, panic_threshold, ejected, avoid, seed, extras)| {
            let mut port = 0;
            let mut number = |(weight, health)| {
                port += 1;
                (port, weight, health)
            };
            let shape = shape
                .into_iter()
                .map(|tier| {
                    let locality =
                        |(weight, endpoints): (u32, Vec<_>)| (weight, endpoints.into_iter().map(&mut number).collect());
                    tier.into_iter().map(locality).collect()
                })
                .collect();
            Case { shape, policy, locality_weighted, panic_threshold, ejected, avoid, seed, extras }
        },
    )
}

/// An endpoint as the case says: priority, port, health with ejections.
fn endpoints(case: &Case) -> Vec<(usize, u16, Health)> {
    let mut all = Vec::new();
    for (nth, tier) in case.shape.iter().enumerate() {
        for (port, _, health) in tier.iter().flat_map(|(_, endpoints)| endpoints) {
            let counts = *health != Health::Draining && case.ejected.contains(port);
            all.push((nth, *port, if counts { Health::Unhealthy } else { *health }));
        }
    }
    all
}

fn good(health: Health) -> bool {
    matches!(health, Health::Healthy | Health::Degraded)
}

/// Whether a priority's unhealthy endpoints may be used: written down from Envoy's documentation, not from the code.
fn in_panic(case: &Case, all: &[(usize, u16, Health)], tier: usize) -> bool {
    let of = |nth: usize, wanted: &[Health]| {
        all.iter().filter(|(at, _, health)| *at == nth && wanted.contains(health)).count()
    };
    let every = [Health::Healthy, Health::Degraded, Health::Unhealthy];
    // An aggregate's member sees its own priorities only.
    let tiers = case.shape.len();
    let own = match (case.extras.aggregate, tier) {
        (false, _) => 0..tiers,
        (true, 0) => 0..1,
        (true, _) => 1..tiers,
    };
    let mut available = 0;
    for nth in own {
        let total = of(nth, &every);
        for health in [Health::Healthy, Health::Degraded] {
            available += (of(nth, &[health]) * 140).checked_div(total).unwrap_or(0).min(100);
        }
    }
    let share = of(tier, &every[..2]) as f64 * 100.0 / of(tier, &every).max(1) as f64;
    available < 100 && share < case.panic_threshold
}

/// The clusters of a case, the one that is asked for first.
fn clusters(case: &Case) -> Vec<(Cluster, u32)> {
    let of = |name: &str, shape: &Shape| {
        let mut cluster = cluster_of(case.policy.clone(), shape);
        cluster.name = name.into();
        cluster.locality_weighted = case.locality_weighted;
        cluster.panic_threshold = case.panic_threshold;
        let balancing = &mut cluster.balancing;
        balancing.full_scan = case.extras.full_scan;
        balancing.hash_balance_factor = case.extras.hash_balance.then_some(110);
        balancing.zone_aware.min_cluster_size = 1;
        balancing.zone_aware.fail_traffic_on_panic = case.extras.fail_on_panic;
        balancing.slow_start = case.extras.starting.then_some(SlowStart {
            window: Duration::from_secs(60),
            aggression: 1.5,
            min_weight_percent: 1.0,
        });
        cluster
    };
    // compile leaves draining endpoints out; here they are put back, for the image may hold them.
    let mut shape = case.shape.clone();
    for (_, _, health) in shape.iter_mut().flatten().flat_map(|(_, all)| all) {
        *health = if *health == Health::Draining { Health::Unhealthy } else { *health };
    }
    let mut all = Vec::new();
    if case.extras.aggregate {
        let mut aggregate = cluster_of(LbPolicy::ClusterProvided, &vec![]);
        (aggregate.name, aggregate.discovery) = ("all".into(), Discovery::Aggregate(vec!["c".into(), "d".into()]));
        let rest = shape.split_off(1);
        all = vec![(aggregate, 1), (of("c", &shape), 0), (of("d", &rest), 0)];
    } else {
        all.push((of("c", &shape), 1));
    }
    if case.extras.zones {
        let callers = [3, 1, 2].map(|count| (1, (0..count).map(|_| Health::Healthy).collect::<Vec<_>>()));
        let mut port = 20_000;
        let mut number = |health| {
            port += 1;
            (port, 1, health)
        };
        let tier: Tier =
            callers.into_iter().map(|(weight, all)| (weight, all.into_iter().map(&mut number).collect())).collect();
        all.push((Cluster { name: "callers".into(), ..cluster_of(LbPolicy::Random, &vec![tier]) }, 0));
    }
    all
}

fn rig(case: &Case) -> Rig {
    let health: BTreeMap<u16, Health> =
        case.shape.iter().flatten().flat_map(|(_, all)| all).map(|(port, _, health)| (*port, *health)).collect();
    let mut slots = BTreeMap::new();
    let mut compiled = Mesh::default();
    let rig = Rig::edited(clusters(case), |mesh| {
        for cluster in &mut mesh.clusters {
            let priorities = cluster.priorities.iter_mut().flatten();
            for endpoint in priorities.flat_map(|p| &mut p.localities).flat_map(|l| &mut l.endpoints) {
                let port = endpoint.address.port();
                endpoint.health = health.get(&port).copied().unwrap_or(endpoint.health);
                slots.insert(port, (endpoint.slot, cluster.slot));
            }
        }
        compiled = mesh.clone();
    });
    let slot = |index: Option<u32>| rig.state.slot_at(index.unwrap()).unwrap();
    for (port, (endpoint, _)) in &slots {
        slot(*endpoint).set_added(NOW - u64::from(*port % 20) * 7_000);
    }
    tell_additions(&compiled, &rig.state);
    for port in &case.ejected {
        let Some((endpoint, cluster)) = slots.get(port) else { continue };
        slot(*cluster).somebody_is_ejected(NOW + 1);
        slot(*endpoint).eject(NOW + 1, 1, Detector::Consecutive5xx);
    }
    Rig { own: Seeded(case.seed), ..rig }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn what_is_picked_may_be_picked(case in case()) {
        let mut rig = rig(&case);
        let all = endpoints(&case);
        // Envoy's policies that hash take no notice of it.
        let hashes = matches!(case.policy, LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. });
        let fails = case.extras.fail_on_panic && !hashes;
        let panics = |tier| in_panic(&case, &all, tier);
        // And they have tables of healthy endpoints, or of all.
        let taken = |health| if hashes { health == Health::Healthy } else { good(health) };
        let usable = |(tier, _, health): &&(usize, u16, Health)| {
            taken(*health) || (*health != Health::Draining && !fails && panics(*tier))
        };
        // Where panic fails, a priority in panic has no endpoint, though others may.
        let may_fail = fails && (0..case.shape.len()).any(panics);
        for _ in 0..8 {
            let pick = match rig.choose(&case.avoid) {
                Choice::Endpoint(pick) => pick,
                other => {
                    prop_assert_eq!(other, Choice::Pass(PassReason::NoHealthyEndpoint));
                    prop_assert!(may_fail || !all.iter().any(|endpoint| usable(&endpoint)), "an endpoint was usable");
                    continue;
                }
            };
            let picked = all.iter().find(|(_, port, _)| *port == pick.port);
            prop_assert!(picked.is_some_and(|picked| usable(&picked)), "picked {:?}", picked);
            let others = || all.iter().filter(usable).filter(|(_, port, _)| !case.avoid.contains(port));
            if case.avoid.contains(&pick.port) {
                prop_assert_eq!(others().next(), None, "an endpoint was tried again while another was left");
            }
            let expected = others().any(|(_, port, _)| *port != pick.port);
            prop_assert_eq!(pick.alternatives, expected, "alternatives of {:?}", pick);
        }
    }
}

/// Policies that do not hash, with what may be set beside them.
fn drawing() -> impl Strategy<Value = (LbPolicy, bool)> {
    let policy = prop_oneof![Just(LbPolicy::RoundRobin), Just(LbPolicy::Random), Just(LEAST_REQUEST)];
    (policy, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn weights_and_ages_are_respected(
        (policy, starting) in drawing(),
        endpoints in proptest::collection::vec((1_u32..20, 0_u64..90_000), 1..24),
        seed in any::<u64>(),
    ) {
        const PICKS: usize = 3000;
        let weighted: Vec<u32> = endpoints.iter().map(|(weight, _)| *weight).collect();
        // Envoy's random policy knows neither.
        let weighs = policy != LbPolicy::Random;
        let starting = starting && weighs;
        let mut cluster = cluster_of(policy, &weights(&weighted));
        cluster.balancing.slow_start = starting.then_some(SlowStart {
            window: Duration::from_secs(60),
            aggression: 1.0,
            min_weight_percent: 10.0,
        });
        let mut compiled = Mesh::default();
        let mut rig = Rig::edited(vec![(cluster, 1)], |mesh| compiled = mesh.clone());
        let slots = &compiled.clusters[0].priorities.as_ref().unwrap()[0].localities[0].endpoints;
        for (endpoint, (_, age)) in slots.iter().zip(&endpoints) {
            rig.state.slot_at(endpoint.slot.unwrap()).unwrap().set_added(NOW - age);
        }
        tell_additions(&compiled, &rig.state);
        rig.own = Seeded(seed);
        let tally = rig.tally(PICKS);
        let share = |(weight, age): &(u32, u64)| {
            let grown = if starting { (*age as f64 / 60_000.0).clamp(0.1, 1.0) } else { 1.0 };
            if weighs { f64::from(*weight) * grown } else { 1.0 }
        };
        let whole: f64 = endpoints.iter().map(share).sum();
        let mut statistic = 0.0;
        for (port, endpoint) in (1_u16..).zip(&endpoints) {
            let expected = PICKS as f64 * share(endpoint) / whole;
            let seen = tally.get(&port).copied().unwrap_or(0) as f64;
            statistic += (seen - expected).powi(2) / expected;
        }
        // Chance alone exceeds this less than once in a hundred million cases.
        let bound = 4.0 * endpoints.len() as f64 + 50.0;
        prop_assert!(statistic < bound, "{tally:?} of {endpoints:?}: {statistic} of {bound}");
    }
}
