//! What slots know of health: how connects to an endpoint end, who ejected it until when, and what its cluster's slot
//! holds so that ejections are decided one after another.
//!
//! ```text
//! endpoint: 3 rows of failures | 4 ejected until | 5 last success | 6 failures | 9 successes | 10 ejections | 11 seen
//! cluster:  3 claim            | 4 until somebody is ejected      | 5 swept    | 6 index in the image
//! ```

use std::sync::atomic::Ordering;

use super::slots::Slot;
use crate::outlier::{Detected, Detector, Rows, Thresholds, Volume};
use crate::shm::{Millis, pack, unpack};

const ROWS: usize = 3;
const EJECTED_UNTIL: usize = 4;
const LAST_SUCCESS: usize = 5;
const FAILURES: usize = 6;
const SUCCESSES: usize = 9;
/// `multiplier << 32 | times << 8 | detector`.
const EJECTIONS: usize = 10;
/// Successes and failures at the last interval, their low halves.
const SEEN: usize = 11;

const CLAIM: usize = 3;
const SWEPT: usize = 5;
const INDEX: usize = 6;

/// A claim whose holder died or was stopped is another's after this long: a decision takes far less.
const CLAIM_MS: Millis = 1_000;
/// Bits of a claim that tell claims of one millisecond apart.
const NONCE_BITS: u32 = 20;
const TIMES_MOST: u32 = 0x00ff_ffff;

/// What a slot knows of its endpoint's ejections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// Until when; in the past = it is not ejected, 0 = it never was.
    pub until: Millis,
    /// The last ejection lasted this many base ejection times; shrinks with each interval without one.
    pub multiplier: u32,
    /// How often it was ejected.
    pub times: u32,
    /// Who ejected it last.
    pub detector: Option<Detector>,
}

/// The right to eject in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim(u64);

