//! Waiting on a shared word, and waking who waits.
//!
//! Raw futex calls, shared between processes: WAIT works on read-only mappings too. A signal ends a wait
//! (`EINTR`) in spite of SA_RESTART: the caller then makes the real call, so that the program sees its signal.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The word changed, or somebody woke us.
    Changed,
    /// The time is over.
    TimedOut,
    /// A signal came.
    Interrupted,
}

/// The address of the low 32 bits of a word: what the kernel compares.
fn low_half(word: &AtomicU64) -> *const u32 {
    let base = std::ptr::from_ref(word).cast::<u32>();
    if cfg!(target_endian = "big") { base.wrapping_add(1) } else { base }
}

/// Waits until the low half of `word` is no longer `seen`, at most `timeout`.
pub fn wait(word: &AtomicU64, seen: u32, timeout: Duration) -> Wake {
    let time = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    // SAFETY: the word lives as long as the borrow, the timespec as long as the call; FUTEX_WAIT writes nothing.
    let answer = unsafe { libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAIT, seen, &raw const time) };
    if answer == 0 {
        return Wake::Changed;
    }
    // SAFETY: errno of this thread.
    match unsafe { *libc::__errno_location() } {
        libc::EINTR => Wake::Interrupted,
        libc::ETIMEDOUT => Wake::TimedOut,
        _ => Wake::Changed,
    }
}

/// Wakes every waiter of the word.
pub fn wake_all(word: &AtomicU64) {
    // SAFETY: FUTEX_WAKE only uses the address as a key.
    unsafe { libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAKE, i32::MAX) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_changed_word_does_not_wait() {
        let word = AtomicU64::new(5);
        assert_eq!(wait(&word, 4, Duration::from_secs(5)), Wake::Changed);
    }

    #[test]
    fn an_unchanged_word_times_out() {
        let word = AtomicU64::new(5);
        assert_eq!(wait(&word, 5, Duration::from_millis(5)), Wake::TimedOut);
    }

    #[test]
    fn a_wake_ends_the_wait_early() {
        let word = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                while word.load(Ordering::Acquire) == 0 {
                    assert_ne!(wait(&word, 0, Duration::from_secs(20)), Wake::TimedOut);
                }
            });
            word.store(1, Ordering::Release);
            wake_all(&word);
            assert!(waiter.join().is_ok());
        });
    }
}
