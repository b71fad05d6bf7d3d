//! Files and folders as one input.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Document, InputError, read_documents};
use crate::Snapshot;

/// The files and folders a configuration is made of. In a folder, `*.yaml`, `*.yml` and `*.json` count, in order
/// of their names; hidden files and sub-folders do not.
#[derive(Clone, Debug)]
pub struct Source {
    paths: Vec<PathBuf>,
}

/// The text of a source at one time.
pub(crate) struct Texts(Vec<(PathBuf, String)>);

impl Source {
    /// A source of these paths, in this order.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { paths: paths.into_iter().collect() }
    }

    /// Reads everything into one snapshot.
    ///
    /// # Errors
    /// The first file that cannot be read or used.
    pub fn load(&self) -> Result<Snapshot, InputError> {
        self.read()?.parse()
    }

    /// Reads the texts, without looking into them.
    pub(crate) fn read(&self) -> Result<Texts, InputError> {
        let mut texts = Vec::new();
        for path in &self.paths {
            if at(path, fs::metadata(path))?.is_dir() {
                for file in files_of(path)? {
                    match fs::read_to_string(&file) {
                        Ok(text) => texts.push((file, text)),
                        // Removed between the listing and now: a later event tells.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        Err(error) => return at(&file, Err(error)),
                    }
                }
            } else {
                texts.push((path.clone(), at(path, fs::read_to_string(path))?));
            }
        }
        Ok(Texts(texts))
    }

    /// The folders in which something changes when the source does: the folders given, and the parents of the
    /// files given (editors replace files, and then a watch on the file itself is lost).
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = Vec::new();
        for path in &self.paths {
            let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
            let folder = match folder {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            if !folders.iter().any(|known| known == folder) {
                folders.push(folder.to_path_buf());
            }
        }
        folders
    }
}

impl Texts {
    /// Hash of names and texts, never 0.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for (path, text) in &self.0 {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(&[0]);
            hash.update(text.as_bytes());
            hash.update(&[0]);
        }
        hash.digest().max(1)
    }

    /// Parses the texts into one snapshot.
    pub(crate) fn parse(&self) -> Result<Snapshot, InputError> {
        let mut documents: Vec<Document> = Vec::new();
        for (path, text) in &self.0 {
            documents.extend(read_documents(&path.display().to_string(), text)?);
        }
        Ok(Snapshot::of_documents(documents, self.fingerprint()))
    }
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, InputError> {
    let mut files = Vec::new();
    for entry in at(folder, fs::read_dir(folder))? {
        let path = at(folder, entry)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json");
        if yaml && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T, InputError> {
    result.map_err(|source| InputError::Read { path: path.display().to_string(), source })
}
