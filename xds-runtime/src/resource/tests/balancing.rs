//! What clusters ask for beside their policy: in the cluster and in the policies' extensions.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::{Cluster as Wired, cluster as proto};
use envoy_types::pb::envoy::extensions::load_balancing_policies as policies;
use envoy_types::pb::envoy::r#type::v3::Percent;
use policies::common::v3 as common;
use proto::{LbConfig, LbPolicy as Wire};

use super::cds::{check, decoded, eds, extension, policy_list};
use super::*;

fn double(default_value: f64) -> Option<core::RuntimeDouble> {
    Some(core::RuntimeDouble { default_value, runtime_key: String::new() })
}

/// A cluster whose policy has this slow start: round robin or least request, of old or as an extension.
fn starting(config: &proto::SlowStartConfig) -> [Wired; 4] {
    let slow_start_config = Some(config.clone());
    let of_old = |policy: Wire, config| Wired { lb_policy: policy.into(), lb_config: Some(config), ..eds() };
    let round_robin = proto::RoundRobinLbConfig { slow_start_config: slow_start_config.clone() };
    let least = proto::LeastRequestLbConfig { slow_start_config, ..Default::default() };
    let slow_start_config = Some(common::SlowStartConfig {
        slow_start_window: config.slow_start_window,
        aggression: config.aggression.clone(),
        min_weight_percent: config.min_weight_percent,
    });
    let new_round_robin =
        policies::round_robin::v3::RoundRobin { slow_start_config: slow_start_config.clone(), ..Default::default() };
    let new_least = policies::least_request::v3::LeastRequest { slow_start_config, ..Default::default() };
    [
        of_old(Wire::RoundRobin, LbConfig::RoundRobinLbConfig(round_robin)),
        of_old(Wire::LeastRequest, LbConfig::LeastRequestLbConfig(least)),
        policy_list(vec![extension("round_robin.v3.RoundRobin", &new_round_robin)]),
        policy_list(vec![extension("least_request.v3.LeastRequest", &new_least)]),
    ]
}

#[track_caller]
fn check_start(config: &proto::SlowStartConfig, want: Option<SlowStart>) {
    for wire in starting(config) {
        let found = decoded(&wire);
        assert_eq!((found.balancing.slow_start, found.unsupported), (want, vec![]));
    }
}

#[test]
fn slow_start_has_envoys_defaults_in_both_places() {
    let minute = SlowStart { window: Duration::from_secs(60), aggression: 1.0, min_weight_percent: 10.0 };
    let wire = |aggression, percent: Option<f64>| proto::SlowStartConfig {
        slow_start_window: seconds(60),
        aggression,
        min_weight_percent: percent.map(|value| Percent { value }),
    };
    check_start(&wire(None, None), Some(minute));
    let set = SlowStart { aggression: 2.5, min_weight_percent: 0.5, ..minute };
    check_start(&wire(double(2.5), Some(0.5)), Some(set));
    // Envoy goes on with 1 where the aggression makes no sense.
    for odd in [0.0, -1.0, f64::NAN] {
        check_start(&wire(double(odd), None), Some(minute));
    }
    check_start(&proto::SlowStartConfig { slow_start_window: seconds(0), ..wire(None, None) }, None);
}

#[test]
fn a_slow_start_that_is_invalid_is_rejected_by_name() {
    let over = Some(Percent { value: 100.5 });
    let config = proto::SlowStartConfig { min_weight_percent: over, ..Default::default() };
    let negative = proto::SlowStartConfig { slow_start_window: seconds(-1), ..Default::default() };
    let places = [
        "round_robin_lb_config",
        "least_request_lb_config",
        "load_balancing_policy.policies[0]",
        "load_balancing_policy.policies[0]",
    ];
    for ((percent, window), place) in starting(&config).iter().zip(starting(&negative)).zip(places) {
        check(percent, &format!("{place}.slow_start_config.min_weight_percent: is no percentage"));
        check(&window, &format!("{place}.slow_start_config.slow_start_window: -1s 0ns is no duration"));
    }
}

#[test]
fn zones_have_envoys_defaults_and_what_is_set() {
    assert_eq!(decoded(&eds()).balancing.zone_aware, ZoneAware::default());
    let set = ZoneAware {
        routing_enabled: 80.0,
        min_cluster_size: 9,
        fail_traffic_on_panic: true,
        by_weight: false,
        force_local_zone: None,
    };
    let old = proto::common_lb_config::ZoneAwareLbConfig {
        routing_enabled: Some(Percent { value: 80.0 }),
        min_cluster_size: Some(protobuf::UInt64Value { value: 9 }),
        fail_traffic_on_panic: true,
    };
    let with = |zones| {
        let specifier = proto::common_lb_config::LocalityConfigSpecifier::ZoneAwareLbConfig(zones);
        let common = proto::CommonLbConfig { locality_config_specifier: Some(specifier), ..Default::default() };
        Wired { common_lb_config: Some(common), ..eds() }
    };
    let found = decoded(&with(old));
    assert_eq!((found.balancing.zone_aware, found.locality_weighted, found.unsupported), (set, false, vec![]));
    let over = proto::common_lb_config::ZoneAwareLbConfig { routing_enabled: Some(Percent { value: 101.0 }), ..old };
    check(&with(over), "common_lb_config.zone_aware_lb_config.routing_enabled: is no percentage");

    use common::locality_lb_config::{
        LocalityConfigSpecifier, ZoneAwareLbConfig, zone_aware_lb_config::ForceLocalZone,
    };
    let new = ZoneAwareLbConfig {
        routing_enabled: Some(Percent { value: 80.0 }),
        min_cluster_size: Some(protobuf::UInt64Value { value: 9 }),
        fail_traffic_on_panic: true,
        locality_basis: 1,
        force_local_zone: Some(ForceLocalZone { min_size: None }),
        ..Default::default()
    };
    let list = |zones| {
        let locality = common::LocalityLbConfig {
            locality_config_specifier: Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zones)),
        };
        let random = policies::random::v3::Random { locality_lb_config: Some(locality) };
        policy_list(vec![extension("random.v3.Random", &random)])
    };
    let want = ZoneAware { by_weight: true, force_local_zone: Some(1), ..set };
    assert_eq!(decoded(&list(new)).balancing.zone_aware, want);
    check(
        &list(ZoneAwareLbConfig { locality_basis: 7, ..new }),
        "load_balancing_policy.policies[0].locality_lb_config.zone_aware_lb_config.locality_basis: 7 is not defined",
    );
    let both = Wired { common_lb_config: with(old).common_lb_config, ..list(new) };
    check(&both, "common_lb_config.locality_config_specifier: cannot be combined with load_balancing_policy");
}

