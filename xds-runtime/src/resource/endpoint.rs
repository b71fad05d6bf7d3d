//! EDS: `ClusterLoadAssignment`, also inline in clusters.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HealthStatus;

use super::invalid::{Invalid, Under};
use super::metadata::{self, Metadata};
use super::model::{Endpoint, EndpointAddress, EndpointDetails, Health, LoadAssignment, Locality, LocalityEndpoints};
use super::scalar;
use super::wire::{self, EndpointList, HostIdentifier};
use crate::quick::QuickSet;

/// Envoy's default `overprovisioning_factor`, percent.
const OVERPROVISIONING: u32 = 140;

/// The port of Istio's east-west gateways for mTLS passed on by server name, where metadata does not tell.
const GATEWAY_PORT: u16 = 15443;

/// Whether an endpoint may be a host name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hosts {
    /// IP addresses only (EDS, STATIC).
    Addresses,
    /// Names too (STRICT_DNS, LOGICAL_DNS).
    Names,
}

/// An EDS resource.
pub(super) fn convert(wire: wire::ClusterLoadAssignment) -> Result<LoadAssignment, Invalid> {
    if wire.cluster_name.is_empty() {
        return Err(Invalid::missing("cluster_name"));
    }
    let mut assignment = assignment(wire, Hosts::Addresses)?;
    keep_first(&mut assignment);
    Ok(assignment)
}

/// Of endpoints with the same address, wherever in an assignment, the first counts (Envoy).
fn keep_first(assignment: &mut LoadAssignment) {
    let count = assignment.localities.iter().map(|locality| locality.endpoints.len()).sum();
    let mut seen = QuickSet::with_capacity_and_hasher(count, Default::default());
    for locality in &mut assignment.localities {
        locality.endpoints.retain(|endpoint| match endpoint.address {
            EndpointAddress::Socket(address) => seen.insert(address),
            EndpointAddress::Hostname(..) | EndpointAddress::Internal(_) => true,
        });
    }
}

/// A load assignment from EDS or from inside a cluster.
pub(super) fn assignment(wire: wire::ClusterLoadAssignment, hosts: Hosts) -> Result<LoadAssignment, Invalid> {
    let policy = wire.policy.unwrap_or_default();
    let unsupported = left_out(&policy)?;
    let overprovisioning_factor = policy.overprovisioning_factor.map_or(OVERPROVISIONING, |f| f.value);
    if overprovisioning_factor == 0 {
        return Err(Invalid::new("policy.overprovisioning_factor", "must be over 0"));
    }
    let mut localities = Vec::with_capacity(wire.endpoints.len());
    for (i, locality) in wire.endpoints.into_iter().enumerate() {
        localities.push(locality_endpoints(locality, &wire.named_endpoints, hosts).under_at("endpoints", i)?);
    }
    check_weights(&localities)?;
    Ok(LoadAssignment { cluster_name: wire.cluster_name, localities, overprovisioning_factor, unsupported })
}

/// Fields of the policy that are set and not honoured.
fn left_out(policy: &wire::AssignmentPolicy) -> Result<Vec<String>, Invalid> {
    let stale_after = policy.endpoint_stale_after;
    scalar::positive_duration(stale_after, Duration::MAX, "policy.endpoint_stale_after")?;
    let set = [
        (policy.weighted_priority_health, "weighted_priority_health"),
        (stale_after.is_some(), "endpoint_stale_after"),
        (!policy.drop_overloads.is_empty(), "drop_overloads"),
    ];
    let name = |(set, name): (bool, &str)| set.then(|| format!("load_assignment.policy.{name}"));
    Ok(set.into_iter().filter_map(name).collect())
}

/// The locality weights of each priority stay within 32 bits.
fn check_weights(localities: &[LocalityEndpoints]) -> Result<(), Invalid> {
    let mut sums: BTreeMap<u32, u32> = BTreeMap::new();
    for locality in localities {
        let sum = sums.entry(locality.priority).or_default();
        scalar::add_weight(sum, locality.weight.unwrap_or(0), "endpoints.load_balancing_weight")?;
    }
    Ok(())
}

