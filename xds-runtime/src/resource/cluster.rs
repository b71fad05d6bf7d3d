//! CDS: clusters.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::envoy::extensions::clusters::aggregate;
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;

use super::any::{message_name, unpack};
use super::balancing::{ZoneAware, hash_balance_factor, percentage};
use super::endpoint::{Hosts, assignment};
use super::invalid::{Invalid, Under};
use super::model::{Cluster, Discovery, Dns, LbPolicy, LoadAssignment, TcpKeepalive};
use super::wire::{self, ClusterDiscoveryType, ConfigSourceSpecifier, LbConfig, LocalityConfigSpecifier};
use super::{dns, lb_policy, outlier, scalar, subsets, tls};

/// Envoy's default `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Envoy's default `max_connections`.
const MAX_CONNECTIONS: u32 = 1024;
/// Envoy's default panic threshold, percent.
const PANIC_THRESHOLD: f64 = 50.0;

pub(super) fn convert(mut wire: wire::Cluster) -> Result<Cluster, Invalid> {
    if wire.name.is_empty() {
        return Err(Invalid::missing("name"));
    }
    let chosen = lb_policy::convert(&wire)?;
    if wire.load_balancing_policy.is_some() {
        combined_with_a_list(&wire)?;
    }
    let mut unsupported = chosen.unsupported;
    let mut balancing = chosen.balancing;
    if let Some(subsets) = wire.lb_subset_config.take() {
        balancing.subsets = subsets::of_cluster(*subsets, &mut unsupported).under("lb_subset_config")?.map(Box::new);
    }
    if balancing.subsets.is_some() && chosen.policy == LbPolicy::ClusterProvided {
        return Err(Invalid::new("lb_subset_config", "cannot be combined with lb_policy CLUSTER_PROVIDED"));
    }
    unsupported.extend(left_out(&wire).map(str::to_owned));
    let outlier_detection = match wire.outlier_detection.take() {
        Some(detection) => Some(Box::new(outlier::convert(*detection, &mut unsupported).under("outlier_detection")?)),
        None => None,
    };
    let common = wire.common_lb_config.take().unwrap_or_default();
    let locality_weighted = match common.locality_config_specifier {
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => true,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zones)) => {
            balancing.zone_aware = ZoneAware::of_cluster(zones).under("common_lb_config.zone_aware_lb_config")?;
            false
        }
        None => false,
    };
    let hashing = common.consistent_hashing_lb_config.unwrap_or_default();
    if let Some(factor) =
        hash_balance_factor(hashing.hash_balance_factor).under("common_lb_config.consistent_hashing_lb_config")?
    {
        balancing.hash_balance_factor = Some(factor);
    }
    if balancing.hash_balance_factor.is_some() && (locality_weighted || chosen.locality_weighted) {
        unsupported.push("hash_balance_factor by the weights of localities".to_owned());
    }
    let panic_threshold =
        percentage(common.healthy_panic_threshold, PANIC_THRESHOLD, "common_lb_config.healthy_panic_threshold")?;
    Ok(Cluster {
        discovery: discovery(&mut wire, &mut unsupported)?,
        locality_weighted: locality_weighted || chosen.locality_weighted,
        hash_hostnames: chosen.hash_hostnames || hashing.use_hostname_for_hashing,
        policy: chosen.policy,
        balancing,
        panic_threshold,
        connect_timeout: scalar::positive_duration(wire.connect_timeout, CONNECT_TIMEOUT, "connect_timeout")?,
        max_connections: max_connections(wire.circuit_breakers.as_ref()),
        outlier_detection,
        tls: tls::upstream(&wire),
        keepalive: wire.upstream_connection_options.and_then(|o| o.tcp_keepalive).map(|k| TcpKeepalive {
            probes: k.keepalive_probes.map(|v| v.value),
            time: k.keepalive_time.map(|v| v.value),
            interval: k.keepalive_interval.map(|v| v.value),
        }),
        name: wire.name,
        unsupported,
    })
}

/// Envoy: settings that policies of the list have themselves are not to be set beside it.
fn combined_with_a_list(wire: &wire::Cluster) -> Result<(), Invalid> {
    let common = wire.common_lb_config.as_ref();
    let beside = [
        (wire.lb_subset_config.is_some(), "lb_subset_config"),
        (common.is_some_and(|c| c.locality_config_specifier.is_some()), "common_lb_config.locality_config_specifier"),
        (
            common.is_some_and(|c| c.consistent_hashing_lb_config.is_some()),
            "common_lb_config.consistent_hashing_lb_config",
        ),
    ];
    match beside.into_iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(Invalid::new(field, "cannot be combined with load_balancing_policy")),
        None => Ok(()),
    }
}

