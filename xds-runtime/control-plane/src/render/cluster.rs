//! CDS: clusters with their policies.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbConfig, LbPolicy,
    LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions,
};
use envoy_types::pb::envoy::config::core::v3::{RuntimeDouble, TcpKeepalive, TransportSocket, transport_socket};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use envoy_types::pb::envoy::r#type::v3::Percent;

use super::target::{BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH, Target, targets};
use super::wire::{ads, any, duration, u32_value, u64_value};
use super::{Proxy, endpoint};
use crate::input::{ConnectionPool, ConsistentHash, LoadBalancer, SimpleLb, TlsMode};
use crate::model::{Mesh, Policy, Resolution};

/// Istio's default for a mesh.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Envoy's default ring.
const RING_SIZE: u64 = 1024;

/// Every cluster.
pub(super) fn clusters(mesh: &Mesh, proxy: &Proxy) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = targets(mesh, proxy).filter_map(|target| cluster(&target, proxy)).collect();
    clusters.push(original_dst(PASSTHROUGH));
    clusters.push(original_dst(INBOUND_PASSTHROUGH));
    clusters.push(Cluster {
        name: BLACK_HOLE.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        connect_timeout: Some(duration(CONNECT_TIMEOUT)),
        ..Default::default()
    });
    clusters
}

fn original_dst(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
        connect_timeout: Some(duration(CONNECT_TIMEOUT)),
        lb_policy: LbPolicy::ClusterProvided.into(),
        circuit_breakers: Some(circuit_breakers(None)),
        ..Default::default()
    }
}

#[expect(deprecated, reason = "istiod writes the DNS fields of the cluster itself")]
/// One cluster; `None` for a DNS cluster that would have no endpoint.
fn cluster(target: &Target<'_>, proxy: &Proxy) -> Option<Cluster> {
    let name = target.name();
    let policy = target.policy();
    let discovery = match target.service.resolution {
        Resolution::Endpoints => DiscoveryType::Eds,
        Resolution::StrictDns => DiscoveryType::StrictDns,
        Resolution::LogicalDns => DiscoveryType::LogicalDns,
        Resolution::Passthrough => DiscoveryType::OriginalDst,
    };
    let mut cluster = Cluster {
        connect_timeout: Some(duration(CONNECT_TIMEOUT)),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        circuit_breakers: Some(circuit_breakers(policy.connection_pool)),
        common_lb_config: Some(CommonLbConfig::default()),
        ..Default::default()
    };
    match discovery {
        DiscoveryType::Eds => {
            cluster.eds_cluster_config = Some(EdsClusterConfig { eds_config: Some(ads()), service_name: name.clone() });
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let assignment = endpoint::assignment(target, proxy);
            cluster.load_assignment = Some(one_name(assignment, discovery)?);
            cluster.respect_dns_ttl = true;
            cluster.dns_refresh_rate = Some(duration(Duration::from_secs(60)));
            cluster.dns_lookup_family = DnsLookupFamily::V4Only.into();
        }
        _ => {}
    }
    apply_load_balancer(&mut cluster, policy.load_balancer, discovery);
    apply_connection_pool(&mut cluster, policy.connection_pool);
    apply_outlier_detection(&mut cluster, &policy);
    apply_tls(&mut cluster, &policy);
    cluster.name = name;
    Some(cluster)
}

/// The inline assignment of a DNS cluster; a LOGICAL_DNS cluster has exactly one endpoint.
fn one_name(mut assignment: ClusterLoadAssignment, discovery: DiscoveryType) -> Option<ClusterLoadAssignment> {
    assignment.endpoints.retain(|group| !group.lb_endpoints.is_empty());
    if discovery == DiscoveryType::LogicalDns {
        assignment.endpoints.truncate(1);
        for group in &mut assignment.endpoints {
            group.lb_endpoints.truncate(1);
        }
    }
    (!assignment.endpoints.is_empty()).then_some(assignment)
}

/// No limit where none was set: istiod writes the largest number, because Envoy's default is 1024.
fn circuit_breakers(pool: Option<&ConnectionPool>) -> CircuitBreakers {
    let limit = |value: Option<u32>| u32_value(value.unwrap_or(u32::MAX));
    let thresholds = Thresholds {
        max_connections: limit(pool.and_then(|pool| pool.tcp.max_connections)),
        max_pending_requests: limit(pool.and_then(|pool| pool.http.http1_max_pending_requests)),
        max_requests: limit(pool.and_then(|pool| pool.http.http2_max_requests)),
        max_retries: limit(pool.and_then(|pool| pool.http.max_retries)),
        track_remaining: true,
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

fn apply_load_balancer(cluster: &mut Cluster, settings: Option<&LoadBalancer>, discovery: DiscoveryType) {
    // Endpoints of ORIGINAL_DST are not the control plane's to choose.
    if discovery == DiscoveryType::OriginalDst {
        cluster.lb_policy = LbPolicy::ClusterProvided.into();
        return;
    }
    let locality = settings.and_then(|settings| settings.locality_lb_setting.as_ref());
    if locality.and_then(|locality| locality.enabled) != Some(false)
        && let Some(common) = &mut cluster.common_lb_config
    {
        let weighted = LocalityWeightedLbConfig::default();
        common.locality_config_specifier = Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(weighted));
    }
    if let Some(hash) = settings.and_then(|settings| settings.consistent_hash.as_ref()) {
        apply_consistent_hash(cluster, hash);
        return;
    }
    let policy = match settings.and_then(|settings| settings.simple) {
        None | Some(SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest) => LbPolicy::LeastRequest,
        Some(SimpleLb::Random) => LbPolicy::Random,
        Some(SimpleLb::RoundRobin) => LbPolicy::RoundRobin,
        Some(SimpleLb::Passthrough) => {
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into()));
            cluster.eds_cluster_config = None;
            cluster.load_assignment = None;
            if let Some(common) = &mut cluster.common_lb_config {
                common.locality_config_specifier = None;
            }
            LbPolicy::ClusterProvided
        }
    };
    cluster.lb_policy = policy.into();
    apply_warmup(cluster, policy, settings);
}

