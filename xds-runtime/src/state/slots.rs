//! Slots: the counters of one endpoint, one locality or one cluster.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::quick::QuickMap;
use crate::shm::{Millis, WordAddr, Words, hash_words};
use crate::state::State;

// Words 3 to 6 and those from 9 on are in `health`.
const TAG: usize = 0;
const PICKS: usize = 1;
const ACTIVE: usize = 2;
const RETIRED_AT: usize = 7;
const ADDED: usize = 8;

/// What a slot counts. A part of its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum SlotKind {
    /// A cluster: its cursor, its connections.
    Cluster = 1,
    /// A locality at a priority: its cursor.
    Locality = 2,
    /// An endpoint.
    Endpoint = 3,
    /// Another cursor: a destination's weighted clusters, a priority.
    Cursor = 4,
}

/// The tag of an endpoint's slot; never 0.
pub fn endpoint_tag(cluster_hash: u64, address: WordAddr, port: u16) -> u64 {
    hash_words(&[SlotKind::Endpoint as u64, cluster_hash, address.hi, address.lo, u64::from(port)]).max(1)
}

/// The tag of a locality's slot; `name_hash` is the hash of its name's text; never 0.
pub fn locality_tag(cluster_hash: u64, priority: u32, name_hash: u64) -> u64 {
    hash_words(&[SlotKind::Locality as u64, cluster_hash, u64::from(priority), name_hash]).max(1)
}

/// The tag of a slot known by one hash (a cluster's name); never 0.
pub fn named_tag(kind: SlotKind, hash: u64) -> u64 {
    hash_words(&[kind as u64, hash]).max(1)
}

/// One slot. Counters wrap or saturate; nothing here can fault.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    words: Words<'a>,
}

impl<'a> Slot<'a> {
    pub(super) const fn new(words: Words<'a>) -> Self {
        Self { words }
    }

    pub(super) fn load(&self, at: usize) -> u64 {
        self.words.load(at).unwrap_or(0)
    }

