use envoy_types::pb::envoy::config::listener::v3 as proto;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;

use super::*;

const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const HTTP: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

fn filter(config: protobuf::Any) -> proto::Filter {
    proto::Filter { name: "f".to_owned(), config_type: Some(proto::filter::ConfigType::TypedConfig(config)) }
}

fn to_cluster(name: &str) -> proto::Filter {
    let specifier = Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(name.to_owned()));
    filter(typed_any(TCP_PROXY, &tcp::TcpProxy { cluster_specifier: specifier, ..Default::default() }))
}

fn weighted(weights: &[u32]) -> proto::Filter {
    let one = |w: &u32| tcp::tcp_proxy::weighted_cluster::ClusterWeight {
        name: format!("c{w}"),
        weight: *w,
        ..Default::default()
    };
    let list = tcp::tcp_proxy::WeightedCluster { clusters: weights.iter().map(one).collect() };
    let specifier = Some(tcp::tcp_proxy::ClusterSpecifier::WeightedClusters(list));
    filter(typed_any(TCP_PROXY, &tcp::TcpProxy { cluster_specifier: specifier, ..Default::default() }))
}

fn rds(name: &str) -> proto::Filter {
    let rds = hcm::Rds { route_config_name: name.to_owned(), ..Default::default() };
    let specifier = Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds));
    filter(typed_any(HTTP, &hcm::HttpConnectionManager { route_specifier: specifier, ..Default::default() }))
}

fn chain(filters: Vec<proto::Filter>) -> proto::FilterChain {
    proto::FilterChain { filters, ..Default::default() }
}

fn listener(filter_chains: Vec<proto::FilterChain>) -> proto::Listener {
    proto::Listener { name: "it".to_owned(), address: socket("10.96.1.2", 3306), filter_chains, ..Default::default() }
}

