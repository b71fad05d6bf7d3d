//! What few clusters ask for beside their policy: a record of its own, so that the others carry none.

use crate::image::layout::{BALANCING_WORDS, NONE};
use crate::shm::{pack, unpack};

/// What a cluster asks for beside its policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balancing {
    /// New endpoints get less, for a while.
    pub slow_start: Option<SlowStart>,
    /// The cluster to take when this one has no usable endpoint.
    pub otherwise: Option<u32>,
}

/// Slow start: a new endpoint's weight grows over `window_ms` (see `lb::slow_start`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// How long an endpoint is new, milliseconds; over 0.
    pub window_ms: u32,
    /// Aggression in thousandths; over 0.
    pub aggression_thousandths: u32,
    /// The least share of its weight, in hundredths of a percent.
    pub min_weight: u32,
}

impl Balancing {
    /// The words of a record; `None` when nothing is asked for.
    pub(super) fn words(&self) -> Option<[u64; BALANCING_WORDS]> {
        if *self == Self::default() {
            return None;
        }
        let start = self.slow_start.unwrap_or(SlowStart { window_ms: 0, aggression_thousandths: 0, min_weight: 0 });
        Some([
            pack(start.window_ms, start.aggression_thousandths),
            pack(start.min_weight, 0),
            u64::from(self.otherwise.unwrap_or(NONE)),
        ])
    }

    /// What such words say.
    pub(super) fn from_words([start, least, otherwise]: [u64; BALANCING_WORDS]) -> Self {
        let ((window_ms, aggression_thousandths), (min_weight, _)) = (unpack(start), unpack(least));
        let slow_start = (window_ms > 0).then_some(SlowStart { window_ms, aggression_thousandths, min_weight });
        Self { slow_start, otherwise: Some(otherwise as u32).filter(|index| *index != NONE) }
    }
}
