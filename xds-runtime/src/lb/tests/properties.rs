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
    (shape, policy, any::<bool>(), prop_oneof![Just(0.0), Just(50.0), Just(100.0)], ports(), ports(), any::<u64>())
        .prop_map(|(shape, policy, locality_weighted, panic_threshold, ejected, avoid, seed)| {
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
            Case { shape, policy, locality_weighted, panic_threshold, ejected, avoid, seed }
        })
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
    let mut available = 0;
    for nth in 0..case.shape.len() {
        let total = of(nth, &every);
        for health in [Health::Healthy, Health::Degraded] {
            available += (of(nth, &[health]) * 140).checked_div(total).unwrap_or(0).min(100);
        }
    }
    let share = of(tier, &every[..2]) as f64 * 100.0 / of(tier, &every).max(1) as f64;
    available < 100 && share < case.panic_threshold
}

fn rig(case: &Case) -> Rig {
    let mut cluster = cluster_of(case.policy.clone(), &case.shape);
    cluster.locality_weighted = case.locality_weighted;
    cluster.panic_threshold = case.panic_threshold;
    // compile leaves draining endpoints out; here they are put back, for the image may hold them.
    let draining: BTreeMap<u16, Health> =
        case.shape.iter().flatten().flat_map(|(_, all)| all).map(|(port, _, health)| (*port, *health)).collect();
    let hidden = |health: Health| if health == Health::Draining { Health::Unhealthy } else { health };
    let mut shape = case.shape.clone();
    for (_, _, health) in shape.iter_mut().flatten().flat_map(|(_, all)| all) {
        *health = hidden(*health);
    }
    cluster.discovery = Discovery::Static(assignment(&shape));
    let mut by_port = BTreeMap::new();
    let rig = Rig::edited(vec![(cluster, 1)], |mesh| {
        let compiled = &mut mesh.clusters[0];
        for endpoint in
            compiled.priorities.iter_mut().flatten().flat_map(|p| &mut p.localities).flat_map(|l| &mut l.endpoints)
        {
            endpoint.health = draining[&endpoint.address.port()];
            by_port.insert(endpoint.address.port(), (endpoint.slot, compiled.slot));
        }
    });
    for port in &case.ejected {
        let Some((Some(endpoint), Some(cluster))) = by_port.get(port) else { continue };
        let tag = |slot| rig.state.slot_at(slot).unwrap().tag();
        let pick = Pick {
            address: WordAddr::new(ip(*port)),
            port: *port,
            endpoint_slot: Some(*endpoint),
            endpoint_tag: tag(*endpoint),
            cluster: 0,
            cluster_slot: Some(*cluster),
            cluster_tag: tag(*cluster),
            connect_timeout_ms: 0,
            max_connections: None,
            keepalive: None,
            alternatives: false,
        };
        eject(&rig.state, &pick, NOW + 1);
    }
    Rig { own: Seeded(case.seed), ..rig }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn what_is_picked_may_be_picked(case in case()) {
        let mut rig = rig(&case);
        let all = endpoints(&case);
        let usable = |(tier, _, health): &&(usize, u16, Health)| {
            good(*health) || (*health == Health::Unhealthy && in_panic(&case, &all, *tier))
        };
        for _ in 0..8 {
            let pick = match rig.choose(&case.avoid) {
                Choice::Endpoint(pick) => pick,
                other => {
                    prop_assert_eq!(other, Choice::Pass(PassReason::NoHealthyEndpoint));
                    prop_assert!(!all.iter().any(|endpoint| usable(&endpoint)), "an endpoint was usable");
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
