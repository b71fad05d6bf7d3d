//! The journal: what this term accepted, as raw bytes on disk, so that a successor starts from last good.
//!
//! ```text
//! accepted-<term>:  MAGIC, boot id | record | record | ..
//! record:           length u32, checksum u64 (XXH3 of the body), body
//! body:             operation u8, type u8, time u64, name length u32, version length u32, name, version, resource bytes
//! ```
//! Append-only; a removal is a record too. Reading stops at the first bad record: a leader killed in the middle of
//! a write leaves a torn tail, everything before it holds. A new term writes all it was seeded with into a
//! temporary file before that gets its name, so a journal under its name is never half of its predecessor.
//! A rejected resource writes nothing: its last good record stays the newest. So does a write that failed: what is in
//! the file stays the live state until a later write goes through.

mod record;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::Dir;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::boot::BootId;
use crate::leader::run_dir::{Open, RunDir, RunDirError};
use crate::pod::names::JOURNAL_PREFIX;
use crate::quick::QuickMap;
use crate::resource::ResourceType;
use crate::shm::Millis;
use record::{HEADER, Operation, Record, parse_header, write_header};

/// A journal smaller than this is not worth compacting.
const COMPACT_FROM: u64 = 64 << 10;
/// What waits to be written is at most about this: a push of a large mesh is written as it is taken over.
const PENDING_MOST: usize = 1 << 20;
/// Larger files are not ours.
const SIZE_MOST: u64 = 4 << 30;

/// Why the journal could not be written; the leader goes on without.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file could not be made or named.
    #[error(transparent)]
    File(#[from] RunDirError),
    /// It could not be written.
    #[error("the journal cannot be written: {0}; free space in the run directory, or a restart loses last good")]
    Io(#[from] std::io::Error),
    /// A resource too large for a record.
    #[error("a resource of over 4 GiB is not kept in the journal")]
    TooLarge,
}

/// One accepted resource as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Version as the server named it.
    pub version: String,
    /// When it was accepted, by this term or one before.
    pub updated: Millis,
    /// The resource's bytes. They share the memory of all that was read.
    pub raw: Bytes,
}

/// What a journal holds: the live resources.
pub type Seed = BTreeMap<(ResourceType, String), Accepted>;

/// Reads the newest journal in `dir` that was written in this boot by a term before `term`.
pub fn read_predecessor(dir: &RunDir, boot: BootId, term: u32) -> Seed {
    let mut terms: Vec<u32> = terms(dir).into_iter().filter(|found| *found < term).collect();
    terms.sort_unstable();
    terms.into_iter().rev().find_map(|found| read(dir, &file_name(found), boot)).unwrap_or_default()
}

/// Reads the newest journal in `dir` of this boot, its writer being alive or not.
pub fn read_newest(dir: &RunDir, boot: BootId) -> Seed {
    read_predecessor(dir, boot, u32::MAX)
}

/// Unlinks the journals of terms before `term`.
pub fn remove_older(dir: &RunDir, term: u32) {
    for older in terms(dir).into_iter().filter(|found| *found < term) {
        // What cannot be removed costs space and nothing else.
        let _ = dir.remove_file(&file_name(older));
        let _ = dir.remove_file(&temporary_name(older));
    }
}

fn file_name(term: u32) -> String {
    format!("{JOURNAL_PREFIX}{term}")
}

fn temporary_name(term: u32) -> String {
    format!("{JOURNAL_PREFIX}{term}.new")
}

fn terms(dir: &RunDir) -> Vec<u32> {
    let Ok(entries) = Dir::read_from(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str().ok()?.strip_prefix(JOURNAL_PREFIX)?;
            name.strip_suffix(".new").unwrap_or(name).parse().ok()
        })
        .collect()
}

/// `None`: not there, not ours, or of another boot.
fn read(dir: &RunDir, name: &str, boot: BootId) -> Option<Seed> {
    let mut file = File::from(dir.open_file(name, Open::Read).ok()??.into_owned());
    if file.metadata().ok()?.len() > SIZE_MOST {
        return None;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let bytes = Bytes::from(bytes);
    let mut rest = parse_header(&bytes, boot)?;
    let mut seed = Seed::new();
    while let Some((record, after)) = Record::parse(rest) {
        rest = after;
        let key = (record.kind, record.name.to_owned());
        match record.operation {
            Operation::Accepted => {
                seed.insert(
                    key,
                    Accepted {
                        version: record.version.to_owned(),
                        updated: record.updated,
                        raw: bytes.slice_ref(record.raw),
                    },
                );
            }
            Operation::Removed => {
                seed.remove(&key);
            }
        }
    }
    Some(seed)
}

/// The digest of a resource's type and name: names of a large mesh are megabytes, and no two have the same digest.
type Key = u128;

fn key(kind: ResourceType, name: &str) -> Key {
    xxh3_128_with_seed(name.as_bytes(), kind as u64)
}

/// Where a live record lies.
#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    length: u64,
}

/// The journal of one term, being written.
pub struct Journal {
    dir: Arc<RunDir>,
    boot: BootId,
    term: u32,
    file: File,
    /// Where the file holds the live records.
    live: QuickMap<Key, Place>,
    live_size: u64,
    size: u64,
    /// Not written yet: the bytes, and what becomes of live records once they are.
    pending: Vec<u8>,
    changes: Vec<(Key, Option<Place>)>,
    /// Size from which compacting is worth while.
    compact_from: u64,
}

