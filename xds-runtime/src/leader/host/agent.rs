//! Spawning the agent from inside a program that must not notice.
//!
//! ```text
//! program --clone(VM, VFORK, exit signal 0)--> intermediate --clone(VM, VFORK)--> agent: execve
//!    |                                             |  _exit(0) once the agent has its own memory
//!    +-- waitpid(intermediate, __WCLONE) <---------+           -> the agent belongs to PID 1
//! ```
//! The intermediate has no exit signal, so the program gets no SIGCHLD and its `wait()` does not see it; it never
//! execs, which would give it one. Both clones share the program's memory while it stands still: no page table is
//! copied however large the program is, and code in them must be async-signal-safe, allocate nothing and leave
//! nothing behind. Signals are blocked throughout, and default again before the agent's mask is opened, so that no
//! handler of the program ever runs in a clone.

use std::ffi::CStr;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_char, c_int, c_void};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Stack of each clone.
const STACK: usize = 64 << 10;
/// Environment entries passed on at most.
const ENVIRONMENT: usize = 16 << 10;
/// Descriptors closed one by one where there is no close_range (Linux < 5.9).
const DESCRIPTORS: c_int = 65_536;
const SIGNALS: c_int = 64;

/// What the clones need: lives in the program's frame, which stands still meanwhile.
struct Plan {
    binary: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
    agent_stack: *mut c_void,
    /// Why there is no agent; 0 = it runs.
    failure: AtomicI32,
}

/// Spawns `binary agent --spawned` detached from this process: own session, no descriptors but `/dev/null`, default signals,
/// `/` as its folder, no `LD_*` in its environment. Allocates no heap memory and keeps `errno`.
///
/// `environment` holds `NAME=value` strings, as captured when the library was loaded. Not to be called from a process
/// that [`super::adopts_orphans`], nor from a vfork child.
///
/// # Errors
/// What clone or execve said.
pub fn spawn<'a>(binary: &CStr, environment: impl Iterator<Item = &'a CStr>) -> Result<(), Errno> {
    let saved = errno();
    let result = spawn_detached(binary, environment);
    set_errno(saved);
    result
}

fn spawn_detached<'a>(binary: &CStr, environment: impl Iterator<Item = &'a CStr>) -> Result<(), Errno> {
    let scratch = Scratch::map()?;
    let envp = scratch.fill_environment(environment);
    let argv = [binary.as_ptr(), c"agent".as_ptr(), c"--spawned".as_ptr(), null()];
    let plan = Plan {
        binary: binary.as_ptr(),
        argv: argv.as_ptr(),
        envp,
        agent_stack: scratch.stack_top(1),
        failure: AtomicI32::new(0),
    };
    let blocked = BlockedSignals::new();
    // SAFETY: CLONE_VFORK holds this thread until the intermediate is gone, so plan, stacks and strings outlive
    // it; it runs on a stack of its own, and `intermediate` keeps to what a vfork child may do.
    let child = unsafe {
        libc::clone(
            intermediate,
            scratch.stack_top(0),
            libc::CLONE_VM | libc::CLONE_VFORK,
            (&raw const plan).cast_mut().cast(),
        )
    };
    let result = if child < 0 {
        Err(Errno::from_raw_os_error(errno()))
    } else {
        collect(child);
        match plan.failure.load(Ordering::Acquire) {
            0 => Ok(()),
            failure => Err(Errno::from_raw_os_error(failure)),
        }
    };
    drop(blocked);
    result
}

/// First clone: starts the agent and goes away, which makes the agent PID 1's.
extern "C" fn intermediate(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<Plan>();
    // SAFETY: the spawner stands still in clone and its plan lives; the agent has a stack of its own.
    let child = unsafe {
        let stack = (*plan).agent_stack;
        libc::clone(become_agent, stack, libc::CLONE_VM | libc::CLONE_VFORK, plan.cast())
    };
    // SAFETY: as above.
    let failure = unsafe { &(*plan).failure };
    if child < 0 {
        failure.store(errno(), Ordering::Release);
    } else if failure.load(Ordering::Acquire) != 0 {
        collect(child);
    }
    // SAFETY: ends this clone only, running nothing of the program's.
    unsafe { libc::_exit(0) }
}

