//! A cluster's outlier detection, reduced to what a TCP connection can meet.
//!
//! Of the two kinds of errors that Envoy can tell apart, a TCP connection has those of local origin only: in split mode
//! the detectors of the others never hear of anything.

use std::time::Duration;

use crate::outlier::{FailurePercentage, Settings, SuccessRate};
use crate::resource::OutlierDetection;
use crate::shm::Millis;

pub(super) fn settings(detection: &OutlierDetection) -> Settings {
    let split = detection.split_external_local_origin_errors;
    let row = if split { detection.consecutive_local_origin_failure } else { detection.consecutive_5xx };
    let gateway = detection.consecutive_gateway_failure;
    let (rate, percentage) = (detection.success_rate, detection.failure_percentage);
    Settings {
        split,
        row: row.failures,
        enforcing_row: row.enforcing,
        gateway: if split { 0 } else { gateway.failures },
        enforcing_gateway: gateway.enforcing,
        success_rate: SuccessRate {
            enforcing: if split { rate.enforcing_local_origin } else { rate.enforcing },
            minimum_hosts: rate.minimum_hosts,
            request_volume: rate.request_volume,
            stdev_factor: rate.stdev_factor,
        },
        failure_percentage: FailurePercentage {
            enforcing: if split { percentage.enforcing_local_origin } else { percentage.enforcing },
            threshold: percentage.threshold,
            minimum_hosts: percentage.minimum_hosts,
            request_volume: percentage.request_volume,
        },
        interval: millis(detection.interval).max(1),
        base_ejection_time: millis(detection.base_ejection_time).max(1),
        max_ejection_time: millis(detection.max_ejection_time).max(1),
        max_ejection_time_jitter: millis(detection.max_ejection_time_jitter),
        max_ejection_percent: detection.max_ejection_percent,
        always_eject_one_host: detection.always_eject_one_host,
    }
}

/// Whole milliseconds, as Envoy takes them.
fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
