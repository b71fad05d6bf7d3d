//! The typed resources: what the runtime believes after a resource was decoded and validated.
//!
//! Protobuf stops at the border of [`crate::resource`]; everything after it (compile, status, explain)
//! works on these types. They hold what a connection-level client can act on, and names for what it cannot
//! (`Unsupported`), so that nothing is silently dropped.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::balancing::Balancing;
use super::metadata::Metadata;

/// The resource types ldmesh subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// LDS: `envoy.config.listener.v3.Listener`.
    Listener,
    /// RDS: `envoy.config.route.v3.RouteConfiguration`.
    Route,
    /// CDS: `envoy.config.cluster.v3.Cluster`.
    Cluster,
    /// EDS: `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    Endpoint,
    /// NDS: `istio.networking.nds.v1.NameTable`.
    NameTable,
}

impl ResourceType {
    /// Every type, in the order in which a client should subscribe and a server pushes (CDS, EDS, LDS, RDS, NDS).
    pub const ALL: [Self; 5] = [Self::Cluster, Self::Endpoint, Self::Listener, Self::Route, Self::NameTable];

    /// The type URL on the wire.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::NameTable => "type.googleapis.com/istio.networking.nds.v1.NameTable",
        }
    }

    /// The type of a URL, `None` for one that was never subscribed.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.type_url() == url)
    }

    /// The short name that operators know: `LDS`, `RDS`, `CDS`, `EDS`, `NDS`.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Listener => "LDS",
            Self::Route => "RDS",
            Self::Cluster => "CDS",
            Self::Endpoint => "EDS",
            Self::NameTable => "NDS",
        }
    }
}

/// One accepted resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A listener.
    Listener(Box<Listener>),
    /// A route configuration.
    Route(RouteConfiguration),
    /// A cluster.
    Cluster(Box<Cluster>),
    /// The endpoints of one cluster.
    Endpoints(LoadAssignment),
    /// The mesh's name table (Istio sends exactly one, unnamed).
    Names(NameTable),
}

/// A listener: what to do with connections to an address and port.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Resource name, e.g. `10.96.1.2_3306` or `0.0.0.0_80`.
    pub name: String,
    /// Bound address; an unspecified address means every address. `None` for an ApiListener or a pipe.
    pub address: Option<SocketAddr>,
    /// Further addresses of a multi-address listener (dual stack).
    pub additional_addresses: Vec<SocketAddr>,
    /// Traffic direction.
    pub direction: Direction,
    /// Filter chains, in order.
    pub chains: Vec<FilterChain>,
    /// The chain used when none matches.
    pub default_chain: Option<Box<FilterChain>>,
}

/// `envoy.config.core.v3.TrafficDirection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Not said: treated as outbound.
    Unspecified,
    /// For connections into the workload: not ours.
    Inbound,
    /// For connections out of the workload.
    Outbound,
}

/// A filter chain: a match and the terminal network filter.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterChain {
    /// Name; may be empty.
    pub name: String,
    /// Match conditions; all default = matches everything.
    pub matches: ChainMatch,
    /// The last filter.
    pub filter: NetworkFilter,
    /// True when the chain terminates TLS (downstream transport socket).
    pub terminates_tls: bool,
}

/// `FilterChainMatch`, as far as an outbound client can evaluate it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChainMatch {
    /// Destination port.
    pub destination_port: Option<u16>,
    /// Destination CIDRs.
    pub prefix_ranges: Vec<Cidr>,
    /// Source CIDRs.
    pub source_prefix_ranges: Vec<Cidr>,
    /// SNI names (`*.` wildcards allowed).
    pub server_names: Vec<String>,
    /// `tls`, `raw_buffer` or empty.
    pub transport_protocol: String,
    /// ALPN values; Istio uses them for protocol sniffing (`http/1.1`, `h2c`).
    pub application_protocols: Vec<String>,
}

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// Any address inside the prefix.
    pub address: IpAddr,
    /// Prefix length in bits, at most 32 or 128.
    pub length: u8,
}

/// The terminal network filter of a chain.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkFilter {
    /// `envoy.filters.network.tcp_proxy`.
    TcpProxy(TcpProxy),
    /// `envoy.filters.network.http_connection_manager`.
    Http(HttpRoutes),
    /// Anything else, by its type URL or filter name.
    Unsupported(String),
}

