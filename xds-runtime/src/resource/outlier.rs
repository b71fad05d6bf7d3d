//! Outlier detection with Envoy's defaults.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as proto;
use envoy_types::pb::google::protobuf::UInt32Value;

use super::invalid::Invalid;
use super::model::{Consecutive, FailurePercentage, OutlierDetection, SuccessRate};
use super::scalar::{duration, percent, positive_duration};

const CONSECUTIVE: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const BASE_EJECTION: Duration = Duration::from_secs(30);
const MAX_EJECTION: Duration = Duration::from_secs(300);
const MAX_EJECTION_PERCENT: u32 = 10;
const MINIMUM_HOSTS: u32 = 5;
const SUCCESS_RATE_VOLUME: u32 = 100;
const STDEV_FACTOR: u32 = 1900;
const FAILURE_PERCENTAGE: u32 = 85;
const FAILURE_PERCENTAGE_VOLUME: u32 = 50;

/// Converts, and adds to `unsupported` what is asked for and cannot be met by a connection.
pub(super) fn convert(
    wire: proto::OutlierDetection,
    unsupported: &mut Vec<String>,
) -> Result<OutlierDetection, Invalid> {
    let count = |value: Option<UInt32Value>, default: u32| value.map_or(default, |value| value.value);
    let share = |value, default, field: &str| {
        // Checked to be at most 100.
        percent(value, default, field).map(|percent| u8::try_from(percent).unwrap_or(100))
    };
    let consecutive = |failures, enforcing, default, field: &str| {
        Ok::<_, Invalid>(Consecutive {
            failures: count(failures, CONSECUTIVE),
            enforcing: share(enforcing, default, &format!("enforcing_{field}"))?,
        })
    };
    let base_ejection_time = positive_duration(wire.base_ejection_time, BASE_EJECTION, "base_ejection_time")?;
    let longest = MAX_EJECTION.max(base_ejection_time);
    let max_ejection_time = positive_duration(wire.max_ejection_time, longest, "max_ejection_time")?;
    if max_ejection_time < base_ejection_time {
        return Err(Invalid::new("max_ejection_time", "is below base_ejection_time"));
    }
    let converted = OutlierDetection {
        consecutive_5xx: consecutive(wire.consecutive_5xx, wire.enforcing_consecutive_5xx, 100, "consecutive_5xx")?,
        consecutive_gateway_failure: consecutive(
            wire.consecutive_gateway_failure,
            wire.enforcing_consecutive_gateway_failure,
            0,
            "consecutive_gateway_failure",
        )?,
        consecutive_local_origin_failure: consecutive(
            wire.consecutive_local_origin_failure,
            wire.enforcing_consecutive_local_origin_failure,
            100,
            "consecutive_local_origin_failure",
        )?,
        split_external_local_origin_errors: wire.split_external_local_origin_errors,
        success_rate: SuccessRate {
            enforcing: share(wire.enforcing_success_rate, 100, "enforcing_success_rate")?,
            enforcing_local_origin: share(
                wire.enforcing_local_origin_success_rate,
                100,
                "enforcing_local_origin_success_rate",
            )?,
            minimum_hosts: count(wire.success_rate_minimum_hosts, MINIMUM_HOSTS),
            request_volume: count(wire.success_rate_request_volume, SUCCESS_RATE_VOLUME),
            stdev_factor: count(wire.success_rate_stdev_factor, STDEV_FACTOR),
        },
        failure_percentage: FailurePercentage {
            enforcing: share(wire.enforcing_failure_percentage, 0, "enforcing_failure_percentage")?,
            enforcing_local_origin: share(
                wire.enforcing_failure_percentage_local_origin,
                0,
                "enforcing_failure_percentage_local_origin",
            )?,
            threshold: share(wire.failure_percentage_threshold, FAILURE_PERCENTAGE, "failure_percentage_threshold")?,
            minimum_hosts: count(wire.failure_percentage_minimum_hosts, MINIMUM_HOSTS),
            request_volume: count(wire.failure_percentage_request_volume, FAILURE_PERCENTAGE_VOLUME),
        },
        interval: positive_duration(wire.interval, INTERVAL, "interval")?,
        base_ejection_time,
        max_ejection_time,
        max_ejection_time_jitter: duration(wire.max_ejection_time_jitter, "max_ejection_time_jitter")?
            .unwrap_or_default(),
        max_ejection_percent: share(wire.max_ejection_percent, MAX_EJECTION_PERCENT, "max_ejection_percent")?,
        always_eject_one_host: wire.always_eject_one_host.is_some_and(|always| always.value),
    };
    let is_set = |value: Option<_>| value.is_some();
    for (asked_for, name) in [
        // There are no active health checks, and no response headers.
        (is_set(wire.successful_active_health_check_uneject_host), "successful_active_health_check_uneject_host"),
        (wire.detect_degraded_hosts.is_some_and(|detect| detect.value), "detect_degraded_hosts"),
        (!wire.monitors.is_empty(), "monitors"),
    ] {
        if asked_for {
            unsupported.push(format!("outlier_detection.{name}"));
        }
    }
    Ok(converted)
}