impl Journal {
    /// Starts the journal of `term` with what the predecessor accepted.
    ///
    /// # Errors
    /// [`JournalError`], when the folder is full for one: the leader goes on without a journal.
    pub fn start(dir: &Arc<RunDir>, boot: BootId, term: u32, seed: &Seed) -> Result<Self, JournalError> {
        Self::seeded(dir, boot, term, seed).inspect_err(|_| {
            // Half a journal is of no use, and takes space.
            let _ = dir.remove_file(&temporary_name(term));
        })
    }

    fn seeded(dir: &Arc<RunDir>, boot: BootId, term: u32, seed: &Seed) -> Result<Self, JournalError> {
        let dir = Arc::clone(dir);
        let mut journal = Self {
            file: create(&dir, &temporary_name(term))?,
            dir,
            boot,
            term,
            live: QuickMap::default(),
            live_size: 0,
            size: 0,
            pending: Vec::new(),
            changes: Vec::new(),
            compact_from: COMPACT_FROM,
        };
        journal.begin()?;
        for ((kind, name), accepted) in seed {
            journal.accepted(*kind, name, &accepted.version, accepted.updated, &accepted.raw)?;
        }
        journal.write()?;
        journal.name()?;
        Ok(journal)
    }

    /// Notes an accepted resource; written by [`Journal::flush`], or earlier when much waits.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn accepted(
        &mut self,
        kind: ResourceType,
        name: &str,
        version: &str,
        updated: Millis,
        raw: &[u8],
    ) -> Result<(), JournalError> {
        let record = Record { operation: Operation::Accepted, kind, name, version, updated, raw };
        let offset = self.size + self.pending.len() as u64;
        let length = record.append_to(&mut self.pending).ok_or(JournalError::TooLarge)?;
        self.changes.push((key(kind, name), Some(Place { offset, length })));
        if self.pending.len() > PENDING_MOST { self.write() } else { Ok(()) }
    }

    /// Notes that a resource is gone.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`].
    pub fn removed(&mut self, kind: ResourceType, name: &str) -> Result<(), JournalError> {
        let key = key(kind, name);
        let last = self.changes.iter().rev().find(|(changed, _)| *changed == key);
        if !last.map_or_else(|| self.live.contains_key(&key), |(_, place)| place.is_some()) {
            return Ok(());
        }
        let record = Record { operation: Operation::Removed, kind, name, version: "", updated: 0, raw: &[] };
        record.append_to(&mut self.pending).ok_or(JournalError::TooLarge)?;
        self.changes.push((key, None));
        Ok(())
    }

    /// Writes what was noted, and compacts when more than half of the file is dead.
    ///
    /// # Errors
    /// [`JournalError`]: what was noted since the last flush is lost to a successor, the file is as before.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        self.write()?;
        if self.size <= self.compact_from || self.size <= 2 * self.live_size + HEADER as u64 {
            return Ok(());
        }
        self.compact_from = COMPACT_FROM;
        self.compact().inspect_err(|_| {
            // Nothing is lost: this file goes on. A copy of it is tried again when there is more to gain.
            self.compact_from = self.size.saturating_mul(2);
            let _ = self.dir.remove_file(&temporary_name(self.term));
        })
    }

    /// Writes the journal anew where its file was removed (by whoever tidies temporary folders); true when it was.
    ///
    /// # Errors
    /// [`JournalError`]: a successor starts from nothing.
    pub fn restore(&mut self) -> Result<bool, JournalError> {
        if self.dir.open_file(&file_name(self.term), Open::Read)?.is_some() {
            return Ok(false);
        }
        self.compact().map(|()| true)
    }

    fn write(&mut self) -> Result<(), JournalError> {
        let (pending, changes) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.changes));
        if let Err(error) = self.file.write_all_at(&pending, self.size) {
            // A torn record would hide all that follows it.
            let _ = self.file.set_len(self.size);
            return Err(error.into());
        }
        self.size += pending.len() as u64;
        for (key, place) in changes {
            let former = match place {
                Some(place) => self.live.insert(key, place),
                None => self.live.remove(&key),
            };
            self.live_size += place.map_or(0, |place| place.length);
            self.live_size -= former.map_or(0, |place| place.length);
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), JournalError> {
        let header = write_header(self.boot);
        self.file.write_all(&header)?;
        self.size = header.len() as u64;
        Ok(())
    }

    /// Copies the live records into a new file, which then takes the name.
    fn compact(&mut self) -> Result<(), JournalError> {
        let file = create(&self.dir, &temporary_name(self.term))?;
        let mut copy = std::io::BufWriter::new(&file);
        copy.write_all(&write_header(self.boot))?;
        let mut size = HEADER as u64;
        let mut places = self.live.clone();
        let mut buffer = Vec::new();
        for place in places.values_mut() {
            buffer.resize(usize::try_from(place.length).map_err(|_| JournalError::TooLarge)?, 0);
            self.file.read_exact_at(&mut buffer, place.offset)?;
            copy.write_all(&buffer)?;
            place.offset = size;
            size += place.length;
        }
        copy.flush()?;
        drop(copy);
        (self.file, self.live, self.size) = (file, places, size);
        self.live_size = size - HEADER as u64;
        self.file.seek(SeekFrom::End(0))?;
        self.name()
    }

    fn name(&self) -> Result<(), JournalError> {
        Ok(self.dir.rename_over(&temporary_name(self.term), &file_name(self.term))?)
    }
}

fn create(dir: &RunDir, name: &str) -> Result<File, JournalError> {
    dir.remove_file(name)?;
    let file = dir.create_file(name, 0)?;
    let file = file.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::AlreadyExists))?;
    Ok(File::from(file.into_owned()))
}

#[cfg(test)]
mod tests;
