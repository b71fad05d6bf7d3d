//! A descriptor of ours in somebody else's process.

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
