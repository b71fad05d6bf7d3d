//! EDS.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use prost::{Message, Oneof};

use super::{Address, Locality, Metadata, Present};

/// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterLoadAssignment {
    #[prost(string, tag = "1")]
    pub cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    pub endpoints: Vec<LocalityLbEndpoints>,
    #[prost(map = "string, message", tag = "5")]
    pub named_endpoints: HashMap<String, Endpoint>,
    #[prost(message, optional, tag = "4")]
    pub policy: Option<AssignmentPolicy>,
}

/// `ClusterLoadAssignment.Policy`.
#[derive(Clone, PartialEq, Message)]
pub struct AssignmentPolicy {
    #[prost(message, repeated, tag = "2")]
    pub drop_overloads: Vec<Present>,
    #[prost(message, optional, tag = "3")]
    pub overprovisioning_factor: Option<UInt32Value>,
    #[prost(message, optional, tag = "4")]
    pub endpoint_stale_after: Option<Duration>,
    #[prost(bool, tag = "6")]
    pub weighted_priority_health: bool,
}

/// `envoy.config.endpoint.v3.LocalityLbEndpoints`.
#[derive(Clone, PartialEq, Message)]
pub struct LocalityLbEndpoints {
    #[prost(message, optional, tag = "1")]
    pub locality: Option<Locality>,
    #[prost(message, repeated, tag = "2")]
    pub lb_endpoints: Vec<LbEndpoint>,
    #[prost(message, optional, tag = "3")]
    pub load_balancing_weight: Option<UInt32Value>,
    #[prost(uint32, tag = "5")]
    pub priority: u32,
    #[prost(oneof = "EndpointList", tags = "7, 8")]
    pub lb_config: Option<EndpointList>,
}

/// `LocalityLbEndpoints.lb_config`.
#[derive(Clone, PartialEq, Oneof)]
pub enum EndpointList {
    #[prost(message, tag = "7")]
    LoadBalancerEndpoints(LbEndpointList),
    #[prost(message, tag = "8")]
    LedsClusterLocalityConfig(LedsClusterLocalityConfig),
}

/// `LocalityLbEndpoints.LbEndpointList`.
#[derive(Clone, PartialEq, Message)]
pub struct LbEndpointList {
    #[prost(message, repeated, tag = "1")]
    pub lb_endpoints: Vec<LbEndpoint>,
}

/// `envoy.config.endpoint.v3.LedsClusterLocalityConfig`.
#[derive(Clone, PartialEq, Message)]
pub struct LedsClusterLocalityConfig {
    #[prost(string, tag = "2")]
    pub leds_collection_name: String,
}

/// `envoy.config.endpoint.v3.LbEndpoint`.
#[derive(Clone, PartialEq, Message)]
pub struct LbEndpoint {
    #[prost(oneof = "HostIdentifier", tags = "1, 5")]
    pub host_identifier: Option<HostIdentifier>,
    #[prost(int32, tag = "2")]
    pub health_status: i32,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "4")]
    pub load_balancing_weight: Option<UInt32Value>,
}

/// `LbEndpoint.host_identifier`.
#[derive(Clone, PartialEq, Oneof)]
pub enum HostIdentifier {
    #[prost(message, tag = "1")]
    Endpoint(Endpoint),
    #[prost(string, tag = "5")]
    EndpointName(String),
}

/// `envoy.config.endpoint.v3.Endpoint`.
#[derive(Clone, PartialEq, Message)]
pub struct Endpoint {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
    #[prost(string, tag = "3")]
    pub hostname: String,
}