#[track_caller]
fn decoded(wire: &proto::Listener) -> Listener {
    match valid(ResourceType::Listener, wire) {
        Resource::Listener(listener) => *listener,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_last_filter_decides() {
    let stats = filter(typed_any("udpa.type.v1.TypedStruct", &tcp::TcpProxy::default()));
    let found = decoded(&listener(vec![chain(vec![stats.clone(), to_cluster("c")])]));
    assert_eq!(found.address, "10.96.1.2:3306".parse().ok());
    let proxy = TcpProxy {
        clusters: vec![WeightedCluster { name: "c".to_owned(), weight: 1, metadata: Metadata::new() }],
        hash: HashPolicy::None,
    };
    assert_eq!(found.chains[0].filter, NetworkFilter::TcpProxy(proxy));
    let found = decoded(&listener(vec![chain(vec![to_cluster("c"), stats])]));
    assert_eq!(found.chains[0].filter, NetworkFilter::Unsupported("udpa.type.v1.TypedStruct".to_owned()));
}

#[test]
fn an_http_chain_names_its_route_and_the_default_chain_is_apart() {
    let wire = proto::Listener {
        default_filter_chain: Some(chain(vec![to_cluster("PassthroughCluster")])),
        traffic_direction: core::TrafficDirection::Outbound as i32,
        ..listener(vec![chain(vec![rds("80")])])
    };
    let found = decoded(&wire);
    assert_eq!(found.direction, Direction::Outbound);
    assert_eq!(found.chains[0].filter, NetworkFilter::Http(HttpRoutes::Rds("80".to_owned())));
    assert!(matches!(found.default_chain.map(|c| c.filter), Some(NetworkFilter::TcpProxy(_))));
}

#[test]
fn tcp_weights_are_at_least_1_and_their_sum_stays_within_32_bits() {
    let at = "filter_chains[0].filters[0].tcp_proxy.weighted_clusters.clusters";
    let check = |weights: &[u32], reason: &str| {
        check_rejected(ResourceType::Listener, &listener(vec![chain(vec![weighted(weights)])]), reason);
    };
    check(&[1, 0], &format!("{at}[1].weight: must be at least 1"));
    check(&[u32::MAX, 1], &format!("{at}.weight: the sum of weights is over 4294967295"));
    check(&[], &format!("{at}: required and missing"));
    decoded(&listener(vec![chain(vec![weighted(&[90, 10])])]));
}

#[test]
fn a_condition_that_cannot_be_evaluated_disables_its_chain_by_name() {
    let matches = proto::FilterChainMatch { source_ports: vec![1], ..Default::default() };
    let wire = proto::FilterChain { filter_chain_match: Some(matches), ..chain(vec![to_cluster("c")]) };
    let found = decoded(&listener(vec![wire]));
    assert_eq!(found.chains[0].filter, NetworkFilter::Unsupported("filter_chain_match.source_ports".to_owned()));
}

#[test]
fn cidr_lengths_fit_their_family() {
    let with = |prefix: &str, bits| {
        let range = core::CidrRange { address_prefix: prefix.to_owned(), prefix_len: u32v(bits) };
        let matches = proto::FilterChainMatch { prefix_ranges: vec![range], ..Default::default() };
        listener(vec![proto::FilterChain { filter_chain_match: Some(matches), ..chain(vec![to_cluster("c")]) }])
    };
    let at = "filter_chains[0].filter_chain_match.prefix_ranges[0]";
    check_rejected(ResourceType::Listener, &with("10.0.0.0", 33), &format!("{at}.prefix_len: 33 is over 32"));
    check_rejected(ResourceType::Listener, &with("fd00::", 129), &format!("{at}.prefix_len: 129 is over 128"));
    check_rejected(ResourceType::Listener, &with("x", 8), &format!("{at}.address_prefix: \"x\" is no IP address"));
    let found = decoded(&with("10.0.0.0", 8));
    assert_eq!(found.chains[0].matches.prefix_ranges.first().map(|c| c.length), Some(8));
}

#[test]
fn required_parts_of_a_listener_are_required() {
    let without = |field: &str| format!("{field}: required and missing");
    check_rejected(ResourceType::Listener, &listener(vec![]), &without("filter_chains"));
    let no_address = proto::Listener { address: None, ..listener(vec![chain(vec![to_cluster("c")])]) };
    check_rejected(ResourceType::Listener, &no_address, &without("address"));
    let named = proto::Listener { address: socket("localhost", 80), ..no_address };
    check_rejected(ResourceType::Listener, &named, "address.socket_address.address: \"localhost\" is no IP address");
    let empty = filter(typed_any(TCP_PROXY, &tcp::TcpProxy::default()));
    let at = "filter_chains[0].filters[0].tcp_proxy.cluster_specifier";
    check_rejected(ResourceType::Listener, &listener(vec![chain(vec![empty])]), &without(at));
}

#[test]
fn a_wildcard_in_a_server_name_is_its_first_label() {
    let with = |name: &str| {
        let matches = proto::FilterChainMatch { server_names: vec![name.to_owned()], ..Default::default() };
        listener(vec![proto::FilterChain { filter_chain_match: Some(matches), ..chain(vec![to_cluster("c")]) }])
    };
    let at = "filter_chains[0].filter_chain_match.server_names[0]";
    for name in ["*", "a.*.example", "*a.example"] {
        let reason = format!("{at}: {name:?}: a wildcard is its first label");
        check_rejected(ResourceType::Listener, &with(name), &reason);
    }
    assert_eq!(decoded(&with("*.example")).chains[0].matches.server_names, ["*.example"]);
}

#[test]
fn chains_with_the_same_match_are_rejected() {
    let on = |port, cluster: &str| {
        let matches = proto::FilterChainMatch { destination_port: u32v(port), ..Default::default() };
        proto::FilterChain { filter_chain_match: Some(matches), ..chain(vec![to_cluster(cluster)]) }
    };
    let reason = "filter_chains[2].filter_chain_match: the same as that of filter_chains[0]";
    check_rejected(ResourceType::Listener, &listener(vec![on(80, "a"), on(81, "b"), on(80, "c")]), reason);
    decoded(&listener(vec![on(80, "a"), on(81, "b"), chain(vec![to_cluster("c")])]));
}
