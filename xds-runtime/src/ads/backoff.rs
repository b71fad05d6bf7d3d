//! Exponential back-off with full jitter.

use std::time::Duration;

/// Bound of the first wait (as ztunnel).
const BASE: Duration = Duration::from_millis(10);
/// Bound of every wait.
const CAP: Duration = Duration::from_secs(15);

/// How long to wait before the next attempt: a random part of a bound that doubles from 10 ms to 15 s.
///
/// Reset by the first message of a stream and not by a connection: a server that accepts and then refuses is not
/// well.
#[derive(Debug)]
pub struct Backoff {
    bound: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { bound: BASE }
    }
}

impl Backoff {
    /// The next wait. `random` is any 64 random bits.
    pub fn next(&mut self, random: u64) -> Duration {
        let nanos = u64::try_from(self.bound.as_nanos()).unwrap_or(u64::MAX);
        self.bound = self.bound.saturating_mul(2).min(CAP);
        // The high word of the product is uniform in 0..=nanos.
        let scaled = (u128::from(random) * (u128::from(nanos) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(nanos))
    }

    /// Things are well again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_from_10_ms_to_15_s() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..13).map(|_| backoff.next(u64::MAX).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 15000, 15000]);
    }

    #[test]
    fn the_wait_is_any_part_of_the_bound() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(0), Duration::ZERO);
        assert_eq!(backoff.next(u64::MAX / 2).as_millis(), 10, "half of 20 ms");
    }

    #[test]
    fn a_reset_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            backoff.next(u64::MAX);
        }
        backoff.reset();
        assert_eq!(backoff.next(u64::MAX), BASE);
    }
}
