//! Leadership: an epoch and a heartbeat in one word, taken by compare-and-swap.
//!
//! ```text
//!            take (the heartbeat is stale)
//! Vacant ------------------------------------> Held(epoch + 1) --beat, every 500 ms--+
//!    ^                                            |    ^------------------------------+
//!    +--------- resign, or silence for 1.5 s -----+
//! ```
//! A leader that was stopped or frozen finds another epoch at its next beat: it is [`Deposed`] and steps down.

use std::sync::atomic::Ordering;

use crate::control::{AT_LEAD, Control};
use crate::shm::Millis;

/// A leader beats this often.
pub const HEARTBEAT_MS: Millis = 500;
/// A leader silent for this long is gone.
pub const LEADER_STALE_MS: Millis = 1500;

/// The time of a beat is told in these steps: 32 bits of them are 8 years of uptime, and leave 32 bits for the epoch,
/// which are a century of one term a second.
const STEP_MS: Millis = 64;
const TIME_BITS: u32 = 32;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

const fn word_of(epoch: u32, now: Millis) -> u64 {
    ((epoch as u64) << TIME_BITS) | ((now / STEP_MS) & TIME_MASK)
}

/// Who leads, as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeadView {
    /// Epoch of the last leader; 0 = there never was one.
    pub epoch: u32,
    /// Its last heartbeat, rounded down; 0 = it resigned.
    pub heartbeat: Millis,
}

impl LeadView {
    /// True when the leader beat lately. A beat from the future (callers read the clock a little earlier than others)
    /// counts only when it is near: nobody ever waits for one that cannot have been.
    pub fn is_alive(&self, now: Millis) -> bool {
        self.heartbeat != 0 && now.abs_diff(self.heartbeat) < LEADER_STALE_MS
    }
}

/// Another leader took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another leader took over")]
pub struct Deposed;

/// One term of leadership: who holds it may publish.
pub struct Term {
    control: Control,
    epoch: u32,
    word: u64,
}

impl Control {
    /// Who leads.
    #[inline]
    pub fn lead(&self) -> LeadView {
        let word = self.cell(AT_LEAD).load(Ordering::Acquire);
        LeadView { epoch: (word >> TIME_BITS) as u32, heartbeat: (word & TIME_MASK) * STEP_MS }
    }

    /// Takes the lead if nobody has it.
    pub fn take_lead(&self, now: Millis) -> Option<Term> {
        let found = self.lead();
        if found.is_alive(now) {
            return None;
        }
        let epoch = found.epoch.checked_add(1)?;
        let (former, word) = (word_of(found.epoch, found.heartbeat), word_of(epoch, now));
        self.cell(AT_LEAD).compare_exchange(former, word, Ordering::AcqRel, Ordering::Acquire).ok()?;
        Some(Term { control: *self, epoch, word })
    }
}

impl Term {
    /// The epoch of this term.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Beats.
    ///
    /// # Errors
    /// [`Deposed`] when another leader took over: step down, publish nothing more.
    pub fn beat(&mut self, now: Millis) -> Result<(), Deposed> {
        let word = word_of(self.epoch, now);
        let cell = self.control.cell(AT_LEAD);
        cell.compare_exchange(self.word, word, Ordering::AcqRel, Ordering::Acquire).map_err(|_| Deposed)?;
        self.word = word;
        Ok(())
    }

    /// True while this term holds.
    pub fn holds(&self) -> bool {
        self.control.cell(AT_LEAD).load(Ordering::Acquire) == self.word
    }

    /// Gives the lead up at once, so that a successor need not wait for silence.
    pub fn resign(self) {
        let word = word_of(self.epoch, 0);
        let _ = self.control.cell(AT_LEAD).compare_exchange(self.word, word, Ordering::AcqRel, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::control;

    #[test]
    fn there_is_one_leader_at_a_time() {
        let control = control();
        let mut first = control.take_lead(1000).unwrap();
        assert!(control.take_lead(1400).is_none());
        assert_eq!(first.beat(1500), Ok(()));
        assert!(control.take_lead(2999 - STEP_MS).is_none());
    }

    #[test]
    fn a_resumed_leader_finds_itself_deposed() {
        let control = control();
        let mut frozen = control.take_lead(1000).unwrap();
        let second = control.take_lead(1000 + LEADER_STALE_MS).unwrap();
        assert_eq!(second.epoch(), frozen.epoch() + 1);
        assert!(!frozen.holds());
        assert_eq!(frozen.beat(4000), Err(Deposed));
        frozen.resign();
        assert!(second.holds(), "a deposed leader's resignation changes nothing");
    }

    #[test]
    fn a_heartbeat_that_cannot_have_been_is_nobodys() {
        let control = control();
        control.take_lead(1_000_000).unwrap();
        assert!(control.lead().is_alive(999_000), "a clock read earlier");
        assert_eq!(control.take_lead(5_000).unwrap().epoch(), 2);
    }

    #[test]
    fn terms_do_not_run_out_while_a_pod_lives() {
        let control = control();
        // A term a second for 30 years.
        let late = 30 * 365 * 86_400;
        control.cell(AT_LEAD).store(word_of(late, 1000), Ordering::Relaxed);
        let term = control.take_lead(1_000_000).unwrap();
        assert_eq!((term.epoch(), control.lead().epoch), (late + 1, late + 1));
        // A machine that is up for 8 years.
        let (now, mut term) = (8 * 365 * 86_400_000, term);
        assert_eq!(term.beat(now), Ok(()));
        assert!(control.lead().is_alive(now + 1000) && !control.lead().is_alive(now + 2000));
    }

    #[test]
    fn a_resignation_frees_the_lead_at_once() {
        let control = control();
        control.take_lead(1000).unwrap().resign();
        assert!(!control.lead().is_alive(1001));
        assert_eq!(control.take_lead(1001).unwrap().epoch(), 2);
    }
}
