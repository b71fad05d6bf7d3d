//! Outlier detection: Envoy's defaults, and its rules field by field.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as proto;

use super::*;

fn with(detection: proto::OutlierDetection) -> proto::Cluster {
    proto::Cluster { name: "it".to_owned(), outlier_detection: Some(detection), ..Default::default() }
}

#[track_caller]
fn decoded(detection: proto::OutlierDetection) -> (OutlierDetection, Vec<String>) {
    match valid(ResourceType::Cluster, &with(detection)) {
        Resource::Cluster(cluster) => (*cluster.outlier_detection.expect("set"), cluster.unsupported),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check(detection: proto::OutlierDetection, reason: &str) {
    check_rejected(ResourceType::Cluster, &with(detection), &format!("outlier_detection.{reason}"));
}

#[expect(clippy::unnecessary_wraps, reason = "as protobuf has it")]
fn flag(value: bool) -> Option<protobuf::BoolValue> {
    Some(protobuf::BoolValue { value })
}

fn defaults() -> OutlierDetection {
    let rows = |enforcing| Consecutive { failures: 5, enforcing };
    OutlierDetection {
        consecutive_5xx: rows(100),
        consecutive_gateway_failure: rows(0),
        consecutive_local_origin_failure: rows(100),
        split_external_local_origin_errors: false,
        success_rate: SuccessRate {
            enforcing: 100,
            enforcing_local_origin: 100,
            minimum_hosts: 5,
            request_volume: 100,
            stdev_factor: 1900,
        },
        failure_percentage: FailurePercentage {
            enforcing: 0,
            enforcing_local_origin: 0,
            threshold: 85,
            minimum_hosts: 5,
            request_volume: 50,
        },
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_time_jitter: Duration::ZERO,
        max_ejection_percent: 10,
        always_eject_one_host: false,
    }
}

#[test]
fn what_is_not_set_is_as_in_envoy() {
    assert_eq!(decoded(proto::OutlierDetection::default()), (defaults(), vec![]));
}

#[test]
fn every_field_is_taken_over() {
    let wire = proto::OutlierDetection {
        consecutive_5xx: u32v(1),
        enforcing_consecutive_5xx: u32v(2),
        consecutive_gateway_failure: u32v(3),
        enforcing_consecutive_gateway_failure: u32v(4),
        consecutive_local_origin_failure: u32v(5),
        enforcing_consecutive_local_origin_failure: u32v(6),
        split_external_local_origin_errors: true,
        enforcing_success_rate: u32v(7),
        enforcing_local_origin_success_rate: u32v(8),
        success_rate_minimum_hosts: u32v(9),
        success_rate_request_volume: u32v(10),
        success_rate_stdev_factor: u32v(11),
        enforcing_failure_percentage: u32v(12),
        enforcing_failure_percentage_local_origin: u32v(13),
        failure_percentage_threshold: u32v(14),
        failure_percentage_minimum_hosts: u32v(15),
        failure_percentage_request_volume: u32v(16),
        interval: seconds(17),
        base_ejection_time: seconds(18),
        max_ejection_time: seconds(19),
        max_ejection_time_jitter: seconds(20),
        max_ejection_percent: u32v(21),
        always_eject_one_host: flag(true),
        ..Default::default()
    };
    let want = OutlierDetection {
        consecutive_5xx: Consecutive { failures: 1, enforcing: 2 },
        consecutive_gateway_failure: Consecutive { failures: 3, enforcing: 4 },
        consecutive_local_origin_failure: Consecutive { failures: 5, enforcing: 6 },
        split_external_local_origin_errors: true,
        success_rate: SuccessRate {
            enforcing: 7,
            enforcing_local_origin: 8,
            minimum_hosts: 9,
            request_volume: 10,
            stdev_factor: 11,
        },
        failure_percentage: FailurePercentage {
            enforcing: 12,
            enforcing_local_origin: 13,
            threshold: 14,
            minimum_hosts: 15,
            request_volume: 16,
        },
        interval: Duration::from_secs(17),
        base_ejection_time: Duration::from_secs(18),
        max_ejection_time: Duration::from_secs(19),
        max_ejection_time_jitter: Duration::from_secs(20),
        max_ejection_percent: 21,
        always_eject_one_host: true,
    };
    assert_eq!(decoded(wire), (want, vec![]));
}

#[test]
fn the_longest_ejection_is_never_shorter_than_the_first() {
    let base = |base| proto::OutlierDetection { base_ejection_time: seconds(base), ..Default::default() };
    assert_eq!(decoded(base(600)).0.max_ejection_time, Duration::from_secs(600), "where none is set");
    let short = proto::OutlierDetection { max_ejection_time: seconds(29), ..Default::default() };
    check(short, "max_ejection_time: is below base_ejection_time");
    let equal = proto::OutlierDetection { max_ejection_time: seconds(30), ..Default::default() };
    assert_eq!(decoded(equal).0.max_ejection_time, Duration::from_secs(30));
}

#[test]
fn percentages_over_100_and_times_of_0_are_rejected() {
    type Field = fn(&mut proto::OutlierDetection) -> &mut Option<protobuf::UInt32Value>;
    let percentages: [(&str, Field); 9] = [
        ("max_ejection_percent", |d| &mut d.max_ejection_percent),
        ("enforcing_consecutive_5xx", |d| &mut d.enforcing_consecutive_5xx),
        ("enforcing_consecutive_gateway_failure", |d| &mut d.enforcing_consecutive_gateway_failure),
        ("enforcing_consecutive_local_origin_failure", |d| &mut d.enforcing_consecutive_local_origin_failure),
        ("enforcing_success_rate", |d| &mut d.enforcing_success_rate),
        ("enforcing_local_origin_success_rate", |d| &mut d.enforcing_local_origin_success_rate),
        ("enforcing_failure_percentage", |d| &mut d.enforcing_failure_percentage),
        ("enforcing_failure_percentage_local_origin", |d| &mut d.enforcing_failure_percentage_local_origin),
        ("failure_percentage_threshold", |d| &mut d.failure_percentage_threshold),
    ];
    for (name, field) in percentages {
        let mut wire = proto::OutlierDetection::default();
        *field(&mut wire) = u32v(101);
        check(wire.clone(), &format!("{name}: 101 is over 100"));
        *field(&mut wire) = u32v(100);
        decoded(wire);
    }
    let zero = || seconds(0);
    check(proto::OutlierDetection { interval: zero(), ..Default::default() }, "interval: must be over 0");
    check(
        proto::OutlierDetection { base_ejection_time: zero(), ..Default::default() },
        "base_ejection_time: must be over 0",
    );
    check(
        proto::OutlierDetection { max_ejection_time: zero(), ..Default::default() },
        "max_ejection_time: must be over 0",
    );
    decoded(proto::OutlierDetection { max_ejection_time_jitter: zero(), ..Default::default() });
}

#[test]
fn what_needs_health_checks_headers_or_extensions_is_named() {
    let wire = proto::OutlierDetection {
        successful_active_health_check_uneject_host: flag(false),
        detect_degraded_hosts: flag(true),
        monitors: vec![Default::default()],
        ..Default::default()
    };
    let names = ["successful_active_health_check_uneject_host", "detect_degraded_hosts", "monitors"];
    let names: Vec<_> = names.iter().map(|name| format!("outlier_detection.{name}")).collect();
    assert_eq!(decoded(wire), (defaults(), names));
}
