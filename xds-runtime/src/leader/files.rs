//! Files of the run directory as the leader makes them: fully allocated, mapped, replaced by rename.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, fallocate, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::shm::{MapError, map_write};

/// Why a shared file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No space, no permission, ..
    #[error("{name} cannot be written: {error}; check space and permissions of the run directory")]
    Os {
        /// The file.
        name: String,
        /// What the kernel said.
        error: Errno,
    },
    /// It could not be mapped.
    #[error("{name}: {error}")]
    Map {
        /// The file.
        name: String,
        /// Why.
        error: MapError,
    },
}

/// Makes a new file of `words` zeroed words, with all of its space, mapped for writing. A file of that name gives way.
///
/// # Errors
/// [`FileError`]; nothing of it is left then.
pub fn create_shared(dir: &OwnedFd, name: &str, words: usize) -> Result<&'static [AtomicU64], FileError> {
    let os = |error| FileError::Os { name: name.to_owned(), error };
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(os(error)),
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(os)?;
    let made = allocate(&file, words)
        .map_err(os)
        .and_then(|()| map_write(std::os::fd::AsFd::as_fd(&file), words).map_err(|error| map_error(name, error)));
    if made.is_err() {
        let _ = unlinkat(dir, name, AtFlags::empty());
    }
    made
}

/// Gives an existing file space for `words` words and maps it anew.
///
/// # Errors
/// [`FileError`]; the file may be longer than before, its content is untouched.
pub fn grow_shared(dir: &OwnedFd, name: &str, words: usize) -> Result<&'static [AtomicU64], FileError> {
    let os = |error| FileError::Os { name: name.to_owned(), error };
    let file = openat(dir, name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(os)?;
    let before = fstat(&file).map_err(os)?.st_size;
    if let Err(error) = allocate(&file, words) {
        // No reader maps beyond what the file says it has, so the tail may go again.
        let _ = rustix::fs::ftruncate(&file, u64::try_from(before).unwrap_or(0));
        return Err(os(error));
    }
    map_write(std::os::fd::AsFd::as_fd(&file), words).map_err(|error| map_error(name, error))
}

/// Writes a small file whole: a reader sees the old content or the new.
///
/// # Errors
/// [`FileError::Os`].
pub fn replace(dir: &OwnedFd, name: &str, content: &[u8]) -> Result<(), FileError> {
    let os = |error| FileError::Os { name: name.to_owned(), error };
    let temporary = format!("{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(os)?;
    let written = std::fs::File::from(file).write_all(content);
    written.map_err(|error| os(Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))))?;
    renameat(dir, &temporary, dir, name).map_err(os)
}

/// All the space, before anything is stored: a hole in a full tmpfs is SIGBUS.
fn allocate(file: &OwnedFd, words: usize) -> Result<(), Errno> {
    let bytes = (words as u64).checked_mul(8).ok_or(Errno::FBIG)?;
    fallocate(file, FallocateFlags::empty(), 0, bytes)
}

fn map_error(name: &str, error: MapError) -> FileError {
    FileError::Map { name: name.to_owned(), error }
}
