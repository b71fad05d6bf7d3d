//! The image files of one term: made on the first publish, doubled into a new file when outgrown.
//!
//! ```text
//! image-<term>-<sequence>   named in CONTROL after its first publish, so a reader never finds it empty
//! ```
//! Mappings are never unmapped (readers' neither), so files grow by doubling: all of them together are at most
//! twice the last.

use std::sync::Arc;

use rustix::fs::Dir;

use super::files::{FileError, create_shared};
use super::run_dir::{Open, RunDir};
use crate::boot::BootId;
use crate::control::{Control, ImageId, Term};
use crate::image::{Publisher, file_words};
use crate::pod::names::{FileName, IMAGE_PREFIX};

/// Words of content that the first file holds at least: 1 MiB for both arenas.
const CONTENT_LEAST: usize = 64 << 10;

/// Why a publish did not happen. Readers keep what they have.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No space for the file, for one.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another leader took over.
    #[error("another leader took over")]
    Deposed,
    /// The file just made does not hold what it was made for.
    #[error("an image of {0} words does not fit its file; this is a bug of ldmesh")]
    Unfit(usize),
}

/// The image files of one term.
pub struct ImageFiles {
    dir: Arc<RunDir>,
    boot: BootId,
    control: Control,
    current: Option<Publisher>,
    term: u32,
    sequence: u32,
    generation: u64,
}

fn file_name(id: ImageId) -> String {
    FileName::image(id).as_str().to_owned()
}

impl ImageFiles {
    /// No file yet. Generations go on from `generation`.
    pub fn new(dir: Arc<RunDir>, boot: BootId, control: Control, generation: u64) -> Self {
        Self { dir, boot, control, current: None, term: 0, sequence: 0, generation }
    }

    /// Publishes `content` if the term holds: writes the idle arena and flips, into a larger file if need be.
    ///
    /// # Errors
    /// [`PublishError`]: readers keep the image they have.
    pub fn publish(&mut self, term: &Term, content: &[u64]) -> Result<u64, PublishError> {
        if !term.holds() {
            return Err(PublishError::Deposed);
        }
        if let Some(publisher) = &mut self.current
            && let Ok(generation) = publisher.publish(content)
        {
            self.generation = generation;
            return Ok(generation);
        }
        self.publish_into_new_file(term, content)
    }

    /// Generation published last.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the file that CONTROL names can be found by those who come now; true before the first.
    pub fn are_in_place(&self) -> bool {
        let Some(sequence) = self.sequence.checked_sub(1).filter(|_| self.current.is_some()) else { return true };
        let name = file_name(ImageId { term: self.term, sequence });
        // Where nobody can look, nothing is known to be missing.
        self.dir.open_file(&name, Open::Read).map_or(true, |found| found.is_some())
    }

    /// The next publish makes a new file.
    pub fn abandon(&mut self) {
        self.current = None;
    }

    fn publish_into_new_file(&mut self, term: &Term, content: &[u64]) -> Result<u64, PublishError> {
        let former = self.current.as_ref().map_or(0, Publisher::capacity);
        let capacity = CONTENT_LEAST.max(former.saturating_mul(2)).max(content.len().next_power_of_two());
        let id = ImageId { term: term.epoch(), sequence: self.sequence };
        let words = create_shared(&self.dir, &file_name(id), file_words(capacity))?;
        let unfit = || PublishError::Unfit(content.len());
        let mut publisher = Publisher::format(words, self.boot, id.term, self.generation).ok_or_else(unfit)?;
        let generation = publisher.publish(content).map_err(|_| unfit())?;
        // The last look before readers are sent there; `set_image` refuses a late term on its own, too.
        if !term.holds() || !self.control.set_image(id) {
            let _ = self.dir.remove_file(&file_name(id));
            return Err(PublishError::Deposed);
        }
        (self.term, self.sequence) = (id.term, self.sequence.saturating_add(1));
        (self.current, self.generation) = (Some(publisher), generation);
        self.remove_older(id);
        Ok(generation)
    }

