//! Who ejects: the detectors, by Envoy's names.

use std::fmt;

/// A detector. The number is STATE's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Detector {
    /// Failures in a row.
    Consecutive5xx = 1,
    /// Failures in a row, by the count of those that a gateway would report: for TCP the same ones.
    ConsecutiveGatewayFailure = 2,
    /// Failures in a row, of local origin (split mode).
    ConsecutiveLocalOriginFailure = 3,
    /// A success rate far under the cluster's mean.
    SuccessRate = 4,
    /// The same in split mode.
    SuccessRateLocalOrigin = 5,
    /// A share of failures over a limit.
    FailurePercentage = 6,
    /// The same in split mode.
    FailurePercentageLocalOrigin = 7,
}

impl Detector {
    /// Every detector.
    pub const ALL: [Self; 7] = [
        Self::Consecutive5xx,
        Self::ConsecutiveGatewayFailure,
        Self::ConsecutiveLocalOriginFailure,
        Self::SuccessRate,
        Self::SuccessRateLocalOrigin,
        Self::FailurePercentage,
        Self::FailurePercentageLocalOrigin,
    ];

    /// The detector of a number found in STATE.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|detector| *detector as u8 == code)
    }

    /// Its name in words, as Envoy's documentation calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive 5xx",
            Self::ConsecutiveGatewayFailure => "consecutive gateway failure",
            Self::ConsecutiveLocalOriginFailure => "consecutive local origin failure",
            Self::SuccessRate => "success rate",
            Self::SuccessRateLocalOrigin => "local origin success rate",
            Self::FailurePercentage => "failure percentage",
            Self::FailurePercentageLocalOrigin => "local origin failure percentage",
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detector_is_known_by_its_number() {
        for detector in Detector::ALL {
            assert_eq!(Detector::from_code(detector as u8), Some(detector));
        }
        assert_eq!((Detector::from_code(0), Detector::from_code(8)), (None, None));
    }
}
