//! The messages of `envoy.service.discovery.v3`, as far as a client uses them.
//!
//! Declared here and not taken from envoy-types, because the content of an `Any` must be `Bytes`: a message of
//! 200 MiB is received once and its resources are slices of it. Field numbers are the specification's
//! (envoy/service/discovery/v3/discovery.proto, envoy/config/core/v3/base.proto).

use std::collections::HashMap;

use bytes::Bytes;
use envoy_types::pb::google::protobuf::Struct;

/// `google.protobuf.Any` without a copy of its content.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// Type URL.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Serialized message.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `google.rpc.Status`; details are never sent or read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `envoy.config.core.v3.Locality`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Locality {
    /// Region.
    #[prost(string, tag = "1")]
    pub region: String,
    /// Zone.
    #[prost(string, tag = "2")]
    pub zone: String,
    /// Sub-zone.
    #[prost(string, tag = "3")]
    pub sub_zone: String,
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Node id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Cluster the node belongs to.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// Opaque metadata.
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
    /// Where the node runs.
    #[prost(message, optional, tag = "4")]
    pub locality: Option<Locality>,
    /// Client's name.
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    /// Client's version.
    #[prost(string, tag = "7")]
    pub user_agent_version: String,
    /// What the client can do beyond, or short of, Envoy.
    #[prost(string, repeated, tag = "10")]
    pub client_features: Vec<String>,
}

/// `DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// Sent on the first request of a stream.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// Type of the resources.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names to add.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names to drop.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// What the client has, in the first request of a type.
    #[prost(map = "string, string", tag = "5")]
    pub initial_resource_versions: HashMap<String, String>,
    /// Nonce of the response that this answers.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Set in a NACK.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// `DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// For debugging.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// New and changed resources.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// Type of the resources.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// To be answered.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names that are gone or do not exist.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
}

/// `Resource`, the envelope.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// Version of this resource.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The resource; absent in a heartbeat.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    /// Name.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// `DiscoveryRequest` (state of the world).
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryRequest {
    /// Last accepted version of this type.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// Sent on the first request of a stream.
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// Every name subscribed; empty in the first request = all.
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    /// Type of the resources.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Nonce of the latest response of this type.
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    /// Set in a NACK.
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Status>,
}

/// `DiscoveryResponse` (state of the world).
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryResponse {
    /// Version of this response.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// The resources.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Any>,
    /// Type of the resources.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// To be answered.
    #[prost(string, tag = "5")]
    pub nonce: String,
}
