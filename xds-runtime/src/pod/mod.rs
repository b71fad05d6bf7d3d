//! One process's attachment to its pod: CONTROL, STATE and the current IMAGE, mapped.
//!
//! Attaching opens the run directory once; what it finds is validated before it is believed (owner, mode, format,
//! boot). After that no descriptor is kept and nothing is locked: the current image is followed by comparing one word,
//! and mapped anew only when CONTROL names another file (a new leader, or one that needed a larger file). Attaching and
//! mapping anew allocate for as long as they last; following an image that is mapped allocates nothing. What was mapped
//! stays mapped (of the images the last two; older ones make room for later ones in [`places`]), so a process that
//! changes its root or its limits keeps what it has.

pub mod names;
mod places;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Uid, geteuid};

use crate::boot::BootId;
use crate::config::Settings;
use crate::control::{CONTROL_WORDS, Control};
use crate::image::ImageFile;
use crate::leader::run_dir::{Open, RunDir, RunDirError};
use crate::shm::{self, MapError, Millis, leak, map_write};
use crate::state::{State, state_words};
use names::FileName;
use places::{Place, Places};

/// Why a process could not attach: everything passes then.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The run directory cannot be used.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A file could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// /proc tells no boot id.
    #[error("/proc/sys/kernel/random/boot_id cannot be read; mount /proc")]
    NoBootId,
    /// Another process is making CONTROL right now.
    #[error("another process is setting up the run directory")]
    Busy,
    /// Nobody made CONTROL yet.
    #[error("no process of this pod was in the mesh yet")]
    NotThere,
    /// The kernel has no page left.
    #[error("no memory")]
    NoMemory,
}

/// After a mapping failed, no other attempt for this long.
const RETRY_MS: Millis = 100;

/// How often a file that CONTROL named and that is gone is looked up anew.
const IMAGE_ATTEMPTS: u32 = 3;

/// How long an attaching process waits for another one that makes CONTROL, and how often it looks.
const LOCK_PATIENCE_MS: Millis = 50;
const LOCK_LOOK: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 0, tv_nsec: 200_000 };

/// A process's attachment. Never freed.
pub struct Pod {
    settings: &'static Settings,
    /// The user whose run directory it is.
    user: Uid,
    boot: BootId,
    control: Control,
    control_id: FileId,
    places: Places,
    image: AtomicPtr<Place>,
    /// The one before: a thread may still be reading it.
    former_image: AtomicPtr<Place>,
    state: AtomicPtr<State>,
    retry_at: AtomicU64,
}

