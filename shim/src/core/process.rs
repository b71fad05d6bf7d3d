//! This process: what it was configured with at load, and its attachment to the pod of its present user.
//!
//! ```text
//! load: environ -> Settings (nothing else is touched)     inert: one atomic load per call, for ever
//! first call that needs it: attach                        user changed: attach to that user's folder
//! ```
//! Fork needs nothing: there is no lock and no thread of ours, mappings are shared, time and attachments stay true. A
//! vfork child, whose memory is its parent's, keeps nothing.

use std::cell::Cell;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

use log::Level;
use once_cell::race::OnceBox;
use rustix::fs::{Mode, OFlags};
use xds_runtime::config::{ControlPlane, Settings, Source};
use xds_runtime::control::Control;
use xds_runtime::names::NameFiles;
use xds_runtime::pod::Pod;
use xds_runtime::shm::{self, Descriptor, Millis, leak};

use crate::core::log::Log;
use crate::core::verdict::{Refusal, Why};

/// After attaching failed, no other attempt for this long.
const ATTACH_PAUSE_MS: Millis = 1000;
/// On connects the user is looked at once in this time.
const USER_CHECK_MS: Millis = 1000;
/// While nobody leads, the run directory is looked for once in this time.
const ORPHAN_CHECK_MS: Millis = 1000;
/// A process tells of itself at most this often.
const ATTEND_MS: Millis = 1000;
/// Users that one process can be in its life; more pass.
const USERS: usize = 8;

/// What a process was configured with.
pub struct Context {
    /// The settings.
    pub settings: &'static Settings,
    /// /etc/hosts and resolv.conf.
    pub files: NameFiles,
    /// The log.
    pub log: Log,
    /// Absolute path of this library's file, where that can be told.
    pub library: Option<PathBuf>,
    environment: Vec<CString>,
    /// The control plane, where it is configured by its address.
    control_plane: Option<(IpAddr, u16)>,
    agent: AtomicU8,
    reported: AtomicBool,
}

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

/// Whether the process is configured at all.
static CONFIGURED: AtomicU8 = AtomicU8::new(UNKNOWN);
static CONTEXT: OnceBox<Context> = OnceBox::new();

thread_local! {
    // Const and without destructor: a plain thread-local word.
    static RUNTIME_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks the calling thread as the runtime's: its calls pass.
pub fn enter_runtime_thread() {
    RUNTIME_THREAD.set(true);
}

/// Whether the calling thread is the runtime's.
pub fn is_runtime_thread() -> bool {
    RUNTIME_THREAD.get()
}

/// The context, if calls of this thread are to be decided.
///
/// # Errors
/// Why not.
#[inline]
pub fn enter() -> Result<&'static Context, Why> {
    match CONFIGURED.load(Ordering::Relaxed) {
        NO => return Err(Why::Inert),
        UNKNOWN => load()?,
        _ => {}
    }
    if RUNTIME_THREAD.get() {
        return Err(Why::RuntimeThread);
    }
    CONTEXT.get().ok_or(Why::Inert)
}

/// False while it is known that no call is ever decided here.
#[inline]
pub fn is_configured() -> bool {
    CONFIGURED.load(Ordering::Relaxed) != NO
}

