//! Subsets: what a cluster may say, and what routes ask for.

use std::collections::{BTreeSet, HashMap};

use envoy_types::pb::envoy::config::cluster::v3::{Cluster as Wired, cluster as proto};
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::envoy::extensions::load_balancing_policies as policies;
use proto::lb_subset_config::LbSubsetSelector as WireSelector;
use protobuf::value::Kind;

use super::cds::{check, decoded, eds, extension, policy_list};
use super::*;

fn keys(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn strings(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn text(text: &str) -> protobuf::Value {
    protobuf::Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn structure(pairs: &[(&str, protobuf::Value)]) -> protobuf::Struct {
    protobuf::Struct { fields: pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect() }
}

fn balancing(pairs: &[(&str, &str)]) -> core::Metadata {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (*key, text(value))).collect();
    let filter_metadata = HashMap::from([("envoy.lb".to_owned(), structure(&pairs))]);
    core::Metadata { filter_metadata, ..Default::default() }
}

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), MetadataValue::Text((*value).to_owned()))).collect()
}

/// The documentation's cluster, with a third selector.
fn documented() -> proto::LbSubsetConfig {
    let selector = |k: &[&str], fallback_policy, fallback: &[&str]| WireSelector {
        keys: strings(k),
        fallback_policy,
        fallback_keys_subset: strings(fallback),
        ..Default::default()
    };
    proto::LbSubsetConfig {
        fallback_policy: 2,
        default_subset: Some(structure(&[("stage", text("prod"))])),
        subset_selectors: vec![
            selector(&["v", "stage"], 0, &[]),
            selector(&["stage"], 1, &[]),
            selector(&["a", "b"], 4, &["a"]),
        ],
        list_as_any: true,
        ..Default::default()
    }
}

fn with(config: proto::LbSubsetConfig) -> Wired {
    Wired { lb_subset_config: Some(config), ..eds() }
}

#[test]
fn a_cluster_says_its_selectors_and_fallbacks() {
    let selector = |k: &[&str], fallback| Selector { keys: keys(k), fallback, single_host: false };
    let want = Subsets {
        fallback: Fallback::DefaultSubset,
        default_subset: metadata(&[("stage", "prod")]),
        selectors: vec![
            selector(&["v", "stage"], None),
            selector(&["stage"], Some(SelectorFallback::To(Fallback::Nothing))),
            selector(&["a", "b"], Some(SelectorFallback::Keys(keys(&["a"])))),
        ],
        locality_weight_aware: false,
        scale_locality_weight: false,
        panic_mode_any: false,
        list_as_any: true,
        allow_redundant_keys: false,
    };
    assert_eq!(decoded(&with(documented())).balancing.subsets, Some(want.into()));
    let off = proto::LbSubsetConfig { subset_selectors: vec![], ..documented() };
    assert_eq!(decoded(&with(off)).balancing.subsets, None, "without selectors there are no subsets");
}

#[test]
fn the_policy_of_that_name_wraps_another() {
    let least = extension("least_request.v3.LeastRequest", &policies::least_request::v3::LeastRequest::default());
    let inner = policy_list(vec![least]).load_balancing_policy;
    let selector = policies::subset::v3::subset::LbSubsetSelector {
        keys: strings(&["v"]),
        single_host_per_subset: true,
        ..Default::default()
    };
    let wire = policies::subset::v3::Subset {
        subset_selectors: vec![selector],
        subset_lb_policy: inner,
        allow_redundant_keys: true,
        metadata_fallback_policy: 1,
        ..Default::default()
    };
    let found = decoded(&policy_list(vec![extension("subset.v3.Subset", &wire)]));
    assert_eq!(found.policy, LbPolicy::LeastRequest { choice_count: 2, active_request_bias: 1.0 });
    let subsets = found.balancing.subsets.expect("subsets");
    assert!(subsets.allow_redundant_keys && subsets.selectors[0].single_host);
    assert_eq!(found.unsupported, ["subset.metadata_fallback_policy"]);
    let bare = policies::subset::v3::Subset { subset_lb_policy: None, ..wire };
    check(
        &policy_list(vec![extension("subset.v3.Subset", &bare)]),
        "load_balancing_policy.policies[0].subset_lb_policy: required and missing",
    );
}

