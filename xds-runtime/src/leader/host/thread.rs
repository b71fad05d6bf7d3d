//! The leader in a thread of the program: where there is no agent binary.
//!
//! Started from a name lookup only. The thread must not disturb the program: every signal is blocked before it is
//! created (so the program's handlers run on the program's threads), it has a descriptor table of its own (so the
//! program's lowest free number, its close-everything loops and its children never meet ours), and a panic ends it
//! quietly. A thread that cannot get its own table does not lead.

use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;

use super::agent::BlockedSignals;

/// Stack of the thread; compiling a large mesh needs no recursion.
const STACK: usize = 512 << 10;
const CLOSE_RANGE_UNSHARE: libc::c_uint = 1 << 1;

/// Why no thread leads.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread: limits.
    #[error("no thread for the leader: {0}; raise the limit of processes, or put the ldmesh binary beside the library")]
    Thread(#[from] std::io::Error),
}

/// Runs `lead` in a thread of its own. `enter` is called first in it, and by `lead` in helper threads: it sets the
/// flag that lets the runtime's own calls through the hooks. `lead` is given whether the thread has a descriptor
/// table of its own; if not it must end at once.
///
/// # Errors
/// [`StartError`] when the system gives no thread.
pub fn start(enter: fn(), lead: impl FnOnce(Result<(), Errno>) + Send + 'static) -> Result<(), StartError> {
    let blocked = BlockedSignals::new();
    let started = std::thread::Builder::new().name("ldmesh".to_owned()).stack_size(STACK).spawn(move || {
        enter();
        let table = own_descriptors();
        // What a panic left behind is never looked at again: the thread ends.
        let _ = catch_unwind(AssertUnwindSafe(|| lead(table)));
    });
    drop(blocked);
    started?;
    Ok(())
}

/// Gives this thread an empty descriptor table of its own, with `/dev/null` on 0 to 2.
fn own_descriptors() -> Result<(), Errno> {
    // SAFETY: unshares this thread's table first, then closes in the copy.
    if unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, CLOSE_RANGE_UNSHARE) } != 0 {
        unshare_and_close()?;
    }
    for expected in 0..3 {
        let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
        if null.as_raw_fd() != expected {
            return Err(Errno::BADF);
        }
        std::mem::forget(null);
    }
    Ok(())
}

/// For Linux before 5.9.
fn unshare_and_close() -> Result<(), Errno> {
    // SAFETY: gives this thread a copy of the table.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        // SAFETY: errno of this thread.
        return Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }));
    }
    let listed: Vec<RawFd> = std::fs::read_dir("/proc/thread-self/fd")
        .map_err(|_| Errno::NOENT)?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in listed {
        // SAFETY: a copy in this thread's own table, which nothing in it uses; the listing's own is gone (EBADF).
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn the_thread_has_signals_blocked_and_descriptors_of_its_own() {
        let (sender, receiver) = mpsc::channel();
        let (reader, writer) = std::io::pipe().unwrap();
        let inherited = writer.as_raw_fd();
        start(
            || (),
            move |table| {
                // SAFETY: reads this thread's mask into a set of this frame.
                let blocked = unsafe {
                    let mut mask = std::mem::zeroed::<libc::sigset_t>();
                    libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut mask);
                    libc::sigismember(&raw const mask, libc::SIGCHLD) == 1
                };
                // SAFETY: asks about a number.
                let open = unsafe { libc::fcntl(inherited, libc::F_GETFD) } >= 0;
                let null = rustix::fs::readlink("/proc/thread-self/fd/2", Vec::new()).unwrap();
                sender.send((table, blocked, open, null.into_string().unwrap())).unwrap();
                panic!("caught");
            },
        )
        .unwrap();
        let (table, blocked, open, null) = receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!((table, blocked, open, null.as_str()), (Ok(()), true, false, "/dev/null"));
        // The program's own descriptors are untouched.
        assert_eq!(rustix::io::write(writer.as_fd(), b"x"), Ok(1));
        drop(reader);
    }
}