#[test]
fn a_full_scan_and_bounded_loads_are_taken_or_rejected_by_name() {
    let least = |selection_method| {
        let wire = policies::least_request::v3::LeastRequest { selection_method, ..Default::default() };
        policy_list(vec![extension("least_request.v3.LeastRequest", &wire)])
    };
    assert!(decoded(&least(1)).balancing.full_scan && !decoded(&least(0)).balancing.full_scan);
    check(&least(2), "load_balancing_policy.policies[0].selection_method: 2 is not defined");

    let maglev = |factor| {
        let hashing = common::ConsistentHashingLbConfig { hash_balance_factor: u32v(factor), ..Default::default() };
        let wire = policies::maglev::v3::Maglev { consistent_hashing_lb_config: Some(hashing), ..Default::default() };
        policy_list(vec![extension("maglev.v3.Maglev", &wire)])
    };
    let found = decoded(&maglev(125));
    assert_eq!((found.balancing.hash_balance_factor, found.unsupported), (Some(125), vec![]));
    let field = "consistent_hashing_lb_config.hash_balance_factor: 99 is below 100";
    check(&maglev(99), &format!("load_balancing_policy.policies[0].{field}"));
    let old = |factor| {
        let hashing = proto::common_lb_config::ConsistentHashingLbConfig {
            hash_balance_factor: u32v(factor),
            ..Default::default()
        };
        let common = proto::CommonLbConfig { consistent_hashing_lb_config: Some(hashing), ..Default::default() };
        Wired { common_lb_config: Some(common), lb_policy: Wire::RingHash.into(), ..eds() }
    };
    assert_eq!(decoded(&old(100)).balancing.hash_balance_factor, Some(100));
    check(&old(99), &format!("common_lb_config.{field}"));
}

#[test]
#[expect(deprecated, reason = "the policy's own settings are part of the message")]
fn a_ring_s_own_settings_count_where_there_is_no_common_message() {
    use policies::ring_hash::v3::RingHash;
    let list = |wire: RingHash| policy_list(vec![extension("ring_hash.v3.RingHash", &wire)]);
    let own =
        |factor| RingHash { use_hostname_for_hashing: true, hash_balance_factor: u32v(factor), ..Default::default() };
    let found = decoded(&list(own(130)));
    assert_eq!((found.hash_hostnames, found.balancing.hash_balance_factor), (true, Some(130)));
    let common = Some(common::ConsistentHashingLbConfig::default());
    let found = decoded(&list(RingHash { consistent_hashing_lb_config: common, ..own(130) }));
    assert_eq!((found.hash_hostnames, found.balancing.hash_balance_factor), (false, None));
    check(&list(own(99)), "load_balancing_policy.policies[0].hash_balance_factor: 99 is below 100");
}

#[test]
fn a_hash_function_that_is_not_defined_is_rejected() {
    let murmur2 = |found: &Cluster| matches!(found.policy, LbPolicy::RingHash { murmur2: true, .. });
    let new = |hash_function| {
        let wire = policies::ring_hash::v3::RingHash { hash_function, ..Default::default() };
        policy_list(vec![extension("ring_hash.v3.RingHash", &wire)])
    };
    assert!(!murmur2(&decoded(&new(0))) && !murmur2(&decoded(&new(1))) && murmur2(&decoded(&new(2))));
    check(&new(3), "load_balancing_policy.policies[0].hash_function: 3 is not defined");
    let old = |hash_function| {
        let config = LbConfig::RingHashLbConfig(proto::RingHashLbConfig { hash_function, ..Default::default() });
        Wired { lb_policy: Wire::RingHash.into(), lb_config: Some(config), ..eds() }
    };
    assert!(!murmur2(&decoded(&old(0))) && murmur2(&decoded(&old(1))));
    check(&old(2), "ring_hash_lb_config.hash_function: 2 is not defined");
}

#[test]
fn more_choices_than_are_drawn_are_said() {
    let of = |choice_count| {
        let wire = policies::least_request::v3::LeastRequest { choice_count: u32v(choice_count), ..Default::default() };
        decoded(&policy_list(vec![extension("least_request.v3.LeastRequest", &wire)])).unsupported
    };
    assert_eq!((of(128), of(129)), (vec![], vec!["choice_count over 128".to_owned()]));
}