    pub(super) fn cell(&self, at: usize) -> Option<&'a AtomicU64> {
        self.words.cell(at)
    }

    /// The tag; 0 = free.
    pub fn tag(&self) -> u64 {
        self.load(TAG)
    }

    /// Advances the cursor (picks so far) and returns its former value.
    pub fn advance(&self) -> u64 {
        self.cell(PICKS).map_or(0, |cell| cell.fetch_add(1, Ordering::Relaxed))
    }

    /// Picks so far.
    pub fn picks(&self) -> u64 {
        self.load(PICKS)
    }

    /// Live connections; a count that fell below zero reads as 0.
    pub fn active(&self) -> u64 {
        (self.load(ACTIVE) as i64).max(0) as u64
    }

    /// Counts a connection, only while fewer than `limit` are live; false = at the limit.
    pub fn open_connection(&self, limit: u32) -> bool {
        let Some(cell) = self.cell(ACTIVE) else { return true };
        cell.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |active| {
            let active = (active as i64).max(0);
            (active < i64::from(limit)).then_some((active as u64).wrapping_add(1))
        })
        .is_ok()
    }

    /// Uncounts a connection.
    pub fn close_connection(&self) {
        if let Some(cell) = self.cell(ACTIVE) {
            cell.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Sets the live connections to what was counted from the records (leader only).
    pub fn set_active(&self, active: u64) {
        if let Some(cell) = self.cell(ACTIVE) {
            cell.store(active, Ordering::Release);
        }
    }

    /// Corrects the live connections from `counted` to `recorded`, unless the count moved meanwhile (leader only).
    pub fn correct_active(&self, counted: u64, recorded: u64) -> bool {
        self.cell(ACTIVE).is_some_and(|cell| {
            let now = cell.load(Ordering::Acquire);
            (now as i64).max(0) as u64 == counted
                && cell.compare_exchange(now, recorded, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    /// When the slot was given out to what it counts: when the endpoint was added; 0 = unknown.
    pub fn added(&self) -> Millis {
        self.load(ADDED)
    }

    /// Says when it was added; of a cluster: when the newest of its endpoints was (leader only).
    pub fn set_added(&self, added: Millis) {
        self.store(ADDED, added);
    }

    pub(super) fn store(&self, at: usize, word: u64) {
        if let Some(cell) = self.cell(at) {
            cell.store(word, Ordering::Release);
        }
    }

    /// Sets every word to zero, the tag last.
    fn clear(&self) {
        for at in (0..super::SLOT_WORDS).rev() {
            self.store(at, 0);
        }
    }

    /// Begins to count what has this tag.
    fn give_to(&self, tag: u64, now: Millis) {
        self.clear();
        self.store(ADDED, now);
        self.store(TAG, tag);
    }
}

/// The leader's book of slots: which tag has which slot. Rebuilt from STATE by each leader.
pub struct SlotAllocator {
    state: State,
    by_tag: QuickMap<u64, u32>,
    free: Vec<u32>,
    /// Slots below this were looked at.
    next: u32,
    /// When slots that are given out now were added.
    now: Millis,
}

impl SlotAllocator {
    /// A retired slot rests this long before it is reused: longer than any pick can be in flight.
    pub const QUARANTINE_MS: Millis = 60_000;

    /// Reads the book from STATE: tags stay with their slots across a take-over.
    pub fn recover(state: State) -> Self {
        let mut allocator = Self { state, by_tag: QuickMap::default(), free: Vec::new(), next: 0, now: 0 };
        let count = state.mapped_slots().min(state.allocated_slots());
        for index in 0..u32::try_from(count).unwrap_or(u32::MAX) {
            let Some(slot) = state.slot_at(index) else { break };
            match slot.tag() {
                0 => allocator.free.push(index),
                tag => {
                    allocator.by_tag.insert(tag, index);
                }
            }
        }
        allocator.free.reverse();
        allocator.next = u32::try_from(count).unwrap_or(u32::MAX);
        allocator
    }

    /// Slots that are given out from now on were added at this time; until told, at an unknown one.
    pub const fn at(&mut self, now: Millis) {
        self.now = now;
    }

    /// The slot of a tag, given out if it had none; `None` when STATE is full (grow it, or go without).
    pub fn slot(&mut self, tag: u64) -> Option<u32> {
        if let Some(index) = self.by_tag.get(&tag) {
            // The book is not believed against the file: a predecessor that was frozen while it gave out slots may
            // have written into it since.
            match self.state.slot(*index, tag) {
                // What comes back out of quarantine is new again, but for its counts. The others' words stay clean in
                // the caches of those who read them.
                Some(slot) => {
                    if slot.load(RETIRED_AT) != 0 {
                        slot.store(RETIRED_AT, 0);
                        slot.store(ADDED, self.now);
                    }
                }
                None => self.state.slot_at(*index)?.give_to(tag, self.now),
            }
            return Some(*index);
        }
        let index = self.free.pop()?;
        self.state.slot_at(index)?.give_to(tag, self.now);
        self.by_tag.insert(tag, index);
        Some(index)
    }

    /// Slots that can be given out.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Slots in use or in quarantine.
    pub fn used(&self) -> usize {
        self.by_tag.len()
    }

    /// Takes over a state that was grown and mapped again.
    pub fn grown(&mut self, state: State) {
        self.state = state;
        let count = u32::try_from(state.mapped_slots().min(state.allocated_slots())).unwrap_or(u32::MAX);
        self.free.splice(0..0, (self.next..count).rev());
        self.next = self.next.max(count);
    }

    /// Retires the slots whose tag is not `live`, and frees those that are out of quarantine and have no
    /// connection. Called after a publish that no longer names them.
    pub fn sweep(&mut self, live: &HashSet<u64, impl BuildHasher>, now: Millis) {
        let (state, free) = (self.state, &mut self.free);
        self.by_tag.retain(|tag, index| {
            let Some(slot) = state.slot_at(*index) else { return true };
            let Some(retired) = slot.cell(RETIRED_AT) else { return true };
            if live.contains(tag) {
                retired.store(0, Ordering::Relaxed);
                return true;
            }
            let since = retired.load(Ordering::Relaxed);
            if since == 0 {
                retired.store(now.max(1), Ordering::Relaxed);
                return true;
            }
            if now.saturating_sub(since) < Self::QUARANTINE_MS || slot.active() > 0 {
                return true;
            }
            slot.clear();
            free.push(*index);
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlier::Thresholds;
    use crate::state::testing::state;

    #[test]
    fn a_slot_that_a_resumed_predecessor_took_is_taken_back() {
        let state = state(8);
        let (mut frozen, mut leader) = (SlotAllocator::recover(state), SlotAllocator::recover(state));
        let index = leader.slot(77).unwrap();
        assert_eq!(frozen.slot(88), Some(index), "given out a second time");
        assert_eq!(leader.slot(77), Some(index));
        assert!(state.slot(index, 77).is_some());
    }

    #[test]
    fn a_tag_keeps_its_slot_across_a_take_over() {
        let state = state(8);
        let mut first = SlotAllocator::recover(state);
        let index = first.slot(42).unwrap();
        state.slot(index, 42).unwrap().advance();
        let mut second = SlotAllocator::recover(state);
        assert_eq!(second.slot(42), Some(index));
        assert_eq!(state.slot(index, 42).unwrap().picks(), 1);
    }

    #[test]
    fn a_slot_tells_since_when_it_counts_and_a_take_over_does_not_change_that() {
        let state = state(2);
        let mut book = SlotAllocator::recover(state);
        book.at(100);
        let index = book.slot(1).unwrap();
        let mut second = SlotAllocator::recover(state);
        second.at(200);
        assert_eq!((second.slot(1), state.slot(index, 1).unwrap().added()), (Some(index), 100));
        second.sweep(&HashSet::new(), 300);
        second.at(400);
        assert_eq!((second.slot(1), state.slot(index, 1).unwrap().added()), (Some(index), 400), "it was away");
    }

    #[test]
    fn a_retired_slot_is_reused_only_after_quarantine_and_without_connections() {
        let state = state(1);
        let mut book = SlotAllocator::recover(state);
        let index = book.slot(1).unwrap();
        let slot = state.slot(index, 1).unwrap();
        assert!(slot.open_connection(10));
        book.sweep(&HashSet::new(), 1000);
        book.sweep(&HashSet::new(), 1000 + SlotAllocator::QUARANTINE_MS);
        assert_eq!(book.slot(2), None, "a live connection holds the slot");
        slot.close_connection();
        book.sweep(&HashSet::new(), 1001 + SlotAllocator::QUARANTINE_MS);
        assert_eq!(book.slot(2), Some(index));
        assert!(state.slot(index, 1).is_none(), "the old tag no longer matches");
    }

    #[test]
    fn a_slot_that_comes_back_in_quarantine_keeps_its_counters() {
        let state = state(1);
        let mut book = SlotAllocator::recover(state);
        let index = book.slot(1).unwrap();
        state.slot(index, 1).unwrap().failed(Thresholds::NEVER, 1);
        book.sweep(&HashSet::new(), 10);
        assert_eq!(book.slot(1), Some(index));
        book.sweep(&HashSet::from([1]), 10 + 2 * SlotAllocator::QUARANTINE_MS);
        assert_eq!(state.slot(index, 1).unwrap().failures(), 1);
    }

    #[test]
    fn connections_never_exceed_the_limit() {
        let state = state(1);
        let index = SlotAllocator::recover(state).slot(1).unwrap();
        let slot = state.slot(index, 1).unwrap();
        std::thread::scope(|scope| {
            let opened: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..100).filter(|_| slot.open_connection(50)).count())).collect();
            assert_eq!(opened.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 50);
        });
    }

    #[test]
    fn growing_adds_slots_without_moving_any() {
        let small = state(1);
        let mut book = SlotAllocator::recover(small);
        assert!(book.slot(1).is_some());
        assert_eq!(book.slot(2), None);
        let large = state(4);
        large.slot_at(0).unwrap().give_to(1, 0);
        book.grown(large);
        assert_eq!(book.slot(1), Some(0));
        assert_eq!(book.slot(2), Some(1));
    }
}
