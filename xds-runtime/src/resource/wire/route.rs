//! RDS.

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::google::protobuf::UInt32Value;
use prost::{Message, Oneof};

use super::{Metadata, Named, Present};

/// `envoy.config.route.v3.RouteConfiguration`.
#[derive(Clone, PartialEq, Message)]
pub struct RouteConfiguration {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub virtual_hosts: Vec<VirtualHost>,
}

/// `envoy.config.route.v3.VirtualHost`.
#[derive(Clone, PartialEq, Message)]
pub struct VirtualHost {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub routes: Vec<Route>,
    #[prost(int32, tag = "4")]
    pub require_tls: i32,
    #[prost(message, optional, tag = "21")]
    pub matcher: Option<Present>,
}

/// `envoy.config.route.v3.Route`.
#[derive(Clone, PartialEq, Message)]
pub struct Route {
    #[prost(message, optional, tag = "1")]
    pub r#match: Option<RouteMatch>,
    #[prost(oneof = "Action", tags = "2, 3, 7, 17, 18")]
    pub action: Option<Action>,
    #[prost(string, tag = "14")]
    pub name: String,
}

/// `Route.action`.
#[derive(Clone, PartialEq, Oneof)]
pub enum Action {
    #[prost(message, tag = "2")]
    Route(RouteAction),
    #[prost(message, tag = "3")]
    Redirect(Present),
    #[prost(message, tag = "7")]
    DirectResponse(DirectResponseAction),
    #[prost(message, tag = "17")]
    FilterAction(Present),
    #[prost(message, tag = "18")]
    NonForwardingAction(Present),
}

/// `envoy.config.route.v3.DirectResponseAction`.
#[derive(Clone, PartialEq, Message)]
pub struct DirectResponseAction {
    #[prost(uint32, tag = "1")]
    pub status: u32,
}

/// `envoy.config.route.v3.RouteAction`.
#[derive(Clone, PartialEq, Message)]
pub struct RouteAction {
    #[prost(oneof = "ClusterSpecifier", tags = "1, 2, 3, 37, 39")]
    pub cluster_specifier: Option<ClusterSpecifier>,
    #[prost(message, optional, tag = "4")]
    pub metadata_match: Option<Metadata>,
    #[prost(message, repeated, tag = "15")]
    pub hash_policy: Vec<HashPolicy>,
}

/// `RouteAction.cluster_specifier`.
#[derive(Clone, PartialEq, Oneof)]
pub enum ClusterSpecifier {
    #[prost(string, tag = "1")]
    Cluster(String),
    #[prost(string, tag = "2")]
    ClusterHeader(String),
    #[prost(message, tag = "3")]
    WeightedClusters(WeightedCluster),
    #[prost(string, tag = "37")]
    ClusterSpecifierPlugin(String),
    #[prost(message, tag = "39")]
    InlineClusterSpecifierPlugin(Present),
}

/// `envoy.config.route.v3.WeightedCluster`.
#[derive(Clone, PartialEq, Message)]
pub struct WeightedCluster {
    #[prost(message, repeated, tag = "1")]
    pub clusters: Vec<ClusterWeight>,
}

/// `WeightedCluster.ClusterWeight`.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterWeight {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub weight: Option<UInt32Value>,
    #[prost(message, optional, tag = "3")]
    pub metadata_match: Option<Metadata>,
    #[prost(string, tag = "12")]
    pub cluster_header: String,
}

/// `RouteAction.HashPolicy`.
#[derive(Clone, PartialEq, Message)]
pub struct HashPolicy {
    #[prost(oneof = "PolicySpecifier", tags = "1, 2, 3, 5, 6")]
    pub policy_specifier: Option<PolicySpecifier>,
}

/// `RouteAction.HashPolicy.policy_specifier`.
#[derive(Clone, PartialEq, Oneof)]
pub enum PolicySpecifier {
    #[prost(message, tag = "1")]
    Header(Named),
    #[prost(message, tag = "2")]
    Cookie(Named),
    #[prost(message, tag = "3")]
    ConnectionProperties(ConnectionProperties),
    #[prost(message, tag = "5")]
    QueryParameter(Named),
    #[prost(message, tag = "6")]
    FilterState(Named),
}

/// `RouteAction.HashPolicy.ConnectionProperties`.
#[derive(Clone, PartialEq, Message)]
pub struct ConnectionProperties {
    #[prost(bool, tag = "1")]
    pub source_ip: bool,
}

/// `envoy.config.route.v3.RouteMatch`.
#[derive(Clone, PartialEq, Message)]
pub struct RouteMatch {
    #[prost(oneof = "PathSpecifier", tags = "1, 2, 10, 12, 14, 15")]
    pub path_specifier: Option<PathSpecifier>,
    #[prost(message, repeated, tag = "6")]
    pub headers: Vec<HeaderMatcher>,
    #[prost(message, repeated, tag = "7")]
    pub query_parameters: Vec<Named>,
    #[prost(message, optional, tag = "8")]
    pub grpc: Option<Present>,
    #[prost(message, optional, tag = "9")]
    pub runtime_fraction: Option<RuntimeFractionalPercent>,
    #[prost(message, optional, tag = "11")]
    pub tls_context: Option<Present>,
    #[prost(message, repeated, tag = "13")]
    pub dynamic_metadata: Vec<Present>,
    #[prost(message, repeated, tag = "16")]
    pub filter_state: Vec<Present>,
    #[prost(message, repeated, tag = "17")]
    pub cookies: Vec<Named>,
}

/// `RouteMatch.path_specifier`.
#[derive(Clone, PartialEq, Oneof)]
pub enum PathSpecifier {
    #[prost(string, tag = "1")]
    Prefix(String),
    #[prost(string, tag = "2")]
    Path(String),
    #[prost(message, tag = "10")]
    SafeRegex(RegexMatcher),
    #[prost(message, tag = "12")]
    ConnectMatcher(Present),
    #[prost(string, tag = "14")]
    PathSeparatedPrefix(String),
    #[prost(message, tag = "15")]
    PathMatchPolicy(Named),
}

/// `envoy.type.matcher.v3.RegexMatcher`.
#[derive(Clone, PartialEq, Message)]
pub struct RegexMatcher {
    #[prost(string, tag = "2")]
    pub regex: String,
}