/// Reads the environment once (in the constructor, or in a call that comes before it).
///
/// # Errors
/// [`Why::Inert`] without a control plane, with `LDMESH_MODE=off`, or in an executable that stays out.
#[cold]
pub fn load() -> Result<(), Why> {
    if !is_mentioned() {
        CONFIGURED.store(NO, Ordering::Relaxed);
        return Err(Why::Inert);
    }
    let environment: Vec<CString> = environment().map(CStr::to_owned).collect();
    let settings = Settings::from_env(environment.iter().filter_map(|entry| {
        let entry = entry.as_bytes();
        let split = entry.iter().position(|byte| *byte == b'=')?;
        Some((OsStr::from_bytes(entry.get(..split)?), OsStr::from_bytes(entry.get(split + 1..)?)))
    }));
    if settings.is_inert() || is_excluded(&settings) {
        CONFIGURED.store(NO, Ordering::Relaxed);
        return Err(Why::Inert);
    }
    // A panic of ours is caught; its message must not appear in the program's stderr.
    std::panic::set_hook(Box::new(|_| {}));
    // While this process may: after setuid it may not.
    xds_runtime::leader::run_dir::namespaces();
    // The first reading asks the loader where the vDSO is: not in a signal handler.
    let _ = xds_runtime::shm::now();
    let context = CONTEXT.get_or_init(|| {
        let settings: &'static Settings = Box::leak(Box::new(settings));
        Box::new(Context {
            settings,
            files: NameFiles::system(settings.resolver.clone()),
            log: Log::new(settings.log, settings.log_file.clone()),
            library: library_path(),
            control_plane: control_plane(settings),
            environment,
            agent: AtomicU8::new(UNKNOWN),
            reported: AtomicBool::new(false),
        })
    });
    if context.settings.log != log::LevelFilter::Off && log::set_logger(&RuntimeLog).is_ok() {
        log::set_max_level(context.settings.log);
    }
    CONFIGURED.store(YES, Ordering::Release);
    Ok(())
}

/// The environment as it stands: libc's pointer, without std's lock.
fn environment() -> impl Iterator<Item = &'static CStr> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: libc's variable; null before libc set it up, else a null-terminated array.
    let mut next = unsafe { environ };
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: within the array, whose end was not reached.
        let entry = unsafe { *next };
        if entry.is_null() {
            return None;
        }
        next = next.wrapping_add(1);
        // SAFETY: entries are nul-terminated strings, copied before the program can change them.
        Some(unsafe { CStr::from_ptr(entry) })
    })
}

/// True when a variable that can configure the library is there: nothing is allocated for a process without.
fn is_mentioned() -> bool {
    environment().any(|entry| {
        let entry = entry.to_bytes();
        entry.starts_with(b"LDMESH_XDS=") || entry.starts_with(b"GRPC_XDS_BOOTSTRAP")
    })
}

/// Address and port of the control plane, if they are known without asking anybody.
fn control_plane(settings: &Settings) -> Option<(IpAddr, u16)> {
    let Some(Source::Address(ControlPlane::Http(at) | ControlPlane::Https(at))) = &settings.source else { return None };
    let ip: IpAddr = at.host.parse().ok()?;
    Some((ip.to_canonical(), at.port))
}

/// Whether this executable stays out; its path is only read where something is excluded.
fn is_excluded(settings: &Settings) -> bool {
    if settings.exclude_exe.is_empty() {
        return false;
    }
    let mut path = [0_u8; 1024];
    // SAFETY: writes at most the buffer's length.
    let length = unsafe {
        libc::syscall(
            libc::SYS_readlinkat,
            i64::from(libc::AT_FDCWD),
            c"/proc/self/exe".as_ptr(),
            path.as_mut_ptr(),
            path.len(),
        )
    };
    let path = usize::try_from(length).ok().and_then(|length| path.get(..length));
    path.is_some_and(|path| settings.exclude_exe.matches(path))
}

/// The file this code was loaded from.
fn library_path() -> Option<PathBuf> {
    // SAFETY: dladdr fills the struct; all zeros is a valid one.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let here = library_path as fn() -> Option<PathBuf> as *const c_void;
    // SAFETY: an address of this library, and a struct to fill.
    if unsafe { libc::dladdr(here, &raw mut info) } == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the linker's own nul-terminated name.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let path = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
    if path.is_absolute() { Some(path) } else { std::path::absolute(path).ok() }
}

impl Context {
    /// The environment as it was at load, without this library's own preloading.
    pub fn environment(&self) -> impl Iterator<Item = &CStr> {
        self.environment.iter().map(CString::as_c_str)
    }

