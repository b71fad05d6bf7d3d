//! The heap of a process that is the leader's own.

/// Gives the system back what glibc keeps of freed memory: after a push of a large mesh that is most of it.
pub fn give_back() {
    // SAFETY: it may be called at any time, by any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}
