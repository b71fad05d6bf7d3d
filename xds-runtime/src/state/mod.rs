//! STATE: what the pod's processes know together and what outlives generations of the image.
//!
//! ```text
//! words 0..64      header: MAGIC, boot id, allocated slots, the network of the records (room)
//! 64..             connection records   (cookie -> what was dialled, which slots count it)
//! then             slots                (endpoints, localities, clusters: counters, cursors, ejections)
//! ```
//! Slots are given out by the leader, tagged with a hash of what they count, and reused only after a quarantine.
//! Processes add with atomics. What is found here is checked (tag, bounds) before it is believed: a wrong
//! number costs a worse pick, never a fault. The file is mapped at its size; slots that were allocated after
//! that are simply not seen until the process maps again.

mod connections;
mod health;
mod member;
mod room;
mod slots;
mod sock_diag;

pub use connections::{CONNECTIONS, Connection, ConnectionState};
pub use health::{Claim, Ejection};
pub use member::Member;
pub use room::{Look, Network};
pub use slots::{Slot, SlotAllocator, SlotKind, endpoint_tag, locality_tag, named_tag};
pub use sock_diag::{Found, SockDiag};

use std::sync::atomic::{AtomicU64, Ordering};

use crate::boot::BootId;
use crate::shm::Words;

const MAGIC: u64 = u64::from_le_bytes(*b"LDMESHS\x01");
const AT_MAGIC: usize = 0;
const AT_BOOT: usize = 1;
const AT_SLOTS: usize = 3;
const AT_NETWORK: usize = 4;
const AT_LOOK: usize = 5;
const HEADER_WORDS: usize = 64;
/// Words of a slot.
pub(crate) const SLOT_WORDS: usize = 12;
/// Slots of a new file.
pub const FIRST_SLOTS: usize = 4096;
/// Slots beyond which the file does not grow; endpoints past them are balanced without counters.
pub const MAX_SLOTS: usize = 1 << 18;

/// Words of a file with `slots` slots.
pub const fn state_words(slots: usize) -> usize {
    HEADER_WORDS + connections::TABLE_WORDS + slots * SLOT_WORDS
}

/// The mapped STATE file.
#[derive(Clone, Copy)]
pub struct State {
    words: Words<'static>,
}

impl State {
    /// Believes a mapping only if its header names this boot.
    pub fn open(words: &'static [AtomicU64], boot: BootId) -> Option<Self> {
        let words = Words::new(words);
        let ours = words.len() >= state_words(1)
            && words.load(AT_MAGIC)? == MAGIC
            && [words.load(AT_BOOT)?, words.load(AT_BOOT + 1)?] == boot.words();
        ours.then_some(Self { words })
    }

    /// Formats a fresh, zeroed, fully allocated mapping.
    pub fn format(words: &'static [AtomicU64], boot: BootId) -> Option<Self> {
        let state = Self { words: Words::new(words) };
        let slots = state.mapped_slots();
        let [high, low] = boot.words();
        for (at, word) in [(AT_BOOT, high), (AT_BOOT + 1, low), (AT_SLOTS, slots as u64)] {
            state.words.cell(at)?.store(word, Ordering::Relaxed);
        }
        state.words.cell(AT_MAGIC)?.store(MAGIC, Ordering::Release);
        (slots > 0).then_some(state)
    }

    /// Slots that this mapping covers.
    pub fn mapped_slots(&self) -> usize {
        self.words.len().saturating_sub(state_words(0)) / SLOT_WORDS
    }

    /// Slots that the file has by now; more than [`State::mapped_slots`] = map again.
    pub fn allocated_slots(&self) -> usize {
        self.words.load(AT_SLOTS).map_or(0, |slots| (slots as usize).min(MAX_SLOTS))
    }

    /// Says that the file was grown to `slots` slots (leader only, after the space was allocated).
    pub fn set_allocated_slots(&self, slots: usize) {
        if let Some(word) = self.words.cell(AT_SLOTS) {
            word.store(slots as u64, Ordering::Release);
        }
    }

    /// Copies records and slots, and what goes with them, of another file, which is no larger (leader only).
    pub fn copy_from(&self, other: State) {
        for at in [AT_NETWORK, AT_LOOK].into_iter().chain(HEADER_WORDS..other.words.len()) {
            if let (Some(word), Some(cell)) = (other.words.load(at), self.words.cell(at)) {
                cell.store(word, Ordering::Relaxed);
            }
        }
    }

    /// The slot at `index`, if it counts what `tag` says.
    #[inline]
    pub fn slot(&self, index: u32, tag: u64) -> Option<Slot<'static>> {
        self.slot_at(index).filter(|slot| slot.tag() == tag)
    }

    /// The slot at `index`, whatever it counts.
    #[inline]
    pub fn slot_at(&self, index: u32) -> Option<Slot<'static>> {
        let at = state_words(0).checked_add((index as usize).checked_mul(SLOT_WORDS)?)?;
        self.words.slice(at, SLOT_WORDS).map(Slot::new)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A STATE of its own, leaked, for tests and benches.
    pub(crate) fn state(slots: usize) -> State {
        let words: Vec<AtomicU64> = (0..state_words(slots)).map(|_| AtomicU64::new(0)).collect();
        State::format(Box::leak(words.into_boxed_slice()), BootId::from_words([1, 2])).expect("a state")
    }
}
