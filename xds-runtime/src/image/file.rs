//! The image file: a header and two arenas under a seqlock.
//!
//! ```text
//! words 0..64     header: MAGIC, boot id, term, arena capacity, CURRENT, IDENTITY (no other file has it)
//! 64              arena 0: EPOCH (odd while written), LENGTH, content..
//! 64 + capacity   arena 1
//! ```
//! `CURRENT` is the generation; generation `g` lies in arena `g % 2`; 0 = nothing published. One leader in one
//! term writes a file; a leader that was frozen in the middle of a write only ever touches its own file.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use rustix::time::{ClockId, clock_gettime};

use crate::boot::BootId;
use crate::image::view::{Torn, View};
use crate::shm::{self, Words};

/// Words before the first arena.
pub const HEADER_WORDS: usize = 64;
const ARENA_HEADER: usize = 2;
const MAGIC: u64 = u64::from_le_bytes(*b"LDMESHI\x01");
const AT_MAGIC: usize = 0;
const AT_BOOT: usize = 1;
const AT_TERM: usize = 3;
const AT_CAPACITY: usize = 4;
const AT_CURRENT: usize = 5;
const AT_IDENTITY: usize = 6;
/// How long a reader tries before it passes, and how often at least: one that the machine kept from running between
/// two looks at the epoch was passed by publishes, however seldom they are.
const READ_PATIENCE_MS: u64 = 1;
const READ_ATTEMPTS: u32 = 20;

/// Words of a file whose arenas hold `content` words each.
pub const fn file_words(content: usize) -> usize {
    HEADER_WORDS + 2 * (content + ARENA_HEADER)
}

/// Why an image could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nothing was published yet.
    #[error("nothing was published yet")]
    Empty,
    /// Publishes went past the reader for a whole millisecond and many attempts.
    #[error("publishes went past the reader again and again")]
    Busy,
    /// The content contradicts itself although nobody wrote.
    #[error("the image is corrupt; the next leader replaces it")]
    Corrupt,
}

/// A mapped image file, as a reader sees it.
#[derive(Clone, Copy)]
pub struct ImageFile {
    words: Words<'static>,
    capacity: usize,
    identity: u64,
}

impl ImageFile {
    /// A file that was opened before, as [`ImageFile::arena_words`] and [`ImageFile::identity`] told of it. Should
    /// another one be mapped there by now, nothing of it is believed.
    pub(crate) const fn remembered(words: &'static [AtomicU64], capacity: usize, identity: u64) -> Self {
        Self { words: Words::new(words), capacity, identity }
    }

    /// Words of an arena.
    pub(crate) const fn arena_words(&self) -> usize {
        self.capacity
    }

    /// What tells this file from every other one.
    pub(crate) const fn identity(&self) -> u64 {
        self.identity
    }

    /// Believes a mapping only if its header names this boot and `term`, and the arenas fit.
    pub fn open(words: &'static [AtomicU64], boot: BootId, term: u32) -> Option<Self> {
        let words = Words::new(words);
        let capacity = usize::try_from(words.load(AT_CAPACITY)?).ok()?;
        let fits = HEADER_WORDS.checked_add(capacity.checked_mul(2)?)? <= words.len();
        let ours = words.load(AT_MAGIC)? == MAGIC
            && [words.load(AT_BOOT)?, words.load(AT_BOOT + 1)?] == boot.words()
            && words.load(AT_TERM)? == u64::from(term);
        let identity = words.load(AT_IDENTITY)?;
        (ours && fits && capacity > ARENA_HEADER).then_some(Self { words, capacity, identity })
    }

