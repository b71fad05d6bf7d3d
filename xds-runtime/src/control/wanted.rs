//! The wanted set: destinations that some process of the pod resolved or dialled, by the key of their address.
//!
//! Bounded, expiring, open-addressed. Times are there before the key: whoever sees a key sees when it was wanted. A
//! writer that loses the place to another one leaves its times there, which only makes that wish a little younger.

use std::sync::atomic::Ordering;

use crate::control::{Control, WANTED_AT};
use crate::shm::Millis;

/// Entries.
pub const WANTED: usize = 1024;
pub(super) const WANTED_WORDS: usize = 4;
/// A destination that no process resolved or dialled for this long is no longer wanted.
pub const WISH_EXPIRY_MS: Millis = 30 * 60_000;
const PROBES: usize = 16;
/// A wish is renewed at most this often.
const RENEW_MS: Millis = 1000;
const KEY: usize = 0;
const FIRST: usize = 1;
const LAST: usize = 2;
const ANSWERED: usize = 3;

/// One wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Key of the destination's address.
    pub key: u64,
    /// When somebody wanted it first.
    pub first: Millis,
    /// When somebody wanted it last.
    pub last: Millis,
    /// True when the control plane answered (or said that there is nothing).
    pub answered: bool,
}

impl Control {
    /// Wants a destination; wakes the leader when it is new. `None` when the table is full around its place.
    pub fn want(&self, key: u64, now: Millis, expiry: Millis) -> Option<Wanted> {
        // An expired wish may go to another key just when it is renewed: then it is a new one, elsewhere.
        (0..2).find_map(|_| {
            let (at, fresh) = self.find_or_claim(key, now, expiry)?;
            let last = self.cell(at + LAST);
            if now.saturating_sub(last.load(Ordering::Relaxed)) >= RENEW_MS {
                last.store(now, Ordering::Relaxed);
            }
            if fresh {
                self.tell_wish();
            }
            self.wanted_at(at).filter(|wish| wish.key == key)
        })
    }

    /// Every wish that is not expired.
    pub fn wanted(&self, now: Millis, expiry: Millis) -> impl Iterator<Item = Wanted> + '_ {
        (0..WANTED)
            .filter_map(|index| self.wanted_at(WANTED_AT + index * WANTED_WORDS))
            .filter(move |wish| now.saturating_sub(wish.last) <= expiry)
    }

    /// Frees expired entries and notes which of the rest are answered (leader).
    pub fn sweep_wanted(&self, now: Millis, expiry: Millis, answered: impl Fn(u64) -> bool) {
        for index in 0..WANTED {
            let at = WANTED_AT + index * WANTED_WORDS;
            let Some(wish) = self.wanted_at(at) else { continue };
            if now.saturating_sub(wish.last) > expiry {
                let _ = self.cell(at + KEY).compare_exchange(wish.key, 0, Ordering::AcqRel, Ordering::Relaxed);
            } else if wish.answered != answered(wish.key) {
                self.cell(at + ANSWERED).store(u64::from(!wish.answered), Ordering::Release);
            }
        }
    }

    fn wanted_at(&self, at: usize) -> Option<Wanted> {
        let key = self.cell(at + KEY).load(Ordering::Acquire);
        (key != 0).then(|| Wanted {
            key,
            first: self.cell(at + FIRST).load(Ordering::Relaxed),
            last: self.cell(at + LAST).load(Ordering::Relaxed),
            answered: self.cell(at + ANSWERED).load(Ordering::Acquire) != 0,
        })
    }

    /// The place of a key; true = it was claimed just now.
    fn find_or_claim(&self, key: u64, now: Millis, expiry: Millis) -> Option<(usize, bool)> {
        if key == 0 {
            return None;
        }
        let places = (0..PROBES).map(|probe| WANTED_AT + (key as usize).wrapping_add(probe) % WANTED * WANTED_WORDS);
        if let Some(at) = places.clone().find(|at| self.cell(at + KEY).load(Ordering::Acquire) == key) {
            return Some((at, false));
        }
        for at in places {
            let cell = self.cell(at + KEY);
            let found = cell.load(Ordering::Acquire);
            let free = found == 0 || now.saturating_sub(self.cell(at + LAST).load(Ordering::Relaxed)) > expiry;
            if found == key {
                return Some((at, false));
            }
            if !free {
                continue;
            }
            self.cell(at + ANSWERED).store(0, Ordering::Relaxed);
            self.cell(at + FIRST).store(now, Ordering::Relaxed);
            self.cell(at + LAST).store(now, Ordering::Relaxed);
            if cell.compare_exchange(found, key, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some((at, true));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::control;

    #[test]
    fn a_wish_is_kept_once_and_renewed() {
        let control = control();
        let before = control.wishes();
        assert_eq!(control.want(7, 1000, 60_000), Some(Wanted { key: 7, first: 1000, last: 1000, answered: false }));
        assert_ne!(control.wishes(), before, "the leader is woken");
        control.want(7, 2500, 60_000);
        let all: Vec<_> = control.wanted(2500, 60_000).collect();
        assert_eq!(all, [Wanted { key: 7, first: 1000, last: 2500, answered: false }]);
    }

    #[test]
    fn an_answered_wish_says_so() {
        let control = control();
        control.want(7, 1000, 60_000);
        control.sweep_wanted(1001, 60_000, |key| key == 7);
        assert!(control.want(7, 1002, 60_000).unwrap().answered);
    }

    #[test]
    fn a_wish_expires_and_its_place_is_reused() {
        let control = control();
        control.want(7, 1000, 500);
        control.sweep_wanted(2000, 500, |_| true);
        assert_eq!(control.wanted(2000, 500).count(), 0);
        assert_eq!(control.want(7, 2000, 500).unwrap().first, 2000);
    }

    #[test]
    fn a_leader_that_sweeps_while_a_wish_is_made_never_takes_it_away() {
        use std::sync::atomic::AtomicBool;

        // Long after the boot, so that a wish without a time would be an old one.
        const NOW: Millis = 10 * WISH_EXPIRY_MS;
        let control = control();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    control.sweep_wanted(NOW, WISH_EXPIRY_MS, |_| false);
                }
            });
            let lost = (1..WANTED as u64 * 200).find(|key| {
                let made = control.want(*key, NOW, WISH_EXPIRY_MS);
                // A fresh place for the next one.
                let at = WANTED_AT + *key as usize % WANTED * WANTED_WORDS;
                control.cell(at + KEY).store(0, Ordering::Release);
                control.cell(at + LAST).store(0, Ordering::Relaxed);
                made.is_none()
            });
            over.store(true, Ordering::Relaxed);
            assert_eq!(lost, None);
        });
    }

    #[test]
    fn a_full_neighbourhood_refuses_instead_of_growing() {
        let control = control();
        for nth in 0..PROBES as u64 {
            assert!(control.want(5 + nth * WANTED as u64, 1000, 500).is_some());
        }
        assert_eq!(control.want(5 + PROBES as u64 * WANTED as u64, 1000, 500), None);
        assert!(control.want(5 + PROBES as u64 * WANTED as u64, 1501, 500).is_some(), "expired entries give way");
    }
}