    /// True for the pod's own address (as INSTANCE_IP tells it) and for the control plane's.
    pub fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        self.settings.identity.instance_ip.is_some_and(|own| own.to_canonical() == ip)
            || self.control_plane == Some((ip, port))
    }

    /// Whether an agent's binary stands beside the library; looked for once.
    pub fn has_agent(&self, look: impl FnOnce() -> bool) -> bool {
        if self.agent.load(Ordering::Relaxed) == UNKNOWN {
            self.agent.store(if look() { YES } else { NO }, Ordering::Relaxed);
        }
        self.agent.load(Ordering::Relaxed) == YES
    }

    /// Counts and logs a pass.
    pub fn passed(&self, why: Why, call: std::fmt::Arguments<'_>) {
        why.count();
        self.log.line(Level::Trace, format_args!("{call}: passes: {why}"));
    }

    /// Counts and logs a call that the mesh fails.
    pub fn refused(&self, refusal: Refusal, call: std::fmt::Arguments<'_>) {
        refusal.count();
        self.log.line(Level::Info, format_args!("{call}: refused: {refusal}"));
    }

    /// The attachment of the present user. `always` = look at the user now (lookups), else once a second.
    ///
    /// # Errors
    /// [`Why::NoRunDirectory`].
    #[inline]
    pub fn attach(&self, always: bool) -> Result<&'static Pod, Why> {
        let current = CURRENT.load(Ordering::Acquire);
        if !always && shm::lately().wrapping_sub(CHECKED.load(Ordering::Relaxed)) < USER_CHECK_MS {
            // SAFETY: a non-null pointer came from `leak`.
            if let Some(attachment) = unsafe { current.as_ref() } {
                return Ok(&attachment.pod);
            }
        }
        self.attach_user(shm::now())
    }

    /// The last attachment, whoever the user is by now; nothing is looked for.
    pub fn attached(&self) -> Option<&'static Pod> {
        // SAFETY: a non-null pointer came from `leak`.
        unsafe { CURRENT.load(Ordering::Acquire).as_ref() }.map(|attachment| &attachment.pod)
    }

    /// Everything that this process is attached to: one for each user that it was.
    pub fn attachments(&self) -> impl Iterator<Item = &'static Pod> {
        // SAFETY: a non-null pointer came from `leak`.
        ATTACHED
            .iter()
            .filter_map(|place| unsafe { place.load(Ordering::Acquire).as_ref() })
            .map(|attachment| &attachment.pod)
    }

    /// The attachment, without making a run directory: a program that only serves leaves nothing behind. Looked for
    /// once a second.
    ///
    /// # Errors
    /// [`Why::NoRunDirectory`].
    pub fn attach_existing(&self, now: Millis) -> Result<&'static Pod, Why> {
        if let Some(pod) = self.attached() {
            return Ok(pod);
        }
        let looked = LOOKED.swap(now, Ordering::Relaxed);
        if now.wrapping_sub(looked) < ATTACH_PAUSE_MS {
            LOOKED.store(looked, Ordering::Relaxed);
            return Err(Why::NoRunDirectory);
        }
        if is_vfork_child() {
            return Err(Why::NoRunDirectory);
        }
        let pod = Pod::attach_existing(self.settings).map_err(|_| Why::NoRunDirectory)?;
        self.keep(rustix::process::geteuid().as_raw(), pod)
    }

    /// The pod of the user that this process attached as first, while somebody leads it.
    pub fn first_pod(&self, now: Millis) -> Option<&'static Pod> {
        // SAFETY: a non-null pointer came from `Box::leak`.
        let first = unsafe { ATTACHED[0].load(Ordering::Acquire).as_ref() }?;
        first.pod.control().lead().is_alive(now).then_some(&first.pod)
    }

    #[cold]
    #[inline(never)]
    fn attach_user(&self, now: Millis) -> Result<&'static Pod, Why> {
        let uid = rustix::process::geteuid().as_raw();
        for place in &ATTACHED {
            // SAFETY: as above.
            if let Some(attachment) = unsafe { place.load(Ordering::Acquire).as_ref() }
                && attachment.uid == uid
            {
                let is_current = std::ptr::eq(attachment, CURRENT.load(Ordering::Relaxed));
                if !is_current && is_vfork_child() {
                    return Ok(&attachment.pod);
                }
                let attachment = self.unless_orphaned(place, attachment, now);
                CURRENT.store(std::ptr::from_ref(attachment).cast_mut(), Ordering::Release);
                CHECKED.store(shm::lately(), Ordering::Relaxed);
                return Ok(&attachment.pod);
            }
        }
        let retry_at = RETRY_AT.load(Ordering::Relaxed);
        if now < retry_at && RETRY_UID.load(Ordering::Relaxed) == u64::from(uid) {
            return Err(Why::NoRunDirectory);
        }
        // It may be another user than the parent, whose memory this is.
        if is_vfork_child() {
            return Err(Why::NoRunDirectory);
        }
        // What is mapped stays mapped: nothing is, for one user too many.
        if self.attachments().count() == USERS {
            self.log.line(Level::Debug, format_args!("too many users in one process; calls of uid {uid} pass"));
            return Err(Why::NoRunDirectory);
        }
        self.report_problems();
        match Pod::attach(self.settings) {
            Ok(pod) => self.keep(uid, pod),
            Err(error) => {
                RETRY_UID.store(u64::from(uid), Ordering::Relaxed);
                RETRY_AT.store(now.saturating_add(ATTACH_PAUSE_MS), Ordering::Relaxed);
                self.log.line(Level::Warn, format_args!("everything passes: {error}"));
                Err(Why::NoRunDirectory)
            }
        }
    }

    /// Keeps an attachment for ever. Threads that attach for one user at once meet in one place: the table holds
    /// users, not races; who comes late loses a page.
    fn keep(&self, uid: u32, pod: Pod) -> Result<&'static Pod, Why> {
        let attachment = leak(Attachment { uid, pod }).ok_or(Why::NoRunDirectory)?;
        let attachment = std::ptr::from_ref(attachment).cast_mut();
        let stored = ATTACHED.iter().find_map(|place| {
            let null = std::ptr::null_mut();
            match place.compare_exchange(null, attachment, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: leaked just now; nobody writes to it any more.
                Ok(_) => Some(unsafe { &*attachment }),
                // SAFETY: as above.
                Err(other) => unsafe { other.as_ref() }.filter(|other| other.uid == uid),
            }
        });
        // Full by now, if at all, by threads that were other users at the same moment.
        let stored = stored.ok_or(Why::NoRunDirectory)?;
        CURRENT.store(std::ptr::from_ref(stored).cast_mut(), Ordering::Release);
        CHECKED.store(shm::lately(), Ordering::Relaxed);
        Ok(&stored.pod)
    }

    /// The attachment, or a new one where nobody leads because its run directory was removed or replaced. Looked at
    /// once a second; the former stays mapped.
    #[inline(never)]
    fn unless_orphaned(
        &self,
        place: &AtomicPtr<Attachment>,
        attachment: &'static Attachment,
        now: Millis,
    ) -> &'static Attachment {
        let due = now.wrapping_sub(ORPHAN_CHECKED.load(Ordering::Relaxed)) >= ORPHAN_CHECK_MS;
        if !due || attachment.pod.control().lead().is_alive(now) {
            return attachment;
        }
        ORPHAN_CHECKED.store(now, Ordering::Relaxed);
        if !attachment.pod.is_orphaned() {
            return attachment;
        }
        match Pod::attach(self.settings) {
            Ok(pod) => {
                let Some(fresh) = leak(Attachment { uid: attachment.uid, pod }) else { return attachment };
                place.store(std::ptr::from_ref(fresh).cast_mut(), Ordering::Release);
                self.log.line(Level::Info, format_args!("the run directory was replaced; attached anew"));
                fresh
            }
            Err(error) => {
                self.log.line(Level::Warn, format_args!("the run directory is gone: {error}"));
                attachment
            }
        }
    }

    fn report_problems(&self) {
        if !self.reported.swap(true, Ordering::Relaxed) {
            for problem in &self.settings.problems {
                self.log.line(Level::Warn, format_args!("{problem}"));
            }
        }
    }

    /// [`entropy`].
    pub fn entropy(&self, cookie: u64) -> u64 {
        entropy(cookie)
    }
}

