//! LDS: one listener per address and port; HTTP ports share a wildcard listener.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3::{
    AdditionalAddress, Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::listener::{http_inspector, tls_inspector};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier, http_filter,
};
use envoy_types::pb::google::protobuf::Any;

use super::Proxy;
use super::target::{BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH};
use super::wire::{address, ads, any, bool_value, cidr, duration, u32_value};
use crate::model::{InstanceAddress, Mesh, Port, Protocol, Registry, Resolution, Service};

mod tcp;

const OUTBOUND_PORT: u16 = 15001;
const INBOUND_PORT: u16 = 15006;

/// What listens on one address and port, before it becomes a listener.
#[derive(Default)]
struct Draft {
    /// Chains with a match, in order.
    chains: Vec<FilterChain>,
    /// Name of the RDS configuration for HTTP.
    http: Option<String>,
    /// The chain for everything else.
    fallback: Option<FilterChain>,
}

/// Every listener.
pub(super) fn listeners(mesh: &Mesh, proxy: &Proxy) -> Vec<Listener> {
    let mut drafts: BTreeMap<(IpAddr, NonZeroU16), Draft> = BTreeMap::new();
    for service in mesh.services.values() {
        for port in &service.ports {
            add_port(&mut drafts, mesh, proxy, service, port);
        }
    }
    let unknown = if mesh.is_registry_only(&proxy.namespace, &proxy.labels) { BLACK_HOLE } else { PASSTHROUGH };
    let mut listeners: Vec<Listener> =
        drafts.into_iter().map(|((ip, port), draft)| listener(ip, port, draft, unknown)).collect();
    listeners.push(catch_all_outbound(unknown));
    listeners.push(catch_all_inbound());
    listeners
}

fn add_port(
    drafts: &mut BTreeMap<(IpAddr, NonZeroU16), Draft>,
    mesh: &Mesh,
    proxy: &Proxy,
    service: &Service,
    port: &Port,
) {
    const WILDCARD: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if port.protocol == Protocol::Http {
        drafts.entry((WILDCARD, port.number)).or_default().http = Some(port.number.to_string());
        return;
    }
    let chains = || tcp::chains(mesh, proxy, service, port);
    let binds = binds(service, proxy);
    // Several services may share the wildcard address; the first by name is what its default means.
    let sniffed = port.protocol == Protocol::Undeclared;
    if binds.is_empty() {
        let draft = drafts.entry((WILDCARD, port.number)).or_default();
        let tcp::Chains { narrow, rest } = chains();
        draft.chains.extend(narrow);
        if port.protocol == Protocol::Tls {
            let server_names = vec![service.host.clone()];
            let matches = FilterChainMatch { server_names, ..Default::default() };
            draft.chains.push(FilterChain { filter_chain_match: Some(matches), ..rest });
        } else if let Some(matches) = tcp::prefix_match(service) {
            draft.chains.push(FilterChain { filter_chain_match: Some(matches), ..rest });
        } else {
            draft.fallback.get_or_insert(rest);
        }
        if sniffed {
            draft.http.get_or_insert_with(|| port.number.to_string());
        }
        return;
    }
    for ip in binds {
        let draft = drafts.entry((ip, port.number)).or_default();
        if draft.fallback.is_none() {
            let tcp::Chains { narrow, rest } = chains();
            draft.chains.extend(narrow);
            draft.fallback = Some(rest);
        }
        if sniffed {
            draft.http.get_or_insert_with(|| format!("{}:{}", service.host, port.number));
        }
    }
}

/// The addresses a port that is not HTTP binds: virtual addresses, or each pod of a headless service.
fn binds(service: &Service, proxy: &Proxy) -> Vec<IpAddr> {
    let vips = service.vips(proxy.auto_allocated);
    if !vips.is_empty() || service.registry != Registry::Kubernetes || service.resolution != Resolution::Passthrough {
        return vips;
    }
    let pods = service.instances.iter().filter_map(|instance| match instance.address {
        InstanceAddress::Ip(ip) => Some(ip),
        InstanceAddress::Host(_) => None,
    });
    pods.collect()
}

