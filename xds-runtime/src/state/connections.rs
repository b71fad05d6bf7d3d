//! Connection records: for each mesh connection of the pod, what was dialled and which slots count it.
//!
//! Keyed by the socket's cookie, so a record is found again after dup, fork, exec and descriptor passing, and a
//! descriptor that was closed and reused is never mistaken for another. The table is bounded: eight ways per
//! bucket; when all are taken the oldest record goes (its connection is uncounted; `getpeername` then tells the
//! endpoint). The leader removes the records of sockets that are gone by exact kernel look-ups.
//!
//! ```text
//! free (0) --CAS--> claimed (bit 63, time) --fill, store--> cookie --leader or owner--> free
//! ```
//! A claim whose writer died is free again after [`CLAIM_MS`].
//!
//! ```text
//! bucket: eight cookies | when each was opened | what each says
//! ```
//! A search reads the one cache line of the cookies; only a full bucket is asked for its times.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::shm::{Millis, WordAddr, Words, hash_words, pack, unpack};
use crate::state::{HEADER_WORDS, Member, State};

/// Records in the table.
pub const CONNECTIONS: usize = 8192;
const WAYS: usize = 8;
const CLAIMED: u64 = 1 << 63;
const CLAIM_MS: Millis = 5_000;
/// Words of a record beside its cookie and its time.
const CONTENT: usize = 10;
const BUCKET_WORDS: usize = WAYS * (2 + CONTENT);
/// Words of the table.
pub(super) const TABLE_WORDS: usize = CONNECTIONS / WAYS * BUCKET_WORDS;

/// What a connection record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Address the program dialled.
    pub dialled: WordAddr,
    /// Port the program dialled.
    pub dialled_port: u16,
    /// Address of the endpoint.
    pub remote: WordAddr,
    /// Port of the endpoint.
    pub remote_port: u16,
    /// Local address; unspecified until known.
    pub local: WordAddr,
    /// Local port; 0 until known.
    pub local_port: u16,
    /// Established, or still on its way.
    pub state: ConnectionState,
    /// Slot of the endpoint.
    pub endpoint_slot: Option<u32>,
    /// Slot of the cluster.
    pub cluster_slot: Option<u32>,
    /// Tag of the endpoint's slot.
    pub endpoint_tag: u64,
    /// Tag of the cluster's slot.
    pub cluster_tag: u64,
    /// When it was opened.
    pub opened: Millis,
}

impl Connection {
    /// The endpoint as a member of its cluster.
    pub const fn member(&self) -> Member {
        Member {
            endpoint_slot: self.endpoint_slot,
            endpoint_tag: self.endpoint_tag,
            cluster_slot: self.cluster_slot,
            cluster_tag: self.cluster_tag,
        }
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// A non-blocking connect under way.
    Connecting,
    /// Under way for longer than its cluster's connect timeout: counted as a failure, however it ends.
    Overdue,
    /// Established, as far as anyone knows.
    Established,
}

impl ConnectionState {
    /// Whether it is not established yet.
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Connecting | Self::Overdue)
    }
}

const NO_SLOT: u32 = u32::MAX;

impl State {
    /// Records a connection under its socket's cookie, replacing what was recorded for the same socket. Returns
    /// the record that had to go for it, if any: its slots are the caller's to uncount.
    pub fn record(&self, cookie: u64, connection: &Connection, now: Millis) -> Option<Connection> {
        let (index, former) = self.claim(cookie, now)?;
        let record = self.record_at(index)?;
        let displaced = if former { record.read() } else { None };
        // No word of the content may become visible before the claim: a reader tells a torn record by it.
        std::sync::atomic::fence(Ordering::Release);
        record.opened.store(connection.opened, Ordering::Relaxed);
        for (at, word) in encode(connection).into_iter().enumerate() {
            record.content.cell(at)?.store(word, Ordering::Relaxed);
        }
        // Whoever was stopped in here for so long that its claim died leaves the record to its next owner.
        let _ = record.cookie.compare_exchange(CLAIMED | now, cookie, Ordering::Release, Ordering::Relaxed);
        displaced
    }

    /// What is recorded for a socket.
    pub fn connection(&self, cookie: u64) -> Option<Connection> {
        self.find(cookie)?.read_of(cookie)
    }

    /// A connection that was under way is established: true for the one caller that noted it. `seen` is the record
    /// as it was read; a record that changed since is left alone.
    pub fn establish(&self, cookie: u64, seen: &Connection) -> bool {
        seen.state.is_under_way() && self.advance(cookie, seen, ConnectionState::Established)
    }

