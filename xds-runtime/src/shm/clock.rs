//! The clock of everything shared.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of `CLOCK_BOOTTIME`: the same in every container of a pod, never set back, running through suspend.
pub type Millis = u64;

/// A time that only differences within one process are taken of, in milliseconds: a tick (up to 10 ms) old, standing still
/// in suspend, and had for a quarter of what [`now`] costs.
#[inline]
pub fn lately() -> Millis {
    millis(ClockId::MonotonicCoarse)
}

/// Now. Served by the vDSO: no system call, and async-signal-safe.
#[inline]
pub fn now() -> Millis {
    millis(ClockId::Boottime)
}

#[inline]
fn millis(clock: ClockId) -> Millis {
    let t = clock_gettime(clock);
    (t.tv_sec as u64).saturating_mul(1000).saturating_add(t.tv_nsec as u64 / 1_000_000)
}
