//! A connect finds its cluster full (`max_connections`): are some of those connections closed by now?
//!
//! close is not hooked, so a count is right only once somebody asked the kernel. The leader does each half second; who
//! is about to be refused does it at once ([`State::uncount_gone`]). A flood of connects to a cluster that is really
//! full must not pay for that each time: what looks in vain may cost is bounded for each millisecond, so that one that
//! has no more to spend waits for the next one until it may look again.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use xds_runtime::shm::{self, Millis};
use xds_runtime::state::{Slot, State};

/// What looks in vain may cost in a millisecond, in look-ups; the last of them may go beyond it.
const PER_MILLISECOND: u64 = 128;
/// What a look costs beside its look-ups: a socket, and the way through the table.
const LOOK: u64 = 16;
/// Who may not ask the kernel does not try again for so long.
const REFUSED_MS: Millis = 1_000;
/// Looks of one connect: what it freed may be another's before it has it.
const LOOKS: usize = 4;

/// What was spent in vain by this process: a millisecond, and the look-ups within it. Clusters share the entries.
static SPENT: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];
const COUNT_BITS: u32 = 16;

/// Counts a connection in its cluster's full slot after all, if some of those that it has are gone.
#[cold]
#[inline(never)]
pub fn make(state: State, slot: Slot<'_>, cluster: (u32, u64), limit: u32) -> bool {
    let Some(spent) = SPENT.get(cluster.0 as usize % SPENT.len()) else { return false };
    for _ in 0..LOOKS {
        let now = shm::now();
        if !may_look(spent, now) {
            break;
        }
        match state.uncount_gone(cluster, now) {
            Ok(look) if look.freed == 0 => {
                spend(spent, now, look.asked as u64 + LOOK);
                break;
            }
            Ok(_) if slot.open_connection(limit) => return true,
            Ok(_) => {}
            // Those pass.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => break,
            Err(_) => {
                spend(spent, now + REFUSED_MS, PER_MILLISECOND);
                break;
            }
        }
    }
    // Others make room, too.
    slot.open_connection(limit)
}

fn may_look(spent: &AtomicU64, now: Millis) -> bool {
    let word = spent.load(Ordering::Relaxed);
    let (at, count) = (word >> COUNT_BITS, word & ((1 << COUNT_BITS) - 1));
    at < now || at == now && count < PER_MILLISECOND
}

/// What races with another thread's is lost: then it may look once more.
fn spend(spent: &AtomicU64, at: Millis, look_ups: u64) {
    let word = spent.load(Ordering::Relaxed);
    let before = if word >> COUNT_BITS == at { word & ((1 << COUNT_BITS) - 1) } else { 0 };
    spent.store(at << COUNT_BITS | (before + look_ups).min((1 << COUNT_BITS) - 1), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_in_vain_are_bounded_within_each_millisecond() {
        let spent = AtomicU64::new(0);
        let mut looks = 0;
        while may_look(&spent, 7) {
            spend(&spent, 7, LOOK + 10);
            looks += 1;
        }
        assert_eq!(looks, 5);
        assert!(may_look(&spent, 8), "another millisecond");
        spend(&spent, 8, 1000);
        assert!(!may_look(&spent, 8) && may_look(&spent, 9));
    }

    #[test]
    fn who_may_not_ask_waits_for_longer() {
        let spent = AtomicU64::new(0);
        spend(&spent, 7 + REFUSED_MS, PER_MILLISECOND);
        assert!(!may_look(&spent, 7) && !may_look(&spent, 7 + REFUSED_MS) && may_look(&spent, 8 + REFUSED_MS));
    }
}