/// What tells a mapped file from another one at its path: an inode is not reused while it is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(fd: BorrowedFd<'_>) -> Option<Self> {
        let stat = rustix::fs::fstat(fd).ok()?;
        Some(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

impl Pod {
    /// Attaches to the run directory, creating what is missing.
    ///
    /// # Errors
    /// [`AttachError`]; the caller passes and may try again later.
    #[inline(never)]
    pub fn attach(settings: &'static Settings) -> Result<Self, AttachError> {
        let boot = BootId::read().ok_or(AttachError::NoBootId)?;
        let (control, control_id) = open_control(&RunDir::open(settings)?, boot)?;
        Ok(Self::new(settings, boot, control, control_id))
    }

    /// Attaches to the run directory if it is there, and makes nothing.
    ///
    /// # Errors
    /// [`AttachError`]; [`AttachError::NotThere`] when no process of the pod made it yet.
    pub fn attach_existing(settings: &'static Settings) -> Result<Self, AttachError> {
        let boot = BootId::read().ok_or(AttachError::NoBootId)?;
        let found = believed_control(&RunDir::open_existing(settings)?, boot)?;
        let (control, control_id) = found.ok_or(AttachError::NotThere)?;
        Ok(Self::new(settings, boot, control, control_id))
    }

    fn new(settings: &'static Settings, boot: BootId, control: Control, control_id: FileId) -> Self {
        Self {
            settings,
            user: geteuid(),
            boot,
            control,
            control_id,
            places: Places::new(),
            image: AtomicPtr::new(std::ptr::null_mut()),
            former_image: AtomicPtr::new(std::ptr::null_mut()),
            state: AtomicPtr::new(std::ptr::null_mut()),
            retry_at: AtomicU64::new(0),
        }
    }

    /// CONTROL.
    #[inline]
    pub const fn control(&self) -> Control {
        self.control
    }

    /// The boot this attachment belongs to.
    pub const fn boot(&self) -> BootId {
        self.boot
    }

    /// Opens the run directory again.
    ///
    /// # Errors
    /// [`RunDirError`] when it cannot be used (any more).
    pub fn run_dir(&self) -> Result<RunDir, RunDirError> {
        RunDir::open(self.settings)
    }

    /// True when the CONTROL at the run directory's path is no longer the mapped one: it was replaced, or the
    /// directory was moved away. The process should attach anew.
    pub fn is_orphaned(&self) -> bool {
        let Ok(dir) = RunDir::open_existing(self.settings) else { return false };
        let found = dir.open_file(names::CONTROL, Open::Read).ok().flatten();
        found.and_then(|fd| FileId::of(fd.as_fd())) != Some(self.control_id)
    }

    /// The current image; `None` when nothing was published, or its file cannot be mapped and none was before.
    #[inline]
    pub fn image(&self) -> Option<ImageFile> {
        let id = self.control.image()?;
        // SAFETY: a non-null pointer came from `leak`: valid for ever, changed by atomics only.
        let mapped = || unsafe { self.image.load(Ordering::Acquire).as_ref() };
        match mapped() {
            None => self.map_image(),
            Some(current) => current.file_of(id).or_else(|| self.follow_image()).or_else(|| mapped()?.file()),
        }
    }

    /// STATE, mapped again when it grew; `None` until a leader made it.
    #[inline]
    pub fn state(&self) -> Option<State> {
        match self.mapped_state() {
            Some(state) if state.allocated_slots() <= state.mapped_slots() => Some(state),
            mapped => self.map_state().or(mapped),
        }
    }

    /// STATE as far as it is mapped.
    pub fn mapped_state(&self) -> Option<State> {
        // SAFETY: as for the image.
        unsafe { self.state.load(Ordering::Acquire).as_ref() }.copied()
    }

    /// The first image. Threads that come together may each map it; one place is kept.
    #[cold]
    #[inline(never)]
    fn map_image(&self) -> Option<ImageFile> {
        self.unless_just_failed(|| {
            let now = shm::now();
            let (place, file) = self.new_image(now)?;
            let (none, mine) = (std::ptr::null_mut(), std::ptr::from_ref(place).cast_mut());
            match self.image.compare_exchange(none, mine, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => Some(file),
                Err(kept) => {
                    place.leave(now);
                    // SAFETY: as in `image`.
                    unsafe { kept.as_ref() }.and_then(Place::file)
                }
            }
        })
    }

    /// A later image; one thread maps it, the others keep to the one they have. The one before the last is given back:
    /// a process that outlives many leaders must not pin all their files.
    #[cold]
    #[inline(never)]
    fn follow_image(&self) -> Option<ImageFile> {
        let now = shm::now();
        let retry_at = self.retry_at.load(Ordering::Relaxed);
        let is_blocked = now < retry_at && retry_at - now <= RETRY_MS;
        let claim = now + RETRY_MS;
        // A claim ends by itself: its holder may be a thread that a fork did not take along.
        if is_blocked || self.retry_at.compare_exchange(retry_at, claim, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return None;
        }
        let seen = self.image.load(Ordering::Acquire);
        // SAFETY: as in `image`, here and below.
        let current = unsafe { seen.as_ref() };
        // Another thread may have followed since this one looked: each step gives an older image back, and who still
        // reads that must not lose it for nothing.
        if let Some(file) = self.control.image().and_then(|id| current?.file_of(id)) {
            let _ = self.retry_at.compare_exchange(claim, 0, Ordering::AcqRel, Ordering::Relaxed);
            return Some(file);
        }
        let (place, file) = self.new_image(now)?;
        let mine = std::ptr::from_ref(place).cast_mut();
        if let Err(newer) = self.image.compare_exchange(seen, mine, Ordering::AcqRel, Ordering::Acquire) {
            place.leave(now);
            // SAFETY: as above.
            return unsafe { newer.as_ref() }.and_then(Place::file);
        }
        let older = self.former_image.swap(seen, Ordering::AcqRel);
        // SAFETY: as above.
        if let Some(older) = unsafe { older.as_ref() } {
            older.leave(now);
        }
        let _ = self.retry_at.compare_exchange(claim, 0, Ordering::AcqRel, Ordering::Relaxed);
        Some(file)
    }

    /// The run directory, while the process is the user whose it is: for another one the path is another.
    fn own_dir(&self) -> Option<RunDir> {
        if geteuid() == self.user { RunDir::open_existing(self.settings).ok() } else { None }
    }

    /// The image that CONTROL names, mapped. Its file may give way to a newer one before it is opened.
    fn new_image(&self, now: Millis) -> Option<(&'static Place, ImageFile)> {
        let dir = self.own_dir()?;
        (0..IMAGE_ATTEMPTS).find_map(|_| {
            let id = self.control.image()?;
            let fd = dir.open_file(FileName::image(id).as_str(), Open::Read).ok()??;
            let in_use = [&self.image, &self.former_image].map(|place| place.load(Ordering::Acquire));
            self.places.map(fd.as_fd(), self.boot, id, in_use, now)
        })
    }

    #[cold]
    #[inline(never)]
    fn map_state(&self) -> Option<State> {
        self.unless_just_failed(|| {
            let dir = self.own_dir()?;
            // Mappings stay for ever: a header that promises more than the file has must not add one at each call.
            let former = self.mapped_state().map_or(0, |state| state.mapped_slots());
            let size = dir.file_size(names::STATE).ok()??;
            if size / 8 < state_words(former.saturating_add(1)) as u64 {
                return None;
            }
            let state = open_state(&dir, self.boot).ok()??;
            let mapped = leak(state)?;
            self.state.store(std::ptr::from_ref(mapped).cast_mut(), Ordering::Release);
            Some(state)
        })
    }

    fn unless_just_failed<T>(&self, attempt: impl FnOnce() -> Option<T>) -> Option<T> {
        let now = shm::now();
        let retry_at = self.retry_at.load(Ordering::Relaxed);
        if now < retry_at && retry_at - now <= RETRY_MS {
            return None;
        }
        let outcome = attempt();
        let next = if outcome.is_some() { 0 } else { now + RETRY_MS };
        self.retry_at.store(next, Ordering::Relaxed);
        outcome
    }
}

/// Maps STATE, if a leader made it in this boot.
///
/// # Errors
/// [`AttachError`] when nobody could look: it may be there, and must not be replaced.
pub fn open_state(dir: &RunDir, boot: BootId) -> Result<Option<State>, AttachError> {
    Ok(mapped(dir, names::STATE, state_words(1))?.and_then(|(words, _)| State::open(words, boot)))
}

/// Opens CONTROL, making it (or replacing one that cannot be believed) under a lock.
fn open_control(dir: &RunDir, boot: BootId) -> Result<(Control, FileId), AttachError> {
    if let Some(found) = believed_control(dir, boot)? {
        return Ok(found);
    }
    let lock = match dir.create_file(names::LOCK, 0)? {
        Some(lock) => lock,
        None => dir.open_file(names::LOCK, Open::ReadWrite)?.ok_or(AttachError::Busy)?,
    };
    // The processes that start a pod together all come here; making CONTROL takes far less than this. A maker that
    // was stopped in the middle is not waited for any longer: the call passes.
    let patience_ends = shm::now().saturating_add(LOCK_PATIENCE_MS);
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if shm::now() >= patience_ends {
            return Err(AttachError::Busy);
        }
        let _ = rustix::thread::nanosleep(&LOCK_LOOK);
        if let Some(found) = believed_control(dir, boot)? {
            return Ok(found);
        }
    }
    let made = make_control(dir, boot);
    // By hand: closing leaves it held by a child that another thread forks right now.
    let _ = flock(&lock, FlockOperation::Unlock);
    made
}

