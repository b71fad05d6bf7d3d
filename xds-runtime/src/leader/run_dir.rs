//! The run directory: where the processes of one pod and user meet, and which nobody else can write to.
//!
//! ```text
//! <base>            LDMESH_RUN_DIR | /run/ldmesh | $XDG_RUNTIME_DIR/ldmesh | /dev/shm/ldmesh-<uid>
//!   <uid>           ours: owner is the effective user, mode 0700, no symlink
//!     v1-x86_64     ours
//!       <instance>  ours: what `Settings::instance` gives
//! ```
//!
//! The base may belong to anyone (an emptyDir is root's, mode 0777); the last two of the list are ours too and are
//! checked alike. Every step is opened relative to the one before, so that renaming a folder away is a denial of
//! service and no more. Files are taken only when they are regular, ours, 0600 and have one name.
//!
//! Descriptors handed out are close-on-exec and never 0, 1 or 2, which a program may have closed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Access, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{Errno, retry_on_intr};
use thiserror::Error;

use crate::FORMAT_VERSION;
use crate::config::Settings;
use crate::shm::{Descriptor, hash_bytes};

/// Where an operator or the chart mounts a folder for the pod.
const SHARED_BASE: &str = "/run/ldmesh";
const DIR_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
/// What the kernel shows as the owner of a file whose owner has no name in this user namespace.
const OVERFLOW_UID: u32 = 65_534;

