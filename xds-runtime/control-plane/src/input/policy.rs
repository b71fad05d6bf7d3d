//! Istio's DestinationRule.

use std::num::NonZeroU16;
use std::time::Duration;

use serde::Deserialize;

use super::kubernetes::Labels;
use super::scalar::{duration, nullable};

/// The spec of a DestinationRule.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "the spec of a DestinationRule")]
pub(crate) struct DestinationRule {
    pub host: String,
    #[serde(default, deserialize_with = "nullable")]
    pub traffic_policy: TrafficPolicy,
    #[serde(default, deserialize_with = "nullable")]
    pub subsets: Vec<Subset>,
}

/// A subset of a host's endpoints.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a subset")]
pub(crate) struct Subset {
    pub name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub labels: Labels,
    #[serde(default, deserialize_with = "nullable")]
    pub traffic_policy: TrafficPolicy,
}

/// What to do with connections to a host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a traffic policy")]
pub(crate) struct TrafficPolicy {
    pub load_balancer: Option<LoadBalancer>,
    pub connection_pool: Option<ConnectionPool>,
    pub outlier_detection: Option<OutlierDetection>,
    pub tls: Option<Tls>,
    #[serde(deserialize_with = "nullable")]
    pub port_level_settings: Vec<PortPolicy>,
}

/// The policy of one port: it replaces the host's policy as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a port's policy")]
pub(crate) struct PortPolicy {
    pub port: PortNumber,
    #[serde(default)]
    pub load_balancer: Option<LoadBalancer>,
    #[serde(default)]
    pub connection_pool: Option<ConnectionPool>,
    #[serde(default)]
    pub outlier_detection: Option<OutlierDetection>,
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// `port: {number: 80}`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(expecting = "a port selector")]
pub(crate) struct PortNumber {
    pub number: NonZeroU16,
}

/// Load balancing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "load balancer settings")]
pub(crate) struct LoadBalancer {
    pub simple: Option<SimpleLb>,
    pub consistent_hash: Option<ConsistentHash>,
    pub locality_lb_setting: Option<LocalityLb>,
    pub warmup: Option<Warmup>,
    #[serde(deserialize_with = "duration")]
    pub warmup_duration_secs: Option<Duration>,
}

/// Less load for new endpoints, for a while.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "warmup settings")]
pub(crate) struct Warmup {
    #[serde(deserialize_with = "duration")]
    pub duration: Option<Duration>,
    #[serde(default)]
    pub minimum_percent: Option<f64>,
    #[serde(default)]
    pub aggression: Option<f64>,
}

/// Policies without parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum SimpleLb {
    Unspecified,
    LeastConn,
    LeastRequest,
    Random,
    RoundRobin,
    Passthrough,
}

/// Consistent hashing: what is hashed, and the table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "consistent hash settings")]
pub(crate) struct ConsistentHash {
    pub http_header_name: Option<String>,
    pub http_cookie: Option<HttpCookie>,
    pub use_source_ip: bool,
    pub http_query_parameter_name: Option<String>,
    pub ring_hash: Option<RingHash>,
    pub maglev: Option<Maglev>,
    pub minimum_ring_size: Option<u64>,
}

/// A cookie to hash.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a cookie to hash")]
pub(crate) struct HttpCookie {
    pub name: String,
    #[serde(default)]
    pub path: String,
    #[serde(default, deserialize_with = "duration")]
    pub ttl: Option<Duration>,
}

/// Ring size.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "ring hash settings")]
pub(crate) struct RingHash {
    pub minimum_ring_size: Option<u64>,
}

/// Table size.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "Maglev settings")]
pub(crate) struct Maglev {
    pub table_size: Option<u64>,
}

/// Locality settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "locality load balancer settings")]
pub(crate) struct LocalityLb {
    pub enabled: Option<bool>,
    #[serde(deserialize_with = "nullable")]
    pub distribute: Vec<Distribute>,
    #[serde(deserialize_with = "nullable")]
    pub failover: Vec<Failover>,
    #[serde(deserialize_with = "nullable")]
    pub failover_priority: Vec<String>,
}

/// Weights of localities (`region/zone/subzone`, `*` at the end) for clients of a locality.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a distribution")]
pub(crate) struct Distribute {
    pub from: String,
    pub to: std::collections::BTreeMap<String, u32>,
}

/// The region to use when the one of the client has no healthy endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a failover")]
pub(crate) struct Failover {
    pub from: String,
    pub to: String,
}

/// Connection pool.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, expecting = "connection pool settings")]
pub(crate) struct ConnectionPool {
    #[serde(deserialize_with = "nullable")]
    pub tcp: TcpPool,
    #[serde(deserialize_with = "nullable")]
    pub http: HttpPool,
}

/// TCP settings of a pool.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "TCP settings")]
pub(crate) struct TcpPool {
    pub max_connections: Option<u32>,
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Option<Duration>,
    pub tcp_keepalive: Option<Keepalive>,
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Option<Duration>,
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, expecting = "keepalive settings")]
pub(crate) struct Keepalive {
    pub probes: Option<u32>,
    #[serde(deserialize_with = "duration")]
    pub time: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub interval: Option<Duration>,
}

/// HTTP settings of a pool that Envoy keeps as circuit breakers.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "HTTP settings")]
pub(crate) struct HttpPool {
    pub http1_max_pending_requests: Option<u32>,
    pub http2_max_requests: Option<u32>,
    pub max_retries: Option<u32>,
}

/// Outlier detection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "outlier detection settings")]
pub(crate) struct OutlierDetection {
    pub consecutive_5xx_errors: Option<u32>,
    pub consecutive_gateway_errors: Option<u32>,
    pub split_external_local_origin_errors: bool,
    pub consecutive_local_origin_failures: Option<u32>,
    #[serde(deserialize_with = "duration")]
    pub interval: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub base_ejection_time: Option<Duration>,
    pub max_ejection_percent: Option<u32>,
    pub min_health_percent: Option<u32>,
}

/// TLS to the host.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "client TLS settings")]
pub(crate) struct Tls {
    #[serde(default)]
    pub mode: TlsMode,
    #[serde(default)]
    pub sni: String,
}

/// TLS mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum TlsMode {
    #[default]
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}
