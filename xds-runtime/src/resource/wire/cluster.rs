//! CDS.

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3 as proto;
use envoy_types::pb::envoy::config::core::v3::TcpKeepalive;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use prost::{Message, Oneof};
use proto::cluster::common_lb_config::{ConsistentHashingLbConfig, ZoneAwareLbConfig};

use super::{ClusterLoadAssignment, Present, Struct, TransportSocket, TypedExtensionConfig};

/// `envoy.config.cluster.v3.Cluster`.
#[derive(Clone, PartialEq, Message)]
pub struct Cluster {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "ClusterDiscoveryType", tags = "2, 38")]
    pub cluster_discovery_type: Option<ClusterDiscoveryType>,
    #[prost(message, optional, tag = "3")]
    pub eds_cluster_config: Option<EdsClusterConfig>,
    #[prost(message, optional, tag = "4")]
    pub connect_timeout: Option<Duration>,
    #[prost(int32, tag = "6")]
    pub lb_policy: i32,
    #[prost(message, repeated, tag = "8")]
    pub health_checks: Vec<Present>,
    #[prost(message, optional, tag = "10")]
    pub circuit_breakers: Option<CircuitBreakers>,
    #[prost(message, optional, tag = "16")]
    pub dns_refresh_rate: Option<Duration>,
    #[prost(int32, tag = "17")]
    pub dns_lookup_family: i32,
    #[prost(message, repeated, tag = "18")]
    pub dns_resolvers: Vec<Present>,
    #[prost(message, optional, boxed, tag = "19")]
    pub outlier_detection: Option<Box<proto::OutlierDetection>>,
    #[prost(message, optional, tag = "21")]
    pub upstream_bind_config: Option<Present>,
    #[prost(message, optional, boxed, tag = "22")]
    pub lb_subset_config: Option<Box<Subset>>,
    #[prost(oneof = "LbConfig", tags = "23, 34, 37, 52, 56")]
    pub lb_config: Option<LbConfig>,
    #[prost(message, optional, tag = "24")]
    pub transport_socket: Option<TransportSocket>,
    #[prost(message, optional, tag = "27")]
    pub common_lb_config: Option<CommonLbConfig>,
    #[prost(message, optional, tag = "30")]
    pub upstream_connection_options: Option<UpstreamConnectionOptions>,
    #[prost(bool, tag = "31")]
    pub close_connections_on_host_health_failure: bool,
    #[prost(message, optional, boxed, tag = "33")]
    pub load_assignment: Option<Box<ClusterLoadAssignment>>,
    #[prost(bool, tag = "39")]
    pub respect_dns_ttl: bool,
    #[prost(message, repeated, tag = "40")]
    pub filters: Vec<Present>,
    #[prost(message, optional, tag = "41")]
    pub load_balancing_policy: Option<LoadBalancingPolicy>,
    #[prost(message, repeated, tag = "43")]
    pub transport_socket_matches: Vec<TransportSocketMatch>,
    #[prost(message, optional, tag = "44")]
    pub dns_failure_refresh_rate: Option<proto::cluster::RefreshRate>,
    #[prost(bool, tag = "45")]
    pub use_tcp_for_dns_lookups: bool,
    #[prost(message, optional, tag = "48")]
    pub upstream_config: Option<Present>,
    #[prost(message, optional, tag = "53")]
    pub dns_resolution_config: Option<Present>,
    #[prost(message, optional, tag = "55")]
    pub typed_dns_resolver_config: Option<Present>,
    #[prost(message, optional, tag = "58")]
    pub dns_jitter: Option<Duration>,
    #[prost(message, optional, tag = "59")]
    pub transport_socket_matcher: Option<Present>,
}

/// `Cluster.cluster_discovery_type`.
#[derive(Clone, PartialEq, Oneof)]
pub enum ClusterDiscoveryType {
    #[prost(int32, tag = "2")]
    Type(i32),
    #[prost(message, tag = "38")]
    ClusterType(TypedExtensionConfig),
}

/// `Cluster.lb_config`.
#[derive(Clone, PartialEq, Oneof)]
pub enum LbConfig {
    #[prost(message, tag = "23")]
    RingHashLbConfig(proto::cluster::RingHashLbConfig),
    #[prost(message, tag = "34")]
    OriginalDstLbConfig(OriginalDstLbConfig),
    #[prost(message, tag = "37")]
    LeastRequestLbConfig(proto::cluster::LeastRequestLbConfig),
    #[prost(message, tag = "52")]
    MaglevLbConfig(proto::cluster::MaglevLbConfig),
    #[prost(message, tag = "56")]
    RoundRobinLbConfig(proto::cluster::RoundRobinLbConfig),
}

/// `Cluster.OriginalDstLbConfig`.
#[derive(Clone, PartialEq, Message)]
pub struct OriginalDstLbConfig {
    #[prost(bool, tag = "1")]
    pub use_http_header: bool,
    #[prost(message, optional, tag = "3")]
    pub upstream_port_override: Option<Present>,
    #[prost(message, optional, tag = "4")]
    pub metadata_key: Option<Present>,
}

/// `Cluster.EdsClusterConfig`.
#[derive(Clone, PartialEq, Message)]
pub struct EdsClusterConfig {
    #[prost(message, optional, tag = "1")]
    pub eds_config: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub service_name: String,
}