#[test]
fn subsets_that_envoy_rejects_are_rejected_by_name() {
    let one = |edit: &dyn Fn(&mut WireSelector)| {
        let mut selector = WireSelector { keys: strings(&["a", "b"]), ..Default::default() };
        edit(&mut selector);
        with(proto::LbSubsetConfig { subset_selectors: vec![selector], ..Default::default() })
    };
    let field = "lb_subset_config.subset_selectors[0].fallback_keys_subset";
    let keys = |policy, k: &[&str]| one(&|s| (s.fallback_policy, s.fallback_keys_subset) = (policy, strings(k)));
    check(&keys(4, &[]), &format!("{field}: required and missing"));
    check(&keys(4, &["c"]), &format!("{field}: has a key that is not in keys"));
    check(&keys(4, &["a", "b"]), &format!("{field}: is all of keys"));
    check(&keys(2, &["a"]), &format!("{field}: needs fallback_policy KEYS_SUBSET"));
    check(&keys(9, &[]), "lb_subset_config.subset_selectors[0].fallback_policy: 9 is not defined");
    let undefined = proto::LbSubsetConfig { fallback_policy: 9, ..Default::default() };
    check(&with(undefined), "lb_subset_config.fallback_policy: 9 is not defined");
    let provided = Wired { lb_policy: proto::LbPolicy::ClusterProvided.into(), ..with(documented()) };
    check(&provided, "lb_subset_config: cannot be combined with lb_policy CLUSTER_PROVIDED");
    let random = extension("random.v3.Random", &policies::random::v3::Random::default());
    let listed = Wired { lb_subset_config: Some(documented()), ..policy_list(vec![random]) };
    check(&listed, "lb_subset_config: cannot be combined with load_balancing_policy");
}

#[test]
fn endpoints_carry_what_envoy_lb_says_of_any_type() {
    let list = Kind::ListValue(protobuf::ListValue { values: vec![text("x"), text("y")] });
    let value = |kind| protobuf::Value { kind: Some(kind) };
    let fields = structure(&[
        ("text", text("1")),
        ("number", value(Kind::NumberValue(-0.0))),
        ("list", value(list)),
        ("deep", value(Kind::StructValue(structure(&[("b", value(Kind::BoolValue(true)))])))),
        ("null", value(Kind::NullValue(0))),
    ]);
    let other = structure(&[("text", text("not this"))]);
    let filter_metadata = HashMap::from([("envoy.lb".to_owned(), fields), ("other".to_owned(), other)]);
    let whole = core::Metadata { filter_metadata, ..Default::default() };
    let found = metadata::of_load_balancing(Some(&read(&whole))).expect("valid");
    let text = |t: &str| MetadataValue::Text(t.to_owned());
    let want = [
        ("deep", MetadataValue::Struct(Metadata::from([("b".to_owned(), MetadataValue::Bool(true))]))),
        ("list", MetadataValue::List(vec![text("x"), text("y")])),
        ("null", MetadataValue::Null),
        ("number", MetadataValue::Number(0)),
        ("text", text("1")),
    ];
    assert_eq!(found, want.map(|(key, value)| (key.to_owned(), value)).into());
    assert_eq!(in_words(&found), "deep={b=true}, list=[x,y], null=null, number=0, text=1");
}

/// What the documentation says of a route and the weighted cluster that it chose.
#[test]
fn a_weighted_cluster_asks_for_what_the_route_does_with_its_own_over_it() {
    let cases: [(&[_], &[_], &[_]); 6] = [
        (&[("stage", "canary")], &[("stage", "prod")], &[("stage", "prod")]),
        (&[("v", "1.0")], &[("stage", "prod")], &[("v", "1.0"), ("stage", "prod")]),
        (&[("v", "1.0"), ("stage", "prod")], &[("stage", "canary")], &[("v", "1.0"), ("stage", "canary")]),
        (
            &[("v", "1.0"), ("stage", "prod")],
            &[("v", "1.1"), ("stage", "canary")],
            &[("v", "1.1"), ("stage", "canary")],
        ),
        (&[], &[("v", "1.0")], &[("v", "1.0")]),
        (&[("v", "1.0")], &[], &[("v", "1.0")]),
    ];
    for (route, own, want) in cases {
        for found in [through_http(route, own), through_tcp(route, own)] {
            assert_eq!(found, [metadata(want)], "{route:?} {own:?}");
        }
        assert_eq!(through_tcp(route, own), [metadata(want)]);
    }
}

fn through_tcp(route: &[(&str, &str)], own: &[(&str, &str)]) -> Vec<Metadata> {
    use tcp::tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight};
    let entry = ClusterWeight { name: "c".to_owned(), weight: 1, metadata_match: Some(balancing(own)) };
    let proxy = tcp::TcpProxy {
        metadata_match: Some(balancing(route)),
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: vec![entry] })),
        ..Default::default()
    };
    let NetworkFilter::TcpProxy(found) = super::super::listener::tcp_proxy(read(&proxy)).expect("valid") else {
        panic!("no TCP proxy")
    };
    found.clusters.into_iter().map(|cluster| cluster.metadata).collect()
}

fn through_http(route: &[(&str, &str)], own: &[(&str, &str)]) -> Vec<Metadata> {
    use rds::{WeightedCluster, route_action::ClusterSpecifier, weighted_cluster::ClusterWeight};
    let entry = ClusterWeight {
        name: "c".to_owned(),
        weight: u32v(1),
        metadata_match: Some(balancing(own)),
        ..Default::default()
    };
    let list = WeightedCluster { clusters: vec![entry], ..Default::default() };
    let action = rds::RouteAction {
        metadata_match: Some(balancing(route)),
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(list)),
        ..Default::default()
    };
    match super::super::route::forward_to(read(&action)).expect("valid") {
        RouteAction::Clusters(clusters, _) => clusters.into_iter().map(|cluster| cluster.metadata).collect(),
        other => panic!("{other:?}"),
    }
}
