//! Which names this process was answered with which addresses: what a program that dials one of them is going to ask
//! for by TLS.
//!
//! Only kept where a destination of the image depends on the server name. A small table in static memory: eight places
//! for the addresses that share a bucket, the one that was confirmed longest ago goes first. There is no lock and no
//! claim: writers just write, each entry carries a hash of all that it says, and what a reader cannot confirm by it
//! (another thread, a signal handler or the thread that a fork left behind was in the middle of it) is no entry.

use std::ffi::{c_char, c_int};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{AF_INET, AF_INET6, addrinfo, hostent};
use xds_runtime::image::ImageFile;
use xds_runtime::shm::{self, Millis, WordAddr, hash_bytes, hash_words};

use crate::core::address::{Inet, plausible};
use crate::core::mesh::Mesh;
use crate::core::process;
use crate::core::resolve::text;

const BUCKETS: usize = 16;
const WAYS: usize = 8;
/// Longest name that is kept, bytes: all that a server name can be (RFC 1035).
const NAME: usize = 256;
/// Addresses of one answer that are looked at.
const ANSWERS: usize = 48;

struct Entry {
    address: [AtomicU64; 2],
    length: AtomicU64,
    hash: AtomicU64,
    /// When it was answered last; 0 = never.
    confirmed: AtomicU64,
    name: [AtomicU64; NAME / 8],
}

/// Names by address.
pub struct Answered {
    entries: [Entry; BUCKETS * WAYS],
}

/// Those of this process.
pub static ANSWERED: Answered = Answered::new();

impl Entry {
    const fn new() -> Self {
        Self {
            address: [const { AtomicU64::new(0) }; 2],
            length: AtomicU64::new(0),
            hash: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            name: [const { AtomicU64::new(0) }; NAME / 8],
        }
    }

    /// Copies the name for an address; `None` = it is another one's, or nobody's.
    fn read<'a>(&self, address: WordAddr, buffer: &'a mut [u8; NAME]) -> Option<&'a [u8]> {
        let [hi, lo] = &self.address;
        if (hi.load(Ordering::Relaxed), lo.load(Ordering::Relaxed)) != (address.hi, address.lo) {
            return None;
        }
        for (to, word) in buffer.chunks_exact_mut(8).zip(&self.name) {
            to.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        let name = buffer.get(..usize::try_from(self.length.load(Ordering::Relaxed)).ok()?)?;
        (!name.is_empty() && self.hash.load(Ordering::Relaxed) == hash(address, name)).then_some(name)
    }

    fn write(&self, address: WordAddr, name: &[u8], now: Millis) {
        let [hi, lo] = &self.address;
        hi.store(address.hi, Ordering::Relaxed);
        lo.store(address.lo, Ordering::Relaxed);
        for (word, from) in self.name.iter().zip(name.chunks(8)) {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(from) {
                *to = *from;
            }
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        self.length.store(name.len() as u64, Ordering::Relaxed);
        self.hash.store(hash(address, name), Ordering::Relaxed);
        self.confirmed.store(now, Ordering::Relaxed);
    }
}

fn hash(address: WordAddr, name: &[u8]) -> u64 {
    hash_words(&[address.hi, address.lo, hash_bytes(name)])
}

impl Answered {
    const fn new() -> Self {
        Self { entries: [const { Entry::new() }; BUCKETS * WAYS] }
    }

    fn bucket(&self, address: WordAddr) -> &[Entry] {
        let first = hash_words(&[address.hi, address.lo]) as usize % BUCKETS * WAYS;
        self.entries.get(first..first + WAYS).unwrap_or(&[])
    }

    /// A lookup of `name` (lower case, without final dot) was answered with this address.
    pub fn note(&self, address: WordAddr, name: &[u8], now: Millis) {
        let mut oldest: Option<(&Entry, Millis)> = None;
        let mut buffer = [0; NAME];
        for entry in self.bucket(address) {
            if entry.read(address, &mut buffer) == Some(name) {
                return entry.confirmed.store(now, Ordering::Relaxed);
            }
            let confirmed = entry.confirmed.load(Ordering::Relaxed);
            if oldest.is_none_or(|(_, other)| confirmed < other) {
                oldest = Some((entry, confirmed));
            }
        }
        if let Some((entry, _)) = oldest {
            entry.write(address, name, now);
        }
    }

    /// Shows each name that was answered with this address.
    #[inline(never)]
    pub fn visit(&self, address: WordAddr, show: &mut dyn FnMut(&[u8])) {
        let mut buffer = [0; NAME];
        for entry in self.bucket(address) {
            if let Some(name) = entry.read(address, &mut buffer) {
                show(name);
            }
        }
    }
}

