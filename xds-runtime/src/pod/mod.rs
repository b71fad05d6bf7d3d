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
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::control::ImageId;
    use crate::image::{HEADER_WORDS, Mesh, Name, Publisher, encode, file_words};

    fn settings(base: &std::path::Path) -> &'static Settings {
        let settings =
            Settings::from_env([("LDMESH_XDS", "http://127.0.0.1:15010"), ("LDMESH_RUN_DIR", base.to_str().unwrap())]);
        Box::leak(Box::new(settings))
    }

    fn publish(pod: &Pod, id: ImageId, name: &str) {
        publish_names(pod, id, vec![name.to_owned()]);
    }

    fn publish_many(pod: &Pod, id: ImageId, prefix: &str, count: usize) {
        publish_names(pod, id, (0..count).map(|n| format!("{prefix}{n}.example")).collect());
    }

    fn publish_names(pod: &Pod, id: ImageId, names: Vec<String>) {
        let addresses: Vec<std::net::IpAddr> = vec!["10.96.0.10".parse().unwrap()];
        let name = |name| Name { name, addresses: addresses.clone(), headless: false };
        let mesh = Mesh { names: names.into_iter().map(name).collect(), ..Mesh::default() };
        let content = encode(&mesh).unwrap();
        let size = file_words(content.len()) as u64 * 8;
        let fd = pod.run_dir().unwrap().create_file(FileName::image(id).as_str(), size).unwrap().unwrap();
        let words = map_write(fd.as_fd(), HEADER_WORDS).unwrap();
        Publisher::format(words, pod.boot(), id.term, 0).unwrap().publish(&content).unwrap();
        assert!(pod.control().set_image(id));
    }

    fn knows(pod: &Pod, name: &str) -> bool {
        pod.image().is_some_and(|image| image.read(|view| view.name(name.as_bytes())).unwrap().is_some())
    }

    #[test]
    fn two_processes_of_a_pod_meet_in_one_control() {
        let base = tempfile::tempdir().unwrap();
        let (one, two) = (Pod::attach(settings(base.path())).unwrap(), Pod::attach(settings(base.path())).unwrap());
        one.control().heard(77);
        assert_eq!(two.control().contact(), 77);
        assert!(!one.is_orphaned());
    }

    #[test]
    fn whoever_comes_while_control_is_made_waits_for_it() {
        for _ in 0..20 {
            let base = tempfile::tempdir().unwrap();
            let settings = settings(base.path());
            let together = std::sync::Barrier::new(16);
            let attach = || {
                together.wait();
                Pod::attach(settings).map(|pod| pod.control_id.inode).map_err(|error| error.to_string())
            };
            let inodes: std::collections::HashSet<u64> = std::thread::scope(|scope| {
                let all: Vec<_> = (0..16).map(|_| scope.spawn(attach)).collect();
                all.into_iter().map(|one| one.join().unwrap().unwrap()).collect()
            });
            assert_eq!(inodes.len(), 1);
        }
    }

    #[test]
    fn the_image_that_control_names_is_followed_across_terms() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        assert!(pod.image().is_none());
        publish(&pod, ImageId { term: 1, sequence: 0 }, "first.example");
        assert!(knows(&pod, "first.example"));
        publish(&pod, ImageId { term: 2, sequence: 0 }, "second.example");
        assert!(knows(&pod, "second.example") && !knows(&pod, "first.example"));
    }

    #[test]
    fn a_leader_resumed_in_the_middle_of_a_publish_cannot_touch_what_its_successor_publishes() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        let frozen = ImageId { term: 1, sequence: 0 };
        assert_eq!(pod.control().take_lead(1000).unwrap().epoch(), 1);
        publish(&pod, frozen, "first.example");
        assert!(knows(&pod, "first.example"));
        assert_eq!(pod.control().take_lead(9000).unwrap().epoch(), 2);
        publish(&pod, ImageId { term: 2, sequence: 0 }, "second.example");
        // Whatever instruction it was stopped at, all it can still write is its own file..
        let file =
            pod.run_dir().unwrap().open_file(FileName::image(frozen).as_str(), Open::ReadWrite).unwrap().unwrap();
        for word in map_write(file.as_fd(), HEADER_WORDS).unwrap() {
            word.store(u64::MAX, Ordering::Relaxed);
        }
        assert!(knows(&pod, "second.example"));
        // ..and CONTROL does not take its name again, nor that of a larger file.
        assert!(!pod.control().set_image(frozen));
        assert!(!pod.control().set_image(ImageId { term: 1, sequence: 7 }));
        assert!(knows(&pod, "second.example"));
    }

    #[test]
    fn a_process_that_outlives_many_leaders_pins_two_of_their_files() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        let mut first = None;
        for term in 1..=20 {
            publish(&pod, ImageId { term, sequence: 0 }, &format!("name{term}.example"));
            pod.places.have_rested();
            assert!(knows(&pod, &format!("name{term}.example")));
            first = first.or(pod.image());
        }
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let own = base.path().to_str().unwrap();
        let pinned = maps.lines().filter(|line| line.contains(own) && line.contains(" r--s ")).count();
        assert!((1..=2).contains(&pinned), "{pinned}: {maps}");
        let answer = first.unwrap().read(|view| view.name(b"name20.example").map(|found| found.is_some()));
        assert!(answer.is_err(), "who still reads an old one does not believe what is there now");
    }

    #[test]
    fn a_thread_that_comes_late_to_follow_takes_nothing_from_who_still_reads_the_former_image() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        publish(&pod, ImageId { term: 1, sequence: 0 }, "first.example");
        let former = pod.image().unwrap();
        publish(&pod, ImageId { term: 2, sequence: 0 }, "second.example");
        assert!(knows(&pod, "second.example"));
        pod.places.have_rested();
        assert!(pod.follow_image().is_some());
        assert!(pod.follow_image().is_some());
        assert!(former.read(|view| view.name(b"first.example")).unwrap().is_some());
    }

    #[test]
    fn a_thousand_leaders_cost_a_process_no_more_addresses_than_ten() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        let dir = pod.run_dir().unwrap();
        let mut addresses = Vec::new();
        for term in 1..=1000 {
            let id = ImageId { term, sequence: 0 };
            publish(&pod, id, "name.example");
            pod.places.have_rested();
            assert!(knows(&pod, "name.example"));
            dir.remove_file(FileName::image(id).as_str()).unwrap();
            if term == 10 || term == 1000 {
                addresses.push(pod.places.in_order());
            }
        }
        assert_eq!(addresses[0], addresses[1]);
        assert_eq!(addresses[0].len(), 3);
    }

    #[test]
    fn leaders_that_come_faster_than_places_rest_leave_the_last_image_in_use() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        for term in 1..=20 {
            publish(&pod, ImageId { term, sequence: 0 }, "name.example");
            pod.retry_at.store(0, Ordering::Relaxed);
            assert!(knows(&pod, "name.example"));
        }
        assert!(pod.places.in_order().len() <= 8);
        pod.places.have_rested();
        pod.retry_at.store(0, Ordering::Relaxed);
        publish(&pod, ImageId { term: 21, sequence: 0 }, "other.example");
        assert!(knows(&pod, "other.example"));
    }

    #[test]
    fn an_image_that_outgrew_every_place_gets_a_larger_one() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        for term in 1..=40 {
            let names = if term < 20 { 1 } else { 5_000 };
            let name = "n".repeat(names.min(60));
            publish_many(&pod, ImageId { term, sequence: 0 }, &name, names);
            pod.places.have_rested();
            assert!(knows(&pod, &format!("{name}0.example")));
        }
        assert!(pod.places.in_order().len() <= 8);
    }

    #[test]
    fn an_image_that_cannot_be_mapped_leaves_the_last_one_in_use() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        publish(&pod, ImageId { term: 1, sequence: 0 }, "first.example");
        assert!(knows(&pod, "first.example"));
        pod.control().set_image(ImageId { term: 5, sequence: 0 });
        assert!(knows(&pod, "first.example"));
    }

    #[test]
    fn a_control_that_is_garbage_or_of_another_boot_is_replaced() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        let dir = pod.run_dir().unwrap();
        for garbage in [b"not a control".to_vec(), vec![0xff; CONTROL_WORDS * 8]] {
            std::fs::write(dir.path().join(names::CONTROL), garbage).unwrap();
            let again = Pod::attach(settings(base.path())).unwrap();
            again.control().heard(5);
            assert_eq!(again.control().contact(), 5);
        }
    }

    #[test]
    fn a_state_that_promises_more_than_it_has_is_mapped_once() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        let dir = pod.run_dir().unwrap();
        let fd = dir.create_file(names::STATE, state_words(4) as u64 * 8).unwrap().unwrap();
        State::format(map_write(fd.as_fd(), state_words(4)).unwrap(), pod.boot()).unwrap();
        let place = pod.state().unwrap().slot_at(0).unwrap();
        pod.state().unwrap().set_allocated_slots(usize::MAX);
        let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("/state").count();
        let before = mappings();
        for _ in 0..50 {
            pod.retry_at.store(0, Ordering::Relaxed);
            assert_eq!(pod.state().unwrap().slot_at(0).unwrap().tag(), place.tag());
        }
        assert_eq!(mappings(), before);
    }

    #[test]
    fn following_the_pod_makes_no_folder() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        // As a process finds it that changed its root.
        std::fs::rename(base.path(), base.path().with_extension("away")).unwrap();
        pod.control().set_image(ImageId { term: 5, sequence: 0 });
        assert!(pod.image().is_none());
        assert!(pod.state().is_none());
        let _ = pod.is_orphaned();
        assert!(!base.path().exists());
        std::fs::rename(base.path().with_extension("away"), base.path()).unwrap();
    }

    #[test]
    fn a_process_notices_that_its_control_was_replaced() {
        let base = tempfile::tempdir().unwrap();
        let pod = Pod::attach(settings(base.path())).unwrap();
        pod.run_dir().unwrap().remove_file(names::CONTROL).unwrap();
        assert!(pod.is_orphaned());
        let successor = Pod::attach(settings(base.path())).unwrap();
        assert!(!successor.is_orphaned());
        assert!(pod.is_orphaned());
    }
}