fn locality_endpoints(
    wire: wire::LocalityLbEndpoints,
    named: &HashMap<String, wire::Endpoint>,
    hosts: Hosts,
) -> Result<LocalityEndpoints, Invalid> {
    if wire.priority > 128 {
        return Err(Invalid::new("priority", format!("{} is over 128", wire.priority)));
    }
    let weight = scalar::weight(wire.load_balancing_weight)?;
    let (listed, leds) = match wire.lb_config {
        Some(EndpointList::LoadBalancerEndpoints(list)) => (list.lb_endpoints, None),
        Some(EndpointList::LedsClusterLocalityConfig(leds)) => (wire.lb_endpoints, Some(leds.leds_collection_name)),
        None => (wire.lb_endpoints, None),
    };
    let mut endpoints = Vec::with_capacity(listed.len());
    // Valid, and not supported: an endpoint that nobody can connect to, which says its name.
    endpoints.extend(leds.map(|name| Endpoint {
        address: EndpointAddress::Internal(format!("leds:{name}").into()),
        health: Health::Healthy,
        weight: 1,
        tls_mode_istio: false,
        is_gateway: false,
        details: None,
    }));
    let mut sum = 0;
    for (i, wire) in listed.into_iter().enumerate() {
        let endpoint = endpoint(wire, named, hosts).under_at("lb_endpoints", i)?;
        scalar::add_weight(&mut sum, endpoint.weight, "lb_endpoints.load_balancing_weight")?;
        endpoints.push(endpoint);
    }
    let locality = wire.locality.map_or_else(Locality::default, |l| Locality {
        region: l.region,
        zone: l.zone,
        sub_zone: l.sub_zone,
    });
    Ok(LocalityEndpoints { locality, priority: wire.priority, weight, endpoints })
}

fn endpoint(
    wire: wire::LbEndpoint,
    named: &HashMap<String, wire::Endpoint>,
    hosts: Hosts,
) -> Result<Endpoint, Invalid> {
    let endpoint = match wire.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(name)) => {
            let found = named.get(&name);
            found.ok_or_else(|| Invalid::new("endpoint_name", format!("{name:?} is not in named_endpoints")))?.clone()
        }
        None => return Err(Invalid::missing("endpoint")),
    };
    let address = scalar::address(endpoint.address).under("endpoint")?;
    if let EndpointAddress::Hostname(host, _) = &address
        && hosts == Hosts::Addresses
    {
        let why = format!("{host:?} is no IP address");
        return Err(Invalid::new("endpoint.address.socket_address.address", why));
    }
    let gateway_port = matches!(address, EndpointAddress::Socket(at) if at.port() == GATEWAY_PORT);
    let Described { tls_mode_istio, is_gateway, hash_key, metadata } =
        Described::by(wire.metadata.as_ref(), gateway_port).under("metadata")?;
    let details = EndpointDetails { hash_key, hostname: endpoint.hostname, metadata };
    Ok(Endpoint {
        address,
        health: health(wire.health_status)?,
        weight: scalar::weight(wire.load_balancing_weight)?.unwrap_or(1),
        tls_mode_istio,
        is_gateway,
        details: (details != EndpointDetails::default()).then(|| details.into()),
    })
}

fn health(wire: i32) -> Result<Health, Invalid> {
    match HealthStatus::try_from(wire) {
        Ok(HealthStatus::Unknown | HealthStatus::Healthy) => Ok(Health::Healthy),
        Ok(HealthStatus::Degraded) => Ok(Health::Degraded),
        Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) => Ok(Health::Unhealthy),
        Ok(HealthStatus::Draining) => Ok(Health::Draining),
        Err(_) => Err(Invalid::new("health_status", format!("{wire} is not defined"))),
    }
}

/// What the metadata of an endpoint says.
#[derive(Default)]
struct Described {
    tls_mode_istio: bool,
    is_gateway: bool,
    hash_key: Option<String>,
    metadata: Metadata,
}

impl Described {
    /// `gateway_port`: an endpoint whose workload is not named is a gateway.
    fn by(wire: Option<&wire::Metadata>, gateway_port: bool) -> Result<Self, Invalid> {
        let Some(wire) = wire else { return Ok(Self::default()) };
        let balancing = metadata::of_filter(wire, "envoy.lb")?;
        let hash_key = balancing.as_ref().and_then(|fields| metadata::text(fields, "hash_key")).map(str::to_owned);
        // Istio marks endpoints that speak its mTLS in the metadata that Envoy matches transport sockets on.
        let sockets = metadata::of_filter(wire, "envoy.transport_socket_match")?;
        let tls_mode_istio = sockets.is_some_and(|fields| metadata::text(&fields, "tlsMode") == Some("istio"));
        let is_gateway = tls_mode_istio && {
            let istio = metadata::of_filter(wire, "istio")?;
            istio.as_ref().and_then(|fields| metadata::text(fields, "workload")).map_or(gateway_port, is_nobody)
        };
        let metadata = balancing.map(metadata::fields).unwrap_or_default();
        Ok(Self { tls_mode_istio, is_gateway, hash_key, metadata })
    }
}

/// Istio describes the workload of an endpoint as `workload;namespace;service;revision;cluster`. The gateway that stands
/// for a network's endpoints has no workload of its own: all but the cluster is empty.
fn is_nobody(workload: &str) -> bool {
    let mut parts = workload.split(';');
    parts.next() == Some("") && parts.next() == Some("")
}
