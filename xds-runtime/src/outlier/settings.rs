//! A cluster's outlier detection as the image has it: Envoy's fields, reduced to what a TCP connection can meet.

use super::{Detector, Thresholds};
use crate::shm::{Millis, pack, unpack};

/// Words of a cluster's settings.
pub const SETTINGS_WORDS: usize = 9;

const SPLIT: u8 = 1;
const ALWAYS_ONE: u8 = 2;

/// Outlier detection of a cluster. Percentages are 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Failures are of local origin (`split_external_local_origin_errors`).
    pub split: bool,
    /// Failures in a row: `consecutive_5xx`, in split mode `consecutive_local_origin_failure`; 0 = never.
    pub row: u32,
    /// The chance that such a row ejects.
    pub enforcing_row: u8,
    /// `consecutive_gateway_failure`; 0 in split mode.
    pub gateway: u32,
    /// The chance that such a row ejects.
    pub enforcing_gateway: u8,
    /// Success rate.
    pub success_rate: SuccessRate,
    /// Failure percentage.
    pub failure_percentage: FailurePercentage,
    /// How often statistics are looked at and multipliers shrink.
    pub interval: Millis,
    /// Length of a first ejection.
    pub base_ejection_time: Millis,
    /// Length that an ejection does not exceed, but for its jitter.
    pub max_ejection_time: Millis,
    /// The most that chance adds to an ejection.
    pub max_ejection_time_jitter: Millis,
    /// Share of the cluster's endpoints that may be ejected at a time.
    pub max_ejection_percent: u8,
    /// One may always be.
    pub always_eject_one_host: bool,
    /// Endpoints that are draining: not among those of the image, and yet a part of the whole that the share is of.
    pub draining: u32,
}

/// Success rates against the cluster's mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// The chance that an outlier is ejected.
    pub enforcing: u8,
    /// Endpoints with enough volume, without which nothing is concluded.
    pub minimum_hosts: u32,
    /// Connects in an interval, without which an endpoint does not count.
    pub request_volume: u32,
    /// Standard deviations under the mean, in thousandths.
    pub stdev_factor: u32,
}

/// Failures against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// The chance that an outlier is ejected.
    pub enforcing: u8,
    /// The limit.
    pub threshold: u8,
    /// Endpoints with enough volume, without which nothing is concluded.
    pub minimum_hosts: u32,
    /// Connects in an interval, without which an endpoint does not count.
    pub request_volume: u32,
}

impl Settings {
    /// At which length rows are detected.
    pub const fn thresholds(&self) -> Thresholds {
        let first = if self.split { Detector::ConsecutiveLocalOriginFailure } else { Detector::Consecutive5xx };
        Thresholds { first, row: self.row, gateway: self.gateway }
    }

    /// The detector that looks at success rates.
    pub const fn success_rate_detector(&self) -> Detector {
        if self.split { Detector::SuccessRateLocalOrigin } else { Detector::SuccessRate }
    }

    /// The detector that looks at shares of failures.
    pub const fn failure_percentage_detector(&self) -> Detector {
        if self.split { Detector::FailurePercentageLocalOrigin } else { Detector::FailurePercentage }
    }

    /// The chance, in percent, that a detection ejects.
    pub const fn enforcing(&self, detector: Detector) -> u8 {
        match detector {
            Detector::Consecutive5xx | Detector::ConsecutiveLocalOriginFailure => self.enforcing_row,
            Detector::ConsecutiveGatewayFailure => self.enforcing_gateway,
            Detector::SuccessRate | Detector::SuccessRateLocalOrigin => self.success_rate.enforcing,
            Detector::FailurePercentage | Detector::FailurePercentageLocalOrigin => self.failure_percentage.enforcing,
        }
    }

    /// The image's words.
    pub const fn words(&self) -> [u64; SETTINGS_WORDS] {
        let flags = if self.split { SPLIT } else { 0 } | if self.always_eject_one_host { ALWAYS_ONE } else { 0 };
        let bytes = [
            self.enforcing_row,
            self.enforcing_gateway,
            self.success_rate.enforcing,
            self.failure_percentage.enforcing,
            self.failure_percentage.threshold,
            self.max_ejection_percent,
            flags,
            0,
        ];
        [
            pack(self.row, self.gateway),
            u64::from_le_bytes(bytes),
            self.interval,
            self.base_ejection_time,
            self.max_ejection_time,
            self.max_ejection_time_jitter,
            pack(self.success_rate.minimum_hosts, self.success_rate.request_volume),
            pack(self.success_rate.stdev_factor, self.failure_percentage.minimum_hosts),
            pack(self.failure_percentage.request_volume, self.draining),
        ]
    }