    /// A connect lasts for longer than it may: true for the one caller that noted it.
    pub fn overdue(&self, cookie: u64, seen: &Connection) -> bool {
        seen.state == ConnectionState::Connecting && self.advance(cookie, seen, ConnectionState::Overdue)
    }

    fn advance(&self, cookie: u64, seen: &Connection, to: ConnectionState) -> bool {
        let Some(cell) = self.find(cookie).and_then(|record| record.content.cell(PORTS)) else {
            return false;
        };
        let next = Connection { state: to, ..*seen };
        let [from, to] = [*seen, next].map(|connection| ports_word(&connection));
        cell.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Forgets a socket. The one caller that removed the record gets it (and uncounts its slots).
    pub fn forget(&self, cookie: u64, now: Millis) -> Option<Connection> {
        self.forget_if(cookie, now, |_| true)
    }

    /// Forgets a socket as it was read before something was learned about it: one that was connected anew meanwhile
    /// keeps its record.
    pub fn forget_seen(&self, cookie: u64, seen: &Connection, now: Millis) -> Option<Connection> {
        self.forget_if(cookie, now, |found| found == *seen)
    }

    fn forget_if(&self, cookie: u64, now: Millis, is_it: impl FnOnce(Connection) -> bool) -> Option<Connection> {
        let record = self.find(cookie)?;
        let claim = CLAIMED | now;
        record.cookie.compare_exchange(cookie, claim, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        if !record.read().is_none_or(is_it) {
            let _ = record.cookie.compare_exchange(claim, cookie, Ordering::Release, Ordering::Relaxed);
            return None;
        }
        let mut content = record.content.array::<CONTENT>(0)?;
        // Taken, not read: who looked the record up before and is late (the leader) notes nothing in it any more.
        if let (Some(last), Some(ports)) = (content.get_mut(PORTS), record.content.cell(PORTS)) {
            *last = ports.swap(0, Ordering::AcqRel);
        }
        let opened = record.opened.load(Ordering::Relaxed);
        let _ = record.cookie.compare_exchange(claim, 0, Ordering::Release, Ordering::Relaxed);
        decode(content, opened)
    }

    /// Every record with its cookie, in table order (leader, status).
    pub fn connections(&self) -> impl Iterator<Item = (u64, Connection)> + '_ {
        (0..CONNECTIONS).filter_map(|index| self.connection_at(index))
    }

    /// The record at `index` with its cookie, if it is one of this cluster's; a word or two are read of any other.
    pub(super) fn connection_of(&self, index: usize, cluster: (u32, u64)) -> Option<(u64, Connection)> {
        let content = self.record_at(index)?.content;
        if unpack(content.load(SLOTS)?).1 != cluster.0 || content.load(CLUSTER_TAG)? != cluster.1 {
            return None;
        }
        let (cookie, connection) = self.connection_at(index)?;
        (connection.cluster_slot == Some(cluster.0) && connection.cluster_tag == cluster.1)
            .then_some((cookie, connection))
    }

    /// The record at `index` with its cookie, if a socket is recorded there.
    fn connection_at(&self, index: usize) -> Option<(u64, Connection)> {
        let record = self.record_at(index)?;
        let cookie = record.cookie.load(Ordering::Acquire);
        if !is_cookie(cookie) {
            return None;
        }
        Some((cookie, record.read_of(cookie)?))
    }

    fn bucket(cookie: u64) -> usize {
        (hash_words(&[cookie]) as usize % (CONNECTIONS / WAYS)) * WAYS
    }

    fn record_at(&self, index: usize) -> Option<Record> {
        if index >= CONNECTIONS {
            return None;
        }
        let bucket = self.words.slice(HEADER_WORDS + index / WAYS * BUCKET_WORDS, BUCKET_WORDS)?;
        let way = index % WAYS;
        Some(Record {
            cookie: bucket.cell(way)?,
            opened: bucket.cell(WAYS + way)?,
            content: bucket.slice(2 * WAYS + way * CONTENT, CONTENT)?,
        })
    }

    fn find(&self, cookie: u64) -> Option<Record> {
        if !is_cookie(cookie) {
            return None;
        }
        let bucket = Self::bucket(cookie);
        let mut ways = (bucket..bucket + WAYS).filter_map(|index| self.record_at(index));
        ways.find(|record| record.cookie.load(Ordering::Acquire) == cookie)
    }

    /// Claims a record for `cookie`: its own, a free one, one whose claim died, or the bucket's oldest.
    /// True = the record held a connection.
    fn claim(&self, cookie: u64, now: Millis) -> Option<(usize, bool)> {
        if !is_cookie(cookie) {
            return None;
        }
        let bucket = Self::bucket(cookie);
        let is_free = |word: u64| word == 0 || (word & CLAIMED != 0 && now.saturating_sub(word & !CLAIMED) >= CLAIM_MS);
        // A lost race means that somebody else made progress: look again, a few times.
        for _ in 0..4 {
            let mut cookies = [0; WAYS];
            for (way, word) in cookies.iter_mut().enumerate() {
                *word = self.record_at(bucket + way)?.cookie.load(Ordering::Acquire);
            }
            let opened = |way: usize| self.record_at(bucket + way).map(|record| record.opened.load(Ordering::Relaxed));
            let way = cookies
                .iter()
                .position(|word| *word == cookie)
                .or_else(|| cookies.iter().position(|word| is_free(*word)))
                .or_else(|| {
                    (0..WAYS)
                        .filter(|way| cookies.get(*way).is_some_and(|word| is_cookie(*word)))
                        .min_by_key(|way| opened(*way))
                })?;
            let found = *cookies.get(way)?;
            let cell = self.record_at(bucket + way)?.cookie;
            if cell.compare_exchange(found, CLAIMED | now, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some((bucket + way, is_cookie(found)));
            }
        }
        None
    }
}

/// False for the words of a free and of a claimed record.
const fn is_cookie(word: u64) -> bool {
    word != 0 && word & CLAIMED == 0
}

/// Where a record stands.
#[derive(Clone, Copy)]
struct Record {
    cookie: &'static AtomicU64,
    opened: &'static AtomicU64,
    content: Words<'static>,
}

impl Record {
    fn read(&self) -> Option<Connection> {
        decode(self.content.array(0)?, self.opened.load(Ordering::Relaxed))
    }

