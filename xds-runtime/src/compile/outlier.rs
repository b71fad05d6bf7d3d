//! A cluster's outlier detection, reduced to what a TCP connection can meet.
//!
//! Of the two kinds of errors that Envoy can tell apart, a TCP connection has those of local origin only: in split mode
//! the detectors of the others never hear of anything.

use std::time::Duration;

use crate::outlier::{FailurePercentage, Settings, SuccessRate};
use crate::resource::OutlierDetection;
use crate::shm::Millis;

pub(super) fn settings(detection: &OutlierDetection, draining: u32) -> Settings {
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
        draining,
    }
}

/// Whole milliseconds, as Envoy takes them.
fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlier::Detector;
    use crate::resource;

    fn detection(split: bool) -> OutlierDetection {
        let row = |failures, enforcing| resource::Consecutive { failures, enforcing };
        OutlierDetection {
            consecutive_5xx: row(1, 2),
            consecutive_gateway_failure: row(3, 4),
            consecutive_local_origin_failure: row(5, 6),
            split_external_local_origin_errors: split,
            success_rate: resource::SuccessRate {
                enforcing: 7,
                enforcing_local_origin: 8,
                minimum_hosts: 9,
                request_volume: 10,
                stdev_factor: 11,
            },
            failure_percentage: resource::FailurePercentage {
                enforcing: 12,
                enforcing_local_origin: 13,
                threshold: 14,
                minimum_hosts: 15,
                request_volume: 16,
            },
            interval: Duration::from_micros(1_700),
            base_ejection_time: Duration::from_micros(900),
            max_ejection_time: Duration::MAX,
            max_ejection_time_jitter: Duration::from_micros(900),
            max_ejection_percent: 20,
            always_eject_one_host: true,
        }
    }

    /// The detectors that can fire, with what is needed and the chance that they eject.
    fn detectors(split: bool) -> Vec<(Detector, u32, u8)> {
        let settings = settings(&detection(split), 0);
        let thresholds = settings.thresholds();
        let (rate, percentage) = (settings.success_rate_detector(), settings.failure_percentage_detector());
        [
            (thresholds.first, thresholds.row),
            (Detector::ConsecutiveGatewayFailure, thresholds.gateway),
            (rate, settings.success_rate.request_volume),
            (percentage, settings.failure_percentage.request_volume),
        ]
        .into_iter()
        .filter(|(_, needed)| *needed > 0)
        .map(|(detector, needed)| (detector, needed, settings.enforcing(detector)))
        .collect()
    }

    #[test]
    fn a_failed_connect_counts_for_one_kind_of_detectors() {
        let whole = [
            (Detector::Consecutive5xx, 1, 2),
            (Detector::ConsecutiveGatewayFailure, 3, 4),
            (Detector::SuccessRate, 10, 7),
            (Detector::FailurePercentage, 16, 12),
        ];
        assert_eq!(detectors(false), whole);
        let split = [
            (Detector::ConsecutiveLocalOriginFailure, 5, 6),
            (Detector::SuccessRateLocalOrigin, 10, 8),
            (Detector::FailurePercentageLocalOrigin, 16, 13),
        ];
        assert_eq!(detectors(true), split);
    }

    #[test]
    fn times_are_whole_milliseconds_and_none_but_the_jitter_is_0() {
        let settings = settings(&detection(false), 3);
        assert_eq!((settings.interval, settings.base_ejection_time), (1, 1));
        assert_eq!((settings.max_ejection_time, settings.max_ejection_time_jitter), (Millis::MAX, 0));
        assert_eq!(settings.draining, 3);
    }
}