/// A TCP proxy filter.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpProxy {
    /// One or more clusters; a single cluster has weight 1.
    pub clusters: Vec<WeightedCluster>,
    /// What a cluster that hashes takes for a connection's key.
    pub hash: HashPolicy,
}

/// The hash policy of a TCP proxy or an HTTP rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HashPolicy {
    /// None: each connection has a random hash.
    #[default]
    None,
    /// The source address.
    SourceIp,
    /// What a connection attempt cannot tell, in words (`header x-user`).
    Unsupported(String),
}

/// A cluster reference with a weight (relative to the sum of its list, which is over 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedCluster {
    /// Cluster name.
    pub name: String,
    /// Relative weight.
    pub weight: u32,
    /// What its endpoints shall carry, for clusters with subsets: that of the list, with the entry's own over it.
    pub metadata: Metadata,
}

/// Where an HTTP connection manager takes its routes from.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpRoutes {
    /// By RDS, with this route configuration name.
    Rds(String),
    /// Inline.
    Inline(RouteConfiguration),
    /// Scoped routes or another source, named.
    Unsupported(String),
}

/// A route configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfiguration {
    /// Resource name: `80` or `host:port`.
    pub name: String,
    /// Virtual hosts, in order.
    pub virtual_hosts: Vec<VirtualHost>,
}

/// A virtual host: domains (host names, VIPs, with and without port, `*`) and rules.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    /// Name, e.g. `greeter.default.svc.cluster.local:80`.
    pub name: String,
    /// Domains, as sent.
    pub domains: Vec<String>,
    /// Rules, in order; the first match wins.
    pub routes: Vec<Route>,
}

/// One HTTP rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Name; may be empty.
    pub name: String,
    /// `None` when the rule matches every request; else what it depends on, in words
    /// (`path prefix /api, header x-user`), for `status` and `explain`.
    pub condition: Option<String>,
    /// What it does.
    pub action: RouteAction,
}

/// The action of an HTTP rule.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// Forward to one or more clusters; the hash policy is for those that hash.
    Clusters(Vec<WeightedCluster>, HashPolicy),
    /// Anything that a connection cannot give (redirect, direct response, cluster header), named.
    Unsupported(String),
}

/// A cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Resource name, e.g. `outbound|80|v1|greeter.default.svc.cluster.local`.
    pub name: String,
    /// Where endpoints come from.
    pub discovery: Discovery,
    /// Load-balancing policy.
    pub policy: LbPolicy,
    /// What it asks for beside the policy.
    pub balancing: Balancing,
    /// `common_lb_config.locality_weighted_lb_config` is set: honour locality weights.
    pub locality_weighted: bool,
    /// `common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing`.
    pub hash_hostnames: bool,
    /// `common_lb_config.healthy_panic_threshold`, percent; Envoy's default is 50.
    pub panic_threshold: f64,
    /// `connect_timeout`; Envoy's default is 5 s.
    pub connect_timeout: Duration,
    /// `circuit_breakers` for the default priority; Envoy's default is 1024, `None` = no limit.
    pub max_connections: Option<u32>,
    /// Outlier detection.
    pub outlier_detection: Option<Box<OutlierDetection>>,
    /// Whether endpoints must be spoken to in TLS.
    pub tls: UpstreamTls,
    /// TCP keepalive for upstream connections.
    pub keepalive: Option<TcpKeepalive>,
    /// Valid settings of this cluster that this build does not honour, by field name, for `status` and `explain`.
    pub unsupported: Vec<String>,
}

/// Where the endpoints of a cluster come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    /// EDS, under this resource name (the cluster's own name unless `service_name` is set).
    Eds(String),
    /// Inline addresses.
    Static(LoadAssignment),
    /// Inline host names; every address of each is an endpoint.
    StrictDns(LoadAssignment, Box<Dns>),
    /// One inline host name; its current first address is the endpoint.
    LogicalDns(LoadAssignment, Box<Dns>),
    /// The address the program dialled.
    OriginalDst,
    /// Other clusters in order of priority.
    Aggregate(Vec<String>),
    /// Anything else, named.
    Unsupported(String),
}

/// How the host names of a cluster are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Which of their addresses count.
    pub family: DnsFamily,
    /// When they are looked up again.
    pub refresh: DnsRefresh,
}