/// Notes what a lookup was answered, as the program wrote the name: that is what it will ask for.
pub fn note(mesh: &dyn Mesh, name: &str, addresses: impl Iterator<Item = WordAddr>) {
    let asks = |image: ImageFile| image.read(|view| view.asks_for_server_names()).unwrap_or(false);
    // Before the first image nobody knows whether names will be asked for.
    if !mesh.image().is_none_or(asks) {
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut lower = [0; NAME];
    let Some(lower) = lower.get_mut(..name.len()) else { return };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    if name.is_empty() || name.parse::<IpAddr>().is_ok() {
        return;
    }
    let now = shm::now();
    addresses.take(ANSWERS).for_each(|address| ANSWERED.note(address, lower, now));
}

/// Notes what libc answered to getaddrinfo.
///
/// # Safety
/// The program's name, and the list of a getaddrinfo that succeeded.
pub unsafe fn by_list(node: *const c_char, mut list: *const addrinfo) {
    let next = || {
        while plausible(list) {
            // SAFETY: a node of libc's list.
            let node = unsafe { &*list };
            list = node.ai_next;
            if node.ai_addr.is_null() {
                continue;
            }
            // SAFETY: an address of that length.
            if let Some(inet) = unsafe { Inet::read(node.ai_addr, node.ai_addrlen) } {
                return Some(WordAddr::new(inet.ip));
            }
        }
        None
    };
    // SAFETY: as the caller says.
    unsafe { by_libc(node, std::iter::from_fn(next)) };
}

/// Notes what libc answered to gethostbyname and its family.
///
/// # Safety
/// The program's name, and null or the entry of a call that succeeded.
pub unsafe fn by_entry(name: *const c_char, entry: *const hostent) {
    // SAFETY: as the caller says.
    let Some(entry) = (unsafe { entry.as_ref() }) else { return };
    if entry.h_addr_list.is_null() {
        return;
    }
    let mut place = entry.h_addr_list.cast_const();
    let next = || {
        // SAFETY: within the list, whose end was not reached.
        let address = unsafe { place.read() };
        if address.is_null() {
            return None;
        }
        place = place.wrapping_add(1);
        // SAFETY: an address of the entry's family and length.
        unsafe { ip(entry.h_addrtype, address) }.map(WordAddr::new)
    };
    // SAFETY: as the caller says.
    unsafe { by_libc(name, std::iter::from_fn(next)) };
}

unsafe fn ip(family: c_int, address: *const c_char) -> Option<IpAddr> {
    // SAFETY: an address of that family, as the caller says; alignment is not assumed.
    unsafe {
        match family {
            AF_INET => Some(address.cast::<[u8; 4]>().read_unaligned().into()),
            AF_INET6 => Some(address.cast::<[u8; 16]>().read_unaligned().into()),
            _ => None,
        }
    }
}

unsafe fn by_libc(name: *const c_char, addresses: impl Iterator<Item = WordAddr>) {
    let Ok(context) = process::enter() else { return };
    // A process that never asked for a name of the mesh's is not attached: a lookup attaches.
    let Some(pod) = context.attached() else { return };
    // SAFETY: the program's name, nul-terminated.
    if let Some(name) = unsafe { text(name) } {
        note(&crate::core::mesh::Attached { context, pod }, name, addresses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> WordAddr {
        WordAddr::new(text.parse().unwrap())
    }

    fn names(table: &Answered, at: &str) -> Vec<String> {
        let mut names = Vec::new();
        table.visit(address(at), &mut |name| names.push(String::from_utf8(name.to_vec()).unwrap()));
        names.sort();
        names
    }

    #[test]
    fn an_address_tells_every_name_that_it_answered_once() {
        let table = Answered::new();
        table.note(address("192.0.2.1"), b"a.example", 1);
        table.note(address("192.0.2.1"), b"b.example", 2);
        table.note(address("192.0.2.1"), b"a.example", 3);
        table.note(address("192.0.2.2"), b"c.example", 4);
        assert_eq!(names(&table, "192.0.2.1"), ["a.example", "b.example"]);
        assert_eq!(names(&table, "::ffff:192.0.2.2"), ["c.example"]);
        assert_eq!(names(&table, "192.0.2.3"), [""; 0]);
    }

    #[test]
    fn the_name_that_was_confirmed_longest_ago_goes_first() {
        let table = Answered::new();
        for nth in 0..WAYS {
            table.note(address("192.0.2.1"), format!("n{nth}.example").as_bytes(), 10 + nth as u64);
        }
        table.note(address("192.0.2.1"), b"n0.example", 50);
        table.note(address("192.0.2.1"), b"new.example", 51);
        let found = names(&table, "192.0.2.1");
        assert_eq!(found.len(), WAYS);
        assert!(found.contains(&"n0.example".into()) && found.contains(&"new.example".into()), "{found:?}");
        assert!(!found.contains(&"n1.example".into()), "{found:?}");
    }

    #[test]
    fn an_entry_that_two_writers_mixed_is_none_and_is_written_anew() {
        let table = Answered::new();
        table.note(address("192.0.2.1"), b"a-long-name.example", 1);
        let entry = table.bucket(address("192.0.2.1")).iter().find(|e| e.confirmed.load(Ordering::Relaxed) == 1);
        entry.unwrap().name[1].store(7, Ordering::Relaxed);
        assert_eq!(names(&table, "192.0.2.1"), [""; 0]);
        table.note(address("192.0.2.1"), b"a-long-name.example", 2);
        assert_eq!(names(&table, "192.0.2.1"), ["a-long-name.example"]);
    }

    #[test]
    fn the_longest_name_is_kept_and_a_longer_one_is_not() {
        let table = Answered::new();
        table.note(address("192.0.2.1"), &[b'a'; NAME], 1);
        assert_eq!(names(&table, "192.0.2.1"), ["a".repeat(NAME)]);
    }

    #[test]
    fn concurrent_writers_leave_whole_names_only() {
        let table = Answered::new();
        std::thread::scope(|scope| {
            for writer in 0..3_u8 {
                let table = &table;
                scope.spawn(move || {
                    for round in 0..2000_u64 {
                        let name = [b'a' + writer; 40];
                        table.note(address("192.0.2.1"), &name[..20 + (round % 20) as usize], round);
                    }
                });
            }
            for _ in 0..2000 {
                table.visit(address("192.0.2.1"), &mut |name| {
                    assert!(name.len() >= 20 && name.iter().all(|byte| *byte == name[0]), "{name:?}");
                });
            }
        });
    }
}
