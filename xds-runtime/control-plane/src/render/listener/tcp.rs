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
use crate::input::TcpRoute;
use crate::model::{Mesh, Port, Service};

/// The chain of a port: what its VirtualService says, else the port's own cluster.
pub(super) fn chain(mesh: &Mesh, proxy: &Proxy, service: &Service, port: &Port) -> FilterChain {
    let own = cluster_name(port.number, "", &service.host);
    let routes = mesh.routes_of(&service.host);
    let route = routes.and_then(|routes| routes.spec.tcp.iter().find(|route| holds_for(route, port)));
    let clusters = match (routes, route) {
        (Some(routes), Some(route)) => shares(mesh, &routes.namespace, &route.route, port.number),
        _ => Vec::new(),
    };
    let specifier = match clusters.as_slice() {
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

/// Whether a TCP rule holds for every connection to this port. Rules for parts of the destination's addresses do not
/// apply: a service here has whole addresses.
fn holds_for(route: &TcpRoute, port: &Port) -> bool {
    route.matches.is_empty()
        || route.matches.iter().any(|matches| {
            matches.destination_subnets.is_empty() && matches.port.is_none_or(|number| number == port.number)
        })
}

fn tcp_chain(proxy: TcpProxy) -> FilterChain {
    FilterChain { filters: vec![network_filter("envoy.filters.network.tcp_proxy", any(&proxy))], ..Default::default() }
}