impl Slot<'_> {
    /// A connection was established.
    pub fn succeeded(&self, now: Millis) {
        if let Some(successes) = self.cell(SUCCESSES) {
            successes.fetch_add(1, Ordering::Relaxed);
        }
        self.store(LAST_SUCCESS, now);
        if self.load(ROWS) != 0 {
            self.store(ROWS, 0);
        }
    }

    /// A connection could not be established. What is detected is told to one caller, and its row begins anew. While
    /// the endpoint is ejected its rows stand still: it comes back with none.
    pub fn failed(&self, thresholds: Thresholds, now: Millis) -> Detected {
        if let Some(failures) = self.cell(FAILURES) {
            failures.fetch_add(1, Ordering::Relaxed);
        }
        let Some(rows) = self.cell(ROWS).filter(|_| !self.is_ejected(now)) else { return Detected::default() };
        let mut detected = Detected::default();
        let after = |word| {
            let next;
            (next, detected) = Rows::of(word).after_failure(thresholds);
            Some(next.word())
        };
        let _ = rows.fetch_update(Ordering::AcqRel, Ordering::Relaxed, after);
        if detected.any() {
            // Not known to be good any more, whatever becomes of the detection.
            self.store(LAST_SUCCESS, 0);
        }
        detected
    }

    /// A detection came to nothing: the next failure is to detect again.
    pub fn detect_again(&self, detector: Detector, thresholds: Thresholds) {
        if let Some(rows) = self.cell(ROWS) {
            let again = |word| Some(Rows::of(word).one_before(detector, thresholds).word());
            let _ = rows.fetch_update(Ordering::AcqRel, Ordering::Relaxed, again);
        }
    }

    /// Failures in a row, since a success, an ejection or a detection.
    pub fn failures_in_a_row(&self) -> u32 {
        Rows::of(self.load(ROWS)).longest()
    }

    /// Failures so far.
    pub fn failures(&self) -> u64 {
        self.load(FAILURES)
    }

    /// Successes so far.
    pub fn successes(&self) -> u64 {
        self.load(SUCCESSES)
    }

    /// Time of the last success since a detector took notice of it; 0 = none.
    pub fn last_success(&self) -> Millis {
        self.load(LAST_SUCCESS)
    }

    /// Until when it is ejected (a cluster: somebody of it); in the past = it is not.
    pub fn ejected_until(&self) -> Millis {
        self.load(EJECTED_UNTIL)
    }

    /// Whether it is ejected (a cluster: somebody of it).
    pub fn is_ejected(&self, now: Millis) -> bool {
        self.ejected_until() > now
    }

    /// What is known of its ejections.
    pub fn ejection(&self) -> Ejection {
        let (multiplier, rest) = unpack(self.load(EJECTIONS));
        let detector = Detector::from_code(rest as u8);
        Ejection { until: self.ejected_until(), multiplier, times: rest >> 8, detector }
    }

    /// Ejects an endpoint (under its cluster's claim).
    pub fn eject(&self, until: Millis, multiplier: u32, detector: Detector) {
        let times = self.ejection().times.saturating_add(1).min(TIMES_MOST);
        self.store(EJECTIONS, pack(multiplier, times << 8 | detector as u32));
        self.store(EJECTED_UNTIL, until);
        self.store(ROWS, 0);
    }

    /// The next ejection shall be shorter by one base ejection time.
    pub fn shrink_multiplier(&self) {
        let Some(ejections) = self.cell(EJECTIONS) else { return };
        let shrink = |word| {
            let (multiplier, rest) = unpack(word);
            multiplier.checked_sub(1).map(|less| pack(less, rest))
        };
        let _ = ejections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shrink);
    }

    /// What happened since this was asked last (leader only).
    pub fn take_volume(&self) -> Volume {
        let (successes, failures) = (self.successes() as u32, self.failures() as u32);
        let (seen_successes, seen_failures) = unpack(self.load(SEEN));
        self.store(SEEN, pack(successes, failures));
        Volume { successes: successes.wrapping_sub(seen_successes), failures: failures.wrapping_sub(seen_failures) }
    }

    /// Tells a cluster's slot that somebody of it is ejected until then, at least.
    pub fn somebody_is_ejected(&self, until: Millis) {
        if let Some(cell) = self.cell(EJECTED_UNTIL) {
            cell.fetch_max(until, Ordering::AcqRel);
        }
    }

    /// The right to eject in this cluster, unless another has it. One that is not given back lasts for [`CLAIM_MS`].
    pub fn claim(&self, now: Millis, nonce: u64) -> Option<Claim> {
        let cell = self.cell(CLAIM)?;
        let found = cell.load(Ordering::Acquire);
        if found != 0 && (found >> NONCE_BITS).abs_diff(now) < CLAIM_MS {
            return None;
        }
        let claim = (now << NONCE_BITS | nonce & ((1 << NONCE_BITS) - 1)).max(1);
        let claimed = cell.compare_exchange(found, claim, Ordering::AcqRel, Ordering::Relaxed);
        claimed.is_ok().then_some(Claim(claim))
    }

    /// Whether a claim still stands.
    pub fn holds(&self, claim: Claim) -> bool {
        self.cell(CLAIM).is_some_and(|cell| cell.load(Ordering::Acquire) == claim.0)
    }

    /// Gives a claim back.
    pub fn give_back(&self, claim: Claim) {
        if let Some(cell) = self.cell(CLAIM) {
            let _ = cell.compare_exchange(claim.0, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// When a cluster's interval ended last; 0 = never.
    pub fn swept(&self) -> Millis {
        self.load(SWEPT)
    }

    /// A cluster's interval ended (leader only).
    pub fn set_swept(&self, now: Millis) {
        self.store(SWEPT, now);
    }

    /// Where a cluster was in the image last, if that was told: a hint.
    pub fn index(&self) -> Option<u32> {
        u32::try_from(self.load(INDEX)).ok()?.checked_sub(1)
    }

    /// Tells where a cluster is in the image (leader only).
    pub fn set_index(&self, index: u32) {
        self.store(INDEX, u64::from(index).saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{SlotAllocator, State, testing};

    const THREE: Thresholds = Thresholds { first: Detector::Consecutive5xx, row: 3, gateway: 0 };

    fn slot() -> Slot<'static> {
        let state: State = testing::state(1);
        let index = SlotAllocator::recover(state).slot(1).unwrap();
        state.slot(index, 1).unwrap()
    }

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let slot = slot();
        for row in 1..3 {
            assert_eq!(slot.failed(THREE, 10), Detected::default());
            assert_eq!(slot.failures_in_a_row(), row);
        }
        slot.succeeded(11);
        assert_eq!((slot.failures_in_a_row(), slot.last_success()), (0, 11));
        assert_eq!((slot.failures(), slot.successes()), (2, 1));
    }

    #[test]
    fn of_racing_failures_one_detects() {
        let slot = slot();
        let detections = std::thread::scope(|scope| {
            let count = || (0..300).filter(|_| slot.failed(THREE, 10).any()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(detections, 400, "one for each three of 1200 failures");
    }

    #[test]
    fn while_ejected_no_row_grows_and_volumes_do() {
        let slot = slot();
        assert_eq!(slot.take_volume(), Volume::default());
        slot.failed(THREE, 10);
        slot.eject(100, 1, Detector::Consecutive5xx);
        assert!((0..9).all(|_| !slot.failed(THREE, 99).any()));
        assert_eq!(slot.failures_in_a_row(), 0);
        slot.failed(THREE, 100);
        assert_eq!(slot.failures_in_a_row(), 1, "it is back");
        assert_eq!(slot.take_volume(), Volume { successes: 0, failures: 11 });
        assert_eq!(slot.take_volume(), Volume::default());
    }

    #[test]
    fn an_ejection_is_remembered_with_its_detector_and_the_multiplier_shrinks() {
        let slot = slot();
        slot.eject(100, 1, Detector::Consecutive5xx);
        slot.eject(300, 2, Detector::SuccessRate);
        let expected = Ejection { until: 300, multiplier: 2, times: 2, detector: Some(Detector::SuccessRate) };
        assert_eq!(slot.ejection(), expected);
        for left in [1, 0, 0] {
            slot.shrink_multiplier();
            assert_eq!(slot.ejection(), Ejection { multiplier: left, ..expected });
        }
    }

    #[test]
    fn a_claim_is_exclusive_until_it_is_given_back_or_its_holder_is_late() {
        let slot = slot();
        let first = slot.claim(5_000, 1).unwrap();
        assert_eq!(slot.claim(5_000 + CLAIM_MS - 1, 2), None);
        assert!(slot.holds(first));
        let second = slot.claim(5_000 + CLAIM_MS, 2).unwrap();
        assert!(!slot.holds(first));
        slot.give_back(first);
        assert!(slot.holds(second), "what is another's is not given back");
        slot.give_back(second);
        assert!(slot.claim(5_000 + CLAIM_MS, 3).is_some());
    }
}
