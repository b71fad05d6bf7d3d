//! Subsets: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/subsets

use super::*;
use crate::quick::QuickSet;
use crate::shm::hash_bytes;
use crate::state::{SlotKind, endpoint_tag, named_tag};

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().map(|(key, value)| ((*key).into(), MetadataValue::Text((*value).into()))).collect()
}

fn host(n: u8, carries: &[(&str, &str)]) -> Endpoint {
    carrying(n, metadata(carries))
}

fn carrying(n: u8, metadata: Metadata) -> Endpoint {
    let details = EndpointDetails { metadata, ..EndpointDetails::default() };
    Endpoint { details: Some(details.into()), ..socket(&format!("127.0.0.{n}:80")) }
}

fn selector(keys: &[&str], fallback: Option<SelectorFallback>) -> Selector {
    Selector { keys: keys.iter().map(|key| (*key).into()).collect(), fallback, single_host: false }
}

/// The documentation's cluster.
fn subsets() -> Subsets {
    Subsets {
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
    }
}

/// The documentation's hosts.
fn hosts() -> Vec<Endpoint> {
    vec![
        host(1, &[("v", "1.0"), ("stage", "prod")]),
        host(2, &[("v", "1.0"), ("stage", "prod")]),
        host(3, &[("v", "1.1"), ("stage", "canary")]),
        host(4, &[("v", "1.2-pre"), ("stage", "dev")]),
    ]
}

fn with(subsets: Subsets, hosts: Vec<Endpoint>) -> Cluster {
    let mut cluster = cluster("c", Discovery::Static(assignment("c", hosts)));
    cluster.balancing.subsets = Some(subsets.into());
    cluster
}

/// A world in which 10.0.0.1:80 leads to the endpoints of a cluster that carry this.
fn asking(cluster: Cluster, asked: Metadata) -> World {
    let share = WeightedCluster { name: cluster.name.clone(), weight: 1, metadata: asked };
    let filter = NetworkFilter::TcpProxy(TcpProxy { clusters: vec![share], hash: HashPolicy::None });
    World::default().cluster(cluster).listener("10.0.0.1_80", "10.0.0.1:80", vec![chain(filter)], None)
}

/// The cluster of the image that 10.0.0.1:80 leads to.
#[track_caller]
fn led_to(compiled: &Compiled) -> &crate::image::Cluster {
    match destination(compiled, "10.0.0.1:80").map(|found| &found.action) {
        Some(Action::Clusters { shares, .. }) => &compiled.mesh.clusters[shares[0].0 as usize],
        other => panic!("{other:?}"),
    }
}

/// The last numbers of its endpoints' addresses.
fn numbers(cluster: &crate::image::Cluster) -> Vec<u8> {
    let localities = cluster.priorities.iter().flatten().flat_map(|priority| &priority.localities);
    let last = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    };
    localities.flat_map(|locality| &locality.endpoints).map(|endpoint| last(endpoint.address)).collect()
}

#[track_caller]
fn check(subsets: Subsets, hosts: Vec<Endpoint>, asked: &[(&str, &str)], expected: &[u8]) {
    let compiled = asking(with(subsets, hosts), metadata(asked)).compile();
    assert_eq!(numbers(led_to(&compiled)), expected, "{asked:?}");
}

#[test]
fn the_documented_routes_lead_to_the_documented_hosts() {
    let check = |asked: &[(&str, &str)], expected: &[u8]| check(subsets(), hosts(), asked, expected);
    check(&[("stage", "canary")], &[3]);
    check(&[("v", "1.2-pre"), ("stage", "dev")], &[4]);
    check(&[("v", "1.0")], &[1, 2]);
    check(&[("other", "x")], &[1, 2]);
    check(&[], &[1, 2]);
    check(&[("stage", "test")], &[]);
}

#[test]
fn a_cluster_without_subsets_takes_no_notice() {
    let mut plain = with(subsets(), hosts());
    plain.balancing.subsets = None;
    let compiled = asking(plain, metadata(&[("stage", "canary")])).compile();
    assert_eq!((led_to(&compiled).name.as_str(), numbers(led_to(&compiled)).len()), ("c", 4));
}

