//! Files that may change while the webhook runs.
//!
//! They are read every few seconds and compared, not watched: kubelet changes a mounted Secret or ConfigMap by
//! swapping a symlink of a folder above, and a node's few inotify instances run out.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Metrics;

type Apply = Box<dyn FnMut(&[Vec<u8>]) -> Result<(), String> + Send>;

/// Files that make sense together, and what takes them.
pub(crate) struct Reload {
    what: &'static str,
    /// For messages.
    place: PathBuf,
    files: Vec<PathBuf>,
    seen: Option<Vec<Vec<u8>>>,
    problem: Option<String>,
    apply: Apply,
    metrics: Arc<Metrics>,
}

impl Reload {
    pub fn new(what: &'static str, place: PathBuf, files: Vec<PathBuf>, metrics: Arc<Metrics>, apply: Apply) -> Self {
        Reload { what, place, files, seen: None, problem: None, apply, metrics }
    }

    /// Reads; what is new is applied. An error is told once for the same contents.
    pub fn check(&mut self) -> Result<(), String> {
        let contents = match self.read() {
            Ok(contents) => contents,
            Err(problem) => {
                self.seen = None;
                return self.failed(problem);
            }
        };
        if self.seen.as_ref() == Some(&contents) {
            return Ok(());
        }
        let applied = (self.apply)(&contents);
        self.seen = Some(contents);
        match applied {
            Ok(()) => {
                log::info!("{} are read", self.what);
                self.problem = None;
                self.metrics.reloaded(self.what, true);
                Ok(())
            }
            Err(problem) => self.failed(format!("{}: {problem}", self.place.display())),
        }
    }

    fn failed(&mut self, problem: String) -> Result<(), String> {
        if self.problem.as_ref() == Some(&problem) {
            return Ok(());
        }
        self.metrics.reloaded(self.what, false);
        self.problem = Some(problem.clone());
        Err(problem)
    }

    /// The files of one moment: a swap between two of them is seen by reading again.
    fn read(&self) -> Result<Vec<Vec<u8>>, String> {
        let once = || {
            self.files
                .iter()
                .map(|file| {
                    fs::read(file).map_err(|error| format!("{}: {error}; name a file that can be read", file.display()))
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let mut contents = once()?;
        for _ in 0..10 {
            let again = once()?;
            if again == contents {
                break;
            }
            contents = again;
        }
        Ok(contents)
    }

    /// Checks for ever.
    pub async fn run(mut self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(problem) = self.check() {
                log::warn!("{problem}; the last good {} stay", self.what);
            }
        }
    }
}
