//! LDS: listeners, their filter chains and terminal filters.

use std::collections::HashMap;
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::{TrafficDirection, socket_address::Protocol};

use super::any::{message_name, unpack};
use super::invalid::{Invalid, Under};
use super::metadata::{self, Metadata};
use super::model::{
    ChainMatch, Direction, EndpointAddress, FilterChain, HashPolicy, HttpRoutes, Listener, NetworkFilter, TcpProxy,
    WeightedCluster,
};
use super::wire::{self, AddressKind, FilterConfig, RouteSpecifier, TcpClusters, TcpHashed};
use super::{route, scalar, tls};

const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const HTTP: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

pub(super) fn convert(wire: wire::Listener) -> Result<Listener, Invalid> {
    let direction = match TrafficDirection::try_from(wire.traffic_direction) {
        Ok(TrafficDirection::Unspecified) => Direction::Unspecified,
        Ok(TrafficDirection::Inbound) => Direction::Inbound,
        Ok(TrafficDirection::Outbound) => Direction::Outbound,
        Err(_) => return Err(Invalid::new("traffic_direction", "not defined")),
    };
    let mut listener = Listener {
        name: wire.name,
        address: None,
        additional_addresses: Vec::new(),
        direction,
        chains: Vec::new(),
        default_chain: None,
    };
    if let Some(api) = wire.api_listener.and_then(|l| l.api_listener) {
        let filter = terminal_filter(&api).under("api_listener")?;
        listener.default_chain = Some(Box::new(bare_chain(filter)));
        return Ok(listener);
    }
    if wire.internal_listener.is_none() {
        if is_udp(wire.address.as_ref()) {
            // Datagrams are left alone: nothing to decide, and no chain to look at.
            return Ok(listener);
        }
        listener.address = bound_address(wire.address)?;
        for (i, more) in wire.additional_addresses.into_iter().enumerate() {
            listener.additional_addresses.extend(bound_address(more.address).under_at("additional_addresses", i)?);
        }
    }
    chains(&mut listener, wire.filter_chains, wire.default_filter_chain)?;
    if wire.filter_chain_matcher.is_some() {
        // The matcher decides instead of the chains' own conditions.
        for chain in listener.chains.iter_mut().chain(listener.default_chain.as_deref_mut()) {
            chain.filter = NetworkFilter::Unsupported("filter_chain_matcher".to_owned());
        }
    }
    Ok(listener)
}

fn chains(
    listener: &mut Listener,
    wire: Vec<wire::FilterChain>,
    default: Option<wire::FilterChain>,
) -> Result<(), Invalid> {
    if wire.is_empty() && default.is_none() {
        return Err(Invalid::missing("filter_chains"));
    }
    listener.chains.reserve_exact(wire.len());
    for (i, chain) in wire.into_iter().enumerate() {
        listener.chains.push(filter_chain(chain).under_at("filter_chains", i)?);
    }
    // Envoy: matches are unique. Chains with a condition that is not kept cannot be compared.
    let mut seen = HashMap::new();
    let comparable = |chain: &&FilterChain| !matches!(chain.filter, NetworkFilter::Unsupported(_));
    for (i, chain) in listener.chains.iter().enumerate().filter(|(_, chain)| comparable(chain)) {
        if let Some(other) = seen.insert(&chain.matches, i) {
            let why = format!("the same as that of filter_chains[{other}]");
            return Err(Invalid::new(format!("filter_chains[{i}].filter_chain_match"), why));
        }
    }
    listener.default_chain = default.map(filter_chain).transpose().under("default_filter_chain")?.map(Box::new);
    Ok(())
}

fn is_udp(address: Option<&wire::Address>) -> bool {
    let udp = Protocol::Udp as i32;
    matches!(address.and_then(|a| a.address.as_ref()), Some(AddressKind::SocketAddress(s)) if s.protocol == udp)
}

/// `None` for a pipe or an internal listener.
fn bound_address(wire: Option<wire::Address>) -> Result<Option<SocketAddr>, Invalid> {
    match scalar::address(wire)? {
        EndpointAddress::Socket(address) => Ok(Some(address)),
        EndpointAddress::Internal(_) => Ok(None),
        EndpointAddress::Hostname(host, _) => {
            Err(Invalid::new("address.socket_address.address", format!("{host:?} is no IP address")))
        }
    }
}

fn bare_chain(filter: NetworkFilter) -> FilterChain {
    FilterChain { name: String::new(), matches: ChainMatch::default(), filter, terminates_tls: false }
}

fn filter_chain(wire: wire::FilterChain) -> Result<FilterChain, Invalid> {
    let (matches, left_out) = match wire.filter_chain_match {
        Some(wire) => chain_match(wire).under("filter_chain_match")?,
        None => (ChainMatch::default(), None),
    };
    let last = wire.filters.len().saturating_sub(1);
    let filter = match (left_out, wire.filters.last()) {
        // A condition that cannot be evaluated: whatever the chain does, it cannot be said for which connections.
        (Some(condition), _) => NetworkFilter::Unsupported(format!("filter_chain_match.{condition}")),
        // Only the last filter is terminal; statistics and metadata exchange before it do not choose anything.
        (None, Some(filter)) => network_filter(filter).under_at("filters", last)?,
        (None, None) => NetworkFilter::Unsupported("no filters".to_owned()),
    };
    let terminates_tls = wire.transport_socket.as_ref().is_some_and(|s| !tls::is_raw(s));
    Ok(FilterChain { name: wire.name, matches, filter, terminates_tls })
}