/// A seed for picks: no two calls get the same, forked twins included.
pub fn entropy(cookie: u64) -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let here = std::ptr::from_ref(&time) as u64;
    shm::hash_words(&[cookie, here, time.tv_sec as u64, time.tv_nsec as u64])
}

/// True in a child of vfork(2), whose memory is its parent's: nothing must be kept for the process, no thread started.
/// The C library knows the parent's thread there, the kernel the child. (A child of a raw clone(2) looks the same; it
/// goes without what it would have kept.)
pub fn is_vfork_child() -> bool {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the calling thread, and a clock to write. A thread's clock is its id, inverted, above three other bits.
    let known = unsafe { pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) } == 0;
    known && !(clock >> 3) != rustix::thread::gettid().as_raw_nonzero().get()
}

unsafe extern "C" {
    fn pthread_getcpuclockid(thread: libc::pthread_t, clock: *mut libc::clockid_t) -> c_int;
}

/// Tells `ldmesh status` of this process: at most once a second, and at once after a fork.
pub fn attend(control: Control, now: Millis) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    static PID: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let told = TOLD.load(Ordering::Relaxed);
    if PID.load(Ordering::Relaxed) == pid && now.wrapping_sub(told) < ATTEND_MS {
        return;
    }
    TOLD.store(now, Ordering::Relaxed);
    PID.store(pid, Ordering::Relaxed);
    // Containers of a pod have pids of their own: their namespace tells equal ones apart.
    let namespace = rustix::fs::stat(c"/proc/self/ns/pid").map_or(0, |stat| stat.st_ino);
    control.attend(pid, namespace as u32, comm(), now);
}

