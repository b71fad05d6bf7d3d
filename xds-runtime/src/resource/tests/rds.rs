use envoy_types::pb::envoy::config::route::v3 as proto;
use proto::route_action::ClusterSpecifier;
use proto::route_match::PathSpecifier;

use super::*;

fn rule(path: PathSpecifier, specifier: ClusterSpecifier) -> proto::Route {
    let action = proto::RouteAction { cluster_specifier: Some(specifier), ..Default::default() };
    proto::Route {
        r#match: Some(proto::RouteMatch { path_specifier: Some(path), ..Default::default() }),
        action: Some(proto::route::Action::Route(action)),
        ..Default::default()
    }
}

fn all() -> PathSpecifier {
    PathSpecifier::Prefix("/".to_owned())
}

fn weighted(weights: &[Option<u32>]) -> ClusterSpecifier {
    let one = |w: &Option<u32>| proto::weighted_cluster::ClusterWeight {
        name: format!("c{}", w.unwrap_or(0)),
        weight: w.and_then(u32v),
        ..Default::default()
    };
    let clusters = weights.iter().map(one).collect();
    ClusterSpecifier::WeightedClusters(proto::WeightedCluster { clusters, ..Default::default() })
}

fn configuration(routes: Vec<proto::Route>) -> proto::RouteConfiguration {
    let host = proto::VirtualHost {
        name: "v".to_owned(),
        domains: vec!["a.example".to_owned()],
        routes,
        ..Default::default()
    };
    proto::RouteConfiguration { name: "it".to_owned(), virtual_hosts: vec![host], ..Default::default() }
}

#[track_caller]
fn routes(wire: &proto::RouteConfiguration) -> Vec<Route> {
    match valid(ResourceType::Route, wire) {
        Resource::Route(mut route) => route.virtual_hosts.remove(0).routes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn conditions_are_told_in_words_and_a_rule_for_all_has_none() {
    let to = || ClusterSpecifier::Cluster("c".to_owned());
    let mut with_header = rule(PathSpecifier::Prefix("/api".to_owned()), to());
    let header = proto::HeaderMatcher {
        name: "x-user".to_owned(),
        header_match_specifier: Some(proto::header_matcher::HeaderMatchSpecifier::PresentMatch(true)),
        ..Default::default()
    };
    with_header.r#match.as_mut().expect("set").headers.push(header);
    let found = routes(&configuration(vec![with_header, rule(all(), to())]));
    assert_eq!(found[0].condition.as_deref(), Some("path prefix /api, header x-user"));
    assert_eq!(found[1].condition, None);
}

#[test]
fn a_cluster_of_weight_0_is_left_out_and_the_sum_is_over_0() {
    let found = routes(&configuration(vec![rule(all(), weighted(&[Some(0), Some(10)]))]));
    assert_eq!(
        found[0].action,
        RouteAction::Clusters(
            vec![WeightedCluster { name: "c10".to_owned(), weight: 10, metadata: Metadata::new() }],
            HashPolicy::None
        )
    );
    let check = |weights: &[Option<u32>], reason: &str| {
        let reason = format!("virtual_hosts[0].routes[0].route.weighted_clusters.{reason}");
        check_rejected(ResourceType::Route, &configuration(vec![rule(all(), weighted(weights))]), &reason);
    };
    check(&[Some(0), Some(0)], "clusters.weight: the sum of weights is 0");
    check(&[Some(u32::MAX), Some(1)], "clusters.weight: the sum of weights is over 4294967295");
    check(&[None], "clusters[0].weight: required and missing");
}

#[test]
fn what_a_connection_cannot_give_is_named() {
    let header = ClusterSpecifier::ClusterHeader("x-to".to_owned());
    let mut redirect = rule(all(), ClusterSpecifier::Cluster("c".to_owned()));
    redirect.action = Some(proto::route::Action::Redirect(proto::RedirectAction::default()));
    let found = routes(&configuration(vec![rule(all(), header), redirect]));
    let actions: Vec<&RouteAction> = found.iter().map(|r| &r.action).collect();
    let unsupported = |what: &str| RouteAction::Unsupported(what.to_owned());
    assert_eq!(actions, [&unsupported("cluster from header x-to"), &unsupported("redirect")]);
}

#[test]
fn domains_are_there_and_unique_without_regard_to_case() {
    let mut wire = configuration(vec![]);
    let mut again = wire.virtual_hosts[0].clone();
    again.domains = vec!["A.Example".to_owned()];
    wire.virtual_hosts.push(again);
    check_rejected(ResourceType::Route, &wire, "virtual_hosts[1].domains: \"A.Example\" is there twice");
    wire.virtual_hosts.truncate(1);
    wire.virtual_hosts[0].domains.clear();
    check_rejected(ResourceType::Route, &wire, "virtual_hosts[0].domains: required and missing");
}
