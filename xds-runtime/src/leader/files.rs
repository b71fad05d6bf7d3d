//! Files of the run directory as the leader makes them: fully allocated and mapped, or replaced whole.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;

use rustix::fs::{FallocateFlags, fallocate, fstat, ftruncate};
use rustix::io::Errno;

use super::run_dir::{Open, RunDir, RunDirError, file_size_limit};
use crate::shm::{MapError, map_write};

/// Why a shared file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No space, no permission, ..
    #[error(transparent)]
    Dir(#[from] RunDirError),
    /// It could not be written.
    #[error("{name} cannot be written: {error}; check the space of the run directory")]
    Write {
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
    /// Somebody makes or removes it at the same time.
    #[error("{0} is being changed by another process")]
    Raced(String),
}

/// Makes a new file of `words` zeroed words, with all of its space, mapped for writing. A file of that name gives way.
///
/// # Errors
/// [`FileError`]; nothing of it is left then.
pub fn create_shared(dir: &RunDir, name: &str, words: usize) -> Result<&'static [AtomicU64], FileError> {
    dir.remove_file(name)?;
    let size = (words as u64).saturating_mul(8);
    let file = dir.create_file(name, size)?.ok_or_else(|| FileError::Raced(name.to_owned()))?;
    map_write(file.as_fd(), words).map_err(|error| {
        // The error that matters is the first one.
        let _ = dir.remove_file(name);
        FileError::Map { name: name.to_owned(), error }
    })
}

/// Gives an existing file space for `words` words and maps it anew.
///
/// # Errors
/// [`FileError`]; the file is as before.
pub fn grow_shared(dir: &RunDir, name: &str, words: usize) -> Result<&'static [AtomicU64], FileError> {
    let os = |error| FileError::Write { name: name.to_owned(), error };
    let file = dir.open_file(name, Open::ReadWrite)?.ok_or_else(|| FileError::Raced(name.to_owned()))?;
    let before = u64::try_from(fstat(&file).map_err(os)?.st_size).unwrap_or(0);
    let size = (words as u64).saturating_mul(8);
    if size > file_size_limit() {
        return Err(os(Errno::FBIG));
    }
    if let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, size) {
        // Nobody uses what is beyond the size that the file's header states.
        let _ = ftruncate(&file, before);
        return Err(os(error));
    }
    map_write(file.as_fd(), words).map_err(|error| FileError::Map { name: name.to_owned(), error })
}

/// Writes a small file whole: a reader sees the old content or the new.
///
/// # Errors
/// [`FileError`].
pub fn replace(dir: &RunDir, name: &str, content: &[u8]) -> Result<(), FileError> {
    let temporary = format!("{name}.new");
    dir.remove_file(&temporary)?;
    let file = dir.create_file(&temporary, 0)?.ok_or_else(|| FileError::Raced(temporary.clone()))?;
    std::fs::File::from(file.into_owned()).write_all(content).map_err(|error| FileError::Write {
        name: name.to_owned(),
        error: Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)),
    })?;
    Ok(dir.rename_over(&temporary, name)?)
}
