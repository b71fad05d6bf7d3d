use super::*;
use crate::image::Destination;

#[test]
fn clusters_share_a_destination_by_weight() {
    let named = |name: &str, first: u16| {
        let mut cluster = cluster_of(LbPolicy::RoundRobin, &vec![vec![(1, vec![(first, 1, Health::Healthy)])]]);
        cluster.name = name.into();
        cluster
    };
    let mut rig = Rig::edited(vec![(named("a", 1), 90), (named("b", 2), 10), (named("c", 3), 0)], |_| {});
    check_shares(&rig.tally(10_000), &[(1, 90.0), (2, 10.0)]);
}

#[test]
fn a_pick_names_its_cluster_and_limits() {
    let mut rig = Rig::new(cluster_of(LbPolicy::Random, &weights(&[1, 1])));
    let pick = rig.pick(&[]);
    assert_eq!((pick.connect_timeout_ms, pick.max_connections, pick.cluster), (1234, Some(7), 0));
    assert!(rig.state.slot(pick.cluster_slot.unwrap(), pick.cluster_tag).is_some());
    assert!(rig.state.slot(pick.endpoint_slot.unwrap(), pick.endpoint_tag).is_some());
}

#[test]
fn an_address_or_port_of_its_own_is_not_the_mesh_s() {
    let rig = Rig::new(cluster_of(LbPolicy::Random, &weights(&[1])));
    let view = View::new(Words::new(&rig.content));
    for (ip, port) in [([10, 96, 0, 1], 81), ([10, 96, 0, 2], 80)] {
        let choice = choose(&view, None, &call(WordAddr::new(ip.into()), port, &[]), &mut Seeded(1));
        assert_eq!(choice, Ok(Choice::NotMesh));
    }
}

#[test]
fn outside_the_registry_is_refused_when_the_mesh_says_so() {
    let cluster = cluster_of(LbPolicy::Random, &weights(&[1]));
    let rig = Rig::edited(vec![(cluster, 1)], |mesh| mesh.default_action = DefaultAction::Refuse);
    let view = View::new(Words::new(&rig.content));
    let choice = choose(&view, None, &call(WordAddr::new([8, 8, 8, 8].into()), 80, &[]), &mut Seeded(1));
    assert_eq!(choice, Ok(Choice::NotInRegistry));
}

#[test]
fn the_pod_s_own_addresses_are_neither_refused_nor_caught_by_a_wildcard() {
    let cluster = cluster_of(LbPolicy::Random, &weights(&[1]));
    let rig = Rig::edited(vec![(cluster, 1)], |mesh| {
        mesh.default_action = DefaultAction::Refuse;
        mesh.own = vec!["::ffff:8.8.8.8".parse().unwrap(), "fd00::5".parse().unwrap()];
        let any = Destination { address: "0.0.0.0".parse().unwrap(), port: 81, ..mesh.destinations[0].clone() };
        mesh.destinations.push(any);
    });
    let view = View::new(Words::new(&rig.content));
    let choose = |ip: &str, port| {
        choose(&view, None, &call(WordAddr::new(ip.parse().unwrap()), port, &[]), &mut Seeded(1)).unwrap()
    };
    for (ip, port) in [("8.8.8.8", 80), ("8.8.8.8", 81), ("fd00::5", 81)] {
        assert_eq!(choose(ip, port), Choice::NotMesh, "{ip}:{port}");
    }
    assert!(matches!(choose("8.8.8.9", 81), Choice::Endpoint(_)));
}

#[test]
fn endpoints_not_received_yet_and_none_at_all_are_told_apart() {
    let mut cluster = cluster_of(LbPolicy::Random, &vec![]);
    assert_eq!(Rig::new(cluster.clone()).choose(&[]), Choice::Pass(PassReason::NoHealthyEndpoint));
    cluster.discovery = Discovery::Eds("c".into());
    assert_eq!(Rig::new(cluster).choose(&[]), Choice::Pass(PassReason::NoEndpointsYet));
}

#[test]
fn an_unsupported_policy_passes_by_name() {
    let mut rig = Rig::new(cluster_of(LbPolicy::Unsupported("my.Own".into()), &weights(&[1])));
    assert_eq!(rig.choose(&[]), Choice::Pass(PassReason::Unsupported));
    let view = View::new(Words::new(&rig.content));
    let PolicyView::Pass(_, name) = view.cluster(0).unwrap().policy else { panic!("a policy") };
    assert_eq!(view.string(name).unwrap(), "my.Own");
}

#[test]
fn what_was_tried_is_avoided_until_nothing_else_is_left() {
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &weights(&[1, 1, 1])));
    let first = rig.pick(&[]);
    let second = rig.pick(&[first.port]);
    let third = rig.pick(&[first.port, second.port]);
    assert_eq!([first, second, third].map(|pick| pick.alternatives), [true, true, false]);
    assert_ne!(third.port, first.port);
    assert_ne!(third.port, second.port);
    assert!(!rig.pick(&[1, 2, 3]).alternatives);
}

#[test]
fn a_second_try_may_go_to_the_next_priority() {
    let shape = vec![vec![(1, vec![(1, 1, Health::Healthy)])], vec![(1, vec![(2, 1, Health::Healthy)])]];
    let mut rig = Rig::new(cluster_of(LbPolicy::RoundRobin, &shape));
    let first = rig.pick(&[]);
    assert_eq!((first.port, first.alternatives), (1, true));
    let second = rig.pick(&[1]);
    assert_eq!((second.port, second.alternatives), (2, false));
}

#[test]
fn an_endpoint_past_the_end_of_state_is_balanced_without_counters() {
    let cluster = cluster_of(LbPolicy::RoundRobin, &weights(&[1, 1]));
    let mut rig = Rig::edited(vec![(cluster, 1)], |mesh| {
        for priority in mesh.clusters[0].priorities.as_mut().unwrap() {
            priority.slot = Some(1 << 30);
            priority.localities[0].endpoints[0].slot = None;
        }
    });
    check_shares(&rig.tally(2000), &[(1, 1.0), (2, 1.0)]);
}