/// `unknown` is the cluster of what nothing describes.
fn listener(ip: IpAddr, port: NonZeroU16, draft: Draft, unknown: &str) -> Listener {
    let sniffs = draft.http.is_some();
    let mut chains = draft.chains;
    if let Some(routes) = draft.http {
        chains.push(http_chain(routes));
    }
    let (chains, fallback) = match draft.fallback {
        // One meaning only: a plain chain, and nothing to fall back from.
        Some(only) if chains.is_empty() => (vec![only], None),
        Some(fallback) => (chains, Some(fallback)),
        None => (chains, Some(unknown_chain("PassthroughFilterChain", unknown))),
    };
    // A wildcard listener of dual-stack clients binds both families.
    let additional_addresses = if ip.is_unspecified() {
        let any_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED).to_string();
        vec![AdditionalAddress { address: Some(address(&any_v6, port.get())), ..Default::default() }]
    } else {
        Vec::new()
    };
    let inspects = sniffs || chains.iter().any(has_server_names);
    Listener {
        name: format!("{ip}_{port}"),
        address: Some(address(&ip.to_string(), port.get())),
        additional_addresses,
        filter_chains: chains,
        default_filter_chain: fallback,
        listener_filters: if inspects { inspectors() } else { Vec::new() },
        continue_on_listener_filters_timeout: inspects,
        listener_filters_timeout: inspects.then(|| duration(Duration::ZERO)),
        bind_to_port: bool_value(false),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        ..Default::default()
    }
}

fn has_server_names(chain: &FilterChain) -> bool {
    chain.filter_chain_match.as_ref().is_some_and(|matches| !matches.server_names.is_empty())
}

fn inspectors() -> Vec<ListenerFilter> {
    let inspector = |name: &str, config: Any| ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    vec![
        inspector("envoy.filters.listener.tls_inspector", any(&tls_inspector::v3::TlsInspector::default())),
        inspector("envoy.filters.listener.http_inspector", any(&http_inspector::v3::HttpInspector::default())),
    ]
}

fn http_chain(routes: String) -> FilterChain {
    let manager = HttpConnectionManager {
        stat_prefix: format!("outbound_0.0.0.0_{routes}"),
        route_specifier: Some(RouteSpecifier::Rds(Rds { config_source: Some(ads()), route_config_name: routes })),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(http_filter::ConfigType::TypedConfig(any(&Router::default()))),
            ..Default::default()
        }],
        ..Default::default()
    };
    FilterChain {
        filter_chain_match: Some(FilterChainMatch {
            transport_protocol: "raw_buffer".to_owned(),
            application_protocols: vec!["http/1.1".to_owned(), "h2c".to_owned()],
            ..Default::default()
        }),
        filters: vec![network_filter("envoy.filters.network.http_connection_manager", any(&manager))],
        ..Default::default()
    }
}

fn network_filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

fn unknown_chain(name: &str, cluster: &str) -> FilterChain {
    FilterChain { name: name.to_owned(), ..tcp::to_cluster(cluster) }
}

fn catch_all_outbound(unknown: &str) -> Listener {
    let loops = FilterChain {
        name: "virtualOutbound-blackhole".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: u32_value(OUTBOUND_PORT.into()),
            ..Default::default()
        }),
        ..tcp::to_cluster(BLACK_HOLE)
    };
    Listener {
        name: "virtualOutbound".to_owned(),
        address: Some(address("0.0.0.0", OUTBOUND_PORT)),
        use_original_dst: bool_value(true),
        filter_chains: vec![loops, unknown_chain("virtualOutbound-catchall-tcp", unknown)],
        traffic_direction: core::TrafficDirection::Outbound.into(),
        ..Default::default()
    }
}

fn catch_all_inbound() -> Listener {
    Listener {
        name: "virtualInbound".to_owned(),
        address: Some(address("0.0.0.0", INBOUND_PORT)),
        filter_chains: vec![FilterChain {
            name: "virtualInbound-catchall-tcp".to_owned(),
            filter_chain_match: Some(FilterChainMatch {
                prefix_ranges: vec![cidr(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)],
                ..Default::default()
            }),
            ..tcp::to_cluster(INBOUND_PASSTHROUGH)
        }],
        traffic_direction: core::TrafficDirection::Inbound.into(),
        ..Default::default()
    }
}
