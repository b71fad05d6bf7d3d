use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as proto;
use envoy_types::pb::envoy::extensions::load_balancing_policies as policies;
use proto::cluster::{ClusterDiscoveryType, DiscoveryType};

use super::*;

fn of_type(discovery: DiscoveryType) -> proto::Cluster {
    proto::Cluster {
        name: "it".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery as i32)),
        ..Default::default()
    }
}

pub(super) fn eds() -> proto::Cluster {
    let ads = core::config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {});
    let source = core::ConfigSource { config_source_specifier: Some(ads), ..Default::default() };
    let config = proto::cluster::EdsClusterConfig { eds_config: Some(source), ..Default::default() };
    proto::Cluster { eds_cluster_config: Some(config), ..of_type(DiscoveryType::Eds) }
}

#[track_caller]
pub(super) fn decoded(wire: &proto::Cluster) -> Cluster {
    match valid(ResourceType::Cluster, wire) {
        Resource::Cluster(cluster) => *cluster,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(super) fn check(wire: &proto::Cluster, reason: &str) {
    check_rejected(ResourceType::Cluster, wire, reason);
}

#[test]
fn a_bare_eds_cluster_has_envoys_defaults() {
    let want = Cluster {
        name: "it".to_owned(),
        discovery: Discovery::Eds("it".to_owned()),
        policy: LbPolicy::RoundRobin,
        balancing: Balancing::default(),
        locality_weighted: false,
        hash_hostnames: false,
        panic_threshold: 50.0,
        connect_timeout: Duration::from_secs(5),
        max_connections: Some(1024),
        outlier_detection: None,
        tls: UpstreamTls::None,
        keepalive: None,
        unsupported: vec![],
    };
    assert_eq!(decoded(&eds()), want);
}

#[test]
fn an_eds_cluster_needs_its_source() {
    check(&of_type(DiscoveryType::Eds), "eds_cluster_config: required and missing");
    let config = Some(proto::cluster::EdsClusterConfig::default());
    let wire = proto::Cluster { eds_cluster_config: config, ..of_type(DiscoveryType::Eds) };
    check(&wire, "eds_cluster_config.eds_config: required and missing");
}

#[test]
fn the_service_name_is_what_eds_is_asked_for() {
    let mut wire = eds();
    wire.eds_cluster_config.as_mut().expect("set").service_name = "other".to_owned();
    assert_eq!(decoded(&wire).discovery, Discovery::Eds("other".to_owned()));
}

#[test]
fn a_static_cluster_may_be_empty_and_a_logical_dns_cluster_has_one_endpoint() {
    assert!(
        matches!(decoded(&of_type(DiscoveryType::Static)).discovery, Discovery::Static(a) if a.localities.is_empty())
    );
    let with = |count: usize| {
        let lb_endpoints = (0..count).map(|i| lb_endpoint(&format!("host{i}"), 80)).collect();
        let locality = endpoint::LocalityLbEndpoints { lb_endpoints, ..Default::default() };
        let assignment = endpoint::ClusterLoadAssignment { endpoints: vec![locality], ..Default::default() };
        proto::Cluster { load_assignment: Some(assignment), ..of_type(DiscoveryType::LogicalDns) }
    };
    assert!(matches!(decoded(&with(1)).discovery, Discovery::LogicalDns(..)));
    check(&with(2), "load_assignment: LOGICAL_DNS needs exactly one endpoint");
    let fixed = proto::Cluster { load_assignment: with(1).load_assignment, ..of_type(DiscoveryType::Static) };
    check(
        &fixed,
        "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: \"host0\" is no IP address",
    );
}

pub(super) fn policy_list(entries: Vec<protobuf::Any>) -> proto::Cluster {
    let one = |any| proto::load_balancing_policy::Policy {
        typed_extension_config: Some(core::TypedExtensionConfig { name: "p".to_owned(), typed_config: Some(any) }),
    };
    let list = proto::LoadBalancingPolicy { policies: entries.into_iter().map(one).collect() };
    proto::Cluster { load_balancing_policy: Some(list), ..eds() }
}

pub(super) fn extension<M: Message>(name: &str, message: &M) -> protobuf::Any {
    typed_any(&format!("envoy.extensions.load_balancing_policies.{name}"), message)
}

#[test]
fn the_first_supported_policy_of_a_list_wins_and_none_is_named() {
    let pick_first = || extension("pick_first.v3.PickFirst", &policies::pick_first::v3::PickFirst::default());
    let random = extension("random.v3.Random", &policies::random::v3::Random::default());
    assert_eq!(decoded(&policy_list(vec![pick_first(), random])).policy, LbPolicy::Random);
    let want = "envoy.extensions.load_balancing_policies.pick_first.v3.PickFirst";
    assert_eq!(decoded(&policy_list(vec![pick_first()])).policy, LbPolicy::Unsupported(want.to_owned()));
    check(&policy_list(vec![]), "load_balancing_policy.policies: required and missing");
}

#[test]
fn wrr_locality_weighs_localities_around_the_policy_inside() {
    let least = policies::least_request::v3::LeastRequest { choice_count: u32v(3), ..Default::default() };
    let inner = policy_list(vec![extension("least_request.v3.LeastRequest", &least)]).load_balancing_policy;
    let outer = policies::wrr_locality::v3::WrrLocality { endpoint_picking_policy: inner };
    let found = decoded(&policy_list(vec![extension("wrr_locality.v3.WrrLocality", &outer)]));
    assert!(found.locality_weighted);
    assert_eq!(found.policy, LbPolicy::LeastRequest { choice_count: 3, active_request_bias: 1.0 });
}

#[test]
fn policies_that_contain_themselves_too_deep_are_rejected() {
    let mut list = policy_list(vec![extension("random.v3.Random", &policies::random::v3::Random::default())]);
    for _ in 0..10 {
        let outer = policies::wrr_locality::v3::WrrLocality { endpoint_picking_policy: list.load_balancing_policy };
        list = policy_list(vec![extension("wrr_locality.v3.WrrLocality", &outer)]);
    }
    assert!(
        matches!(decode(ResourceType::Cluster, "", &list.encode_to_vec().into()), Decoded::Rejected { reason, .. } if reason.ends_with("nested too deep"))
    );
}

#[test]
fn numbers_out_of_their_range_are_rejected() {
    let least = proto::cluster::LeastRequestLbConfig { choice_count: u32v(1), ..Default::default() };
    let mut wire = eds();
    wire.lb_policy = proto::cluster::LbPolicy::LeastRequest as i32;
    wire.lb_config = Some(proto::cluster::LbConfig::LeastRequestLbConfig(least));
    check(&wire, "least_request_lb_config.choice_count: 1 is below 2");

    let maglev = proto::cluster::MaglevLbConfig { table_size: Some(protobuf::UInt64Value { value: 65536 }) };
    wire.lb_policy = proto::cluster::LbPolicy::Maglev as i32;
    wire.lb_config = Some(proto::cluster::LbConfig::MaglevLbConfig(maglev));
    check(&wire, "maglev_lb_config.table_size: 65536 is no prime up to 5000011");

    check(&proto::Cluster { lb_policy: 99, ..eds() }, "lb_policy: 99 is not defined");
    check(&proto::Cluster { connect_timeout: seconds(0), ..eds() }, "connect_timeout: must be over 0");
    check(&proto::Cluster { connect_timeout: seconds(-1), ..eds() }, "connect_timeout: -1s 0ns is no duration");
    let common = proto::cluster::CommonLbConfig {
        healthy_panic_threshold: Some(envoy_types::pb::envoy::r#type::v3::Percent { value: f64::NAN }),
        ..Default::default()
    };
    check(
        &proto::Cluster { common_lb_config: Some(common), ..eds() },
        "common_lb_config.healthy_panic_threshold: is no percentage",
    );
}

#[test]
fn valid_settings_that_are_not_honoured_are_named() {
    let filter = proto::Filter { name: "f".to_owned(), ..Default::default() };
    assert_eq!(decoded(&proto::Cluster { filters: vec![filter], ..eds() }).unsupported, ["filters"]);
    let common = proto::cluster::CommonLbConfig { close_connections_on_host_set_change: true, ..Default::default() };
    let closing =
        proto::Cluster { common_lb_config: Some(common), close_connections_on_host_health_failure: true, ..eds() };
    let want = ["common_lb_config.close_connections_on_host_set_change", "close_connections_on_host_health_failure"];
    assert_eq!(decoded(&closing).unsupported, want);
}

#[test]
#[allow(deprecated, reason = "control planes send them")]
fn what_a_dns_cluster_says_of_resolvers_and_jitter_is_not_honoured_and_named() {
    use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
    let resolver = core::TypedExtensionConfig { name: "cares".to_owned(), typed_config: None };
    let wire = proto::Cluster {
        typed_dns_resolver_config: Some(resolver.clone()),
        dns_resolution_config: Some(core::DnsResolutionConfig::default()),
        dns_resolvers: vec![core::Address::default()],
        use_tcp_for_dns_lookups: true,
        dns_jitter: seconds(1),
        ..of_type(DiscoveryType::StrictDns)
    };
    let want = [
        "typed_dns_resolver_config",
        "dns_resolution_config",
        "dns_resolvers",
        "use_tcp_for_dns_lookups",
        "dns_jitter",
    ];
    assert_eq!(decoded(&wire).unsupported, want);
    let without = proto::Cluster { dns_jitter: seconds(0), ..of_type(DiscoveryType::StrictDns) };
    assert_eq!(decoded(&without).unsupported, [""; 0]);
    let negative = proto::Cluster { dns_jitter: seconds(-1), ..of_type(DiscoveryType::StrictDns) };
    check(&negative, "dns_jitter: -1s 0ns is no duration");

    let by_extension = |extension: &DnsCluster| {
        let custom = proto::cluster::CustomClusterType {
            name: "envoy.clusters.dns".to_owned(),
            typed_config: Some(typed_any("envoy.extensions.clusters.dns.v3.DnsCluster", extension)),
        };
        proto::Cluster { cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(custom)), ..eds() }
    };
    let floored = |floor| DnsCluster { dns_min_refresh_rate: seconds(floor), ..Default::default() };
    let all = DnsCluster { typed_dns_resolver_config: Some(resolver), dns_jitter: seconds(1), ..floored(2) };
    let want = ["typed_dns_resolver_config", "dns_jitter", "dns_min_refresh_rate"];
    assert_eq!(decoded(&by_extension(&all)).unsupported, want);
    assert_eq!(decoded(&by_extension(&floored(1))).unsupported, [""; 0]);
    check(&by_extension(&floored(0)), "cluster_type.dns_min_refresh_rate: is below 1 s");
}

fn transport_socket(tls: bool) -> Option<core::TransportSocket> {
    let name = if tls { "tls.v3.UpstreamTlsContext" } else { "raw_buffer.v3.RawBuffer" };
    let any = typed_any(&format!("envoy.extensions.transport_sockets.{name}"), &protobuf::Struct::default());
    let config_type = Some(core::transport_socket::ConfigType::TypedConfig(any));
    Some(core::TransportSocket { name: "s".to_owned(), config_type })
}

#[track_caller]
fn check_tls(matches: &[(Option<&str>, bool)], rest: Option<bool>, want: UpstreamTls) {
    let one = |(mode, tls): &(Option<&str>, bool)| proto::cluster::TransportSocketMatch {
        name: "m".to_owned(),
        r#match: Some(mode.map_or_else(protobuf::Struct::default, tls_mode)),
        transport_socket: transport_socket(*tls),
    };
    let wire = proto::Cluster {
        transport_socket_matches: matches.iter().map(one).collect(),
        transport_socket: rest.and_then(transport_socket),
        ..eds()
    };
    assert_eq!(decoded(&wire).tls, want);
}

#[test]
fn tls_is_demanded_of_the_cluster_or_by_its_endpoints() {
    check_tls(&[], None, UpstreamTls::None);
    check_tls(&[], Some(false), UpstreamTls::None);
    check_tls(&[], Some(true), UpstreamTls::Required);
    // Istio's automatic mTLS.
    check_tls(&[(Some("istio"), true), (None, false)], None, UpstreamTls::ByEndpoint);
    check_tls(&[(Some("istio"), true)], Some(true), UpstreamTls::Required);
    check_tls(&[(Some("istio"), true), (None, true)], None, UpstreamTls::Required);
    check_tls(&[(Some("other"), true), (None, false)], None, UpstreamTls::Required);
    check_tls(&[(Some("other"), false)], None, UpstreamTls::None);
}

#[test]
#[allow(deprecated, reason = "control planes send them")]
fn a_dns_cluster_says_how_its_names_are_looked_up() {
    use envoy_types::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as Family;
    use envoy_types::pb::envoy::extensions::clusters::dns::v3::{DnsCluster, dns_cluster};
    let dns = |wire: &proto::Cluster| match decoded(wire).discovery {
        Discovery::StrictDns(_, dns) | Discovery::LogicalDns(_, dns) => *dns,
        other => panic!("{other:?}"),
    };
    let strict = || of_type(DiscoveryType::StrictDns);
    let rate = |base, most| {
        let rate = proto::cluster::RefreshRate { base_interval: base, max_interval: most };
        proto::Cluster { dns_failure_refresh_rate: Some(rate), ..strict() }
    };
    let of_seconds = |interval, respect_ttl, retry, retry_most| DnsRefresh {
        interval: Duration::from_secs(interval),
        respect_ttl,
        retry: Duration::from_secs(retry),
        retry_most: Duration::from_secs(retry_most),
    };
    assert_eq!(dns(&strict()), Dns { family: DnsFamily::Auto, refresh: of_seconds(5, false, 5, 5) });
    let family = proto::cluster::DnsLookupFamily::V4Only as i32;
    let wire =
        proto::Cluster { dns_lookup_family: family, dns_refresh_rate: seconds(60), respect_dns_ttl: true, ..strict() };
    assert_eq!(dns(&wire), Dns { family: DnsFamily::V4Only, refresh: of_seconds(60, true, 60, 60) });
    assert_eq!(dns(&rate(seconds(2), None)).refresh, of_seconds(5, false, 2, 20));
    assert_eq!(dns(&rate(seconds(2), seconds(7))).refresh, of_seconds(5, false, 2, 7));
    let extension = DnsCluster {
        dns_lookup_family: Family::All as i32,
        dns_refresh_rate: seconds(9),
        dns_failure_refresh_rate: Some(dns_cluster::RefreshRate { base_interval: seconds(1), max_interval: None }),
        ..Default::default()
    };
    let custom = proto::cluster::CustomClusterType {
        name: "envoy.clusters.dns".to_owned(),
        typed_config: Some(typed_any("envoy.extensions.clusters.dns.v3.DnsCluster", &extension)),
    };
    let wire = proto::Cluster {
        cluster_discovery_type: Some(proto::cluster::ClusterDiscoveryType::ClusterType(custom)),
        ..strict()
    };
    assert_eq!(dns(&wire), Dns { family: DnsFamily::All, refresh: of_seconds(9, false, 1, 10) });
    check(&rate(None, seconds(7)), "dns_failure_refresh_rate.base_interval: required and missing");
    check(&rate(seconds(9), seconds(7)), "dns_failure_refresh_rate.max_interval: is below base_interval");
}

#[test]
fn an_original_destination_is_the_dialled_address_and_what_would_change_it_is_named() {
    let with = |config| {
        let lb_config = Some(proto::cluster::LbConfig::OriginalDstLbConfig(config));
        decoded(&proto::Cluster { lb_config, ..of_type(DiscoveryType::OriginalDst) })
    };
    let config = proto::cluster::OriginalDstLbConfig { use_http_header: true, ..Default::default() };
    let found = with(config.clone());
    assert_eq!(found.discovery, Discovery::OriginalDst);
    assert_eq!(found.unsupported, ["original_dst_lb_config.use_http_header"]);
    let port = proto::cluster::OriginalDstLbConfig { upstream_port_override: u32v(8443), ..config };
    let named = "original_dst_lb_config.upstream_port_override";
    assert_eq!(with(port).discovery, Discovery::Unsupported(named.to_owned()));
}

#[test]
fn without_a_limit_of_connections_envoys_holds_and_the_largest_is_none() {
    let with = |priority: core::RoutingPriority, max_connections| {
        let thresholds =
            proto::circuit_breakers::Thresholds { priority: priority as i32, max_connections, ..Default::default() };
        let breakers = proto::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() };
        decoded(&proto::Cluster { circuit_breakers: Some(breakers), ..eds() }).max_connections
    };
    assert_eq!(with(core::RoutingPriority::Default, u32v(7)), Some(7));
    assert_eq!(with(core::RoutingPriority::Default, u32v(0)), Some(0), "none at all");
    assert_eq!(with(core::RoutingPriority::Default, None), Some(1024));
    assert_eq!(with(core::RoutingPriority::High, u32v(7)), Some(1024), "of another priority");
    assert_eq!(with(core::RoutingPriority::Default, u32v(u32::MAX)), None);
}
