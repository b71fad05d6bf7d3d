use super::*;

fn http(virtual_hosts: Vec<VirtualHost>) -> World {
    World::default()
        .eds(&["a", "b"])
        .cluster(cluster("PassthroughCluster", Discovery::OriginalDst))
        .route("80", virtual_hosts)
        .listener("0.0.0.0_80", "0.0.0.0:80", vec![sniffed(rds("80"))], Some(passthrough()))
}

#[test]
fn domains_that_are_addresses_are_destinations() {
    let compiled = http(vec![
        host(&["a.default.svc.cluster.local", "a", "10.0.0.1", "10.0.0.1:80"], "a"),
        host(&["b.default.svc.cluster.local", "[fd00::b]", "[fd00::b]:80"], "b"),
    ])
    .compile();
    check_clusters(&compiled, "10.0.0.1:80", &[("a", 1)]);
    check_clusters(&compiled, "[fd00::b]:80", &[("b", 1)]);
    check_action(&compiled, "0.0.0.0:80", &Action::Pass(PassReason::OriginalDestination));
    assert_eq!(compiled.mesh.destinations.len(), 3);
    assert_eq!(compiled.route_names, BTreeSet::from(["80".to_owned()]));
    assert_eq!(
        compiled.wanted,
        BTreeMap::from([(key("10.0.0.1"), vec!["a".into()]), (key("fd00::b"), vec!["b".into()])])
    );
}

#[test]
fn a_domain_with_another_port_is_not_of_this_listener() {
    assert_eq!(destination(&http(vec![host(&["10.0.0.1:8080"], "a")]).compile(), "10.0.0.1:80"), None);
}

#[test]
fn the_first_rule_without_a_condition_decides_and_the_others_are_named() {
    let to = |name| RouteAction::Clusters(weighted(&[(name, 1)]), HashPolicy::None);
    let mut a = host(&["10.0.0.1"], "a");
    a.routes = vec![rule(Some("path prefix /v2"), to("b")), rule(Some("header x"), to("b")), rule(None, to("a"))];
    a.routes.push(rule(Some("never reached"), to("b")));
    let compiled = http(vec![a]).compile();
    check_clusters(&compiled, "10.0.0.1:80", &[("a", 1)]);
    assert_eq!(destination(&compiled, "10.0.0.1:80").unwrap().rules_left_out, "path prefix /v2; header x");
    assert!(compiled.mesh.clusters.iter().all(|cluster| cluster.name == "a"));
}

#[test]
fn rules_that_all_have_conditions_need_bytes() {
    let mut a = host(&["10.0.0.1"], "a");
    a.routes[0].condition = Some("path /x".into());
    let compiled = http(vec![a]).compile();
    check_action(&compiled, "10.0.0.1:80", &Action::Pass(PassReason::NeedsBytes));
    assert_eq!(destination(&compiled, "10.0.0.1:80").unwrap().rules_left_out, "path /x");
}

#[test]
fn a_redirect_passes_by_name() {
    let mut a = host(&["10.0.0.1"], "a");
    a.routes = vec![rule(None, RouteAction::Unsupported("redirect".into()))];
    let compiled = http(vec![a]).compile();
    check_action(&compiled, "10.0.0.1:80", &Action::Pass(PassReason::Unsupported));
    assert_eq!(destination(&compiled, "10.0.0.1:80").unwrap().rules_left_out, "redirect");
}

#[test]
fn an_external_host_without_address_domains_is_reached_at_its_names_addresses() {
    let compiled = http(vec![host(&["api.example", "api.example:80"], "a")])
        .name("api.example", "External", &["240.240.0.5"], &[])
        .compile();
    check_clusters(&compiled, "240.240.0.5:80", &[("a", 1)]);
}

