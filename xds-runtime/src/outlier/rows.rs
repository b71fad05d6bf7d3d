//! Rows of failures: the consecutive detectors.
//!
//! A failure lengthens both rows, a success ends both. A row that reaches its threshold is a detection and begins
//! anew, whether or not anybody is ejected for it (Envoy resets the counter of the detector that fired).

use crate::shm::{pack, unpack};

use super::Detector;

/// At which length a row is a detection; 0 = never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Whose row the first one is.
    pub first: Detector,
    /// Length of the first row: `consecutive_5xx`, in split mode `consecutive_local_origin_failure`.
    pub row: u32,
    /// Length of the row of gateway failures; 0 in split mode.
    pub gateway: u32,
}

impl Thresholds {
    /// Nothing is detected.
    pub const NEVER: Self = Self { first: Detector::Consecutive5xx, row: 0, gateway: 0 };
}

/// The rows of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    row: u32,
    gateway: u32,
}

/// What a failure completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    gateway: bool,
    first: Option<Detector>,
}

impl Detected {
    /// Whether anything was detected.
    pub const fn any(self) -> bool {
        self.gateway || self.first.is_some()
    }

    /// The detectors, in the order in which Envoy hears of them.
    pub fn detectors(self) -> impl Iterator<Item = Detector> {
        self.gateway.then_some(Detector::ConsecutiveGatewayFailure).into_iter().chain(self.first)
    }
}

impl Rows {
    /// The rows of a word.
    pub const fn of(word: u64) -> Self {
        let (row, gateway) = unpack(word);
        Self { row, gateway }
    }

    /// Their word.
    pub const fn word(self) -> u64 {
        pack(self.row, self.gateway)
    }

    /// The longer of the two.
    pub fn longest(self) -> u32 {
        self.row.max(self.gateway)
    }

    /// The rows after one more failure, and what it completed.
    #[must_use]
    pub fn after_failure(self, thresholds: Thresholds) -> (Self, Detected) {
        let lengthen = |row: u32, threshold: u32| {
            let longer = row.saturating_add(1);
            // A threshold that was lowered since is passed, not met.
            let complete = threshold > 0 && longer >= threshold;
            (if complete { 0 } else { longer }, complete)
        };
        let (row, first) = lengthen(self.row, thresholds.row);
        let (gateway, by_gateway) = lengthen(self.gateway, thresholds.gateway);
        (Self { row, gateway }, Detected { gateway: by_gateway, first: first.then_some(thresholds.first) })
    }

    /// The rows in which the next failure is a detection of `detector`.
    #[must_use]
    pub fn one_before(self, detector: Detector, thresholds: Thresholds) -> Self {
        let before = |row: u32, threshold: u32| row.max(threshold.saturating_sub(1));
        match detector {
            Detector::ConsecutiveGatewayFailure => Self { gateway: before(self.gateway, thresholds.gateway), ..self },
            _ => Self { row: before(self.row, thresholds.row), ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Detector::{Consecutive5xx, ConsecutiveGatewayFailure, ConsecutiveLocalOriginFailure};

    /// What each of some failures in a row detects.
    #[track_caller]
    fn check(thresholds: Thresholds, expected: &[&[Detector]]) {
        let mut rows = Rows::default();
        for (nth, expected) in expected.iter().enumerate() {
            let detected;
            (rows, detected) = rows.after_failure(thresholds);
            assert_eq!(detected.detectors().collect::<Vec<_>>(), *expected, "failure {}", nth + 1);
            assert_eq!(Rows::of(rows.word()), rows);
        }
    }

    #[test]
    fn a_row_is_detected_at_its_length_and_begins_anew() {
        let five_xx = |row, gateway| Thresholds { first: Consecutive5xx, row, gateway };
        check(five_xx(3, 0), &[&[], &[], &[Consecutive5xx], &[], &[], &[Consecutive5xx]]);
        check(five_xx(1, 0), &[&[Consecutive5xx], &[Consecutive5xx]]);
        check(five_xx(0, 2), &[&[], &[ConsecutiveGatewayFailure], &[], &[ConsecutiveGatewayFailure]]);
        check(five_xx(2, 3), &[&[], &[Consecutive5xx], &[ConsecutiveGatewayFailure], &[Consecutive5xx]]);
        check(five_xx(2, 2), &[&[], &[ConsecutiveGatewayFailure, Consecutive5xx]]);
        let split = Thresholds { first: ConsecutiveLocalOriginFailure, row: 2, gateway: 0 };
        check(split, &[&[], &[ConsecutiveLocalOriginFailure]]);
        check(Thresholds::NEVER, &[&[], &[], &[]]);
    }

    #[test]
    fn a_threshold_lowered_under_a_row_is_passed_by_the_next_failure() {
        let (rows, _) = Rows { row: 7, gateway: 0 }.after_failure(Thresholds::NEVER);
        let (rows, detected) = rows.after_failure(Thresholds { row: 3, ..Thresholds::NEVER });
        assert_eq!((rows.row, detected.any()), (0, true));
    }

    #[test]
    fn a_detection_that_came_to_nothing_is_made_again_by_the_next_failure() {
        let thresholds = Thresholds { first: Consecutive5xx, row: 5, gateway: 3 };
        for detector in [Consecutive5xx, ConsecutiveGatewayFailure] {
            let (_, detected) = Rows::default().one_before(detector, thresholds).after_failure(thresholds);
            assert_eq!(detected.detectors().collect::<Vec<_>>(), [detector]);
        }
    }
}