/// Second clone: becomes the agent.
extern "C" fn become_agent(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<Plan>();
    default_signals();
    // SAFETY: plain system calls on this clone's own attributes (no CLONE_FILES, CLONE_FS or CLONE_SIGHAND).
    unsafe {
        libc::setsid();
        libc::umask(0o077);
        libc::chdir(c"/".as_ptr());
    }
    replace_descriptors();
    open_signal_mask();
    // SAFETY: three null-terminated arrays and strings prepared by the spawner, who stands still.
    unsafe {
        libc::execve((*plan).binary, (*plan).argv, (*plan).envp);
        (*plan).failure.store(errno(), Ordering::Release);
        libc::_exit(127)
    }
}

/// Puts every signal at its default: ignored ones would stay ignored across exec. By the system call, because the C
/// library refuses its own signals, which a program may have inherited ignored.
fn default_signals() {
    // The kernel's sigaction, all zero: SIG_DFL, no flags.
    let default = [0_u64; 4];
    for signal in 1..=SIGNALS {
        // SAFETY: reads the zeros above; SIGKILL and SIGSTOP are refused.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), null_mut::<c_void>(), size_of::<u64>());
        }
    }
}

/// `/dev/null` on 0 to 2 and nothing else.
fn replace_descriptors() {
    // SAFETY: closes descriptors of this clone's own table.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) != 0 {
            for descriptor in 0..DESCRIPTORS {
                libc::close(descriptor);
            }
        }
        // Each open takes the lowest free number.
        for _ in 0..3 {
            libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        }
    }
}

fn open_signal_mask() {
    // SAFETY: an empty set on this clone's stack.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, null_mut());
    }
}

/// Collects a clone that has no exit signal; somebody else's `__WALL` wait may have been faster.
fn collect(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: writes one int.
    while unsafe { libc::waitpid(child, &raw mut status, libc::__WCLONE) } < 0 && errno() == libc::EINTR {}
}

/// Every signal blocked for this thread; put back on drop.
pub(super) struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    pub(super) fn new() -> Self {
        // SAFETY: both sets live here; pthread_sigmask leaves the C library's own signals alone.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut former: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut former);
            Self(former)
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set that `new` found.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, null_mut()) };
    }
}

/// Memory for two stacks and the environment, mapped: the heap may be locked by whoever we interrupted.
struct Scratch {
    base: *mut c_void,
    length: usize,
}

impl Scratch {
    fn map() -> Result<Self, Errno> {
        let length = 2 * STACK + (ENVIRONMENT + 1) * size_of::<*const c_char>();
        // SAFETY: a fresh private mapping at an address of the kernel's choice.
        let base =
            unsafe { mmap_anonymous(null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)? };
        Ok(Self { base, length })
    }

    /// The top of stack `nth`; stacks grow down, the second one towards the first's top.
    fn stack_top(&self, nth: usize) -> *mut c_void {
        self.base.cast::<u8>().wrapping_add((nth + 1) * STACK).cast()
    }

    /// Copies the pointers, without `LD_*`, and ends them with a null.
    fn fill_environment<'a>(&self, environment: impl Iterator<Item = &'a CStr>) -> *const *const c_char {
        let table = self.stack_top(1).cast::<*const c_char>();
        let kept = environment.filter(|entry| !entry.to_bytes().starts_with(b"LD_")).take(ENVIRONMENT);
        for (nth, entry) in kept.enumerate() {
            // SAFETY: the mapping has room for every entry and the null, which is there already.
            unsafe { *table.add(nth) = entry.as_ptr() };
        }
        table
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`; both clones are gone or have memory of their own.
        let _ = unsafe { munmap(self.base, self.length) };
    }
}

fn errno() -> c_int {
    // SAFETY: errno of this thread.
    unsafe { *libc::__errno_location() }
}

fn set_errno(value: c_int) {
    // SAFETY: errno of this thread.
    unsafe { *libc::__errno_location() = value };
}