    /// The settings of some words of an image.
    pub const fn of(words: [u64; SETTINGS_WORDS]) -> Self {
        let [rows, bytes, interval, base, max, jitter, success, mixed, failure] = words;
        let [enforcing_row, enforcing_gateway, by_rate, by_percentage, threshold, max_percent, flags, _] =
            bytes.to_le_bytes();
        let ((row, gateway), (stdev_factor, percentage_hosts)) = (unpack(rows), unpack(mixed));
        let ((rate_hosts, rate_volume), (percentage_volume, draining)) = (unpack(success), unpack(failure));
        Self {
            split: flags & SPLIT != 0,
            row,
            enforcing_row,
            gateway,
            enforcing_gateway,
            success_rate: SuccessRate {
                enforcing: by_rate,
                minimum_hosts: rate_hosts,
                request_volume: rate_volume,
                stdev_factor,
            },
            failure_percentage: FailurePercentage {
                enforcing: by_percentage,
                threshold,
                minimum_hosts: percentage_hosts,
                request_volume: percentage_volume,
            },
            interval,
            base_ejection_time: base,
            max_ejection_time: max,
            max_ejection_time_jitter: jitter,
            max_ejection_percent: max_percent,
            always_eject_one_host: flags & ALWAYS_ONE != 0,
            draining,
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Envoy's defaults, but that anybody may be ejected.
    pub(crate) const ANYBODY: Settings = Settings {
        split: false,
        row: 5,
        enforcing_row: 100,
        gateway: 5,
        enforcing_gateway: 0,
        success_rate: SuccessRate { enforcing: 100, minimum_hosts: 5, request_volume: 100, stdev_factor: 1900 },
        failure_percentage: FailurePercentage { enforcing: 0, threshold: 85, minimum_hosts: 5, request_volume: 50 },
        interval: 10_000,
        base_ejection_time: 30_000,
        max_ejection_time: 300_000,
        max_ejection_time_jitter: 0,
        max_ejection_percent: 100,
        always_eject_one_host: false,
        draining: 0,
    };
}

#[cfg(test)]
mod tests {
    use super::testing::ANYBODY;
    use super::*;

    #[test]
    fn settings_come_back_from_their_words() {
        assert_eq!(Settings::of(ANYBODY.words()), ANYBODY);
        // Each field with a value of its own.
        let distinct = Settings {
            split: true,
            row: 1,
            enforcing_row: 2,
            gateway: 3,
            enforcing_gateway: 4,
            success_rate: SuccessRate { enforcing: 5, minimum_hosts: 6, request_volume: 7, stdev_factor: 8 },
            failure_percentage: FailurePercentage {
                enforcing: 9,
                threshold: 10,
                minimum_hosts: 11,
                request_volume: u32::MAX,
            },
            interval: 12,
            base_ejection_time: 13,
            max_ejection_time: u64::MAX,
            max_ejection_time_jitter: 15,
            max_ejection_percent: 16,
            always_eject_one_host: true,
            draining: 17,
        };
        assert_eq!(Settings::of(distinct.words()), distinct);
    }

    #[test]
    fn split_mode_has_detectors_of_its_own() {
        let split = Settings { split: true, ..ANYBODY };
        let of = |settings: Settings| {
            [settings.thresholds().first, settings.success_rate_detector(), settings.failure_percentage_detector()]
        };
        assert!(of(ANYBODY).iter().zip(of(split)).all(|(whole, split)| *whole != split));
        for detector in Detector::ALL {
            let settings = Settings { split: of(split).contains(&detector), ..ANYBODY };
            let percent = match detector {
                Detector::FailurePercentage
                | Detector::FailurePercentageLocalOrigin
                | Detector::ConsecutiveGatewayFailure => 0,
                _ => 100,
            };
            assert_eq!(settings.enforcing(detector), percent, "{detector}");
        }
    }
}
