//! Reading small files that others wrote: bounded, never blocking, with what identifies the version read.

use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::shm::Descriptor;

/// The bytes of a regular file of at most `limit` bytes, and its status when it was opened.
///
/// # Errors
/// What the system calls say; `EINVAL` for what is not a regular file, `EFBIG` over the limit, `ENOMEM` without memory.
pub(crate) fn read_regular(path: &Path, limit: usize) -> Result<(Vec<u8>, Stat), Errno> {
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = Descriptor::from(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?);
    let stat = rustix::fs::fstat(&file)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut chunk))?;
        let Some(part) = chunk.get(..read).filter(|part| !part.is_empty()) else {
            return Ok((bytes, stat));
        };
        if bytes.len().saturating_add(read) > limit {
            return Err(Errno::FBIG);
        }
        bytes.try_reserve(read).map_err(|_| Errno::NOMEM)?;
        bytes.extend_from_slice(part);
    }
}
