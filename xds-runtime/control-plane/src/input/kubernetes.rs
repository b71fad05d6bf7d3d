//! Core Kubernetes objects, reduced to what decides where a service is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::Deserialize;

use super::document::Metadata;
use super::scalar::{ClusterIp, PortRef, nullable};

/// The spec of a `v1 Service`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "the spec of a Service")]
pub(crate) struct Service {
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<ClusterIp>,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    pub cluster_ips: Vec<ClusterIp>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub external_name: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<ServicePort>,
    pub publish_not_ready_addresses: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a port of a Service")]
pub(crate) struct ServicePort {
    #[serde(default)]
    pub name: String,
    pub port: NonZeroU16,
    #[serde(default)]
    pub protocol: Transport,
    #[serde(default)]
    pub app_protocol: Option<String>,
    #[serde(default)]
    pub target_port: Option<PortRef>,
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Transport {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "SCTP")]
    Sctp,
}

/// A `discovery.k8s.io/v1 EndpointSlice`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an EndpointSlice")]
pub(crate) struct EndpointSlice {
    pub metadata: Metadata,
    pub address_type: AddressType,
    #[serde(default, deserialize_with = "nullable")]
    pub endpoints: Vec<SliceEndpoint>,
    #[serde(default, deserialize_with = "nullable")]
    pub ports: Vec<SlicePort>,
}

/// Kind of addresses in a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum AddressType {
    IPv4,
    IPv6,
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an endpoint of an EndpointSlice")]
pub(crate) struct SliceEndpoint {
    /// IP addresses; host names in a slice of type FQDN.
    pub addresses: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub conditions: Conditions,
    #[serde(default)]
    pub hostname: Option<String>,
    #[serde(default)]
    pub node_name: Option<String>,
    #[serde(default)]
    pub zone: Option<String>,
    #[serde(default)]
    pub target_ref: Option<TargetRef>,
}

/// Conditions of an endpoint; an absent `ready` counts as ready.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(expecting = "the conditions of an endpoint")]
pub(crate) struct Conditions {
    #[serde(default)]
    pub ready: Option<bool>,
}

/// The object behind an endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a reference to an object")]
pub(crate) struct TargetRef {
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub name: String,
}

/// A port of a slice. Its name is the name of the Service's port.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a port of an EndpointSlice")]
pub(crate) struct SlicePort {
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    #[serde(default)]
    pub port: Option<NonZeroU16>,
}

/// A `v1 Pod`: labels for subsets, the name for headless names.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a Pod")]
pub(crate) struct Pod {
    pub metadata: Metadata,
    #[serde(default, deserialize_with = "nullable")]
    pub spec: PodSpec,
    #[serde(default, deserialize_with = "nullable")]
    pub status: PodStatus,
}

/// What of a Pod's spec matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "the spec of a Pod")]
pub(crate) struct PodSpec {
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    pub node_name: Option<String>,
}

/// What of a Pod's status matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, expecting = "the status of a Pod")]
pub(crate) struct PodStatus {
    #[serde(rename = "podIP")]
    pub pod_ip: Option<IpAddr>,
}

/// A `v1 Node`: its labels say region and zone.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a Node")]
pub(crate) struct Node {
    pub metadata: Metadata,
}

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;