/// `dns_lookup_family`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv6 addresses, IPv4 ones where there are none.
    #[default]
    Auto,
    /// IPv4 addresses.
    V4Only,
    /// IPv6 addresses.
    V6Only,
    /// IPv4 addresses, IPv6 ones where there are none.
    V4Preferred,
    /// All.
    All,
}

/// When a name is looked up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsRefresh {
    /// `dns_refresh_rate`; Envoy's default is 5 s.
    pub interval: Duration,
    /// `respect_dns_ttl`: the answer's TTL instead, unless it is 0.
    pub respect_ttl: bool,
    /// The bound of the first pause after a failure; it doubles with each one.
    pub retry: Duration,
    /// The bound of every pause after a failure.
    pub retry_most: Duration,
}

impl Default for DnsRefresh {
    fn default() -> Self {
        let interval = Duration::from_secs(5);
        Self { interval, respect_ttl: false, retry: interval, retry_most: interval }
    }
}

impl DnsRefresh {
    /// What suits two clusters that name the same host: the more eager of each.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            interval: self.interval.min(other.interval),
            respect_ttl: self.respect_ttl && other.respect_ttl,
            retry: self.retry.min(other.retry),
            retry_most: self.retry_most.min(other.retry_most),
        }
    }
}

/// Load-balancing policies of Envoy.
#[derive(Clone, Debug, PartialEq)]
pub enum LbPolicy {
    /// Weighted round robin.
    RoundRobin,
    /// Least request: `choice_count` random candidates, the one with the fewest active connections;
    /// with unequal weights, weight / (active + 1)^`active_request_bias`.
    LeastRequest {
        /// Number of candidates, at least 2 (Envoy's default 2).
        choice_count: u32,
        /// Exponent for unequal weights (Envoy's default 1.0).
        active_request_bias: f64,
    },
    /// Random, weighted.
    Random,
    /// Ring hash.
    RingHash {
        /// `minimum_ring_size` (Envoy's default 1024).
        minimum_ring_size: u64,
        /// `maximum_ring_size` (Envoy's default 8 Mi).
        maximum_ring_size: u64,
        /// MurmurHash2 instead of xxHash.
        murmur2: bool,
    },
    /// Maglev.
    Maglev {
        /// Table size (Envoy's default 65537).
        table_size: u64,
    },
    /// The cluster is `CLUSTER_PROVIDED` (ORIGINAL_DST, aggregate).
    ClusterProvided,
    /// A valid policy this build cannot give, by name.
    Unsupported(String),
}

/// `envoy.config.cluster.v3.OutlierDetection`, the fields that concern TCP. Percentages are 0 to 100.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierDetection {
    /// `consecutive_5xx` (connect failures count as 5xx unless split).
    pub consecutive_5xx: Consecutive,
    /// `consecutive_gateway_failure` (connect failures count unless split).
    pub consecutive_gateway_failure: Consecutive,
    /// `consecutive_local_origin_failure`: connect failures, when split.
    pub consecutive_local_origin_failure: Consecutive,
    /// `split_external_local_origin_errors`.
    pub split_external_local_origin_errors: bool,
    /// Success rate of connects.
    pub success_rate: SuccessRate,
    /// Failure percentage of connects.
    pub failure_percentage: FailurePercentage,
    /// Time between analyses.
    pub interval: Duration,
    /// `base_ejection_time`.
    pub base_ejection_time: Duration,
    /// `max_ejection_time`, not under the base time.
    pub max_ejection_time: Duration,
    /// `max_ejection_time_jitter`.
    pub max_ejection_time_jitter: Duration,
    /// `max_ejection_percent`.
    pub max_ejection_percent: u8,
    /// `always_eject_one_host`.
    pub always_eject_one_host: bool,
}

/// Failures in a row that eject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consecutive {
    /// How many; 0 is never reached.
    pub failures: u32,
    /// The chance that an endpoint is ejected for them, percent.
    pub enforcing: u8,
}

/// `success_rate_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// `enforcing_success_rate`.
    pub enforcing: u8,
    /// `enforcing_local_origin_success_rate`: instead, when split.
    pub enforcing_local_origin: u8,
    /// Endpoints with enough connects, without which nothing is concluded.
    pub minimum_hosts: u32,
    /// Connects in an interval, without which an endpoint does not count.
    pub request_volume: u32,
    /// Standard deviations under the mean, in thousandths.
    pub stdev_factor: u32,
}

