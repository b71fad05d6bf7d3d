use super::*;

#[test]
fn a_tcp_listener_leads_to_its_clusters_by_weight() {
    let compiled = World::default()
        .eds(&["v1", "v2"])
        .listener("10.96.1.2_3306", "10.96.1.2:3306", vec![chain(tcp(&[("v1", 80), ("v2", 20)]))], None)
        .compile();
    check_clusters(&compiled, "10.96.1.2:3306", &[("v1", 80), ("v2", 20)]);
    assert_eq!(compiled.wanted, BTreeMap::from([(key("10.96.1.2"), vec!["v1".to_owned(), "v2".to_owned()])]));
}

#[test]
fn inbound_listeners_are_not_ours() {
    let mut world =
        World::default().eds(&["in"]).listener("virtualInbound", "0.0.0.0:15006", vec![chain(tcp(&[("in", 1)]))], None);
    world.listeners.get_mut("virtualInbound").unwrap().direction = Direction::Inbound;
    assert_eq!(world.compile().mesh.destinations, []);
}

#[test]
fn sniffed_http_gives_way_to_the_tcp_chain_and_its_routes_are_not_asked_for() {
    let compiled = World::default()
        .eds(&["tcp"])
        .listener("10.0.0.1_90", "10.0.0.1:90", vec![sniffed(rds("a:90"))], Some(chain(tcp(&[("tcp", 1)]))))
        .compile();
    check_clusters(&compiled, "10.0.0.1:90", &[("tcp", 1)]);
    assert_eq!(compiled.route_names, BTreeSet::new());
}

#[test]
fn what_sniffs_http_on_every_address_leads_no_address_of_its_own_accord() {
    let (chains, rest) = (|| vec![sniffed(rds("90"))], || Some(chain(tcp(&[("tcp", 1)]))));
    let compiled = World::default()
        .eds(&["tcp", "routed"])
        .route("90", vec![host(&["10.0.0.1"], "routed")])
        .listener("0.0.0.0_90", "0.0.0.0:90", chains(), rest())
        .listener("10.0.0.2_90", "10.0.0.2:90", chains(), rest())
        .compile();
    check_action(&compiled, "0.0.0.0:90", &Action::Pass(PassReason::NeedsBytes));
    assert_eq!(destination(&compiled, "0.0.0.0:90").unwrap().rules_left_out, "whether HTTP is spoken");
    check_clusters(&compiled, "10.0.0.1:90", &[("routed", 1)]);
    check_clusters(&compiled, "10.0.0.2:90", &[("tcp", 1)]);
}

#[test]
fn a_wildcard_listener_with_prefixes_makes_prefixes_most_specific_first() {
    let cidr = |address: &str, length| Cidr { address: address.parse().unwrap(), length };
    let to =
        |prefixes, name| matching(ChainMatch { prefix_ranges: prefixes, ..ChainMatch::default() }, tcp(&[(name, 1)]));
    let chains = vec![
        to(vec![cidr("10.0.0.0", 8), cidr("192.0.2.7", 32)], "wide"),
        to(vec![cidr("10.1.0.0", 16)], "narrow"),
        to(vec![cidr("fd00::", 8)], "six"),
    ];
    let compiled = World::default()
        .eds(&["wide", "narrow", "six"])
        .listener("0.0.0.0_5432", "0.0.0.0:5432", chains, Some(passthrough()))
        .compile();
    check_clusters(&compiled, "192.0.2.7:5432", &[("wide", 1)]);
    let prefixes: Vec<_> =
        compiled.mesh.prefixes.iter().map(|p| (p.prefix.address.to_string(), p.prefix.length)).collect();
    assert_eq!(prefixes, [("10.1.0.0".into(), 16), ("10.0.0.0".into(), 8), ("fd00::".into(), 8)]);
    check_action(&compiled, "0.0.0.0:5432", &Action::Pass(PassReason::OriginalDestination));
    // No address of a prefix has a key of its own.
    assert_eq!(compiled.wanted[&ALWAYS_WANTED], ["narrow", "six", "wide"]);
}

#[test]
fn a_concrete_listener_wins_over_the_wildcard_s_routes() {
    let compiled = World::default()
        .eds(&["routed", "bound"])
        .route("80", vec![host(&["10.0.0.1"], "routed")])
        .listener("0.0.0.0_80", "0.0.0.0:80", vec![chain(rds("80"))], None)
        .listener("10.0.0.1_80", "10.0.0.1:80", vec![chain(tcp(&[("bound", 1)]))], None)
        .compile();
    check_clusters(&compiled, "10.0.0.1:80", &[("bound", 1)]);
    assert_eq!(compiled.mesh.destinations.len(), 1);
}

