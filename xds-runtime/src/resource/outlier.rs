//! Outlier detection with Envoy's defaults.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as proto;
use envoy_types::pb::google::protobuf::UInt32Value;

use super::invalid::Invalid;
use super::model::OutlierDetection;
use super::scalar::{duration, percent, positive_duration};

/// Default threshold of the consecutive detectors.
const CONSECUTIVE: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const BASE_EJECTION: Duration = Duration::from_secs(30);
const MAX_EJECTION: Duration = Duration::from_secs(300);
const MAX_EJECTION_PERCENT: u32 = 10;

/// Converts, and adds to `unsupported` what is asked for and not honoured.
pub(super) fn convert(
    wire: proto::OutlierDetection,
    unsupported: &mut Vec<String>,
) -> Result<OutlierDetection, Invalid> {
    let mut detector = |count: Option<UInt32Value>, enforcing: Option<UInt32Value>, default: u32, name: &str| {
        let enforced = percent(enforcing, default, &format!("enforcing_{name}"))?;
        if !matches!(enforced, 0 | 100) {
            unsupported.push(format!("outlier_detection.enforcing_{name} = {enforced} (taken as 100)"));
        }
        // A count of 0 is never reached.
        let count = count.map_or(CONSECUTIVE, |c| c.value);
        Ok::<_, Invalid>((enforced > 0 && count > 0).then_some(count))
    };
    let consecutive_5xx = detector(wire.consecutive_5xx, wire.enforcing_consecutive_5xx, 100, "consecutive_5xx")?;
    let consecutive_gateway_failure = detector(
        wire.consecutive_gateway_failure,
        wire.enforcing_consecutive_gateway_failure,
        0,
        "consecutive_gateway_failure",
    )?;
    let consecutive_local_origin_failure = detector(
        wire.consecutive_local_origin_failure,
        wire.enforcing_consecutive_local_origin_failure,
        100,
        "consecutive_local_origin_failure",
    )?;
    // Statistical detectors are named only where someone asked for them: Envoy's defaults need 5 hosts with
    // 100 requests each in an interval.
    for (value, name) in [
        (wire.enforcing_success_rate, "enforcing_success_rate"),
        (wire.enforcing_local_origin_success_rate, "enforcing_local_origin_success_rate"),
        (wire.enforcing_failure_percentage, "enforcing_failure_percentage"),
        (wire.enforcing_failure_percentage_local_origin, "enforcing_failure_percentage_local_origin"),
    ] {
        if percent(value, 0, name)? > 0 {
            unsupported.push(format!("outlier_detection.{name}"));
        }
    }
    let base_ejection_time = positive_duration(wire.base_ejection_time, BASE_EJECTION, "base_ejection_time")?;
    let max_ejection_time = match duration(wire.max_ejection_time, "max_ejection_time")? {
        Some(max) if max < base_ejection_time => {
            return Err(Invalid::new("max_ejection_time", "is below base_ejection_time"));
        }
        Some(max) => max,
        None => MAX_EJECTION.max(base_ejection_time),
    };
    Ok(OutlierDetection {
        consecutive_5xx,
        consecutive_gateway_failure,
        consecutive_local_origin_failure,
        split_external_local_origin_errors: wire.split_external_local_origin_errors,
        interval: positive_duration(wire.interval, INTERVAL, "interval")?,
        base_ejection_time,
        max_ejection_time,
        max_ejection_percent: percent(wire.max_ejection_percent, MAX_EJECTION_PERCENT, "max_ejection_percent")?,
    })
}