#[test]
fn the_endpoints_of_a_headless_service_are_not_balanced_among_each_other() {
    let fqdn = "db.default.svc.cluster.local";
    let compiled = http(vec![host(&[fqdn], "a")]).name(fqdn, "Kubernetes", &["10.1.0.1", "10.1.0.2"], &[]).compile();
    assert_eq!(destination(&compiled, "10.1.0.1:80"), None);
    assert!(compiled.mesh.names[0].headless);
}

#[test]
fn an_http_listener_of_its_own_address_follows_its_virtual_host() {
    let world = |hosts| {
        World::default()
            .eds(&["a", "b"])
            .route("a:90", hosts)
            .listener("10.0.0.1_90", "10.0.0.1:90", vec![chain(rds("a:90"))], None)
            .compile()
    };
    check_clusters(&world(vec![host(&["a.example"], "a")]), "10.0.0.1:90", &[("a", 1)]);
    check_clusters(&world(vec![host(&["b.example"], "b"), host(&["*"], "a")]), "10.0.0.1:90", &[("a", 1)]);
    check_clusters(&world(vec![host(&["*"], "b"), host(&["10.0.0.1"], "a")]), "10.0.0.1:90", &[("a", 1)]);
}

#[test]
fn routes_not_received_yet_pass() {
    let compiled = World::default().listener("10.0.0.1_90", "10.0.0.1:90", vec![chain(rds("a:90"))], None).compile();
    check_action(&compiled, "10.0.0.1:90", &Action::Pass(PassReason::NoCluster));
    assert_eq!(compiled.route_names, BTreeSet::from(["a:90".to_owned()]));
}

#[test]
fn an_outbound_policy_of_registry_only_refuses_unknown_addresses_of_an_http_port() {
    let mut block = host(&["*"], "a");
    block.routes = vec![rule(None, RouteAction::Unsupported("direct response".into()))];
    let compiled = World::default()
        .route("80", vec![block])
        .listener("0.0.0.0_80", "0.0.0.0:80", vec![chain(rds("80"))], Some(chain(tcp(&[("BlackHoleCluster", 1)]))))
        .compile();
    check_action(&compiled, "0.0.0.0:80", &Action::Refuse);
}

#[test]
fn a_service_that_is_to_be_exact_passes_where_its_rules_depend_on_the_request() {
    let conditional = |domains: &[&str], to: &str| {
        let mut host = host(domains, to);
        let to = RouteAction::Clusters(weighted(&[("canary", 1)]), HashPolicy::None);
        host.routes.insert(0, rule(Some("header x-user"), to));
        host
    };
    let hosts = vec![
        conditional(&["a.shop.svc.cluster.local", "a.shop.svc.cluster.local:80", "10.0.0.1"], "a"),
        conditional(&["b.shop.svc.cluster.local", "10.0.0.2"], "b"),
        host(&["c.bank.svc.cluster.local", "10.0.0.3"], "c"),
    ];
    let mut world = World::default().eds(&["a", "b", "c", "canary"]).route("80", hosts).listener(
        "0.0.0.0_80",
        "0.0.0.0:80",
        vec![chain(rds("80"))],
        None,
    );
    let left_out = "a.shop.svc.cluster.local: HTTP rules that depend on the request were left out: header x-user";
    assert!(world.compile().notes.iter().any(|note| note == left_out), "{:?}", world.compile().notes);
    world.exact_http = NameList::parse("a.shop.svc.cluster.local,*.bank.svc.cluster.local").0;
    let compiled = world.compile();
    check_action(&compiled, "10.0.0.1:80", &Action::Pass(PassReason::NeedsBytes));
    assert_eq!(destination(&compiled, "10.0.0.1:80").unwrap().rules_left_out, "header x-user");
    check_clusters(&compiled, "10.0.0.2:80", &[("b", 1)]);
    check_clusters(&compiled, "10.0.0.3:80", &[("c", 1)]);
    let passes = "a.shop.svc.cluster.local: connections pass, for its HTTP rules depend on the request: header x-user";
    assert!(compiled.notes.iter().any(|note| note == passes), "{:?}", compiled.notes);
}
