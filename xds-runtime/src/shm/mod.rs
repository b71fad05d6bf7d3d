//! Shared memory as words: the one way in which files of the run directory are read and written.
//!
//! Every shared file is a slice of [`AtomicU64`]: concurrent access by other processes is then defined
//! behaviour, and a torn read is a wrong number, never undefined. All indexing is checked: what another
//! process wrote can be wrong, so an index found in shared memory may miss, but cannot fault.
//! The addresses of a mapping are never given back (an image that nobody needs any more becomes zeros in place), so
//! views are `'static` and nobody holds a reference that can dangle.

mod clock;
mod descriptor;
pub mod futex;
mod leak;
mod map;

pub use clock::{Millis, lately, now};
pub use descriptor::Descriptor;
pub use leak::leak;
pub use map::{MapError, map_over, map_read, map_write, release, reserve, words_of};

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

/// A checked view of shared words.
#[derive(Clone, Copy)]
pub struct Words<'a>(&'a [AtomicU64]);

impl<'a> Words<'a> {
    /// A view of the whole slice.
    pub const fn new(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    /// Number of words.
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// True when there is no word.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The word at `index`, read relaxed; `None` out of bounds.
    #[inline]
    pub fn load(self, index: usize) -> Option<u64> {
        self.0.get(index).map(|word| word.load(Ordering::Relaxed))
    }

    /// The cell at `index`.
    #[inline]
    pub fn cell(self, index: usize) -> Option<&'a AtomicU64> {
        self.0.get(index)
    }

    /// The `N` cells from `start`, to [`load`] those that are needed; `None` when they do not fit.
    #[inline]
    pub fn cells<const N: usize>(self, start: usize) -> Option<&'a [AtomicU64; N]> {
        self.0.get(start..)?.first_chunk()
    }

    /// The cells of `count` records of `N` words from `start`; `None` when they do not fit.
    #[inline]
    pub fn records<const N: usize>(self, start: usize, count: usize) -> Option<&'a [[AtomicU64; N]]> {
        let end = start.checked_add(count.checked_mul(N)?)?;
        Some(self.0.get(start..end)?.as_chunks().0)
    }

    /// `N` words from `start`, each read relaxed; `None` when they do not fit.
    #[inline]
    pub fn array<const N: usize>(self, start: usize) -> Option<[u64; N]> {
        Some(self.cells(start)?.each_ref().map(load))
    }

    /// `count` words from `start`; `None` when they do not fit.
    #[inline]
    pub fn slice(self, start: usize, count: usize) -> Option<Self> {
        self.0.get(start..start.checked_add(count)?).map(Self)
    }
}

/// The word of a cell, read relaxed.
#[inline]
pub fn load(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

/// An address in the image's one form: sixteen bytes as two big-endian words, IPv4 as v4-mapped IPv6.
/// An address and its v4-mapped twin are therefore the same key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct WordAddr {
    /// The first eight bytes.
    pub hi: u64,
    /// The last eight bytes.
    pub lo: u64,
}

impl WordAddr {
    /// Encodes an address.
    pub const fn new(ip: IpAddr) -> Self {
        let v6 = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let bits = v6.to_bits();
        Self { hi: (bits >> 64) as u64, lo: bits as u64 }
    }

    /// An IPv4 address.
    pub const fn v4(bits: u32) -> Self {
        Self { hi: 0, lo: 0xffff << 32 | bits as u64 }
    }

    /// The IPv4 address that it is, if it is one.
    pub const fn as_v4(self) -> Option<u32> {
        if self.hi == 0 && self.lo >> 32 == 0xffff { Some(self.lo as u32) } else { None }
    }

    /// The address; v4-mapped comes back as IPv4.
    pub const fn ip(self) -> IpAddr {
        let v6 = Ipv6Addr::from_bits(((self.hi as u128) << 64) | self.lo as u128);
        match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(v6),
        }
    }

    /// The socket address with `port`.
    pub const fn socket(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(), port)
    }

    /// The key under which processes mark this address as wanted; never 0.
    pub fn wanted_key(self) -> u64 {
        hash_words(&[self.hi, self.lo]).max(1)
    }
}

/// XXH3-64 of some words in little-endian order.
#[inline]
pub fn hash_words<const N: usize>(words: &[u64; N]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(words.map(u64::to_le_bytes).as_flattened())
}

/// XXH3-64 of bytes.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// Two 32-bit halves in one word, high first.
#[inline]
pub const fn pack(high: u32, low: u32) -> u64 {
    ((high as u64) << 32) | low as u64
}

/// The halves of a word, high first.
#[inline]
pub const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v4_address_and_its_mapped_twin_are_one_key() {
        let v4: IpAddr = "10.96.0.10".parse().unwrap();
        let twin: IpAddr = "::ffff:10.96.0.10".parse().unwrap();
        assert_eq!(WordAddr::new(v4), WordAddr::new(twin));
        assert_eq!(WordAddr::new(twin).ip(), v4);
    }

    #[test]
    fn a_v6_address_round_trips() {
        let v6: IpAddr = "2001:db8::17".parse().unwrap();
        assert_eq!(WordAddr::new(v6).ip(), v6);
    }

    #[test]
    fn out_of_bounds_words_are_none() {
        let cells = [AtomicU64::new(7)];
        let words = Words::new(&cells);
        assert_eq!(words.load(0), Some(7));
        assert_eq!(words.load(1), None);
        assert!(words.slice(1, usize::MAX).is_none());
        assert_eq!(words.array(0), Some([7]));
        assert_eq!((words.array::<2>(0), words.array::<1>(2)), (None, None));
    }
}
