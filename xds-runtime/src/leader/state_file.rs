//! The STATE file: made by the first leader of a boot, grown by later ones, never replaced while it is believed.

use super::files::{FileError, create_shared, grow_shared};
use super::run_dir::{Open, RunDir};
use crate::boot::BootId;
use crate::pod::{AttachError, names::STATE, open_state};
use crate::state::{FIRST_SLOTS, MAX_SLOTS, State, state_words};

const STATE_NEW: &str = "state.new";
/// Slots that a restored file has more: over a page.
const RESTORED_SLOTS: usize = 64;

/// Opens STATE, or makes it when there is none that can be believed.
///
/// # Errors
/// [`FileError`]: without STATE there are no counters, and nobody leads.
pub fn open_or_create(dir: &RunDir, boot: BootId) -> Result<State, FileError> {
    // A file that is not ours is replaced like one of another boot; one that only could not be looked at is not.
    match open_state(dir, boot) {
        Ok(Some(state)) => return Ok(state),
        Ok(None) => {}
        Err(AttachError::RunDir(error)) => return Err(error.into()),
        Err(AttachError::Map(error)) => return Err(FileError::Map { name: STATE.to_owned(), error }),
        Err(_) => return Err(FileError::Raced(STATE.to_owned())),
    }
    let words = create_shared(dir, STATE_NEW, state_words(FIRST_SLOTS))?;
    let state = State::format(words, boot).ok_or_else(|| FileError::Raced(STATE.to_owned()))?;
    dir.rename_over(STATE_NEW, STATE)?;
    Ok(state)
}

/// Slots to grow to when `missing` tags found none; `None` = it cannot grow.
pub fn larger(slots: usize, missing: usize) -> Option<usize> {
    let wanted = slots.saturating_mul(2).max(slots.saturating_add(missing).next_power_of_two());
    (missing > 0 && slots < MAX_SLOTS).then_some(wanted.min(MAX_SLOTS))
}

/// Grows STATE and maps it anew; other processes see the new size in its header.
///
/// # Errors
/// [`FileError`]; the state is as before.
pub fn grow(dir: &RunDir, boot: BootId, state: State, slots: usize) -> Result<State, FileError> {
    let words = grow_shared(dir, STATE, state_words(slots))?;
    // The file at this name may no longer be the one that is mapped.
    let grown = State::open(words, boot).filter(|grown| grown.mapped_slots() >= slots);
    let grown = grown.ok_or_else(|| FileError::Raced(STATE.to_owned()))?;
    grown.set_allocated_slots(slots);
    state.set_allocated_slots(slots);
    Ok(grown)
}

/// Puts a copy in the place of a STATE that was removed, a little larger, so that who has the former mapped finds that
/// it grew and maps the copy. `None` = it is in its place. What is counted while it is copied may be lost; the
/// caretaker corrects it.
///
/// # Errors
/// [`FileError`]; processes that come now go without counters until the next attempt.
pub fn restore(dir: &RunDir, boot: BootId, state: State) -> Result<Option<State>, FileError> {
    if dir.open_file(STATE, Open::Read)?.is_some() {
        return Ok(None);
    }
    let slots = state.mapped_slots().saturating_add(RESTORED_SLOTS);
    let words = create_shared(dir, STATE_NEW, state_words(slots))?;
    let copy = State::format(words, boot).ok_or_else(|| FileError::Raced(STATE.to_owned()))?;
    copy.copy_from(state);
    dir.rename_over(STATE_NEW, STATE)?;
    state.set_allocated_slots(slots);
    Ok(Some(copy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::testing::run_dir_at;
    use crate::state::SlotAllocator;

    const BOOT: BootId = BootId::from_words([1, 2]);

    #[test]
    fn state_outlives_its_leader_but_not_the_boot() {
        let folder = tempfile::tempdir().unwrap();
        let dir = run_dir_at(folder.path());
        let first = open_or_create(&dir, BOOT).unwrap();
        let slot = SlotAllocator::recover(first).slot(42).unwrap();
        first.slot(slot, 42).unwrap().advance();
        assert_eq!(open_or_create(&dir, BOOT).unwrap().slot(slot, 42).unwrap().picks(), 1);
        let rebooted = open_or_create(&dir, BootId::from_words([1, 3])).unwrap();
        assert!(rebooted.slot(slot, 42).is_none());
    }

    #[test]
    fn growing_keeps_counters_and_tells_those_who_map_the_old_size() {
        let folder = tempfile::tempdir().unwrap();
        let dir = run_dir_at(folder.path());
        let small = open_or_create(&dir, BOOT).unwrap();
        let slot = SlotAllocator::recover(small).slot(42).unwrap();
        let large = grow(&dir, BOOT, small, larger(FIRST_SLOTS, 1).unwrap()).unwrap();
        small.slot(slot, 42).unwrap().advance();
        assert_eq!(large.slot(slot, 42).unwrap().picks(), 1, "one file");
        assert_eq!((small.allocated_slots(), large.mapped_slots()), (2 * FIRST_SLOTS, 2 * FIRST_SLOTS));
    }

    #[test]
    fn a_state_that_was_removed_comes_back_with_its_counts_and_is_mapped_by_all() {
        let folder = tempfile::tempdir().unwrap();
        let dir = run_dir_at(folder.path());
        let former = open_or_create(&dir, BOOT).unwrap();
        let slot = SlotAllocator::recover(former).slot(42).unwrap();
        former.slot(slot, 42).unwrap().advance();
        assert!(restore(&dir, BOOT, former).unwrap().is_none());
        dir.remove_file(STATE).unwrap();
        let copy = restore(&dir, BOOT, former).unwrap().unwrap();
        assert_eq!(copy.slot(slot, 42).unwrap().picks(), 1);
        assert!(former.allocated_slots() > former.mapped_slots(), "who has it mapped is told");
        copy.slot(slot, 42).unwrap().advance();
        assert_eq!(open_or_create(&dir, BOOT).unwrap().slot(slot, 42).unwrap().picks(), 2);
    }

    #[test]
    fn growth_ends_at_the_limit() {
        assert_eq!(larger(4096, 0), None);
        assert_eq!(larger(4096, 10_000), Some(16_384));
        assert_eq!(larger(MAX_SLOTS, 1), None);
    }
}
