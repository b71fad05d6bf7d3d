//! The books: streams, pushes, and what clients said of them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::Shared;
use super::session::Verdict;
use crate::type_url;

/// How many refusals the books remember word for word.
const REMEMBERED: usize = 100;

/// Counters of a control plane. Serialized, it is the content of the stats file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Where it listens.
    pub address: String,
    /// Generation of the configuration that is served; 1 is the first.
    pub generation: u64,
    /// Why the input was refused when it was last read; `None` when it was not.
    pub config_error: Option<String>,
    /// Streams open now.
    pub streams_open: u64,
    /// Most streams that were open at once.
    pub streams_peak: u64,
    /// Streams ever opened.
    pub streams_total: u64,
    /// Responses sent.
    pub pushes: u64,
    /// Responses accepted.
    pub acks: u64,
    /// Responses refused: type and message of the last 100 ones, oldest first.
    pub nacks: Vec<String>,
    /// Bytes of responses, before compression and framing.
    pub bytes: u64,
    /// By type: `LDS`, `RDS`, `CDS`, `EDS`, `NDS`, or the type URL of another.
    pub types: BTreeMap<String, AckedType>,
}

/// Counters of one resource type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AckedType {
    /// The generation that every open stream has accepted in full (the last one known when none is open).
    pub acked: u64,
    /// Responses sent.
    pub pushes: u64,
    /// Responses accepted.
    pub acks: u64,
    /// Responses refused.
    pub nacks: u64,
    /// The last refusal's message.
    pub last_nack: Option<String>,
}

/// The name operators know a type by.
pub(super) fn short_name(url: &str) -> &str {
    match url {
        type_url::LISTENER => "LDS",
        type_url::ROUTE => "RDS",
        type_url::CLUSTER => "CDS",
        type_url::ENDPOINT => "EDS",
        type_url::NAME_TABLE => "NDS",
        other => other,
    }
}

/// The books, and a bell that rings when they change.
#[derive(Debug)]
pub(super) struct Board {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pages: Mutex<Pages>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Pages {
    stats: Stats,
    /// Per open stream and type: the generation it accepted.
    acked: HashMap<u64, BTreeMap<String, u64>>,
}

impl Board {
    pub fn new(address: &str) -> Self {
        let stats = Stats { address: address.to_owned(), generation: 1, ..Stats::default() };
        let pages = Mutex::new(Pages { stats, acked: HashMap::new() });
        Self { inner: Arc::new(Inner { pages, changed: watch::channel(0).0 }) }
    }

    pub fn read(&self) -> Stats {
        self.inner.pages.lock().stats.clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    pub fn set_generation(&self, generation: u64) {
        self.inner.change(|pages| {
            pages.stats.generation = generation;
            pages.stats.config_error = None;
        });
    }

    pub fn set_config_error(&self, error: &str) {
        self.inner.change(|pages| pages.stats.config_error = Some(error.to_owned()));
    }

    /// Opens a page for a stream; it closes with the value returned.
    pub fn open_stream(&self) -> StreamBooks {
        let mut id = 0;
        self.inner.change(|pages| {
            let stats = &mut pages.stats;
            stats.streams_total = stats.streams_total.saturating_add(1);
            stats.streams_open = stats.streams_open.saturating_add(1);
            stats.streams_peak = stats.streams_peak.max(stats.streams_open);
            id = stats.streams_total;
            pages.acked.insert(id, BTreeMap::new());
        });
        StreamBooks { id, inner: self.inner.clone() }
    }
}

impl Inner {
    fn change(&self, change: impl FnOnce(&mut Pages)) {
        change(&mut self.pages.lock());
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// The page of one stream.
#[derive(Debug)]
pub(super) struct StreamBooks {
    id: u64,
    inner: Arc<Inner>,
}

impl StreamBooks {
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn pushed(&self, url: &str, bytes: usize) {
        self.inner.change(|pages| {
            pages.stats.pushes = pages.stats.pushes.saturating_add(1);
            pages.stats.bytes = pages.stats.bytes.saturating_add(bytes.try_into().unwrap_or(u64::MAX));
            let page = pages.stats.types.entry(short_name(url).to_owned()).or_default();
            page.pushes = page.pushes.saturating_add(1);
        });
    }

    pub fn verdict(&self, verdict: &Verdict) {
        self.inner.change(|pages| match verdict {
            Verdict::Ack { type_url } => {
                pages.stats.acks = pages.stats.acks.saturating_add(1);
                let page = pages.stats.types.entry(short_name(type_url).to_owned()).or_default();
                page.acks = page.acks.saturating_add(1);
            }
            Verdict::Nack { type_url, message, .. } => {
                if pages.stats.nacks.len() >= REMEMBERED {
                    pages.stats.nacks.remove(0);
                }
                pages.stats.nacks.push(format!("{}: {message}", short_name(type_url)));
                let page = pages.stats.types.entry(short_name(type_url).to_owned()).or_default();
                page.nacks = page.nacks.saturating_add(1);
                page.last_nack = Some(message.clone());
            }
        });
    }

    /// Notes up to which generation this stream accepted each type.
    pub fn acked(&self, acked: Vec<(String, u64)>) {
        self.inner.change(|pages| {
            let Some(page) = pages.acked.get_mut(&self.id) else {
                return;
            };
            page.extend(acked);
            let mut least: BTreeMap<&str, u64> = BTreeMap::new();
            for (url, generation) in pages.acked.values().flatten() {
                let entry = least.entry(short_name(url)).or_insert(*generation);
                *entry = (*entry).min(*generation);
            }
            for (name, generation) in least {
                pages.stats.types.entry(name.to_owned()).or_default().acked = generation;
            }
        });
    }
}

impl Drop for StreamBooks {
    fn drop(&mut self) {
        self.inner.change(|pages| {
            pages.stats.streams_open = pages.stats.streams_open.saturating_sub(1);
            pages.acked.remove(&self.id);
        });
    }
}

/// Keeps the file at `path` equal to the books. Each state is written beside it and renamed over it, so that a reader
/// never sees half of one.
pub(super) async fn write_file(shared: Arc<Shared>, path: PathBuf) {
    let mut changed = shared.board.subscribe();
    let mut draft = path.clone().into_os_string();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut failed = false;
    loop {
        changed.borrow_and_update();
        let stats = shared.board.read();
        let (from, to) = (draft.clone(), path.clone());
        let written = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            std::fs::write(&from, serde_json::to_vec_pretty(&stats)?)?;
            std::fs::rename(&from, &to)
        })
        .await;
        match written {
            Ok(Ok(())) => failed = false,
            Ok(Err(error)) if !failed => {
                failed = true;
                log::error!("{}: cannot write statistics: {error}; serving goes on", path.display());
            }
            Ok(Err(_)) => {}
            // The runtime ends.
            Err(_) => return,
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}
