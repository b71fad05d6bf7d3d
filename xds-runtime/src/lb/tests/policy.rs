use super::*;
use proptest::prelude::*;

#[test]
fn round_robin_takes_turns() {
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &weights(&[1, 1, 1])));
    let ports: Vec<u16> = (0..9).map(|_| rig.pick(&[]).port).collect();
    assert_eq!(ports[..3], ports[3..6]);
    assert_eq!(ports[..3], ports[6..]);
    assert_eq!(ports[..3].iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}

proptest! {
    #[test]
    fn round_robin_is_exact_over_a_cycle(weighted in proptest::collection::vec(1_u32..40, 1..12)) {
        let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &weights(&weighted)));
        let common = weighted.iter().fold(0, |a, b| { let (mut a, mut b) = (a, *b); while b != 0 { (a, b) = (b, a % b) } a });
        let cycle: u32 = weighted.iter().map(|weight| weight / common).sum();
        let tally = rig.tally(3 * cycle as usize);
        for (port, weight) in (1..).zip(&weighted) {
            prop_assert_eq!(tally.get(&port).copied(), Some(3 * (weight / common) as usize));
        }
    }
}

#[test]
fn round_robin_spreads_the_turns_of_a_heavy_endpoint() {
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &weights(&[5, 1, 1, 1, 1, 1])));
    let ports: Vec<u16> = (0..40).map(|_| rig.pick(&[]).port).collect();
    let longest = ports.chunk_by(|a, b| a == b).filter(|run| run[0] == 1).map(<[u16]>::len).max();
    assert!(longest <= Some(2), "{ports:?}");
}

#[test]
fn processes_share_one_turn() {
    let rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &weights(&[3, 2, 1])));
    let picked = |seed| {
        let mut entropy = Seeded(seed);
        let mut tally = [0_usize; 4];
        for _ in 0..600 {
            match rig.choose_with(Some(&rig.state), &mut entropy, &[]) {
                Choice::Endpoint(pick) => tally[usize::from(pick.port)] += 1,
                other => panic!("{other:?}"),
            }
        }
        tally
    };
    let tallies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || picked(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let sum = |port: usize| tallies.iter().map(|tally| tally[port]).sum::<usize>();
    assert_eq!([sum(1), sum(2), sum(3)], [1200, 800, 400]);
}

#[test]
fn the_turns_of_an_ejected_endpoint_go_to_the_others_alike() {
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &weights(&[1, 1, 1, 1])));
    rig.eject(2);
    assert_eq!(rig.tally(300), BTreeMap::from([(1, 100), (3, 100), (4, 100)]));
}

#[test]
fn without_state_round_robin_is_weighted_random() {
    let rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &weights(&[1, 2, 5])));
    let mut entropy = Seeded(7);
    let mut tally = BTreeMap::new();
    for _ in 0..8000 {
        match rig.choose_with(None, &mut entropy, &[]) {
            Choice::Endpoint(pick) => *tally.entry(pick.port).or_default() += 1,
            other => panic!("{other:?}"),
        }
    }
    check_shares(&tally, &[(1, 1.0), (2, 2.0), (3, 5.0)]);
}

#[test]
fn pods_begin_at_different_endpoints() {
    let first = |seed| {
        let cluster = cluster_of(LbPolicy::RoundRobin, &weights(&[1; 16]));
        Rig::edited(vec![(cluster, 1)], |mesh| mesh.seed = seed).pick(&[]).port
    };
    let firsts: std::collections::BTreeSet<u16> = (0..64).map(|pod| first(crate::shm::hash_words(&[pod]))).collect();
    assert!(firsts.len() > 8, "{firsts:?}");
}

#[test]
fn random_weighs_nothing() {
    let mut rig = Rig::new(cluster_of(LbPolicy::Random, &weights(&[1, 2, 3, 10])));
    check_shares(&rig.tally(20_000), &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]);
}

#[test]
fn random_over_unhealthy_ones_weighs_nothing_either() {
    let mut endpoints: Vec<_> = (1..=400).map(|port| (port, 1, Health::Unhealthy)).collect();
    endpoints[10] = (11, 3, Health::Healthy);
    endpoints[390] = (391, 1, Health::Healthy);
    let mut cluster = cluster_of(LbPolicy::Random, &vec![vec![(1, endpoints)]]);
    cluster.panic_threshold = 0.0;
    let tally = Rig::new(cluster).tally(4000);
    check_shares(&tally, &[(11, 1.0), (391, 1.0)]);
}

#[test]
fn turns_of_healthy_and_degraded_endpoints_skew_neither() {
    let of = |port, health| (port, 1, health);
    let healthy = (1..=3).map(|port| of(port, Health::Healthy));
    let endpoints = healthy.chain((4..=5).map(|port| of(port, Health::Degraded))).collect();
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &vec![vec![(1, endpoints)]]));
    // 3 of 5 times 1.4: 84 percent, the rest to the degraded.
    check_shares(&rig.tally(20_000), &[(1, 28.0), (2, 28.0), (3, 28.0), (4, 8.0), (5, 8.0)]);
}