/// Fields that concern connections, are set, and are not honoured.
fn left_out(wire: &wire::Cluster) -> impl Iterator<Item = &'static str> {
    let per_host = |b: &wire::CircuitBreakers| b.per_host_thresholds.iter().any(|t| t.max_connections.is_some());
    let (by_header, by_metadata) = match &wire.lb_config {
        Some(LbConfig::OriginalDstLbConfig(config)) => (config.use_http_header, config.metadata_key.is_some()),
        _ => (false, false),
    };
    let closes = wire.common_lb_config.as_ref().is_some_and(|common| common.close_connections_on_host_set_change);
    [
        (closes, "common_lb_config.close_connections_on_host_set_change"),
        (wire.close_connections_on_host_health_failure, "close_connections_on_host_health_failure"),
        (by_header, "original_dst_lb_config.use_http_header"),
        (by_metadata, "original_dst_lb_config.metadata_key"),
        (!wire.health_checks.is_empty(), "health_checks"),
        (wire.circuit_breakers.as_ref().is_some_and(per_host), "circuit_breakers.per_host_thresholds"),
        (wire.upstream_bind_config.is_some(), "upstream_bind_config"),
        (!wire.filters.is_empty(), "filters"),
        (wire.transport_socket_matcher.is_some(), "transport_socket_matcher"),
        (wire.upstream_config.is_some(), "upstream_config"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
}

/// The limit of the default routing priority; the largest number is how control planes say that there is none.
fn max_connections(breakers: Option<&wire::CircuitBreakers>) -> Option<u32> {
    let default = RoutingPriority::Default as i32;
    let stated = breakers.and_then(|breakers| breakers.thresholds.iter().find(|t| t.priority == default));
    let limit = stated.and_then(|threshold| threshold.max_connections).map_or(MAX_CONNECTIONS, |m| m.value);
    (limit != u32::MAX).then_some(limit)
}

fn discovery(wire: &mut wire::Cluster, unsupported: &mut Vec<String>) -> Result<Discovery, Invalid> {
    let wire_type = match wire.cluster_discovery_type.take() {
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return custom_type(wire, &custom, unsupported).under("cluster_type");
        }
        Some(ClusterDiscoveryType::Type(wire_type)) => wire_type,
        None => DiscoveryType::Static as i32,
    };
    match DiscoveryType::try_from(wire_type) {
        Ok(DiscoveryType::Eds) => eds(wire),
        Ok(DiscoveryType::Static) => Ok(Discovery::Static(inline(wire, Hosts::Addresses)?)),
        Ok(DiscoveryType::StrictDns) => {
            let dns = dns::of_cluster(wire, unsupported)?;
            Ok(Discovery::StrictDns(inline(wire, Hosts::Names)?, Box::new(dns)))
        }
        Ok(DiscoveryType::LogicalDns) => {
            let dns = dns::of_cluster(wire, unsupported)?;
            logical_dns(wire, dns)
        }
        Ok(DiscoveryType::OriginalDst) => Ok(original_dst(wire)),
        Err(_) => Err(Invalid::new("type", format!("{wire_type} is not defined"))),
    }
}

fn custom_type(
    wire: &mut wire::Cluster,
    custom: &wire::TypedExtensionConfig,
    unsupported: &mut Vec<String>,
) -> Result<Discovery, Invalid> {
    let Some(any) = &custom.typed_config else {
        return Ok(Discovery::Unsupported(custom.name.clone()));
    };
    match message_name(&any.type_url) {
        "envoy.extensions.clusters.aggregate.v3.ClusterConfig" => {
            let config: aggregate::v3::ClusterConfig = unpack(any)?;
            if config.clusters.is_empty() {
                return Err(Invalid::missing("clusters"));
            }
            Ok(Discovery::Aggregate(config.clusters))
        }
        "envoy.extensions.clusters.dns.v3.DnsCluster" => {
            let config: DnsCluster = unpack(any)?;
            let dns = dns::of_extension(&config, unsupported)?;
            if config.all_addresses_in_single_endpoint {
                return logical_dns(wire, dns);
            }
            Ok(Discovery::StrictDns(inline(wire, Hosts::Names)?, Box::new(dns)))
        }
        _ => Ok(Discovery::Unsupported(custom.name.clone())),
    }
}

fn eds(wire: &mut wire::Cluster) -> Result<Discovery, Invalid> {
    let config = wire.eds_cluster_config.take().ok_or_else(|| Invalid::missing("eds_cluster_config"))?;
    let source = config.eds_config.and_then(|c| c.config_source_specifier);
    match source.ok_or_else(|| Invalid::missing("eds_cluster_config.eds_config"))? {
        ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_) => {}
        _ => {
            return Ok(Discovery::Unsupported("eds_config other than ads and self".to_owned()));
        }
    }
    let name = if config.service_name.is_empty() { wire.name.clone() } else { config.service_name };
    Ok(Discovery::Eds(name))
}

/// Istio's `BlackHoleCluster` is STATIC without an assignment: no endpoints.
fn inline(wire: &mut wire::Cluster, hosts: Hosts) -> Result<LoadAssignment, Invalid> {
    let mut wire_assignment = *wire.load_assignment.take().unwrap_or_default();
    if wire_assignment.cluster_name.is_empty() {
        wire_assignment.cluster_name.clone_from(&wire.name);
    }
    assignment(wire_assignment, hosts).under("load_assignment")
}

/// The address that the program dialled. A header or metadata may name another one for a request; the port that a
/// cluster puts in place of the dialled one would have to be dialled.
fn original_dst(wire: &wire::Cluster) -> Discovery {
    match &wire.lb_config {
        Some(LbConfig::OriginalDstLbConfig(config)) if config.upstream_port_override.is_some() => {
            Discovery::Unsupported("original_dst_lb_config.upstream_port_override".to_owned())
        }
        _ => Discovery::OriginalDst,
    }
}

/// Envoy: LOGICAL_DNS has exactly one locality with exactly one endpoint.
fn logical_dns(wire: &mut wire::Cluster, dns: Dns) -> Result<Discovery, Invalid> {
    let assignment = inline(wire, Hosts::Names)?;
    match assignment.localities.as_slice() {
        [one] if one.endpoints.len() == 1 => Ok(Discovery::LogicalDns(assignment, Box::new(dns))),
        _ => Err(Invalid::new("load_assignment", "LOGICAL_DNS needs exactly one endpoint")),
    }
}
