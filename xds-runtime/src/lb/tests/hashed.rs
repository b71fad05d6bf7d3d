use super::*;
use crate::image::Action;

const RING: LbPolicy = LbPolicy::RingHash { minimum_ring_size: 1024, maximum_ring_size: 1 << 20, murmur2: false };
const MAGLEV: LbPolicy = LbPolicy::Maglev { table_size: 65_537 };

/// The endpoint of a connection from `source`; `None` = the socket is not bound.
#[track_caller]
fn from(rig: &Rig, source: Option<IpAddr>, avoid: &[u16]) -> u16 {
    let view = View::new(Words::new(&rig.content));
    let avoid: Vec<_> = avoid.iter().map(|port| (WordAddr::new(ip(*port)), *port)).collect();
    let source = || source;
    let call = Call { source: &source, ..call(WordAddr::new(VIP.into()), 80, &avoid) };
    match choose(&view, Some(&rig.state), &call, &mut Seeded(7)) {
        Ok(Choice::Endpoint(pick)) => pick.port,
        other => panic!("{other:?}"),
    }
}

fn sources() -> impl Iterator<Item = Option<IpAddr>> {
    (0..4000_u16).map(|n| Some(IpAddr::from([10, 1, (n >> 8) as u8, n as u8])))
}

fn ejected(mut rig: Rig, port: u16) -> Rig {
    let pick = sources().find(|source| from(&rig, *source, &[]) == port).expect("somebody goes there");
    let view = View::new(Words::new(&rig.content));
    let call = Call { source: &|| pick, ..call(WordAddr::new(VIP.into()), 80, &[]) };
    let Ok(Choice::Endpoint(pick)) = choose(&view, Some(&rig.state), &call, &mut rig.own) else { panic!("no pick") };
    eject(&rig.state, &pick, NOW + 1);
    rig
}

#[test]
fn a_source_keeps_its_endpoint_and_sources_are_shared_by_weight() {
    for policy in [RING, MAGLEV] {
        let rig = Rig::new(cluster_of(policy.clone(), &weights(&[1, 2, 5])));
        let mut tally: BTreeMap<u16, u32> = BTreeMap::new();
        for source in sources() {
            let port = from(&rig, source, &[]);
            assert_eq!(from(&rig, source, &[]), port, "{policy:?}");
            *tally.entry(port).or_default() += 1;
        }
        // Maglev's shares are the weights; a ring's differ by where its entries happen to be.
        for (port, share) in [(1, 1.0), (2, 2.0), (3, 5.0)] {
            let expected = 4000.0 * share / 8.0;
            let tolerance = if policy == MAGLEV { 0.15 } else { 0.5 };
            assert!((f64::from(tally[&port]) - expected).abs() < tolerance * expected, "{policy:?} {tally:?}");
        }
    }
}

#[test]
fn only_the_sources_of_an_ejected_endpoint_move() {
    for policy in [RING, MAGLEV] {
        let cluster = cluster_of(policy.clone(), &weights(&[1; 5]));
        let (before, after) = (Rig::new(cluster.clone()), ejected(Rig::new(cluster), 3));
        let mut moved_to = std::collections::BTreeSet::new();
        for source in sources() {
            let (was, is) = (from(&before, source, &[]), from(&after, source, &[]));
            assert_ne!(is, 3, "{policy:?}");
            assert!(was == 3 || was == is, "{policy:?}: {source:?} moved from {was} to {is}");
            if was == 3 {
                moved_to.insert(is);
            }
        }
        assert_eq!(moved_to.len(), 4, "{policy:?}: they are spread over the others");
    }
}

#[test]
fn an_endpoint_that_was_tried_gives_way_to_the_next() {
    for policy in [RING, MAGLEV] {
        let rig = Rig::new(cluster_of(policy, &weights(&[1; 3])));
        for source in sources().take(100) {
            let first = from(&rig, source, &[]);
            let second = from(&rig, source, &[first]);
            let third = from(&rig, source, &[first, second]);
            assert_eq!(std::collections::BTreeSet::from([first, second, third]).len(), 3);
            assert_eq!(from(&rig, source, &[first, second, third]), first, "nothing else is left");
        }
    }
}

#[test]
fn a_socket_that_is_not_bound_has_the_pod_s_address() {
    let own: IpAddr = "10.1.2.3".parse().unwrap();
    let rig = Rig::edited(vec![(cluster_of(RING, &weights(&[1; 7])), 1)], |mesh| mesh.own = vec![own]);
    assert_eq!(from(&rig, None, &[]), from(&rig, Some(own), &[]));
    let mapped = "::ffff:10.1.2.3".parse().ok();
    assert_eq!(from(&rig, mapped, &[]), from(&rig, Some(own), &[]), "v4-mapped is the same address");
}

#[test]
fn without_a_hash_policy_each_connection_has_a_random_hash() {
    for policy in [RING, MAGLEV] {
        let mut rig = Rig::edited(vec![(cluster_of(policy, &weights(&[1; 3])), 1)], |mesh| {
            let Action::Clusters { hash, .. } = &mut mesh.destinations[0].action else { panic!("no cluster") };
            *hash = HashOn::Nothing;
        });
        assert_eq!(rig.tally(300).len(), 3);
    }
}