#[test]
fn the_catch_all_decides_what_is_not_described() {
    let with = |name: &str| {
        let own = ChainMatch { destination_port: Some(15001), ..ChainMatch::default() };
        let chains = vec![matching(own, tcp(&[("BlackHoleCluster", 1)])), chain(tcp(&[(name, 1)]))];
        World::default()
            .cluster(cluster("BlackHoleCluster", Discovery::Static(assignment("BlackHoleCluster", vec![]))))
            .cluster(cluster("PassthroughCluster", Discovery::OriginalDst))
            .listener("virtualOutbound", "0.0.0.0:15001", chains, None)
            .compile()
            .mesh
    };
    assert_eq!(with("PassthroughCluster").default_action, DefaultAction::Pass);
    assert_eq!(with("BlackHoleCluster").default_action, DefaultAction::Refuse);
    assert_eq!(with("BlackHoleCluster").destinations, []);
}

#[test]
fn a_black_hole_refuses_and_an_original_destination_passes() {
    let compiled = World::default()
        .cluster(cluster("BlackHoleCluster", Discovery::Static(assignment("BlackHoleCluster", vec![]))))
        .cluster(cluster("pods", Discovery::OriginalDst))
        .listener("10.0.0.1_1", "10.0.0.1:1", vec![chain(tcp(&[("BlackHoleCluster", 1)]))], None)
        .listener("10.0.0.1_2", "10.0.0.1:2", vec![chain(tcp(&[("pods", 1)]))], None)
        .listener("10.0.0.1_3", "10.0.0.1:3", vec![chain(tcp(&[("gone", 1)]))], None)
        .compile();
    check_action(&compiled, "10.0.0.1:1", &Action::Refuse);
    check_action(&compiled, "10.0.0.1:2", &Action::Pass(PassReason::OriginalDestination));
    check_action(&compiled, "10.0.0.1:3", &Action::Pass(PassReason::NoCluster));
    assert!(compiled.notes.iter().any(|note| note.contains("gone")), "{:?}", compiled.notes);
}

#[test]
fn a_share_of_the_black_hole_is_refused() {
    let compiled = World::default()
        .eds(&["a"])
        .cluster(cluster("BlackHoleCluster", Discovery::Static(assignment("BlackHoleCluster", vec![]))))
        .listener("10.0.0.1_1", "10.0.0.1:1", vec![chain(tcp(&[("a", 90), ("BlackHoleCluster", 10)]))], None)
        .compile();
    check_clusters(&compiled, "10.0.0.1:1", &[("a", 90), ("BlackHoleCluster", 10)]);
    assert_eq!(compiled.mesh.clusters[1].policy, Policy::Refuse);
}

#[test]
fn the_pod_s_own_addresses_are_no_destination() {
    let mut world =
        World::default().eds(&["a"]).listener("10.0.0.1_80", "10.0.0.1:80", vec![chain(tcp(&[("a", 1)]))], None);
    world.own = vec!["::ffff:10.0.0.1".parse().unwrap()];
    let compiled = world.compile();
    assert_eq!(compiled.mesh.destinations, []);
    assert_eq!(compiled.mesh.own, world.own, "readers know them, too");
}

#[test]
fn further_addresses_of_a_listener_are_destinations_too() {
    let mut world =
        World::default().eds(&["a"]).listener("10.0.0.1_80", "10.0.0.1:80", vec![chain(tcp(&[("a", 1)]))], None);
    world.listeners.values_mut().for_each(|l| l.additional_addresses = vec!["[fd00::1]:80".parse().unwrap()]);
    let compiled = world.compile();
    check_clusters(&compiled, "[fd00::1]:80", &[("a", 1)]);
    assert!(compiled.wanted.contains_key(&key("fd00::1")));
}

#[test]
fn an_unsupported_filter_passes_by_name() {
    let filter = NetworkFilter::Unsupported("envoy.filters.network.mongo_proxy".into());
    let compiled = World::default().listener("10.0.0.1_80", "10.0.0.1:80", vec![chain(filter)], None).compile();
    check_action(&compiled, "10.0.0.1:80", &Action::Pass(PassReason::Unsupported));
    assert_eq!(destination(&compiled, "10.0.0.1:80").unwrap().rules_left_out, "envoy.filters.network.mongo_proxy");
}

#[test]
fn the_control_plane_s_address_is_left_alone_unless_the_mesh_describes_it() {
    let mut world =
        World::default().eds(&["a"]).listener("10.0.0.1_80", "10.0.0.1:80", vec![chain(tcp(&[("a", 1)]))], None);
    world.own = vec!["10.9.0.7".parse().unwrap()];
    world.control_plane = Some("10.0.0.1".parse().unwrap());
    let compiled = world.compile();
    assert_eq!(compiled.mesh.own, ["10.9.0.7".parse::<IpAddr>().unwrap(), "10.0.0.1".parse().unwrap()]);
    check_clusters(&compiled, "10.0.0.1:80", &[("a", 1)]);
}
