//! Where a process maps images: a few ranges of addresses, used in turn, so that one which outlives thousands of leaders
//! keeps to them.
//!
//! ```text
//! current -> former -> resting (zeros) --5 s--> claimed: the next file is mapped over it -> current
//! ```
//! Nothing is ever unmapped: a thread that was stopped in the middle of a read finds zeros or another file's words under
//! its view, and no fault. It does not believe them: each file has an identity, which is compared after reading.
//! A place is claimed by one compare-and-swap of a time, so that no claim outlives its holder (a fork may not have
//! taken it along) for longer than a place rests.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::boot::BootId;
use crate::control::ImageId;
use crate::image::ImageFile;
use crate::shm::{Millis, leak, map_over, release, reserve, words_of};

/// Places that a process has at most; a leader rarely lives for less than a second.
const PLACES: usize = 8;
/// A place rests this long: far longer than a read takes.
const REST_MS: Millis = 5_000;

/// A range of addresses, and what is mapped there.
pub struct Place {
    range: &'static [AtomicU64],
    /// When it was claimed or left.
    touched: AtomicU64,
    /// [`ImageId`] as a word; 0 = nothing to be believed.
    id: AtomicU64,
    capacity: AtomicU64,
    identity: AtomicU64,
}

impl Place {
    /// The image here, if it is this one.
    #[inline]
    pub fn file_of(&self, id: ImageId) -> Option<ImageFile> {
        (self.id.load(Ordering::Acquire) == id.word()).then(|| self.file()).flatten()
    }

    /// The image here.
    #[inline]
    pub fn file(&self) -> Option<ImageFile> {
        let id = self.id.load(Ordering::Acquire);
        let (capacity, identity) = (self.capacity.load(Ordering::Acquire), self.identity.load(Ordering::Acquire));
        let unchanged = id != 0 && self.id.load(Ordering::Acquire) == id;
        unchanged.then(|| ImageFile::remembered(self.range, capacity as usize, identity))
    }

    /// Maps a file here. The caller has claimed the place.
    fn fill(&self, fd: BorrowedFd<'_>, words: usize, boot: BootId, id: ImageId) -> Option<ImageFile> {
        self.id.store(0, Ordering::Release);
        // SAFETY: the whole range was reserved for this and is only ever loaded from, as atomics.
        unsafe { map_over(fd, self.range, words) }.ok()?;
        let Some(file) = ImageFile::open(self.range, boot, id.term) else {
            self.clear();
            return None;
        };
        self.capacity.store(file.arena_words() as u64, Ordering::Release);
        self.identity.store(file.identity(), Ordering::Release);
        self.id.store(id.word(), Ordering::Release);
        Some(file)
    }

    /// Leaves zeros behind: the file is given back.
    fn clear(&self) {
        self.id.store(0, Ordering::Release);
        // SAFETY: the whole range, as `reserve` gave it.
        unsafe { release(self.range) };
    }

    /// Ends the use of a place.
    pub fn leave(&self, now: Millis) {
        self.clear();
        self.touched.store(now, Ordering::Release);
    }

    fn claim(&self, now: Millis) -> bool {
        let touched = self.touched.load(Ordering::Acquire);
        now.abs_diff(touched) >= REST_MS
            && self.touched.compare_exchange(touched, now, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// The places of one attachment.
pub struct Places([AtomicPtr<Place>; PLACES]);

impl Places {
    pub const fn new() -> Self {
        Self([const { AtomicPtr::new(std::ptr::null_mut()) }; PLACES])
    }

    /// Maps a file into a place that nobody uses; `in_use` are not to be touched. `None` when every place rests
    /// and something is mapped already.
    pub fn map(
        &self,
        fd: BorrowedFd<'_>,
        boot: BootId,
        id: ImageId,
        in_use: [*mut Place; 2],
        now: Millis,
    ) -> Option<(&'static Place, ImageFile)> {
        let words = words_of(fd).ok()?;
        let place = self.free(words, in_use, now)?;
        let Some(file) = place.fill(fd, words, boot, id) else {
            // Nobody saw it: it need not rest.
            place.touched.store(0, Ordering::Release);
            return None;
        };
        Some((place, file))
    }

    fn free(&self, words: usize, in_use: [*mut Place; 2], now: Millis) -> Option<&'static Place> {
        let resting = |listed: *mut Place| {
            // SAFETY: null, or leaked by `fresh`: valid for ever, changed by atomics only.
            unsafe { listed.as_ref() }.filter(|_| !in_use.contains(&listed))
        };
        let listed = || self.0.iter().map(|slot| (slot, slot.load(Ordering::Acquire)));
        let mut fitting = listed().filter_map(|(_, place)| resting(place).filter(|place| place.range.len() >= words));
        if let Some(place) = fitting.find(|place| place.claim(now)) {
            return Some(place);
        }
        // A new one, in an empty slot or in that of one that became too small (its zeros stay).
        let slot = listed().find(|(_, place)| {
            place.is_null() || resting(*place).is_some_and(|place| place.range.len() < words && place.claim(now))
        });
        // Nothing is mapped yet, and more threads came together than there are slots: theirs is not listed.
        if slot.is_none() && in_use.iter().any(|place| !place.is_null()) {
            return None;
        }
        let fresh = fresh(words, now)?;
        if let Some((slot, former)) = slot {
            let listed = std::ptr::from_ref(fresh).cast_mut();
            // Whoever loses the slot keeps a place that is not listed, once in a process.
            let _ = slot.compare_exchange(former, listed, Ordering::AcqRel, Ordering::Relaxed);
        }
        Some(fresh)
    }
}

fn fresh(words: usize, now: Millis) -> Option<&'static Place> {
    leak(Place {
        range: reserve(words.next_power_of_two()).ok()?,
        touched: AtomicU64::new(now),
        id: AtomicU64::new(0),
        capacity: AtomicU64::new(0),
        identity: AtomicU64::new(0),
    })
}

#[cfg(test)]
impl Places {
    /// As if nobody had used any of them for long.
    pub fn have_rested(&self) {
        for slot in &self.0 {
            // SAFETY: as in `free`.
            if let Some(place) = unsafe { slot.load(Ordering::Acquire).as_ref() } {
                place.touched.store(0, Ordering::Release);
            }
        }
    }

    /// The addresses of the places there are.
    pub fn in_order(&self) -> Vec<usize> {
        let all = self.0.iter().map(|slot| slot.load(Ordering::Acquire) as usize);
        all.filter(|place| *place != 0).collect()
    }
}