    /// The generation that is current; 0 = none.
    pub fn generation(&self) -> u64 {
        self.words.cell(AT_CURRENT).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Runs `f` over the current arena until it saw one generation undisturbed, at most about 1 ms of running.
    /// `f` must copy what it needs; it may run several times.
    ///
    /// # Errors
    /// [`ReadError`]: in each case the caller passes.
    #[inline]
    pub fn read<T>(&self, mut f: impl FnMut(&View<'_>) -> Result<T, Torn>) -> Result<T, ReadError> {
        let (mut deadline, mut attempts) = (None, 0_u32);
        loop {
            if let Some(arena) = self.arena()? {
                let answer = f(&View::new(arena.content));
                if self.is_undisturbed(&arena) {
                    return answer.map_err(|Torn| ReadError::Corrupt);
                }
            }
            let now = shm::now();
            attempts = attempts.saturating_add(1);
            // Two ticks of a millisecond clock: at least one whole millisecond.
            if now > *deadline.get_or_insert(now + READ_PATIENCE_MS) && attempts >= READ_ATTEMPTS {
                return Err(ReadError::Busy);
            }
            std::hint::spin_loop();
        }
    }

    /// The arena to read; `None` = it is being written.
    #[inline(always)]
    fn arena(&self) -> Result<Option<Arena>, ReadError> {
        let [.., current, identity] = self.words.cells::<{ AT_IDENTITY + 1 }>(0).ok_or(ReadError::Corrupt)?;
        let generation = current.load(Ordering::Acquire);
        if generation == 0 {
            return Err(ReadError::Empty);
        }
        let start = HEADER_WORDS + (generation & 1) as usize * self.capacity;
        let [epoch, length] = self.words.cells::<ARENA_HEADER>(start).ok_or(ReadError::Corrupt)?;
        let before = epoch.load(Ordering::Acquire);
        if before & 1 == 1 {
            return Ok(None);
        }
        let length = shm::load(length) as usize;
        // A length that does not fit may be one that is being written: the epoch tells.
        let fits = length <= self.capacity.saturating_sub(ARENA_HEADER);
        let content = if fits { self.words.slice(start + ARENA_HEADER, length) } else { None };
        Ok(Some(Arena { identity, epoch, before, content: content.unwrap_or(Words::new(&[])) }))
    }

    /// Whether nobody wrote since the arena was looked up, and the file is still this one.
    #[inline(always)]
    fn is_undisturbed(&self, arena: &Arena) -> bool {
        fence(Ordering::Acquire);
        shm::load(arena.epoch) == arena.before && shm::load(arena.identity) == self.identity
    }
}

/// An arena that is read.
struct Arena {
    /// Of its file.
    identity: &'static AtomicU64,
    epoch: &'static AtomicU64,
    /// Its epoch before.
    before: u64,
    content: Words<'static>,
}

/// The writing side of a file: the leader's, for one term.
pub struct Publisher {
    words: Words<'static>,
    capacity: usize,
    generation: u64,
}

/// The content is larger than an arena: a new file of twice the size is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgrown;

impl Publisher {
    /// Formats a fresh, fully allocated, writable mapping. `None` when it is too small to hold anything.
    pub fn format(words: &'static [AtomicU64], boot: BootId, term: u32, generation: u64) -> Option<Self> {
        let words = Words::new(words);
        let capacity = words.len().checked_sub(HEADER_WORDS)? / 2;
        if capacity <= ARENA_HEADER {
            return None;
        }
        let [boot_high, boot_low] = boot.words();
        let time = clock_gettime(ClockId::Monotonic);
        let identity = shm::hash_words(&[u64::from(term), capacity as u64, time.tv_sec as u64, time.tv_nsec as u64]);
        for (at, word) in [
            (AT_BOOT, boot_high),
            (AT_BOOT + 1, boot_low),
            (AT_TERM, u64::from(term)),
            (AT_CAPACITY, capacity as u64),
            (AT_IDENTITY, identity.max(1)),
        ] {
            words.cell(at)?.store(word, Ordering::Relaxed);
        }
        words.cell(AT_MAGIC)?.store(MAGIC, Ordering::Release);
        Some(Self { words, capacity, generation })
    }

    /// Words of content that an arena holds.
    pub const fn capacity(&self) -> usize {
        self.capacity - ARENA_HEADER
    }

    /// The generation published last (the number given to `format` at first).
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Writes the idle arena and flips to it.
    ///
    /// # Errors
    /// [`Outgrown`] when the content does not fit; nothing was touched.
    pub fn publish(&mut self, content: &[u64]) -> Result<u64, Outgrown> {
        let next = self.generation + 1;
        let start = HEADER_WORDS + (next & 1) as usize * self.capacity;
        let arena = self.words.slice(start, self.capacity).ok_or(Outgrown)?;
        let body = arena.slice(ARENA_HEADER, content.len()).ok_or(Outgrown)?;
        let (Some(epoch), Some(length), Some(current)) = (arena.cell(0), arena.cell(1), self.words.cell(AT_CURRENT))
        else {
            return Err(Outgrown);
        };
        let writing = epoch.load(Ordering::Relaxed) | 1;
        epoch.store(writing, Ordering::Relaxed);
        // No word of the content may become visible before the odd epoch.
        fence(Ordering::Release);
        length.store(content.len() as u64, Ordering::Relaxed);
        for (index, word) in content.iter().enumerate() {
            if let Some(cell) = body.cell(index) {
                cell.store(*word, Ordering::Relaxed);
            }
        }
        epoch.store(writing.wrapping_add(1), Ordering::Release);
        current.store(next, Ordering::Release);
        self.generation = next;
        Ok(next)
    }
}
