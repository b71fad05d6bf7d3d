//! LDS, and the network filters that choose clusters.

use envoy_types::pb::google::protobuf::UInt32Value;
use prost::{Message, Oneof};

use super::{Address, Any, CidrRange, Metadata, Named, Present, RouteConfiguration, TransportSocket};

/// `envoy.config.listener.v3.Listener`.
#[derive(Clone, PartialEq, Message)]
pub struct Listener {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub address: Option<Address>,
    #[prost(message, repeated, tag = "3")]
    pub filter_chains: Vec<FilterChain>,
    #[prost(int32, tag = "16")]
    pub traffic_direction: i32,
    #[prost(message, optional, tag = "19")]
    pub api_listener: Option<ApiListener>,
    #[prost(message, optional, tag = "25")]
    pub default_filter_chain: Option<FilterChain>,
    /// The one member of `listener_specifier`.
    #[prost(message, optional, tag = "27")]
    pub internal_listener: Option<Present>,
    #[prost(message, optional, tag = "32")]
    pub filter_chain_matcher: Option<Present>,
    #[prost(message, repeated, tag = "33")]
    pub additional_addresses: Vec<AdditionalAddress>,
}

/// `envoy.config.listener.v3.AdditionalAddress`.
#[derive(Clone, PartialEq, Message)]
pub struct AdditionalAddress {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}

/// `envoy.config.listener.v3.ApiListener`.
#[derive(Clone, PartialEq, Message)]
pub struct ApiListener {
    #[prost(message, optional, tag = "1")]
    pub api_listener: Option<Any>,
}

/// `envoy.config.listener.v3.FilterChain`.
#[derive(Clone, PartialEq, Message)]
pub struct FilterChain {
    #[prost(message, optional, tag = "1")]
    pub filter_chain_match: Option<FilterChainMatch>,
    #[prost(message, repeated, tag = "3")]
    pub filters: Vec<Filter>,
    #[prost(message, optional, tag = "6")]
    pub transport_socket: Option<TransportSocket>,
    #[prost(string, tag = "7")]
    pub name: String,
}

/// `envoy.config.listener.v3.FilterChainMatch`.
#[derive(Clone, PartialEq, Message)]
pub struct FilterChainMatch {
    #[prost(message, repeated, tag = "3")]
    pub prefix_ranges: Vec<CidrRange>,
    #[prost(string, tag = "4")]
    pub address_suffix: String,
    #[prost(message, optional, tag = "5")]
    pub suffix_len: Option<Present>,
    #[prost(message, repeated, tag = "6")]
    pub source_prefix_ranges: Vec<CidrRange>,
    #[prost(uint32, repeated, tag = "7")]
    pub source_ports: Vec<u32>,
    #[prost(message, optional, tag = "8")]
    pub destination_port: Option<UInt32Value>,
    #[prost(string, tag = "9")]
    pub transport_protocol: String,
    #[prost(string, repeated, tag = "10")]
    pub application_protocols: Vec<String>,
    #[prost(string, repeated, tag = "11")]
    pub server_names: Vec<String>,
    #[prost(int32, tag = "12")]
    pub source_type: i32,
    #[prost(message, repeated, tag = "13")]
    pub direct_source_prefix_ranges: Vec<Present>,
}

/// `envoy.config.listener.v3.Filter`.
#[derive(Clone, PartialEq, Message)]
pub struct Filter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "FilterConfig", tags = "4, 5")]
    pub config_type: Option<FilterConfig>,
}

/// `Filter.config_type`.
#[derive(Clone, PartialEq, Oneof)]
pub enum FilterConfig {
    #[prost(message, tag = "4")]
    TypedConfig(Any),
    #[prost(message, tag = "5")]
    ConfigDiscovery(Present),
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Clone, PartialEq, Message)]
pub struct TcpProxy {
    #[prost(oneof = "TcpClusters", tags = "2, 10")]
    pub cluster_specifier: Option<TcpClusters>,
    #[prost(message, optional, tag = "9")]
    pub metadata_match: Option<Metadata>,
    #[prost(message, repeated, tag = "11")]
    pub hash_policy: Vec<TcpHashPolicy>,
    #[prost(message, optional, tag = "12")]
    pub tunneling_config: Option<Present>,
}

/// `TcpProxy.cluster_specifier`.
#[derive(Clone, PartialEq, Oneof)]
pub enum TcpClusters {
    #[prost(string, tag = "2")]
    Cluster(String),
    #[prost(message, tag = "10")]
    WeightedClusters(TcpWeightedCluster),
}

/// `TcpProxy.WeightedCluster`.
#[derive(Clone, PartialEq, Message)]
pub struct TcpWeightedCluster {
    #[prost(message, repeated, tag = "1")]
    pub clusters: Vec<TcpClusterWeight>,
}

/// `TcpProxy.WeightedCluster.ClusterWeight`.
#[derive(Clone, PartialEq, Message)]
pub struct TcpClusterWeight {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub weight: u32,
    #[prost(message, optional, tag = "3")]
    pub metadata_match: Option<Metadata>,
}

/// `envoy.type.v3.HashPolicy`.
#[derive(Clone, PartialEq, Message)]
pub struct TcpHashPolicy {
    #[prost(oneof = "TcpHashed", tags = "1, 2")]
    pub policy_specifier: Option<TcpHashed>,
}

/// `HashPolicy.policy_specifier`.
#[derive(Clone, PartialEq, Oneof)]
pub enum TcpHashed {
    #[prost(message, tag = "1")]
    SourceIp(Present),
    #[prost(message, tag = "2")]
    FilterState(Named),
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
#[derive(Clone, PartialEq, Message)]
pub struct HttpConnectionManager {
    #[prost(oneof = "RouteSpecifier", tags = "3, 4, 31")]
    pub route_specifier: Option<RouteSpecifier>,
}

/// `HttpConnectionManager.route_specifier`.
#[derive(Clone, PartialEq, Oneof)]
pub enum RouteSpecifier {
    #[prost(message, tag = "3")]
    Rds(Rds),
    #[prost(message, tag = "4")]
    RouteConfig(RouteConfiguration),
    #[prost(message, tag = "31")]
    ScopedRoutes(Named),
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.Rds`.
#[derive(Clone, PartialEq, Message)]
pub struct Rds {
    #[prost(string, tag = "2")]
    pub route_config_name: String,
}