    /// What is recorded, if it is still this socket's.
    fn read_of(&self, cookie: u64) -> Option<Connection> {
        let connection = self.read()?;
        std::sync::atomic::fence(Ordering::Acquire);
        // The same socket may have been recorded anew in between, at another time.
        let is_same =
            (self.cookie.load(Ordering::Relaxed), self.opened.load(Ordering::Relaxed)) == (cookie, connection.opened);
        is_same.then_some(connection)
    }
}

/// Word of a record's content that holds ports and state.
const PORTS: usize = 6;
/// Word of its content that holds the slots of endpoint and cluster.
const SLOTS: usize = 7;
/// Word of its content that holds the tag of the cluster's slot.
const CLUSTER_TAG: usize = 9;

fn ports_word(c: &Connection) -> u64 {
    let state = match c.state {
        ConnectionState::Connecting => 1,
        ConnectionState::Established => 2,
        ConnectionState::Overdue => 3,
    };
    u64::from(c.dialled_port) << 48 | u64::from(c.remote_port) << 32 | u64::from(c.local_port) << 16 | state
}

fn encode(c: &Connection) -> [u64; CONTENT] {
    [
        c.dialled.hi,
        c.dialled.lo,
        c.remote.hi,
        c.remote.lo,
        c.local.hi,
        c.local.lo,
        ports_word(c),
        pack(c.endpoint_slot.unwrap_or(NO_SLOT), c.cluster_slot.unwrap_or(NO_SLOT)),
        c.endpoint_tag,
        c.cluster_tag,
    ]
}

fn decode(content: [u64; CONTENT], opened: Millis) -> Option<Connection> {
    let [dialled_hi, dialled_lo, remote_hi, remote_lo, local_hi, local_lo, ports, slots, endpoint_tag, cluster_tag] =
        content;
    let slot = |word| if word == NO_SLOT { None } else { Some(word) };
    let (endpoint_slot, cluster_slot) = unpack(slots);
    Some(Connection {
        dialled: WordAddr { hi: dialled_hi, lo: dialled_lo },
        dialled_port: (ports >> 48) as u16,
        remote: WordAddr { hi: remote_hi, lo: remote_lo },
        remote_port: (ports >> 32) as u16,
        local: WordAddr { hi: local_hi, lo: local_lo },
        local_port: (ports >> 16) as u16,
        state: match ports & 0xffff {
            1 => ConnectionState::Connecting,
            2 => ConnectionState::Established,
            3 => ConnectionState::Overdue,
            _ => return None,
        },
        endpoint_slot: slot(endpoint_slot),
        cluster_slot: slot(cluster_slot),
        endpoint_tag,
        cluster_tag,
        opened,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::state;

    fn connection(port: u16, opened: Millis) -> Connection {
        Connection {
            dialled: WordAddr::new("10.96.0.10".parse().unwrap()),
            dialled_port: 80,
            remote: WordAddr::new("127.0.1.1".parse().unwrap()),
            remote_port: port,
            local: WordAddr::new("127.0.0.1".parse().unwrap()),
            local_port: 40_000,
            state: ConnectionState::Established,
            endpoint_slot: Some(3),
            cluster_slot: None,
            endpoint_tag: 77,
            cluster_tag: 78,
            opened,
        }
    }

    #[test]
    fn a_record_is_found_by_its_cookie_and_forgotten_once() {
        let state = state(1);
        assert_eq!(state.record(9, &connection(8080, 1), 1), None);
        assert_eq!(state.connection(9), Some(connection(8080, 1)));
        assert_eq!(state.forget(9, 2), Some(connection(8080, 1)));
        assert_eq!(state.forget(9, 2), None);
        assert_eq!(state.connection(9), None);
    }

    #[test]
    fn a_connect_is_overdue_once_and_may_still_be_established() {
        let state = state(1);
        let connecting = Connection { state: ConnectionState::Connecting, ..connection(8080, 1) };
        state.record(9, &connecting, 1);
        assert!(state.overdue(9, &connecting));
        assert!(!state.overdue(9, &connecting) && !state.establish(9, &connecting), "it changed since");
        let overdue = state.connection(9).unwrap();
        assert_eq!(overdue.state, ConnectionState::Overdue);
        assert!(!state.overdue(9, &overdue));
        assert!(state.establish(9, &overdue));
        let established = state.connection(9).unwrap();
        assert!(!state.overdue(9, &established) && !state.establish(9, &established));
    }

    #[test]
    fn who_looked_a_record_up_before_it_was_forgotten_notes_nothing_in_it() {
        let state = state(1);
        let under_way = Connection { state: ConnectionState::Connecting, ..connection(8080, 5) };
        state.record(9, &under_way, 5);
        let late = state.find(9).and_then(|record| record.content.cell(PORTS)).unwrap();
        assert_eq!(state.forget(9, 6), Some(under_way));
        let overdue = Connection { state: ConnectionState::Overdue, ..under_way };
        let [from, to] = [under_way, overdue].map(|connection| ports_word(&connection));
        assert!(late.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_err());
    }

    #[test]
    fn a_socket_that_was_connected_anew_is_not_forgotten_for_what_was_learned_before() {
        let state = state(1);
        state.record(9, &connection(8080, 1), 1);
        let seen = state.connection(9).unwrap();
        state.record(9, &connection(8080, 2), 2);
        assert_eq!(state.forget_seen(9, &seen, 3), None);
        assert_eq!(state.connection(9), Some(connection(8080, 2)));
        assert_eq!(state.forget_seen(9, &connection(8080, 2), 3), Some(connection(8080, 2)));
    }

    #[test]
    fn a_second_connect_of_the_same_socket_replaces_its_record() {
        let state = state(1);
        state.record(9, &connection(8080, 1), 1);
        assert_eq!(state.record(9, &connection(8081, 2), 2), Some(connection(8080, 1)));
        assert_eq!(state.connection(9).unwrap().remote_port, 8081);
        assert_eq!(state.connections().count(), 1);
    }

    #[test]
    fn a_full_bucket_lets_its_oldest_record_go() {
        let state = state(1);
        let bucket = State::bucket(1);
        let cookies: Vec<u64> = (1..).filter(|cookie| State::bucket(*cookie) == bucket).take(WAYS + 1).collect();
        for (age, cookie) in cookies.iter().take(WAYS).enumerate() {
            assert_eq!(state.record(*cookie, &connection(8080, 100 + age as u64), 100), None);
        }
        assert_eq!(state.record(cookies[WAYS], &connection(9000, 500), 500).unwrap().opened, 100);
        assert_eq!(state.connection(cookies[0]), None);
        assert_eq!(state.connections().count(), WAYS);
    }

    #[test]
    fn a_claim_whose_writer_died_is_free_again() {
        let state = state(1);
        let bucket = State::bucket(1);
        for index in bucket..bucket + WAYS {
            state.record_at(index).unwrap().cookie.store(CLAIMED | 1000, Ordering::Relaxed);
        }
        state.record(1, &connection(8080, 1001), 1001);
        assert_eq!(state.connection(1), None, "fresh claims are left alone");
        state.record(1, &connection(8080, 1000 + CLAIM_MS), 1000 + CLAIM_MS);
        assert!(state.connection(1).is_some());
    }
}
