//! The clock of everything shared.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of `CLOCK_BOOTTIME`: the same in every container of a pod, never set back, running through suspend.
pub type Millis = u64;

/// Now. Served by the vDSO: no system call, and async-signal-safe.
#[inline]
pub fn now() -> Millis {
    let t = clock_gettime(ClockId::Boottime);
    (t.tv_sec as u64).saturating_mul(1000).saturating_add(t.tv_nsec as u64 / 1_000_000)
}