/// `envoy.config.core.v3.ConfigSource`.
#[derive(Clone, PartialEq, Message)]
pub struct ConfigSource {
    #[prost(oneof = "ConfigSourceSpecifier", tags = "1, 2, 3, 5, 8")]
    pub config_source_specifier: Option<ConfigSourceSpecifier>,
}

/// `ConfigSource.config_source_specifier`.
#[derive(Clone, PartialEq, Oneof)]
pub enum ConfigSourceSpecifier {
    #[prost(bytes = "bytes", tag = "1")]
    Path(Bytes),
    #[prost(message, tag = "2")]
    ApiConfigSource(Present),
    #[prost(message, tag = "3")]
    Ads(Present),
    #[prost(message, tag = "5")]
    Self_(Present),
    #[prost(message, tag = "8")]
    PathConfigSource(Present),
}

/// `Cluster.CommonLbConfig`.
#[derive(Clone, PartialEq, Message)]
pub struct CommonLbConfig {
    #[prost(message, optional, tag = "1")]
    pub healthy_panic_threshold: Option<Percent>,
    #[prost(oneof = "LocalityConfigSpecifier", tags = "2, 3")]
    pub locality_config_specifier: Option<LocalityConfigSpecifier>,
    #[prost(bool, tag = "6")]
    pub close_connections_on_host_set_change: bool,
    #[prost(message, optional, tag = "7")]
    pub consistent_hashing_lb_config: Option<ConsistentHashingLbConfig>,
}

/// `Cluster.CommonLbConfig.locality_config_specifier`.
#[derive(Clone, PartialEq, Oneof)]
pub enum LocalityConfigSpecifier {
    #[prost(message, tag = "2")]
    ZoneAwareLbConfig(ZoneAwareLbConfig),
    #[prost(message, tag = "3")]
    LocalityWeightedLbConfig(Present),
}

/// `envoy.config.cluster.v3.CircuitBreakers`.
#[derive(Clone, PartialEq, Message)]
pub struct CircuitBreakers {
    #[prost(message, repeated, tag = "1")]
    pub thresholds: Vec<Thresholds>,
    #[prost(message, repeated, tag = "2")]
    pub per_host_thresholds: Vec<Thresholds>,
}

/// `CircuitBreakers.Thresholds`.
#[derive(Clone, PartialEq, Message)]
pub struct Thresholds {
    #[prost(int32, tag = "1")]
    pub priority: i32,
    #[prost(message, optional, tag = "2")]
    pub max_connections: Option<UInt32Value>,
}

/// `envoy.config.cluster.v3.UpstreamConnectionOptions`.
#[derive(Clone, PartialEq, Message)]
pub struct UpstreamConnectionOptions {
    #[prost(message, optional, tag = "1")]
    pub tcp_keepalive: Option<TcpKeepalive>,
}

/// `Cluster.TransportSocketMatch`.
#[derive(Clone, PartialEq, Message)]
pub struct TransportSocketMatch {
    #[prost(message, optional, tag = "2")]
    pub r#match: Option<Struct>,
    #[prost(message, optional, tag = "3")]
    pub transport_socket: Option<TransportSocket>,
}

/// `envoy.config.cluster.v3.LoadBalancingPolicy`.
#[derive(Clone, PartialEq, Message)]
pub struct LoadBalancingPolicy {
    #[prost(message, repeated, tag = "1")]
    pub policies: Vec<Policy>,
}

/// `LoadBalancingPolicy.Policy`.
#[derive(Clone, PartialEq, Message)]
pub struct Policy {
    #[prost(message, optional, tag = "4")]
    pub typed_extension_config: Option<TypedExtensionConfig>,
}

/// `envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality`.
#[derive(Clone, PartialEq, Message)]
pub struct WrrLocality {
    #[prost(message, optional, tag = "1")]
    pub endpoint_picking_policy: Option<LoadBalancingPolicy>,
}

/// `envoy.extensions.load_balancing_policies.subset.v3.Subset`, and `Cluster.LbSubsetConfig`, which has the same fields
/// but for the last two.
#[derive(Clone, PartialEq, Message)]
pub struct Subset {
    #[prost(int32, tag = "1")]
    pub fallback_policy: i32,
    #[prost(message, optional, tag = "2")]
    pub default_subset: Option<Struct>,
    #[prost(message, repeated, tag = "3")]
    pub subset_selectors: Vec<LbSubsetSelector>,
    #[prost(bool, tag = "4")]
    pub locality_weight_aware: bool,
    #[prost(bool, tag = "5")]
    pub scale_locality_weight: bool,
    #[prost(bool, tag = "6")]
    pub panic_mode_any: bool,
    #[prost(bool, tag = "7")]
    pub list_as_any: bool,
    #[prost(int32, tag = "8")]
    pub metadata_fallback_policy: i32,
    #[prost(message, optional, tag = "9")]
    pub subset_lb_policy: Option<LoadBalancingPolicy>,
    #[prost(bool, tag = "10")]
    pub allow_redundant_keys: bool,
}

/// `LbSubsetSelector`, of either.
#[derive(Clone, PartialEq, Message)]
pub struct LbSubsetSelector {
    #[prost(string, repeated, tag = "1")]
    pub keys: Vec<String>,
    #[prost(int32, tag = "2")]
    pub fallback_policy: i32,
    #[prost(string, repeated, tag = "3")]
    pub fallback_keys_subset: Vec<String>,
    #[prost(bool, tag = "4")]
    pub single_host_per_subset: bool,
}
