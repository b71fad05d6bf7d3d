//! The image of a pod, read by this process.

use std::fs::{self, File};
use std::net::SocketAddrV4;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::time::{ClockId, clock_gettime};
use xds_runtime::boot::BootId;
use xds_runtime::image::ImageFile;
use xds_runtime::shm::{WordAddr, map_read};

/// The image that a pod's leader published last. Its memory stays mapped.
#[derive(Clone, Copy)]
pub struct Image {
    file: ImageFile,
}

impl Image {
    /// `None`: nothing was published below this folder.
    pub fn find(run_dir: &Path) -> Option<Self> {
        let boot = BootId::read()?;
        let images = files(run_dir).into_iter().filter_map(|path| {
            let (term, sequence) = path.file_name()?.to_str()?.strip_prefix("image-")?.split_once('-')?;
            Some((term.parse::<u32>().ok()?, sequence.parse::<u32>().ok()?, path))
        });
        let (term, _, path) = images.max()?;
        let file = ImageFile::open(map_read(File::open(path).ok()?.as_fd(), 64).ok()?, boot, term)?;
        (file.generation() > 0).then_some(Image { file })
    }

    pub fn generation(&self) -> u64 {
        self.file.generation()
    }

    /// Bytes of one copy of it.
    pub fn content_bytes(&self) -> u64 {
        self.file.read(|view| Ok(view.word_count())).unwrap_or_default() as u64 * 8
    }
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder { &mut folders } else { &mut files }.push(entry.path());
        }
    }
    files
}

/// Time of the clock that all processes of a machine have in common.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// What a reader saw.
#[derive(Default)]
pub struct Reads {
    pub reads: u64,
    /// Those that had to be done again, because publishes went past them.
    pub repeated: u64,
}

/// A thread that looks a destination up, as a connect does, again and again.
pub struct Readers {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Reads>,
}

impl Readers {
    pub fn start(image: Image, at: SocketAddrV4) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let address = WordAddr::new((*at.ip()).into());
        let thread = std::thread::spawn(move || {
            let mut seen = Reads::default();
            while !stop.load(Ordering::Relaxed) {
                let mut attempts = 0_u64;
                let read = image.file.read(|view| {
                    attempts += 1;
                    view.destination(address, at.port())
                });
                seen.reads += 1;
                seen.repeated += u64::from(attempts != 1 || read.is_err());
                // A process that is in a hurry connects every 20 us or so; one of the processors is the leader's.
                std::thread::sleep(std::time::Duration::from_micros(20));
            }
            seen
        });
        Readers { over, thread }
    }

    pub fn stop(self) -> Reads {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}
