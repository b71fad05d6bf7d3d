//! Mapping a file as words.

use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};

/// Why a file could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The kernel refused.
    #[error("mapping failed: {0}; check the address-space limit (ulimit -v) and the run directory's file system")]
    Os(#[from] Errno),
    /// The file is shorter than its format says.
    #[error("the file has {found} bytes where at least {wanted} are needed; the next leader replaces it")]
    Short {
        /// Bytes found.
        found: u64,
        /// Bytes needed.
        wanted: u64,
    },
}

/// Maps a whole file read-only; at least `min_words` must be there.
///
/// # Errors
/// [`MapError`] when the file is too short or the kernel refuses.
pub fn map_read(fd: BorrowedFd<'_>, min_words: usize) -> Result<&'static [AtomicU64], MapError> {
    map(fd, min_words, ProtFlags::READ)
}

/// Maps a whole file for reading and writing; at least `min_words` must be there.
///
/// # Errors
/// [`MapError`] when the file is too short or the kernel refuses.
pub fn map_write(fd: BorrowedFd<'_>, min_words: usize) -> Result<&'static [AtomicU64], MapError> {
    map(fd, min_words, ProtFlags::READ | ProtFlags::WRITE)
}

fn map(fd: BorrowedFd<'_>, min_words: usize, prot: ProtFlags) -> Result<&'static [AtomicU64], MapError> {
    let words = words_of(fd)?;
    let (found, wanted) = ((words as u64).saturating_mul(8), (min_words as u64).saturating_mul(8).max(8));
    if found < wanted {
        return Err(MapError::Short { found, wanted });
    }
    // SAFETY: a fresh shared mapping at an address of the kernel's choice overlaps nothing.
    let base = unsafe { mmap(std::ptr::null_mut(), words * 8, prot, MapFlags::SHARED, fd, 0)? };
    // SAFETY: the mapping is page-aligned, `words * 8` bytes long, never unmapped, and only ever seen as
    // atomics; through a read-only mapping callers only load (stores go through `map_write`'s result).
    Ok(unsafe { std::slice::from_raw_parts(base.cast::<AtomicU64>(), words) })
}

/// Whole words of a file.
///
/// # Errors
/// [`MapError::Os`].
pub fn words_of(fd: BorrowedFd<'_>) -> Result<usize, MapError> {
    Ok(usize::try_from(fstat(fd)?.st_size).unwrap_or(0) / 8)
}

/// Addresses for read-only mappings to come: zeros until then, which take no memory.
///
/// # Errors
/// [`MapError::Os`].
pub fn reserve(words: usize) -> Result<&'static [AtomicU64], MapError> {
    let length = words.saturating_mul(8);
    // SAFETY: a fresh private mapping at an address of the kernel's choice overlaps nothing.
    let base = unsafe { mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE)? };
    // SAFETY: page-aligned, `length` bytes long, never unmapped, only ever loaded from, as atomics.
    Ok(unsafe { std::slice::from_raw_parts(base.cast::<AtomicU64>(), words) })
}

/// Maps the first `words` of a file read-only over a range, in one step for whoever still reads it.
///
/// # Safety
/// `range` is the whole of what [`reserve`] returned.
///
/// # Errors
/// [`MapError`]; the range is as before when the file does not fit.
pub unsafe fn map_over(fd: BorrowedFd<'_>, range: &'static [AtomicU64], words: usize) -> Result<(), MapError> {
    if words == 0 || words > range.len() {
        let (found, wanted) = (range.len() as u64 * 8, words as u64 * 8);
        return Err(MapError::Short { found, wanted });
    }
    let start = range.as_ptr().cast_mut().cast();
    // SAFETY: within the caller's range, which is never unmapped; its words are only ever loaded, as atomics.
    unsafe { mmap(start, words * 8, ProtFlags::READ, MapFlags::SHARED | MapFlags::FIXED, fd, 0)? };
    Ok(())
}

/// Gives a read-only mapping's file back: the words stay readable for ever and are zeros from here on, so that whoever
/// is still reading them sees an empty image and no fault. True when it was done.
///
/// # Safety
/// `words` is the whole of what [`map_read`] or [`reserve`] returned.
pub unsafe fn release(words: &'static [AtomicU64]) -> bool {
    let start = words.as_ptr().cast_mut().cast();
    // SAFETY: takes the place of the caller's mapping, at its address and of its length, and is never
    // unmapped; its words are only ever loaded, as atomics, so that they may change.
    unsafe { mmap_anonymous(start, size_of_val(words), ProtFlags::READ, MapFlags::PRIVATE | MapFlags::FIXED) }.is_ok()
}