#[test]
fn each_fallback_of_a_cluster_is_as_it_says() {
    let of = |fallback| Subsets { fallback, ..subsets() };
    check(of(Fallback::Nothing), hosts(), &[("v", "1.0")], &[]);
    check(of(Fallback::AnyEndpoint), hosts(), &[("v", "1.0")], &[1, 2, 3, 4]);
    check(of(Fallback::DefaultSubset), hosts(), &[("v", "1.0")], &[1, 2]);
    let everyone = Subsets { default_subset: Metadata::new(), ..subsets() };
    check(everyone, hosts(), &[("v", "1.0")], &[1, 2, 3, 4]);
}

#[test]
fn a_selector_s_fallback_comes_before_the_cluster_s() {
    let of = |fallback| Subsets { selectors: vec![selector(&["stage"], Some(fallback))], ..subsets() };
    let missing: &[_] = &[("stage", "test")];
    check(of(SelectorFallback::To(Fallback::Nothing)), hosts(), missing, &[]);
    check(of(SelectorFallback::To(Fallback::AnyEndpoint)), hosts(), missing, &[1, 2, 3, 4]);
    check(of(SelectorFallback::To(Fallback::DefaultSubset)), hosts(), missing, &[1, 2]);
    let keys = SelectorFallback::Keys(["stage".to_owned()].into());
    let two =
        Subsets { selectors: vec![selector(&["v", "stage"], Some(keys)), selector(&["stage"], None)], ..subsets() };
    check(two.clone(), hosts(), &[("v", "9"), ("stage", "dev")], &[4]);
    check(two, hosts(), &[("v", "9"), ("stage", "test")], &[1, 2]);
}

#[test]
fn a_list_stands_for_each_of_its_values_where_that_is_said() {
    let text = |text: &str| MetadataValue::Text(text.into());
    let mut listed = metadata(&[("stage", "prod")]);
    listed.insert("v".into(), MetadataValue::List(vec![text("1"), text("2")]));
    let all = vec![host(1, &[("v", "1"), ("stage", "prod")]), carrying(5, listed)];
    let asked: &[_] = &[("v", "1"), ("stage", "prod")];
    check(subsets(), all.clone(), asked, &[1]);
    check(Subsets { list_as_any: true, ..subsets() }, all.clone(), asked, &[1, 5]);
    let second: &[_] = &[("v", "2"), ("stage", "prod")];
    check(Subsets { list_as_any: true, ..subsets() }, all, second, &[5]);
}

#[test]
fn a_subset_may_be_one_endpoint() {
    let mut one = subsets();
    one.selectors[1].single_host = true;
    check(one, hosts(), &[("stage", "prod")], &[1]);
}

#[test]
fn redundant_keys_are_passed_over_where_that_is_allowed() {
    let asked: &[_] = &[("stage", "canary"), ("other", "x")];
    check(subsets(), hosts(), asked, &[1, 2]);
    let allowed = Subsets { allow_redundant_keys: true, ..subsets() };
    check(allowed.clone(), hosts(), asked, &[3]);
    let most: &[_] = &[("stage", "dev"), ("other", "x"), ("v", "1.2-pre")];
    check(allowed, hosts(), most, &[4]);
}

#[test]
fn a_subset_has_its_own_turns_and_the_slots_of_the_whole() {
    let compiled = asking(with(subsets(), hosts()), metadata(&[("stage", "canary")])).compile();
    let led = led_to(&compiled);
    assert_eq!((led.name.as_str(), led.owner.as_deref()), ("c [stage=canary]", Some("c")));
    let c = hash_bytes(b"c");
    let third = endpoint_tag(c, WordAddr::new([127, 0, 0, 3].into()), 80);
    let own = crate::image::priority_tag(hash_bytes(b"c [stage=canary]"), 0);
    assert_eq!(compiled.live_tags, QuickSet::from_iter([named_tag(SlotKind::Cluster, c), third, own]));
}

