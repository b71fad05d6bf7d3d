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

use std::sync::atomic::Ordering;

use crate::shm::{Millis, WordAddr, Words, hash_words, pack, unpack};
use crate::state::{Member, State};

/// Records in the table.
pub const CONNECTIONS: usize = 8192;
const WAYS: usize = 8;
const CLAIMED: u64 = 1 << 63;
const CLAIM_MS: Millis = 5_000;
const COOKIE: usize = 0;

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
        let mut displaced = None;
        let (index, former) = self.claim(cookie, now)?;
        if former {
            displaced = self.read_record(index);
        }
        let words = self.connection_words(index)?;
        // No word of the content may become visible before the claim: a reader tells a torn record by it.
        std::sync::atomic::fence(Ordering::Release);
        for (at, word) in encode(connection).into_iter().enumerate() {
            words.cell(at + 1)?.store(word, Ordering::Relaxed);
        }
        words.cell(COOKIE)?.store(cookie, Ordering::Release);
        displaced
    }

    /// What is recorded for a socket.
    pub fn connection(&self, cookie: u64) -> Option<Connection> {
        let index = self.find(cookie)?;
        let connection = self.read_record(index)?;
        let words = self.connection_words(index)?;
        std::sync::atomic::fence(Ordering::Acquire);
        (words.load(COOKIE)? == cookie).then_some(connection)
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
        let Some(cell) = self.find(cookie).and_then(|index| self.connection_words(index)?.cell(1 + PORTS)) else {
            return false;
        };
        let next = Connection { state: to, ..*seen };
        let [from, to] = [*seen, next].map(|connection| ports_word(&connection));
        cell.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Forgets a socket. The one caller that removed the record gets it (and uncounts its slots).
    pub fn forget(&self, cookie: u64, now: Millis) -> Option<Connection> {
        let words = self.connection_words(self.find(cookie)?)?;
        let cell = words.cell(COOKIE)?;
        cell.compare_exchange(cookie, CLAIMED | now, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        let mut copy = copy(words)?;
        // Taken, not read: who looked the record up before and is late (the leader) notes nothing in it any more.
        if let (Some(last), Some(ports)) = (copy.get_mut(PORTS), words.cell(1 + PORTS)) {
            *last = ports.swap(0, Ordering::AcqRel);
        }
        cell.store(0, Ordering::Release);
        decode(copy)
    }

    /// Every record with its cookie, in table order (leader, status).
    pub fn connections(&self) -> impl Iterator<Item = (u64, Connection)> + '_ {
        (0..CONNECTIONS).filter_map(|index| {
            let cookie = self.connection_words(index)?.cell(COOKIE)?.load(Ordering::Acquire);
            if cookie == 0 || cookie & CLAIMED != 0 {
                return None;
            }
            self.connection(cookie).map(|connection| (cookie, connection))
        })
    }

    /// The record at `index` with its cookie, if it is one of this cluster's; a word or two are read of any other.
    pub(super) fn connection_of(&self, index: usize, cluster: (u32, u64)) -> Option<(u64, Connection)> {
        let words = self.connection_words(index)?;
        if unpack(words.load(1 + SLOTS)?).1 != cluster.0 || words.load(1 + CLUSTER_TAG)? != cluster.1 {
            return None;
        }
        let cookie = words.cell(COOKIE)?.load(Ordering::Acquire);
        if cookie == 0 || cookie & CLAIMED != 0 {
            return None;
        }
        let connection = self.connection(cookie)?;
        (connection.cluster_slot == Some(cluster.0) && connection.cluster_tag == cluster.1)
            .then_some((cookie, connection))
    }

    fn bucket(cookie: u64) -> usize {
        (hash_words(&[cookie]) as usize % (CONNECTIONS / WAYS)) * WAYS
    }

    fn find(&self, cookie: u64) -> Option<usize> {
        if cookie == 0 || cookie & CLAIMED != 0 {
            return None;
        }
        let bucket = Self::bucket(cookie);
        (bucket..bucket + WAYS).find(|index| {
            self.connection_words(*index)
                .and_then(|words| words.cell(COOKIE))
                .is_some_and(|cell| cell.load(Ordering::Acquire) == cookie)
        })
    }

    /// Claims a record for `cookie`: its own, a free one, one whose claim died, or the bucket's oldest.
    /// True = the record held a connection.
    fn claim(&self, cookie: u64, now: Millis) -> Option<(usize, bool)> {
        if cookie == 0 || cookie & CLAIMED != 0 {
            return None;
        }
        // A lost race means that somebody else made progress: look again, a few times.
        for _ in 0..4 {
            let bucket = Self::bucket(cookie);
            let mut best: Option<(usize, u64, u8, Millis)> = None;
            for index in bucket..bucket + WAYS {
                let words = self.connection_words(index)?;
                let found = words.cell(COOKIE)?.load(Ordering::Acquire);
                let opened = words.load(OPENED).unwrap_or(0);
                let rank = match found {
                    own if own == cookie => 0,
                    0 => 1,
                    claim if claim & CLAIMED != 0 => {
                        if now.saturating_sub(claim & !CLAIMED) < CLAIM_MS {
                            continue;
                        }
                        1
                    }
                    _ => 2,
                };
                if best.is_none_or(|(_, _, best_rank, best_opened)| (rank, opened) < (best_rank, best_opened)) {
                    best = Some((index, found, rank, opened));
                }
            }
            let (index, found, rank, _) = best?;
            let cell = self.connection_words(index)?.cell(COOKIE)?;
            if cell.compare_exchange(found, CLAIMED | now, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some((index, rank != 1));
            }
        }
        None
    }

    fn read_record(&self, index: usize) -> Option<Connection> {
        decode(copy(self.connection_words(index)?)?)
    }
}

