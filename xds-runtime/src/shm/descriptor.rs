//! A descriptor of ours in somebody else's process.

use std::ffi::c_long;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// An [`OwnedFd`] that the kernel itself is asked to close. libc's `close` is a cancellation point: a hook that makes
/// one call of it on the way of a `connect` lets pthread_cancel unwind through our frames, which ends the process.
#[derive(Debug)]
pub struct Descriptor(ManuallyDrop<OwnedFd>);

impl Descriptor {
    /// For code of the leader's, which no thread of the program's runs.
    pub fn into_owned(self) -> OwnedFd {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once: nothing of `this` is used or dropped after it.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }

    /// The cookie of a socket's network namespace; `None` before Linux 5.14.
    pub fn network(&self) -> Option<u64> {
        const SO_NETNS_COOKIE: c_long = 71;
        let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
        // SAFETY: the kernel writes at most `length` bytes into the word; no other descriptor than ours is asked.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_getsockopt,
                c_long::from(self.0.as_raw_fd()),
                c_long::from(libc::SOL_SOCKET),
                SO_NETNS_COOKIE,
                &raw mut cookie,
                &raw mut length,
            )
        };
        (answer == 0 && length as usize == size_of::<u64>()).then_some(cookie)
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Self {
        Self(ManuallyDrop::new(fd))
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: open and ours; what is wrapped is never dropped, so nobody closes it again.
        unsafe { rustix::io::close(self.0.as_raw_fd()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_descriptor_is_closed_and_one_given_away_is_not() {
        let (reader, writer) = std::io::pipe().unwrap();
        let kept = Descriptor::from(OwnedFd::from(writer)).into_owned();
        drop(Descriptor::from(OwnedFd::from(reader)));
        // The signal of a broken pipe is ignored in Rust programs.
        assert_eq!(rustix::io::write(&kept, b"x"), Err(rustix::io::Errno::PIPE));
    }
}