#[test]
fn least_request_compares_two_random_endpoints() {
    let mut rig = Rig::new(cluster_of(LEAST_REQUEST, &weights(&[1, 1])));
    check_shares(&rig.tally(4000), &[(1, 1.0), (2, 1.0)]);
    rig.set_active(1, 5);
    // The busy one is taken only when both draws are it.
    check_shares(&rig.tally(8000), &[(1, 1.0), (2, 3.0)]);
}

#[test]
fn least_request_never_takes_the_busiest_of_all_choices() {
    let policy = LbPolicy::LeastRequest { choice_count: 16, active_request_bias: 1.0 };
    let mut rig = Rig::new(cluster_of(policy, &weights(&[1, 1])));
    rig.set_active(2, 9);
    assert!(rig.tally(2000).get(&2).copied().unwrap_or(0) <= 2);
}

#[test]
fn many_choices_are_as_many_draws() {
    let idle = |choice_count| {
        let policy = LbPolicy::LeastRequest { choice_count, active_request_bias: 1.0 };
        let mut rig = Rig::new(cluster_of(policy, &weights(&[1; 64])));
        let ports: Vec<u16> = (2..=64).collect();
        ports.iter().for_each(|port| rig.set_active(*port, 9));
        rig.tally(10_000).get(&1).copied().unwrap_or(0) as f64 / 10_000.0
    };
    for choices in [17, 64, 128] {
        let expected = 1.0 - (63.0_f64 / 64.0).powi(choices);
        let found = idle(choices as u32);
        assert!((found - expected).abs() < 0.025, "{choices}: {found}, not {expected}");
    }
}

#[test]
fn a_full_scan_takes_one_of_those_with_the_fewest_connections() {
    let mut cluster = cluster_of(LEAST_REQUEST, &weights(&[1; 5]));
    cluster.balancing.full_scan = true;
    let mut rig = Rig::new(cluster);
    rig.set_active(1, 5);
    rig.set_active(2, 1);
    rig.set_active(3, 2);
    check_shares(&rig.tally(4000), &[(4, 1.0), (5, 1.0)]);
    rig.eject(4);
    assert_eq!(rig.tally(100), BTreeMap::from([(5, 100)]));
}

#[test]
fn least_request_with_weights_divides_by_connections() {
    let mut rig = Rig::new(cluster_of(LEAST_REQUEST, &weights(&[1, 2, 4])));
    check_shares(&rig.tally(8000), &[(1, 1.0), (2, 2.0), (3, 4.0)]);
    rig.set_active(2, 3);
    check_shares(&rig.tally(8000), &[(1, 1.0), (2, 0.5), (3, 4.0)]);
}

#[test]
fn a_bias_of_zero_leaves_only_the_weights() {
    let policy = LbPolicy::LeastRequest { choice_count: 2, active_request_bias: 0.0 };
    let mut rig = Rig::new(cluster_of(policy, &weights(&[1, 3])));
    rig.set_active(2, 50);
    check_shares(&rig.tally(8000), &[(1, 1.0), (2, 3.0)]);
}

#[test]
fn least_request_samples_a_large_weighted_set() {
    let mut shape: Vec<u32> = vec![1; 40];
    shape[0] = 8;
    let mut rig = Rig::new(cluster_of(LEAST_REQUEST, &weights(&shape)));
    let shares: Vec<_> = (1..).zip(&shape).map(|(port, weight)| (port, f64::from(*weight))).collect();
    check_shares(&rig.tally(20_000), &shares);
    rig.set_active(1, 1000);
    let busy = rig.tally(4000).get(&1).copied().unwrap_or(0);
    assert!(busy < 20, "{busy} picks of an endpoint with 1000 connections");
}

#[test]
fn a_healthy_pick_of_ten_thousand_looks_at_a_few() {
    for policy in [LbPolicy::RoundRobin, LbPolicy::Random, LEAST_REQUEST] {
        let rig = Rig::new(cluster_of(policy, &weights(&vec![1; 10_000])));
        let words = Words::new(&rig.content);
        let view = View::new(words);
        let cluster = view.cluster(0).unwrap();
        let call = call(WordAddr::new(VIP.into()), 80, &[]);
        let reading = Reading::new(&view, Some(&rig.state), &call);
        let tiers = Tiers::new(&reading, &cluster);
        let picked = priority::pick(&tiers, None, &mut Seeded(1)).unwrap().unwrap();
        assert!(priority::another_than(&tiers, &picked.host).unwrap());
        assert!(reading.looked_at() <= 4, "{} endpoints looked at", reading.looked_at());
    }
}
