//! The bytes of the journal.

use xxhash_rust::xxh3::xxh3_64;

use crate::boot::BootId;
use crate::resource::ResourceType;
use crate::shm::Millis;

const MAGIC: [u8; 8] = *b"LDMESHJ\x02";
/// Bytes before the first record.
pub(super) const HEADER: usize = 24;
const PREAMBLE: usize = 12;
const FIXED: usize = 18;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Accepted = 1,
    Removed = 2,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub operation: Operation,
    pub kind: ResourceType,
    pub name: &'a str,
    pub version: &'a str,
    pub updated: Millis,
    pub raw: &'a [u8],
}

pub(super) fn write_header(boot: BootId) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    for word in boot.words() {
        header.extend_from_slice(&word.to_le_bytes());
    }
    header
}

/// What follows the header; `None` when it is not ours, of this version and boot.
pub(super) fn parse_header(bytes: &[u8], boot: BootId) -> Option<&[u8]> {
    bytes.strip_prefix(write_header(boot).as_slice())
}

impl<'a> Record<'a> {
    /// Appends the record; its length, or `None` (and nothing appended) when it does not fit 32 bits.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) -> Option<u64> {
        let body = FIXED.checked_add(self.name.len())?.checked_add(self.version.len())?.checked_add(self.raw.len())?;
        let length = u32::try_from(body).ok()?;
        let start = out.len();
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&[self.operation as u8, code(self.kind)]);
        out.extend_from_slice(&self.updated.to_le_bytes());
        out.extend_from_slice(&(self.name.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.version.len() as u32).to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(self.version.as_bytes());
        out.extend_from_slice(self.raw);
        let checksum = xxh3_64(out.get(start + PREAMBLE..)?);
        out.get_mut(start + 4..start + PREAMBLE)?.copy_from_slice(&checksum.to_le_bytes());
        Some((PREAMBLE + body) as u64)
    }

    /// The first record and what follows it; `None` at the end or at the first bad one.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<8>()?;
        let (body, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        if xxh3_64(body) != u64::from_le_bytes(*checksum) {
            return None;
        }
        let ([operation, kind], rest) = body.split_first_chunk::<2>()?;
        let (updated, rest) = rest.split_first_chunk::<8>()?;
        let (name_length, rest) = rest.split_first_chunk::<4>()?;
        let (version_length, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_length) as usize)?;
        let (version, raw) = rest.split_at_checked(u32::from_le_bytes(*version_length) as usize)?;
        let operation = match operation {
            1 => Operation::Accepted,
            2 => Operation::Removed,
            _ => return None,
        };
        let record = Self {
            operation,
            kind: ResourceType::ALL.into_iter().find(|known| code(*known) == *kind)?,
            name: std::str::from_utf8(name).ok()?,
            version: std::str::from_utf8(version).ok()?,
            updated: Millis::from_le_bytes(*updated),
            raw,
        };
        Some((record, after))
    }
}

/// The number of a type in the file; part of the format.
const fn code(kind: ResourceType) -> u8 {
    match kind {
        ResourceType::Listener => 1,
        ResourceType::Route => 2,
        ResourceType::Cluster => 3,
        ResourceType::Endpoint => 4,
        ResourceType::NameTable => 5,
    }
}