/// `failure_percentage_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// `enforcing_failure_percentage`.
    pub enforcing: u8,
    /// `enforcing_failure_percentage_local_origin`: instead, when split.
    pub enforcing_local_origin: u8,
    /// Share of failures from which an endpoint is an outlier, percent.
    pub threshold: u8,
    /// Endpoints with enough connects, without which nothing is concluded.
    pub minimum_hosts: u32,
    /// Connects in an interval, without which an endpoint does not count.
    pub request_volume: u32,
}

/// What a cluster's transport socket demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Plain text.
    None,
    /// By `transport_socket_matches`: only endpoints that say `tlsMode: istio` get TLS, the others plain text
    /// (Istio's auto mTLS in permissive mode: plain text works for both).
    ByEndpoint,
    /// Every endpoint.
    Required,
}

/// `TcpKeepalive`; `None` leaves the system's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TcpKeepalive {
    /// Probes before the connection is dropped.
    pub probes: Option<u32>,
    /// Seconds of idleness before the first probe.
    pub time: Option<u32>,
    /// Seconds between probes.
    pub interval: Option<u32>,
}

/// The endpoints of one cluster (`ClusterLoadAssignment`).
#[derive(Clone, Debug, PartialEq)]
pub struct LoadAssignment {
    /// Cluster name (EDS resource name).
    pub cluster_name: String,
    /// Localities with their priority.
    pub localities: Vec<LocalityEndpoints>,
    /// `overprovisioning_factor`, percent (Envoy's default 140).
    pub overprovisioning_factor: u32,
    /// Valid settings that this build does not honour, by field name, for `status` and `explain`.
    pub unsupported: Vec<String>,
}

/// The endpoints of one locality at one priority.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalityEndpoints {
    /// Region, zone, sub-zone; each may be empty.
    pub locality: Locality,
    /// Priority, 0 first; those that no locality has are empty.
    pub priority: u32,
    /// `load_balancing_weight`; `None` = not stated.
    pub weight: Option<u32>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A locality.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Sub-zone.
    pub sub_zone: String,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Health as the control plane says.
    pub health: Health,
    /// `load_balancing_weight`, at least 1 (default 1).
    pub weight: u32,
    /// True when its metadata says `envoy.transport_socket_match: {tlsMode: istio}`.
    pub tls_mode_istio: bool,
    /// True when it is the gateway of another network and stands for the endpoints behind it: it takes Istio's mTLS only.
    pub is_gateway: bool,
    /// What most endpoints do not have.
    pub details: Option<Box<EndpointDetails>>,
}

/// What few endpoints have: there are a hundred thousand of them in a large mesh.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointDetails {
    /// What hash policies know it by (metadata `envoy.lb: {hash_key: ..}`), instead of its address.
    pub hash_key: Option<String>,
    /// `hostname`; may be empty.
    pub hostname: String,
    /// Metadata `envoy.lb`: what subsets are made by.
    pub metadata: Metadata,
}

/// An endpoint's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// IP and port.
    Socket(SocketAddr),
    /// A host name and port (STRICT_DNS, LOGICAL_DNS).
    Hostname(Box<str>, u16),
    /// An internal listener or a pipe, named: never a direct connection.
    Internal(Box<str>),
}

/// `envoy.config.core.v3.HealthStatus`, folded as Envoy does (UNKNOWN counts as healthy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// HEALTHY or UNKNOWN.
    Healthy,
    /// DEGRADED: used when there are not enough healthy ones.
    Degraded,
    /// UNHEALTHY, TIMEOUT.
    Unhealthy,
    /// DRAINING: no new connections, not even in panic.
    Draining,
}

/// Istio's name table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameTable {
    /// Host name (lower case, no final dot) to addresses.
    pub names: BTreeMap<String, NameInfo>,
}

/// One entry of the name table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameInfo {
    /// Addresses; empty = the name is known and has none.
    pub addresses: Vec<IpAddr>,
    /// `Kubernetes` or `External`.
    pub registry: String,
    /// First label of a Kubernetes service.
    pub shortname: String,
    /// Namespace of a Kubernetes service.
    pub namespace: String,
    /// Further names with the same addresses.
    pub alt_hosts: Vec<String>,
}