/// Makes CONTROL; the lock is ours.
#[inline(never)]
fn make_control(dir: &RunDir, boot: BootId) -> Result<(Control, FileId), AttachError> {
    if let Some(found) = believed_control(dir, boot)? {
        return Ok(found);
    }
    // What a maker that died left behind.
    dir.remove_file(names::CONTROL_NEW)?;
    let fd = dir.create_file(names::CONTROL_NEW, CONTROL_WORDS as u64 * 8)?.ok_or(AttachError::Busy)?;
    let words = map_write(fd.as_fd(), CONTROL_WORDS)?;
    let control = Control::format(words, boot).ok_or(AttachError::Busy)?;
    let id = FileId::of(fd.as_fd()).ok_or(AttachError::Busy)?;
    dir.rename_over(names::CONTROL_NEW, names::CONTROL)?;
    Ok((control, id))
}

/// CONTROL, if it is there and can be believed. An error means that nobody could look (no descriptor, no memory): it
/// must not be replaced for that, the rest of the pod uses it.
fn believed_control(dir: &RunDir, boot: BootId) -> Result<Option<(Control, FileId)>, AttachError> {
    let Some((words, id)) = mapped(dir, names::CONTROL, CONTROL_WORDS)? else { return Ok(None) };
    Ok(Control::open(words, boot).map(|control| (control, id)))
}

/// A file of ours, mapped for writing; `None` when it is not there, not ours or too short.
fn mapped(dir: &RunDir, name: &str, least: usize) -> Result<Option<(&'static [AtomicU64], FileId)>, AttachError> {
    let fd = match dir.open_file(name, Open::ReadWrite) {
        Ok(Some(fd)) => fd,
        Ok(None) => return Ok(None),
        Err(error @ (RunDirError::System { .. } | RunDirError::NoSpace { .. })) => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    match map_write(fd.as_fd(), least) {
        Ok(words) => Ok(FileId::of(fd.as_fd()).map(|id| (words, id))),
        Err(MapError::Short { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
