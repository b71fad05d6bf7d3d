//! TCP chains: one cluster, or the weighted clusters of a VirtualService.

use envoy_types::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster,
};
use envoy_types::pb::envoy::r#type::v3::{HashPolicy, hash_policy};

use super::super::Proxy;
use super::super::route::shares;
use super::super::target::{cluster_name, policy};
use super::super::wire::{any, cidr, duration};
use super::network_filter;
use crate::input::TcpMatch;
use crate::model::{Mesh, Port, Service};

/// The gateway that stands for sidecars.
const MESH: &str = "mesh";

/// What a port's connections may take.
pub(super) struct Chains {
    /// For some of the destination's addresses only, each with its prefixes.
    pub narrow: Vec<FilterChain>,
    /// For all the others.
    pub rest: FilterChain,
}

/// The chains of a port: what the TCP rules of its VirtualService say for this client, else the port's own cluster. A
/// rule for every address ends the list; one for subnets comes before it (as istiod builds them).
pub(super) fn chains(mesh: &Mesh, proxy: &Proxy, service: &Service, port: &Port) -> Chains {
    let mut narrow = Vec::new();
    if let Some(routes) = mesh.routes_of(&service.host) {
        for route in &routes.spec.tcp {
            let to =
                || to_shares(mesh, proxy, service, port, &shares(mesh, &routes.namespace, &route.route, port.number));
            if route.matches.is_empty() {
                return Chains { narrow, rest: to() };
            }
            let mut subnets = Vec::new();
            for matches in route.matches.iter().filter(|matches| holds_for(matches, proxy, port)) {
                if matches.destination_subnets.is_empty() {
                    return Chains { narrow, rest: to() };
                }
                subnets.extend(matches.destination_subnets.iter().map(|subnet| {
                    let whole = if subnet.ip.is_ipv4() { 32 } else { 128 };
                    cidr(subnet.ip, subnet.prefix.unwrap_or(whole))
                }));
            }
            if !subnets.is_empty() {
                let matches = FilterChainMatch { prefix_ranges: subnets, ..Default::default() };
                narrow.push(FilterChain { filter_chain_match: Some(matches), ..to() });
            }
        }
    }
    Chains { narrow, rest: to_shares(mesh, proxy, service, port, &[]) }
}

/// A chain to weighted clusters, or to the port's own.
fn to_shares(mesh: &Mesh, proxy: &Proxy, service: &Service, port: &Port, clusters: &[(String, u32)]) -> FilterChain {
    let own = cluster_name(port.number, "", &service.host);
    let specifier = match clusters {
        [] => ClusterSpecifier::Cluster(own.clone()),
        [(only, _)] => ClusterSpecifier::Cluster(only.clone()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several
                .iter()
                .map(|(name, weight)| ClusterWeight { name: name.clone(), weight: *weight, ..Default::default() })
                .collect(),
        }),
    };
    let policy = policy(mesh, proxy, service, port);
    let hashes_source = policy
        .load_balancer
        .and_then(|settings| settings.consistent_hash.as_ref())
        .is_some_and(|hash| hash.use_source_ip);
    let source_ip =
        HashPolicy { policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp::default())) };
    tcp_chain(TcpProxy {
        stat_prefix: own,
        cluster_specifier: Some(specifier),
        idle_timeout: policy.connection_pool.and_then(|pool| pool.tcp.idle_timeout).map(duration),
        hash_policy: if hashes_source { vec![source_ip] } else { Vec::new() },
        ..Default::default()
    })
}

/// A chain to one cluster.
pub(super) fn to_cluster(name: &str) -> FilterChain {
    tcp_chain(TcpProxy {
        stat_prefix: name.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(name.to_owned())),
        ..Default::default()
    })
}

/// A match on the prefixes of a ServiceEntry whose addresses are prefixes.
pub(super) fn prefix_match(service: &Service) -> Option<FilterChainMatch> {
    let ranges: Vec<_> =
        service.addresses.iter().filter_map(|address| address.prefix.map(|prefix| cidr(address.ip, prefix))).collect();
    (!ranges.is_empty()).then(|| FilterChainMatch { prefix_ranges: ranges, ..Default::default() })
}

/// Whether one alternative of a TCP rule's condition holds for this client and port, wherever it connects to.
fn holds_for(matches: &TcpMatch, proxy: &Proxy, port: &Port) -> bool {
    let labels = || matches.source_labels.iter().all(|(key, value)| proxy.labels.get(key) == Some(value));
    let namespace = || matches.source_namespace.is_empty() || matches.source_namespace == proxy.namespace;
    let gateway = || matches.gateways.is_empty() || matches.gateways.iter().any(|gateway| gateway == MESH);
    matches.port.is_none_or(|number| number == port.number) && labels() && namespace() && gateway()
}

fn tcp_chain(proxy: TcpProxy) -> FilterChain {
    FilterChain { filters: vec![network_filter("envoy.filters.network.tcp_proxy", any(&proxy))], ..Default::default() }
}