    /// Unlinks the files before `id`: readers that map them keep them until they look at CONTROL again.
    fn remove_older(&self, id: ImageId) {
        let Ok(entries) = Dir::read_from(self.dir.as_ref()) else { return };
        for entry in entries.flatten() {
            if let Ok(name) = entry.file_name().to_str()
                && parse_name(name).is_some_and(|found| found < id)
            {
                let _ = self.dir.remove_file(name);
            }
        }
    }
}

fn parse_name(name: &str) -> Option<ImageId> {
    let (term, sequence) = name.strip_prefix(IMAGE_PREFIX)?.split_once('-')?;
    Some(ImageId { term: term.parse().ok()?, sequence: sequence.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::LEADER_STALE_MS;
    use crate::control::testing::control;
    use crate::image::{ImageFile, Mesh, encode};
    use crate::leader::testing::run_dir_at;
    use crate::shm::map_read;
    use std::os::fd::AsFd;

    const BOOT: BootId = BootId::from_words([1, 2]);

    struct Fixture {
        _folder: tempfile::TempDir,
        control: Control,
        files: ImageFiles,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let control = control();
        let dir = Arc::new(run_dir_at(folder.path()));
        Fixture { _folder: folder, control, files: ImageFiles::new(dir, BOOT, control, 0) }
    }

    fn content(words: usize) -> Vec<u64> {
        let mut content = encode(&Mesh::default()).unwrap();
        content.resize(content.len().max(words), 0);
        content
    }

    impl Fixture {
        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = std::fs::read_dir(self.files.dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        fn generation(&self) -> u64 {
            let id = self.control.image().unwrap();
            let file = self.files.dir.open_file(&file_name(id), Open::Read).unwrap().unwrap();
            ImageFile::open(map_read(file.as_fd(), 64).unwrap(), BOOT, id.term).unwrap().generation()
        }
    }

    #[test]
    fn an_image_that_outgrows_its_file_moves_into_a_larger_one() {
        let mut fixture = fixture();
        let term = fixture.control.take_lead(1000).unwrap();
        assert_eq!(fixture.files.publish(&term, &content(0)).unwrap(), 1);
        assert_eq!(fixture.names(), ["image-1-0"]);
        assert_eq!(fixture.files.publish(&term, &content(CONTENT_LEAST + 1)).unwrap(), 2);
        assert_eq!((fixture.names(), fixture.generation()), (vec!["image-1-1".to_owned()], 2));
    }

    #[test]
    fn a_file_that_was_removed_is_missed_and_made_anew() {
        let mut fixture = fixture();
        let term = fixture.control.take_lead(1000).unwrap();
        assert!(fixture.files.are_in_place());
        fixture.files.publish(&term, &content(0)).unwrap();
        assert!(fixture.files.are_in_place());
        std::fs::remove_file(fixture.files.dir.path().join("image-1-0")).unwrap();
        assert!(!fixture.files.are_in_place());
        fixture.files.abandon();
        assert_eq!(fixture.files.publish(&term, &content(0)).unwrap(), 2);
        assert_eq!((fixture.names(), fixture.generation()), (vec!["image-1-1".to_owned()], 2));
        assert!(fixture.files.are_in_place());
    }

    #[test]
    fn a_deposed_leader_publishes_nothing() {
        let mut fixture = fixture();
        let term = fixture.control.take_lead(1000).unwrap();
        fixture.files.publish(&term, &content(0)).unwrap();
        let _successor = fixture.control.take_lead(1000 + LEADER_STALE_MS).unwrap();
        assert!(matches!(fixture.files.publish(&term, &content(0)), Err(PublishError::Deposed)));
        assert!(matches!(fixture.files.publish(&term, &content(CONTENT_LEAST + 1)), Err(PublishError::Deposed)));
        assert_eq!((fixture.names(), fixture.generation()), (vec!["image-1-0".to_owned()], 1));
    }
}
