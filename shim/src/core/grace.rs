//! A bounded look at a non-blocking connect: was it refused already, while there is another endpoint to go to?
//!
//! The program asked not to wait, so an endpoint that is known to be good is only looked at (a poll that returns at
//! once: on a loopback or a fast network a refusal is there already); one that nobody of the pod reached lately is
//! watched for at most `LDMESH_CONNECT_GRACE`.
//!
//! Linux lets the same socket go on: reading SO_ERROR takes the failure, the next connect answers ECONNABORTED and
//! clears the socket, and the one after it starts anew. An epoll registration made before stays valid.

use std::ffi::{c_int, c_long};
use std::time::Duration;

use xds_runtime::shm::Millis;
use xds_runtime::state::Slot;

use crate::core::Errno;
use crate::core::socket::Socket;

/// An endpoint reached within this time is known to be good.
const LATELY_MS: Millis = 10_000;

/// How far a non-blocking connect is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Still under way.
    UnderWay,
    /// Established.
    Established,
    /// Failed for this reason; the socket's error was taken.
    Failed(Errno),
}

/// How long an endpoint may be watched.
pub fn patience(slot: Option<Slot<'_>>, grace: Duration, now: Millis) -> Duration {
    let known_good = slot.is_some_and(|slot| {
        slot.last_success() != 0 && now.saturating_sub(slot.last_success()) < LATELY_MS && slot.failures_in_a_row() == 0
    });
    if known_good { Duration::ZERO } else { grace }
}

/// Looks at a connect under way, for at most `patience`. A signal ends the watching.
pub fn look(socket: Socket, patience: Duration) -> Progress {
    let mut watched = libc::pollfd { fd: socket.fd, events: libc::POLLOUT, revents: 0 };
    let time = libc::timespec {
        tv_sec: patience.as_secs() as libc::time_t,
        tv_nsec: c_long::from(patience.subsec_nanos() as c_int),
    };
    let no_mask = std::ptr::null::<libc::sigset_t>();
    // SAFETY: one descriptor to watch and a time to read, both whole; no signal mask.
    let ready = unsafe { libc::syscall(libc::SYS_ppoll, &raw mut watched, 1_u64, &raw const time, no_mask, 8_u64) };
    if ready != 1 {
        return Progress::UnderWay;
    }
    match socket.take_error() {
        Some(0) => Progress::Established,
        Some(errno) => Progress::Failed(errno),
        None => Progress::UnderWay,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use xds_runtime::boot::BootId;
    use xds_runtime::outlier::Thresholds;
    use xds_runtime::state::{SlotAllocator, State, state_words};

    use super::*;

    #[test]
    fn an_endpoint_that_was_reached_lately_and_did_not_fail_since_is_not_watched() {
        let grace = Duration::from_millis(1);
        let words: &'static [AtomicU64] = Box::leak((0..state_words(1)).map(|_| AtomicU64::new(0)).collect());
        let state = State::format(words, BootId::from_words([1, 2])).unwrap();
        let index = SlotAllocator::recover(state).slot(7).unwrap();
        let slot = state.slot(index, 7).unwrap();
        assert_eq!(patience(None, grace, 1000), grace, "nobody knows it");
        assert_eq!(patience(Some(slot), grace, 1000), grace, "nobody reached it");
        slot.succeeded(1000);
        assert_eq!(patience(Some(slot), grace, 1000 + LATELY_MS - 1), Duration::ZERO);
        assert_eq!(patience(Some(slot), grace, 1000 + LATELY_MS), grace, "not lately");
        slot.failed(Thresholds::NEVER, 1000);
        assert_eq!(patience(Some(slot), grace, 1001), grace, "it failed since");
    }
}