/// The content of a record.
fn copy(words: Words<'_>) -> Option<[u64; RECORD]> {
    let mut copy = [0; RECORD];
    for (at, word) in copy.iter_mut().enumerate() {
        *word = words.load(at + 1)?;
    }
    Some(copy)
}

const RECORD: usize = 11;
/// Word of a record that holds the time it was opened.
const OPENED: usize = 9;

/// Word of a record's content that holds ports and state.
const PORTS: usize = 6;
/// Word of its content that holds the slots of endpoint and cluster.
const SLOTS: usize = 7;
/// Word of its content that holds the tag of the cluster's slot.
const CLUSTER_TAG: usize = 10;

fn ports_word(c: &Connection) -> u64 {
    let state = match c.state {
        ConnectionState::Connecting => 1,
        ConnectionState::Established => 2,
        ConnectionState::Overdue => 3,
    };
    u64::from(c.dialled_port) << 48 | u64::from(c.remote_port) << 32 | u64::from(c.local_port) << 16 | state
}

fn encode(c: &Connection) -> [u64; RECORD] {
    [
        c.dialled.hi,
        c.dialled.lo,
        c.remote.hi,
        c.remote.lo,
        c.local.hi,
        c.local.lo,
        ports_word(c),
        pack(c.endpoint_slot.unwrap_or(NO_SLOT), c.cluster_slot.unwrap_or(NO_SLOT)),
        c.opened,
        c.endpoint_tag,
        c.cluster_tag,
    ]
}

fn decode(words: [u64; RECORD]) -> Option<Connection> {
    let [
        dialled_hi,
        dialled_lo,
        remote_hi,
        remote_lo,
        local_hi,
        local_lo,
        ports,
        slots,
        opened,
        endpoint_tag,
        cluster_tag,
    ] = words;
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
        let late = state.find(9).and_then(|index| state.connection_words(index)?.cell(1 + PORTS)).unwrap();
        assert_eq!(state.forget(9, 6), Some(under_way));
        let overdue = Connection { state: ConnectionState::Overdue, ..under_way };
        let [from, to] = [under_way, overdue].map(|connection| ports_word(&connection));
        assert!(late.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_err());
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
            let words = state.connection_words(index).unwrap();
            words.cell(COOKIE).unwrap().store(CLAIMED | 1000, Ordering::Relaxed);
        }
        state.record(1, &connection(8080, 1001), 1001);
        assert_eq!(state.connection(1), None, "fresh claims are left alone");
        state.record(1, &connection(8080, 1000 + CLAIM_MS), 1000 + CLAIM_MS);
        assert!(state.connection(1).is_some());
    }
}