#[test]
fn a_panic_takes_the_unhealthy_in() {
    let shape = vec![vec![(1, vec![(1, 1, Health::Healthy), (2, 1, Health::Unhealthy), (3, 1, Health::Unhealthy)])]];
    for policy in [RING, MAGLEV] {
        let of = |threshold| {
            let mut cluster = cluster_of(policy.clone(), &shape);
            cluster.panic_threshold = threshold;
            let rig = Rig::new(cluster);
            sources().map(|source| from(&rig, source, &[])).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(of(50.0), std::collections::BTreeSet::from([1, 2, 3]));
        assert_eq!(of(0.0), std::collections::BTreeSet::from([1]));
    }
}

#[test]
fn a_degraded_endpoint_gets_no_key_outside_panic() {
    let of = |healthy: u16| {
        let health = |n| if n < healthy { Health::Healthy } else { Health::Degraded };
        vec![vec![(1, (0..10).map(|n| (1 + n, 1, health(n))).collect())]]
    };
    for policy in [RING, MAGLEV] {
        // Half of them healthy have 70 percent of the load: the other 30 go to the same endpoints.
        let rig = Rig::new(cluster_of(policy.clone(), &of(5)));
        let ports: std::collections::BTreeSet<u16> = sources().map(|source| from(&rig, source, &[])).collect();
        assert_eq!(ports, (1..=5).collect(), "{policy:?}");
        let mut none = Rig::new(cluster_of(policy, &of(0)));
        assert_eq!(none.choose(&[]), Choice::Pass(PassReason::NoHealthyEndpoint));
    }
}

/// Endpoints that are well again since the table was made, and in none of its entries.
#[test]
fn keys_without_a_table_are_spread_by_weight() {
    for policy in [RING, MAGLEV] {
        let cluster = cluster_of(policy.clone(), &weights(&[1, 1, 1, 3]));
        let rig = Rig::edited(vec![(cluster, 1)], |mesh| {
            mesh.clusters[0].priorities.as_mut().unwrap()[0].table = crate::image::Table::None;
        });
        let mut tally: BTreeMap<u16, usize> = BTreeMap::new();
        for source in sources() {
            let port = from(&rig, source, &[]);
            assert_eq!(from(&rig, source, &[]), port, "{policy:?}");
            *tally.entry(port).or_default() += 1;
        }
        check_shares(&tally, &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 3.0)]);
    }
}

#[test]
fn the_hash_chooses_the_priority_too() {
    let of = |first: u16, healthy: usize| -> Tier {
        let health = |n| if n < healthy { Health::Healthy } else { Health::Unhealthy };
        vec![(1, (0..4).map(|n| (first + n as u16, 1, health(n))).collect())]
    };
    for policy in [RING, MAGLEV] {
        // Of the first priority 2 of 4: 70 percent.
        let rig = Rig::new(cluster_of(policy, &vec![of(1000, 2), of(2000, 4)]));
        for source in sources() {
            let hash = xxhash_rust::xxh64::xxh64(source.unwrap().to_string().as_bytes(), 0);
            assert_eq!(from(&rig, source, &[]) < 2000, hash % 100 < 70, "{source:?}");
        }
    }
}

#[test]
fn a_key_leaves_an_endpoint_that_has_more_than_its_share_and_comes_back() {
    for policy in [RING, MAGLEV] {
        let mut cluster = cluster_of(policy.clone(), &weights(&[1, 1, 2]));
        cluster.balancing.hash_balance_factor = Some(150);
        let rig = Rig::new(cluster);
        let plain = Rig::new(cluster_of(policy, &weights(&[1, 1, 2])));
        let slots: BTreeMap<u16, Pick> = {
            let view = View::new(Words::new(&rig.content));
            let pick = |source| {
                let source = || source;
                let call = Call { source: &source, ..call(WordAddr::new(VIP.into()), 80, &[]) };
                match choose(&view, Some(&rig.state), &call, &mut Seeded(7)) {
                    Ok(Choice::Endpoint(pick)) => (pick.port, pick),
                    other => panic!("{other:?}"),
                }
            };
            sources().map(pick).collect()
        };
        let active = |port: u16, count: u64| {
            slots[&port].member().endpoint(&rig.state).unwrap().set_active(count);
        };
        let connections = |count| slots[&1].member().cluster(&rig.state).unwrap().set_active(count);
        // 7 connections and the new one, times 1.5: 12, of which a quarter is 3.
        connections(7);
        active(1, 3);
        for source in sources().take(500) {
            assert_eq!(from(&rig, source, &[]), from(&plain, source, &[]), "there is room for all");
        }
        active(1, 4);
        let mut moved_to = std::collections::BTreeSet::new();
        for source in sources().take(500) {
            let (was, is) = (from(&plain, source, &[]), from(&rig, source, &[]));
            assert!(was == 1 || was == is, "only keys of the one that is over move");
            if was == 1 {
                assert_eq!(from(&rig, source, &[]), is, "the same key goes to the same other");
                moved_to.insert(is);
            }
        }
        assert_eq!(moved_to, [2, 3].into(), "they are spread");
        // All over their share: 3, 3 and 6 are allowed. The one that is the least over takes it.
        for (port, count) in [(1, 9), (2, 5), (3, 20)] {
            active(port, count);
        }
        assert!(sources().take(100).all(|source| from(&rig, source, &[]) == 2));
    }
}