#[test]
fn the_same_question_is_compiled_once() {
    let share = |weight, asked| WeightedCluster { name: "c".into(), weight, metadata: metadata(asked) };
    let clusters = vec![share(1, &[("stage", "prod")]), share(2, &[("other", "x")]), share(3, &[("stage", "canary")])];
    let filter = NetworkFilter::TcpProxy(TcpProxy { clusters, hash: HashPolicy::None });
    let world = World::default().cluster(with(subsets(), hosts()));
    let compiled = world.listener("l", "10.0.0.1:80", vec![chain(filter)], None).compile();
    check_clusters(&compiled, "10.0.0.1:80", &[("c [stage=prod]", 1), ("c [stage=prod]", 2), ("c [stage=canary]", 3)]);
    assert_eq!(compiled.mesh.clusters.len(), 2);
}

#[test]
fn in_panic_mode_any_the_fallback_has_the_whole_behind_it() {
    let any = Subsets { panic_mode_any: true, ..subsets() };
    let compiled = asking(with(any.clone(), hosts()), Metadata::new()).compile();
    let whole = led_to(&compiled).balancing.otherwise.expect("a cluster");
    assert_eq!(numbers(&compiled.mesh.clusters[whole as usize]), [1, 2, 3, 4]);
    let found = asking(with(any, hosts()), metadata(&[("stage", "dev")])).compile();
    assert_eq!(led_to(&found).balancing.otherwise, None, "a subset that was found has none");
}

#[test]
fn locality_weights_hold_where_subsets_are_aware_and_may_be_scaled() {
    let zone = |weight, endpoints| LocalityEndpoints {
        locality: Locality { zone: format!("z{weight}"), ..Locality::default() },
        priority: 0,
        weight: Some(weight),
        endpoints,
    };
    let all = hosts();
    let zones = vec![zone(30, vec![all[0].clone(), all[2].clone(), all[3].clone()]), zone(10, vec![all[1].clone()])];
    let of = |subsets| {
        let mut cluster = with(subsets, Vec::new());
        let whole = LoadAssignment { localities: zones.clone(), ..assignment("c", Vec::new()) };
        (cluster.discovery, cluster.locality_weighted) = (Discovery::Static(whole), true);
        let compiled = asking(cluster, metadata(&[("stage", "prod")])).compile();
        let led = led_to(&compiled);
        let localities = &led.priorities.as_ref().unwrap()[0].localities;
        (led.locality_weighted, localities.iter().map(|locality| locality.weight).collect::<Vec<_>>())
    };
    assert!(!of(subsets()).0);
    let aware = Subsets { locality_weight_aware: true, ..subsets() };
    assert_eq!(of(aware.clone()), (true, vec![30, 10]));
    assert_eq!(of(Subsets { scale_locality_weight: true, ..aware }), (true, vec![10, 10]));
}

#[test]
fn endpoints_that_are_not_known_yet_are_wanted_whole() {
    let mut eds = with(subsets(), Vec::new());
    eds.discovery = Discovery::Eds("c".into());
    let world = asking(eds, metadata(&[("stage", "canary")]));
    let compiled = world.compile();
    assert_eq!((led_to(&compiled).name.as_str(), &led_to(&compiled).priorities), ("c", &None));
    assert_eq!(compiled.wanted[&key("10.0.0.1")], ["c"]);
    let compiled = world.assignment(assignment("c", hosts())).compile();
    assert_eq!(numbers(led_to(&compiled)), [3]);
    assert_eq!(compiled.wanted[&key("10.0.0.1")], ["c"]);
}

#[test]
fn what_a_route_asks_for_holds_for_the_members_of_an_aggregate() {
    let all = Cluster { policy: LbPolicy::ClusterProvided, ..cluster("all", Discovery::Aggregate(vec!["c".into()])) };
    let compiled = asking(all, metadata(&[("stage", "canary")])).cluster(with(subsets(), hosts())).compile();
    let Policy::Aggregate(members) = &led_to(&compiled).policy else { panic!("no aggregate") };
    assert_eq!(led_to(&compiled).name, "all [stage=canary]");
    assert_eq!(numbers(&compiled.mesh.clusters[members[0] as usize]), [3]);
}
