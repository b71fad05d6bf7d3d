//! Where the leader runs: in an agent process of its own, or in a thread of a program.

pub mod agent;
pub mod heap;
pub mod orphan;
pub mod thread;

/// True when children of children would become this process's own: it is PID 1 of its namespace, or a subreaper.
/// An agent spawned from here would be a child that the program's `wait()` sees; the thread leads instead.
pub fn adopts_orphans() -> bool {
    if rustix::process::getpid().as_raw_nonzero().get() == 1 {
        return true;
    }
    let mut subreaper: libc::c_int = 0;
    // SAFETY: PR_GET_CHILD_SUBREAPER writes one int.
    let answer = unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut subreaper) };
    answer == 0 && subreaper != 0
}