/// The process's name, which it may change at any time; zeros where /proc does not tell.
fn comm() -> [u8; 16] {
    let mut comm = [0; 16];
    let file = rustix::fs::open(c"/proc/self/comm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let length = file.map(Descriptor::from).and_then(|file| rustix::io::read(&file, &mut comm)).unwrap_or(0);
    // The last byte is the line's end.
    comm.iter_mut().skip(length.saturating_sub(1)).for_each(|byte| *byte = 0);
    comm
}

/// What the runtime logs in a thread of this process goes where our own lines go.
struct RuntimeLog;

impl log::Log for RuntimeLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        CONTEXT.get().is_some_and(|context| context.log.takes(metadata.level()))
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(context) = CONTEXT.get() {
            context.log.line(record.level(), *record.args());
        }
    }

    fn flush(&self) {}
}

struct Attachment {
    uid: u32,
    pod: Pod,
}

static ATTACHED: [AtomicPtr<Attachment>; USERS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; USERS];
static CURRENT: AtomicPtr<Attachment> = AtomicPtr::new(std::ptr::null_mut());
static CHECKED: AtomicU64 = AtomicU64::new(0);
static ORPHAN_CHECKED: AtomicU64 = AtomicU64::new(0);
static RETRY_AT: AtomicU64 = AtomicU64::new(0);
static LOOKED: AtomicU64 = AtomicU64::new(0);
static RETRY_UID: AtomicU64 = AtomicU64::new(u64::MAX);

#[cfg(test)]
impl Context {
    /// A process with these variables, and names from these files.
    pub fn for_test(variables: &[(&str, &str)], files: NameFiles) -> &'static Self {
        let settings: &'static Settings = Box::leak(Box::new(Settings::from_env(variables.iter().copied())));
        Box::leak(Box::new(Self {
            settings,
            files,
            log: Log::new(log::LevelFilter::Off, None),
            library: None,
            control_plane: control_plane(settings),
            environment: Vec::new(),
            agent: AtomicU8::new(NO),
            reported: AtomicBool::new(true),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a child that answers by its exit status answers.
    fn answer(pid: libc::pid_t) -> c_int {
        let mut status = -1;
        // SAFETY: a child of this process.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        libc::WEXITSTATUS(status)
    }

    extern "C" fn ask(_: *mut c_void) -> c_int {
        c_int::from(is_vfork_child())
    }

    #[test]
    fn only_a_child_in_its_parents_memory_is_a_vfork_child() {
        assert!(!is_vfork_child());
        assert!(!std::thread::spawn(is_vfork_child).join().unwrap());
        let mut stack = vec![0_u8; 64 << 10];
        let top = stack.as_mut_ptr_range().end.cast();
        // SAFETY: the forked child only asks and ends; the other one does so on a stack of its own.
        unsafe {
            let forked = libc::fork();
            if forked == 0 {
                libc::_exit(ask(std::ptr::null_mut()));
            }
            assert_eq!(answer(forked), 0);
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            assert_eq!(answer(libc::clone(ask, top, flags, std::ptr::null_mut())), 1);
        }
    }
}
