//! Marks: a thread sets one while it is inside our code, and clears it on the way out.
//!
//! A mark that stays was left by a process that died (or hangs) in our code. Several of them in ten minutes trip
//! the pod's switch: the crash breaker. Marks surround only code that cannot block: never the real call, never
//! a wait.

use std::sync::atomic::Ordering;

use crate::control::{AT_BREAKER, Control, MARKS_AT, Switch};
use crate::shm::Millis;

/// Number of marks; when all are taken a thread goes unmarked.
pub(super) const MARKS: usize = 256;
/// A mark set for longer was left behind.
pub const MARK_STALE_MS: Millis = 5_000;
/// Marks left behind within [`BREAKER_WINDOW_MS`] that trip the switch. A program that simply ends while its other
/// threads are in our code leaves some too, on a busy machine three in 100 ends of eight busy threads
/// (`ctests/tests/lives_fork.rs`): three tripped it.
pub const BREAKER_LIMIT: u64 = 16;
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
            let at = MARKS_AT + (start.wrapping_add(probe)) % MARKS;
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
            self.cell(at).store(0, Ordering::Release);
        }
    }

    /// Collects marks that were left behind and trips the switch when there were too many (leader, every second).
    /// Returns how many were found now.
    pub fn sweep_marks(&self, now: Millis) -> u64 {
        let mut left = 0;
        for at in MARKS_AT..MARKS_AT + MARKS {
            let cell = self.cell(at);
            let set = cell.load(Ordering::Acquire);
            let stale = set != 0 && now.saturating_sub(set) > MARK_STALE_MS;
            if stale && cell.compare_exchange(set, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                left += 1;
            }
        }
        if left > 0 {
            self.count_left_behind(left, now);
        }
        left
    }

    fn count_left_behind(&self, left: u64, now: Millis) {
        let cell = self.cell(AT_BREAKER);
        let word = cell.load(Ordering::Acquire);
        let (count, since) = (word >> TIME_BITS, word & TIME_MASK);
        let same_window = word != 0 && now.saturating_sub(since) < BREAKER_WINDOW_MS;
        let (count, since) = if same_window { (count.saturating_add(left).min(0xffff), since) } else { (left, now) };
        cell.store(count << TIME_BITS | (since & TIME_MASK), Ordering::Release);
        if count >= BREAKER_LIMIT && self.switch() == Switch::On {
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

    #[test]
    fn marks_left_within_ten_minutes_trip_the_switch() {
        let control = control();
        for crash in 1..=BREAKER_LIMIT {
            let now = crash * 30_000;
            assert_eq!(control.switch(), Switch::On);
            let _left = control.mark(7, now);
            assert_eq!(control.sweep_marks(now + MARK_STALE_MS), 0, "not yet old enough");
            assert_eq!(control.sweep_marks(now + MARK_STALE_MS + 1), 1);
        }
        assert_eq!(control.switch(), Switch::Tripped);
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