/// Slow start, for the policies that have it. `warmup` takes the place of the older field.
fn apply_warmup(cluster: &mut Cluster, policy: LbPolicy, settings: Option<&LoadBalancer>) {
    let Some(settings) = settings else { return };
    let old = settings.warmup_duration_secs.map(|window| (window, None, None));
    let new = settings.warmup.and_then(|warmup| Some((warmup.duration?, warmup.aggression, warmup.minimum_percent)));
    let Some((window, aggression, percent)) = new.or(old) else { return };
    let slow_start_config = Some(SlowStartConfig {
        slow_start_window: Some(duration(window)),
        // istiod writes the defaults.
        aggression: Some(RuntimeDouble { default_value: aggression.unwrap_or(1.0), ..Default::default() }),
        min_weight_percent: Some(Percent { value: percent.unwrap_or(10.0) }),
    });
    cluster.lb_config = match policy {
        LbPolicy::RoundRobin => Some(LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config })),
        LbPolicy::LeastRequest => {
            Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig { slow_start_config, ..Default::default() }))
        }
        _ => None,
    };
}

fn apply_consistent_hash(cluster: &mut Cluster, hash: &ConsistentHash) {
    if let Some(maglev) = &hash.maglev {
        cluster.lb_policy = LbPolicy::Maglev.into();
        cluster.lb_config =
            maglev.table_size.map(|size| LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: u64_value(size) }));
        return;
    }
    let size = hash.ring_hash.and_then(|ring| ring.minimum_ring_size).or(hash.minimum_ring_size);
    cluster.lb_policy = LbPolicy::RingHash.into();
    cluster.lb_config = Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
        minimum_ring_size: u64_value(size.unwrap_or(RING_SIZE)),
        ..Default::default()
    }));
}

fn apply_connection_pool(cluster: &mut Cluster, pool: Option<&ConnectionPool>) {
    let Some(pool) = pool else { return };
    if let Some(timeout) = pool.tcp.connect_timeout {
        cluster.connect_timeout = Some(duration(timeout));
    }
    if let Some(keepalive) = &pool.tcp.tcp_keepalive {
        let seconds = |value: Option<Duration>| {
            value.and_then(|value| u32_value(u32::try_from(value.as_secs()).unwrap_or(u32::MAX)))
        };
        cluster.upstream_connection_options = Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: keepalive.probes.and_then(u32_value),
                keepalive_time: seconds(keepalive.time),
                keepalive_interval: seconds(keepalive.interval),
            }),
            ..Default::default()
        });
    }
}

fn apply_outlier_detection(cluster: &mut Cluster, policy: &Policy<'_>) {
    let Some(settings) = policy.outlier_detection else {
        return;
    };
    // A number of 0 means "do not enforce".
    let enforce = |value: Option<u32>| value.and_then(|value| u32_value(if value > 0 { 100 } else { 0 }));
    let mut out = OutlierDetection {
        // Success rates are no part of Istio's settings.
        enforcing_success_rate: u32_value(0),
        consecutive_5xx: settings.consecutive_5xx_errors.and_then(u32_value),
        enforcing_consecutive_5xx: enforce(settings.consecutive_5xx_errors),
        consecutive_gateway_failure: settings.consecutive_gateway_errors.and_then(u32_value),
        enforcing_consecutive_gateway_failure: enforce(settings.consecutive_gateway_errors),
        interval: settings.interval.map(duration),
        base_ejection_time: settings.base_ejection_time.map(duration),
        max_ejection_percent: settings.max_ejection_percent.filter(|percent| *percent > 0).and_then(u32_value),
        ..Default::default()
    };
    if settings.split_external_local_origin_errors {
        out.split_external_local_origin_errors = true;
        let failures = settings.consecutive_local_origin_failures.filter(|failures| *failures > 0);
        out.consecutive_local_origin_failure = failures.and_then(u32_value);
        out.enforcing_consecutive_local_origin_failure = failures.and_then(|_| u32_value(100));
        out.enforcing_local_origin_success_rate = u32_value(0);
    }
    cluster.outlier_detection = Some(out);
    if let Some(common) = &mut cluster.common_lb_config {
        let value = f64::from(settings.min_health_percent.unwrap_or(0));
        common.healthy_panic_threshold = Some(Percent { value });
    }
}

fn apply_tls(cluster: &mut Cluster, policy: &Policy<'_>) {
    let Some(tls) = policy.tls.filter(|tls| tls.mode != TlsMode::Disable) else {
        return;
    };
    let context = UpstreamTlsContext { sni: tls.sni.clone(), ..Default::default() };
    cluster.transport_socket = Some(TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    });
}
