//! Which processes were seen lately: for `ldmesh status`, nothing relies on it (pids differ between containers).

use std::sync::atomic::Ordering;

use crate::control::{Control, PRESENCE_AT};
use crate::shm::{Millis, hash_words, pack, unpack};

/// Entries.
pub const PRESENCES: usize = 256;
pub(super) const PRESENCE_WORDS: usize = 4;
/// A process not seen for this long is no longer listed.
const EXPIRY_MS: Millis = 60_000;
const ID: usize = 0;
const SEEN: usize = 1;
const COMM: usize = 2;

/// A process, as it reported itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Its pid in its own namespace.
    pub pid: u32,
    /// When it asked last.
    pub seen: Millis,
    /// Its name, padded with zeros.
    pub comm: [u8; 16],
}

impl Control {
    /// Notes a process; `spread` tells processes of one pid in different namespaces apart.
    pub fn attend(&self, pid: u32, spread: u32, comm: [u8; 16], now: Millis) {
        let id = pack(spread, pid);
        let start = hash_words(&[id]) as usize;
        for probe in 0..8 {
            let at = PRESENCE_AT + start.wrapping_add(probe) % PRESENCES * PRESENCE_WORDS;
            let found = self.cell(at + ID).load(Ordering::Acquire);
            let stale = now.saturating_sub(self.cell(at + SEEN).load(Ordering::Relaxed)) > EXPIRY_MS;
            let free = found == 0 || stale;
            if found == id
                || (free && self.cell(at + ID).compare_exchange(found, id, Ordering::AcqRel, Ordering::Relaxed).is_ok())
            {
                self.cell(at + SEEN).store(now, Ordering::Relaxed);
                let (first, last) = comm.split_at(8);
                for (nth, half) in [first, last].into_iter().enumerate() {
                    let mut word = [0; 8];
                    word.copy_from_slice(half);
                    self.cell(at + COMM + nth).store(u64::from_le_bytes(word), Ordering::Relaxed);
                }
                return;
            }
        }
    }

    /// The processes seen in the last minute.
    pub fn presences(&self, now: Millis) -> impl Iterator<Item = Presence> + '_ {
        (0..PRESENCES).filter_map(move |index| {
            let at = PRESENCE_AT + index * PRESENCE_WORDS;
            let id = self.cell(at + ID).load(Ordering::Acquire);
            let seen = self.cell(at + SEEN).load(Ordering::Relaxed);
            if id == 0 || now.saturating_sub(seen) > EXPIRY_MS {
                return None;
            }
            let mut comm = [0; 16];
            let words = [COMM, COMM + 1].map(|word| self.cell(at + word).load(Ordering::Relaxed).to_le_bytes());
            for (to, from) in comm.iter_mut().zip(words.iter().flatten()) {
                *to = *from;
            }
            Some(Presence { pid: unpack(id).1, seen, comm })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::control;

    #[test]
    fn a_process_is_listed_once_until_it_was_not_seen_for_a_minute() {
        let control = control();
        let comm = *b"curl\0\0\0\0\0\0\0\0\0\0\0\0";
        control.attend(17, 1, comm, 1000);
        control.attend(17, 1, comm, 2000);
        control.attend(17, 2, comm, 2000);
        assert_eq!(control.presences(2000).count(), 2);
        assert!(control.presences(2000).all(|presence| presence.comm == comm && presence.pid == 17));
        assert_eq!(control.presences(2000 + EXPIRY_MS + 1).count(), 0);
    }
}
