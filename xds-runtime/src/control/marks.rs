//! Marks: a thread sets one while it is inside our code, and clears it on the way out.
//!
//! A mark that stays was left by a process that died (or hangs) in our code. Several of them in ten minutes trip
//! the pod's switch: the crash breaker. A program that simply ends while its other threads are in our code leaves some
//! too, but few among its calls; so calls that came out again are counted beside the marks, and a few marks trip the
//! switch only where few calls came out. Marks surround only code that cannot block: never the real call, never a wait.

use std::sync::atomic::Ordering;

use crate::control::{AT_BREAKER, AT_BREAKER_CALLS, Control, MARKS_AT, Switch};
use crate::shm::Millis;

/// Number of marks; when all are taken a thread goes unmarked.
pub(super) const MARKS: usize = 256;
/// Words of a mark: since when it is set, calls that gave it back.
pub(super) const MARK_WORDS: usize = 2;
/// A mark set for longer was left behind.
pub const MARK_STALE_MS: Millis = 5_000;
/// Marks left behind within [`BREAKER_WINDOW_MS`] that trip the switch, unless each stands against
/// [`CALLS_PER_END`] calls that came out.
pub const BREAKER_LIMIT: u64 = 3;
/// Calls in the window that excuse one mark left behind: on a busy machine, ends of programs with eight busy threads
/// left one in some thousands (`ctests/tests/lives_fork.rs`).
pub const CALLS_PER_END: u64 = 500;
/// Marks left behind within the window that trip the switch whatever came out.
pub const BREAKER_MOST: u64 = 64;
/// The breaker's window.
pub const BREAKER_WINDOW_MS: Millis = 600_000;

const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// A set mark; give it back with [`Control::unmark`]. Not a guard: hook frames have no destructors.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Mark(usize);

impl Control {
    /// Sets a mark; `seed` spreads threads over the table (a stack address will do).
    #[inline]
    pub fn mark(&self, seed: usize, now: Millis) -> Option<Mark> {
        let start = (seed >> 4) ^ (seed >> 12) ^ (seed >> 20);
        for probe in 0..8 {
            let at = MARKS_AT + (start.wrapping_add(probe)) % MARKS * MARK_WORDS;
            if self.cell(at).compare_exchange(0, now.max(1), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some(Mark(at));
            }
        }
        None
    }

    /// Clears a mark.
    #[inline]
    pub fn unmark(&self, mark: Option<Mark>) {
        if let Some(Mark(at)) = mark {
            // Nobody else writes it while the mark is set.
            let calls = self.cell(at + 1);
            calls.store(calls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            self.cell(at).store(0, Ordering::Release);
        }
    }

    /// Collects marks that were left behind and trips the switch when there were too many (leader, every second).
    /// Returns how many were found now.
    pub fn sweep_marks(&self, now: Millis) -> u64 {
        let (mut left, mut calls) = (0, 0_u64);
        for nth in 0..MARKS {
            let cell = self.cell(MARKS_AT + nth * MARK_WORDS);
            calls = calls.wrapping_add(self.cell(MARKS_AT + nth * MARK_WORDS + 1).load(Ordering::Relaxed));
            let set = cell.load(Ordering::Acquire);
            let stale = set != 0 && now.saturating_sub(set) > MARK_STALE_MS;
            if stale && cell.compare_exchange(set, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                left += 1;
            }
        }
        if left > 0 {
            self.count_left_behind(left, calls, now);
        }
        left
    }

    fn count_left_behind(&self, left: u64, calls: u64, now: Millis) {
        let cell = self.cell(AT_BREAKER);
        let word = cell.load(Ordering::Acquire);
        let (count, since) = (word >> TIME_BITS, word & TIME_MASK);
        let same_window = word != 0 && now.saturating_sub(since) < BREAKER_WINDOW_MS;
        let (count, since) = if same_window { (count.saturating_add(left).min(0xffff), since) } else { (left, now) };
        if !same_window {
            // What came out before the window's first mark excuses as much as what comes out after it.
            self.cell(AT_BREAKER_CALLS).store(calls.saturating_sub(CALLS_PER_END * left), Ordering::Release);
        }
        cell.store(count << TIME_BITS | (since & TIME_MASK), Ordering::Release);
        let came_out = calls.saturating_sub(self.cell(AT_BREAKER_CALLS).load(Ordering::Acquire));
        let excused = came_out >= count.saturating_mul(CALLS_PER_END) && count < BREAKER_MOST;
        if count >= BREAKER_LIMIT && !excused && self.switch() == Switch::On {
            self.set_switch(Switch::Tripped);
        }
    }

    /// Marks left behind in the current window (status), and forgets them with `ldmesh on`.
    pub fn left_behind(&self, now: Millis) -> u64 {
        let word = self.cell(AT_BREAKER).load(Ordering::Acquire);
        if now.saturating_sub(word & TIME_MASK) < BREAKER_WINDOW_MS { word >> TIME_BITS } else { 0 }
    }

    /// Forgets the marks left behind (`ldmesh on`).
    pub fn reset_breaker(&self) {
        self.cell(AT_BREAKER).store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::control;

    #[test]
    fn marks_that_are_cleared_trip_nothing() {
        let control = control();
        for round in 0..1000 {
            let mark = control.mark(round * 64, 1000);
            assert!(mark.is_some());
            control.unmark(mark);
        }
        assert_eq!(control.sweep_marks(1_000_000), 0);
        assert_eq!(control.switch(), Switch::On);
    }

    /// Leaves a mark behind every half minute, after some calls that come out; gives how many it took to trip.
    fn ends_until_tripped(calls_each: u64) -> Option<u64> {
        let control = control();
        for end in 1..=BREAKER_MOST {
            let now = end * 5_001;
            (0..calls_each).for_each(|seed| control.unmark(control.mark(seed as usize * 16, now)));
            let _left = control.mark(7, now);
            assert_eq!(control.sweep_marks(now + MARK_STALE_MS), 0, "not yet old enough");
            assert_eq!(control.sweep_marks(now + MARK_STALE_MS + 1), 1);
            if control.switch() == Switch::Tripped {
                return Some(end);
            }
        }
        None
    }

    #[test]
    fn programs_that_die_in_their_first_calls_trip_the_switch() {
        assert_eq!(ends_until_tripped(0), Some(BREAKER_LIMIT));
        assert_eq!(ends_until_tripped(20), Some(BREAKER_LIMIT));
    }

    #[test]
    fn ends_among_many_calls_trip_it_only_when_they_are_very_many() {
        assert_eq!(ends_until_tripped(CALLS_PER_END + 1), Some(BREAKER_MOST));
    }

    #[test]
    fn marks_left_far_apart_do_not_add_up() {
        let control = control();
        for crash in 1..=2 * BREAKER_LIMIT {
            let now = crash * (BREAKER_WINDOW_MS + MARK_STALE_MS);
            let _left = control.mark(7, now);
            assert_eq!(control.sweep_marks(now + MARK_STALE_MS + 1), 1);
        }
        assert_eq!(control.switch(), Switch::On);
    }

    #[test]
    fn a_full_table_leaves_threads_unmarked() {
        let control = control();
        let marks = (0..MARKS * 8).filter(|seed| control.mark(seed * 16, 5).is_some()).count();
        assert_eq!(marks, MARKS);
        assert!(control.mark(0, 5).is_none());
    }
}