/// Why the run directory, or a file in it, cannot be used. Every call of the mesh then passes.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// A system call failed.
    #[error("{path}: cannot {action}: {error}; set LDMESH_RUN_DIR to a folder this user can write to")]
    System {
        /// What it was about.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: Errno,
    },
    /// Another user owns it.
    #[error("{path}: belongs to user {owner}, not to {user}; remove it, or set LDMESH_RUN_DIR to another folder")]
    ForeignOwner {
        /// What it is about.
        path: PathBuf,
        /// Its owner as this user namespace shows it.
        owner: u32,
        /// The effective user.
        user: u32,
    },
    /// Others may read or write it.
    #[error("{path}: has mode {mode:04o} instead of {expected:04o}; remove it, the next process makes it anew")]
    WrongMode {
        /// What it is about.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they should be.
        expected: u32,
    },
    /// Not a folder, or not a plain file with one name.
    #[error("{path}: is {found}; remove it, the next process makes it anew")]
    WrongKind {
        /// What it is about.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The file system is full, or the user's share of it.
    #[error("{path}: no room for {size} bytes; enlarge the volume (or its sizeLimit), or set LDMESH_RUN_DIR")]
    NoSpace {
        /// The file that was to be made; it is gone again.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// Not the name of a file.
    #[error("{name:?} is no file name")]
    BadName {
        /// The name.
        name: String,
    },
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// An open run directory.
#[derive(Debug)]
pub struct RunDir {
    fd: Descriptor,
    path: PathBuf,
    user: u32,
}

impl RunDir {
    /// Opens the run directory these settings name, for the effective user, and makes what is missing of it.
    pub fn open(settings: &Settings) -> Result<RunDir, RunDirError> {
        let user = rustix::process::geteuid().as_raw();
        let base = Base::choose(settings, user);
        RunDir::open_below(&base, user, &settings.instance(namespaces()))
    }

    fn open_below(base: &Base, user: u32, instance: &str) -> Result<RunDir, RunDirError> {
        let mut dir = base.open(user)?;
        for step in [user.to_string().as_str(), &format_and_arch(), instance] {
            dir = dir.step(step)?;
        }
        Ok(dir)
    }

    /// Opens the run directory if it is there, and makes nothing: what a process that is attached already does. One
    /// that changed its root since must not leave folders of ours in the new one.
    ///
    /// # Errors
    /// [`RunDirError`], also when a part of it is missing.
    pub fn open_existing(settings: &Settings) -> Result<RunDir, RunDirError> {
        let user = rustix::process::geteuid().as_raw();
        let mut dir = match Base::choose(settings, user) {
            Base::Given(path) => Base::enter(&path, user)?,
            Base::Own(parent, name) => Base::enter(&parent, user)?.step_into(&name)?,
        };
        for step in [user.to_string().as_str(), &format_and_arch(), &settings.instance(namespaces())] {
            dir = dir.step_into(step)?;
        }
        Ok(dir)
    }

    /// The path, for people. Never to be opened: what lies there may have changed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Enters a folder of ours, making it if it is missing.
    fn step(&self, name: &str) -> Result<RunDir, RunDirError> {
        let path = self.path.join(name);
        let fd = open_own_folder(self.fd.as_fd(), name.as_ref(), &path, self.user)?;
        Ok(RunDir { fd, path, user: self.user })
    }

    /// Enters a folder of ours that is there.
    fn step_into(&self, name: &str) -> Result<RunDir, RunDirError> {
        let path = self.path.join(name);
        let fd = enter_own_folder(self.fd.as_fd(), name.as_ref(), &path, self.user, false)?;
        Ok(RunDir { fd, path, user: self.user })
    }

    /// Bytes of a file; `None` if it is not there.
    ///
    /// # Errors
    /// [`RunDirError`] as for [`RunDir::open_file`].
    pub fn file_size(&self, name: &str) -> Result<Option<u64>, RunDirError> {
        let Some(fd) = self.open_file(name, Open::Read)? else { return Ok(None) };
        let path = self.file_path(name)?;
        let stat = rustix::fs::fstat(&fd).map_err(|error| system(&path, "stat it", error))?;
        Ok(Some(u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// Opens a file that is there; `None` if it is not.
    pub fn open_file(&self, name: &str, access: Open) -> Result<Option<Descriptor>, RunDirError> {
        let path = self.file_path(name)?;
        let access = match access {
            Open::Read => OFlags::RDONLY,
            Open::ReadWrite => OFlags::RDWR,
        };
        // O_NONBLOCK: a FIFO in its place must not wait for its other end.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match retry_on_intr(|| rustix::fs::openat(&self.fd, name, flags, Mode::empty())) {
            Ok(fd) => above_stdio(fd).map_err(|error| system(&path, "open it", error))?,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(RunDirError::WrongKind { path, found: "a symbolic link" });
            }
            Err(Errno::ISDIR) => {
                return Err(RunDirError::WrongKind { path, found: "a folder" });
            }
            Err(Errno::NXIO) => {
                return Err(RunDirError::WrongKind { path, found: "a socket or pipe" });
            }
            Err(error) => return Err(system(&path, "open it", error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| system(&path, "stat it", error))?;
        let found = match (FileType::from_raw_mode(stat.st_mode).is_file(), stat.st_nlink) {
            // Replaced between the two calls.
            (true, 0) => return Ok(None),
            (true, 1) => None,
            (true, _) => Some("known by more than one name"),
            (false, _) => Some("not a regular file"),
        };
        if let Some(found) = found {
            return Err(RunDirError::WrongKind { path, found });
        }
        check_ours(fd.as_fd(), &stat, FILE_MODE, &path, self.user)?;
        Ok(Some(fd))
    }

    /// Makes a file that was not there, 0600, of `size` zero bytes, every one of them allocated: a write to a hole of
    /// a full tmpfs is SIGBUS. `None` if the name is taken.
    ///
    /// The name is visible before the file is complete. What others open by name is made under another one and
    /// then given its name by [`RunDir::rename_new`] or [`RunDir::rename_over`].
    pub fn create_file(&self, name: &str, size: u64) -> Result<Option<Descriptor>, RunDirError> {
        let path = self.file_path(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match retry_on_intr(|| rustix::fs::openat(&self.fd, name, flags, FILE_MODE)) {
            Ok(fd) => fd,
            Err(Errno::EXIST) => return Ok(None),
            Err(error) => return Err(creating(path, size, error)),
        };
        // The mode again: the umask took its part.
        let filled = above_stdio(fd).and_then(|fd| {
            rustix::fs::fchmod(&fd, FILE_MODE)?;
            allocate(fd.as_fd(), size)?;
            Ok(fd)
        });
        filled.map(Some).map_err(|error| {
            // The error that matters is the first one.
            let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
            creating(path, size, error)
        })
    }

    /// Gives a file its final name, unless that one is taken: then `false`, and nothing changed.
    pub fn rename_new(&self, from: &str, to: &str) -> Result<bool, RunDirError> {
        match self.rename(from, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(RunDirError::System { error: Errno::EXIST, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a file its final name, in place of what had it.
    pub fn rename_over(&self, from: &str, to: &str) -> Result<(), RunDirError> {
        self.rename(from, to, RenameFlags::empty())
    }

    fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> Result<(), RunDirError> {
        let path = self.file_path(from)?;
        self.file_path(to)?;
        rustix::fs::renameat_with(&self.fd, from, &self.fd, to, flags)
            .map_err(|error| system(&path, "rename it", error))
    }

    /// Removes a file's name; `false` if it was not there. Who has it mapped keeps it.
    pub fn remove_file(&self, name: &str) -> Result<bool, RunDirError> {
        let path = self.file_path(name)?;
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(system(&path, "remove it", error)),
        }
    }

    fn file_path(&self, name: &str) -> Result<PathBuf, RunDirError> {
        if name.is_empty() || name == "." || name == ".." || name.len() > 255 || name.contains(['/', '\0']) {
            return Err(RunDirError::BadName { name: name.chars().take(60).collect() });
        }
        Ok(self.path.join(name))
    }
}

impl AsFd for RunDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The folder a run directory lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    /// Given or mounted: any owner, symlinks on the way to it are followed.
    Given(PathBuf),
    /// `parent/name`, where the last folder is ours and is checked.
    Own(PathBuf, String),
}

impl Base {
    fn choose(settings: &Settings, user: u32) -> Base {
        if let Some(given) = &settings.run_dir {
            return Base::Given(given.clone());
        }
        if is_writable_folder(Path::new(SHARED_BASE)) {
            return Base::Given(SHARED_BASE.into());
        }
        match &settings.xdg_runtime_dir {
            Some(runtime) if is_writable_folder(runtime) => Base::Own(runtime.clone(), "ldmesh".into()),
            _ => Base::Own("/dev/shm".into(), format!("ldmesh-{user}")),
        }
    }

    fn open(&self, user: u32) -> Result<RunDir, RunDirError> {
        match self {
            Base::Own(parent, name) => Base::enter(parent, user)?.step(name),
            Base::Given(path) => match Base::enter(path, user) {
                Err(RunDirError::System { error: Errno::NOENT, .. }) => match rustix::fs::mkdir(path, DIR_MODE) {
                    Ok(()) | Err(Errno::EXIST) => Base::enter(path, user),
                    Err(error) => Err(system(path, "make it", error)),
                },
                entered => entered,
            },
        }
    }

    /// Opens a folder that is there.
    fn enter(path: &Path, user: u32) -> Result<RunDir, RunDirError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))
            .and_then(above_stdio)
            .map_err(|error| system(path, "open it", error))?;
        Ok(RunDir { fd, path: path.to_owned(), user })
    }
}

/// Names the folder of this format on this machine's architecture.
pub fn format_and_arch() -> String {
    format!("v{FORMAT_VERSION}-{}", std::env::consts::ARCH)
}

/// Which network and which clock this process has: who shares both can be of one pod. The clock counts only where it is
/// not the machine's (time_namespaces(7)): it runs apart from ours, and every time in a shared file would be wrong.
///
/// A process that gave up its privileges may not look any more (setuid(2) makes it undumpable): then what it saw
/// before counts, 0 if nothing. The library looks once at load.
pub fn namespaces() -> u64 {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let Ok(network) = rustix::fs::stat("/proc/self/ns/net") else { return SEEN.load(Ordering::Relaxed) };
    let both = network.st_ino ^ clock_offset();
    SEEN.store(both, Ordering::Relaxed);
    both
}

/// A number for how far CLOCK_BOOTTIME is from the machine's; 0 = not at all, or the kernel has no such thing.
fn clock_offset() -> u64 {
    let mut text = [0_u8; 256];
    let file = rustix::fs::open("/proc/self/timens_offsets", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let length = file.map(Descriptor::from).and_then(|file| rustix::io::read(&file, &mut text)).unwrap_or(0);
    let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    let offset = text.lines().find_map(|line| line.strip_prefix("boottime")).unwrap_or_default();
    if offset.split_whitespace().all(|number| number == "0") { 0 } else { hash_bytes(offset.as_bytes()) }
}

fn is_writable_folder(path: &Path) -> bool {
    let is_folder = rustix::fs::stat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
    is_folder && rustix::fs::accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

fn open_own_folder(parent: BorrowedFd<'_>, name: &OsStr, path: &Path, user: u32) -> Result<Descriptor, RunDirError> {
    let made = match rustix::fs::mkdirat(parent, name, DIR_MODE) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(system(path, "make it", error)),
    };
    enter_own_folder(parent, name, path, user, made)
}

/// `made`: just now, by us.
fn enter_own_folder(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    user: u32,
    made: bool,
) -> Result<Descriptor, RunDirError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match retry_on_intr(|| rustix::fs::openat(parent, name, flags, Mode::empty())).and_then(above_stdio) {
        Ok(fd) => fd,
        // A symbolic link is ENOTDIR with O_DIRECTORY on Linux, and ELOOP by the manual.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return Err(RunDirError::WrongKind { path: path.to_owned(), found: "not a folder" });
        }
        Err(error) => return Err(system(path, "open it", error)),
    };
    let stat = |fd: &Descriptor| rustix::fs::fstat(fd).map_err(|error| system(path, "stat it", error));
    let mut found = stat(&fd)?;
    // Only what the umask took from a folder just made is given back; any other mode is somebody's doing.
    if made && found.st_uid == user && found.st_mode & 0o777 != DIR_MODE.as_raw_mode() {
        rustix::fs::fchmod(&fd, DIR_MODE).map_err(|error| system(path, "set its mode", error))?;
        found = stat(&fd)?;
    }
    check_ours(fd.as_fd(), &found, DIR_MODE, path, user)?;
    Ok(fd)
}

/// Owner and permissions. A setgid bit, which folders take over from an emptyDir with fsGroup, does no harm.
fn check_ours(fd: BorrowedFd<'_>, stat: &Stat, expected: Mode, path: &Path, user: u32) -> Result<(), RunDirError> {
    let foreign = || RunDirError::ForeignOwner { path: path.to_owned(), owner: stat.st_uid, user };
    if stat.st_uid != user {
        return Err(foreign());
    }
    let (mode, expected_bits) = (stat.st_mode & 0o777, expected.as_raw_mode());
    if mode != expected_bits {
        return Err(RunDirError::WrongMode { path: path.to_owned(), mode, expected: expected_bits });
    }
    // Unmapped owners show as "nobody" (user_namespaces(7)). Somebody who runs as nobody has to prove that it is
    // theirs: only the true owner may set a mode, compared in the kernel's own ids.
    let same = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if user == OVERFLOW_UID && rustix::fs::fchmod(fd, same).is_err() {
        return Err(foreign());
    }
    Ok(())
}

fn allocate(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    if size == 0 {
        return Ok(());
    }
    if size > file_size_limit() {
        return Err(Errno::FBIG);
    }
    match retry_on_intr(|| rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, size)) {
        // As posix_fallocate(3) does where the file system cannot: write it.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(fd, size),
        result => result,
    }
}

/// Bytes that a file of this process may have (`ulimit -f`). To try more would be SIGXFSZ, which ends a program.
pub(super) fn file_size_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current.unwrap_or(u64::MAX)
}

fn write_zeros(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    // Not on the stack, which may be small.
    static ZEROS: [u8; 4096] = [0; 4096];
    let mut at = 0_u64;
    while at < size {
        let want = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX).min(ZEROS.len());
        let part = ZEROS.get(..want).unwrap_or(&ZEROS);
        let written = retry_on_intr(|| rustix::io::pwrite(fd, part, at))?;
        if written == 0 {
            return Err(Errno::NOSPC);
        }
        at = at.saturating_add(written as u64);
    }
    Ok(())
}

/// A descriptor a program cannot mistake for its standard ones.
fn above_stdio(fd: OwnedFd) -> Result<Descriptor, Errno> {
    let fd = Descriptor::from(fd);
    if fd.as_fd().as_raw_fd() > 2 {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, 3).map(Descriptor::from)
}

fn system(path: &Path, action: &'static str, error: Errno) -> RunDirError {
    RunDirError::System { path: path.to_owned(), action, error }
}

fn creating(path: PathBuf, size: u64, error: Errno) -> RunDirError {
    match error {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => RunDirError::NoSpace { path, size },
        error => RunDirError::System { path, action: "make it", error },
    }
}

#[cfg(test)]
mod tests;