/// The match, and the name of a condition that it has no place for.
fn chain_match(wire: wire::FilterChainMatch) -> Result<(ChainMatch, Option<&'static str>), Invalid> {
    let cidrs = |ranges: &[wire::CidrRange], field: &str| {
        ranges.iter().enumerate().map(|(i, r)| scalar::cidr(r).under_at(field, i)).collect::<Result<Vec<_>, _>>()
    };
    let destination_port = match wire.destination_port.map(|p| p.value) {
        Some(0) => return Err(Invalid::new("destination_port", "must be at least 1")),
        Some(value) => Some(scalar::port(value, "destination_port")?),
        None => None,
    };
    for (i, name) in wire.server_names.iter().enumerate() {
        if name.contains('*') && !name.starts_with("*.") {
            return Err(Invalid::new(format!("server_names[{i}]"), format!("{name:?}: a wildcard is its first label")));
        }
    }
    let left_out = [
        (!wire.address_suffix.is_empty() || wire.suffix_len.is_some(), "address_suffix"),
        (!wire.direct_source_prefix_ranges.is_empty(), "direct_source_prefix_ranges"),
        (wire.source_type != 0, "source_type"),
        (!wire.source_ports.is_empty(), "source_ports"),
    ];
    let matches = ChainMatch {
        destination_port,
        prefix_ranges: cidrs(&wire.prefix_ranges, "prefix_ranges")?,
        source_prefix_ranges: cidrs(&wire.source_prefix_ranges, "source_prefix_ranges")?,
        server_names: wire.server_names,
        transport_protocol: wire.transport_protocol,
        application_protocols: wire.application_protocols,
    };
    Ok((matches, left_out.into_iter().find(|(present, _)| *present).map(|(_, name)| name)))
}

fn network_filter(wire: &wire::Filter) -> Result<NetworkFilter, Invalid> {
    match &wire.config_type {
        Some(FilterConfig::TypedConfig(any)) => terminal_filter(any),
        _ => Ok(NetworkFilter::Unsupported(wire.name.clone())),
    }
}

fn terminal_filter(any: &wire::Any) -> Result<NetworkFilter, Invalid> {
    match message_name(&any.type_url) {
        TCP_PROXY => tcp_proxy(unpack(any)?).under("tcp_proxy"),
        HTTP => http_routes(unpack(any)?).under("http_connection_manager").map(NetworkFilter::Http),
        other => Ok(NetworkFilter::Unsupported(other.to_owned())),
    }
}

pub(super) fn tcp_proxy(wire: wire::TcpProxy) -> Result<NetworkFilter, Invalid> {
    if wire.tunneling_config.is_some() {
        return Ok(NetworkFilter::Unsupported("tcp_proxy.tunneling_config".to_owned()));
    }
    let metadata = metadata::of_load_balancing(wire.metadata_match.as_ref()).under("metadata_match")?;
    let clusters = match wire.cluster_specifier.ok_or_else(|| Invalid::missing("cluster_specifier"))? {
        TcpClusters::Cluster(name) if name.is_empty() => {
            return Err(Invalid::missing("cluster"));
        }
        TcpClusters::Cluster(name) => vec![WeightedCluster { name, weight: 1, metadata }],
        TcpClusters::WeightedClusters(list) => weighted(list, &metadata).under("weighted_clusters")?,
    };
    let hash = match wire.hash_policy.first().and_then(|policy| policy.policy_specifier.as_ref()) {
        None => HashPolicy::None,
        Some(TcpHashed::SourceIp(_)) => HashPolicy::SourceIp,
        Some(TcpHashed::FilterState(state)) => HashPolicy::Unsupported(format!("filter state {}", state.name)),
    };
    Ok(NetworkFilter::TcpProxy(TcpProxy { clusters, hash }))
}

/// Here, unlike in routes, every weight is at least 1.
fn weighted(wire: wire::TcpWeightedCluster, metadata: &Metadata) -> Result<Vec<WeightedCluster>, Invalid> {
    if wire.clusters.is_empty() {
        return Err(Invalid::missing("clusters"));
    }
    let mut sum = 0;
    let mut clusters = Vec::with_capacity(wire.clusters.len());
    for (i, entry) in wire.clusters.into_iter().enumerate() {
        if entry.name.is_empty() {
            return Err(Invalid::missing(format!("clusters[{i}].name")));
        }
        if entry.weight == 0 {
            return Err(Invalid::new(format!("clusters[{i}].weight"), "must be at least 1"));
        }
        scalar::add_weight(&mut sum, entry.weight, "clusters.weight")?;
        let metadata =
            metadata::over(metadata, entry.metadata_match.as_ref()).under("metadata_match").under_at("clusters", i)?;
        clusters.push(WeightedCluster { name: entry.name, weight: entry.weight, metadata });
    }
    Ok(clusters)
}

fn http_routes(wire: wire::HttpConnectionManager) -> Result<HttpRoutes, Invalid> {
    Ok(match wire.route_specifier.ok_or_else(|| Invalid::missing("route_specifier"))? {
        RouteSpecifier::Rds(rds) if rds.route_config_name.is_empty() => {
            return Err(Invalid::missing("rds.route_config_name"));
        }
        RouteSpecifier::Rds(rds) => HttpRoutes::Rds(rds.route_config_name),
        RouteSpecifier::RouteConfig(inline) => HttpRoutes::Inline(route::convert(inline).under("route_config")?),
        RouteSpecifier::ScopedRoutes(scoped) => HttpRoutes::Unsupported(format!("scoped routes {}", scoped.name)),
    })
}
