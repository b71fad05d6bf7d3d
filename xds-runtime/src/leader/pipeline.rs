//! From accepted resources to a published image.
//!
//! ```text
//! resources + DNS answers + slots --compile--> mesh --encode--> words --publish--> image file
//! ```
//! A publish that fails leaves readers with the image they have.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::connections::Caretaker;
use super::dns::{Answer, Hostnames};
use super::files::FileError;
use super::image_files::{ImageFiles, PublishError};
use super::memory;
use super::outliers::Outliers;
use super::resources::Resources;
use super::run_dir::RunDir;
use super::state_file;
use super::subscriptions::is_answered;
use crate::ads::{Event, Node};
use crate::boot::BootId;
use crate::compile::{Compiled, Input, compile, update_endpoints};
use crate::config::NameList;
use crate::control::{Control, Term};
use crate::image::{EncodeError, Encoder, file_words};
use crate::lb::tell_additions;
use crate::resource::{Locality, ResourceType};
use crate::shm::{Millis, hash_words, now};
use crate::state::{SlotAllocator, State};

/// Room in the memory cgroup below which nothing is published: the kernel would rather kill the program.
const ROOM_LEAST: u64 = 4 << 20;

/// The node metadata that names the node's own cluster.
const LOCAL_CLUSTER: &str = "LOCAL_CLUSTER_NAME";

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The image file.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The mesh.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The memory cgroup.
    #[error("the memory cgroup has room for {room} more bytes, too little for an image; raise the container's limit")]
    NoRoom {
        /// Bytes.
        room: u64,
    },
}

/// What changed since the last compile.
#[derive(Debug)]
enum Stale {
    /// These assignments, and nothing else.
    Endpoints(BTreeSet<String>),
    Everything,
}

/// What a compile was of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Endpoints: destinations, and what they lead to, are the same.
    Endpoints,
    /// The whole mesh.
    Everything,
}

/// Everything between accepting and publishing.
pub struct Pipeline {
    dir: Arc<RunDir>,
    boot: BootId,
    state: State,
    slots: SlotAllocator,
    images: ImageFiles,
    own_addresses: Vec<IpAddr>,
    control_plane: Option<IpAddr>,
    exact_http: NameList,
    locality: Locality,
    local_cluster: Option<String>,
    /// Last good resources.
    pub resources: Resources,
    /// Host names of DNS clusters.
    pub hostnames: Hostnames,
    compiled: Compiled,
    stale: Stale,
    encoder: Encoder,
    outliers: Outliers,
    /// The published image is what was compiled.
    is_published: bool,
    /// EDS names that the published image has (or knows to be missing).
    settled: BTreeSet<String>,
    /// What is subscribed, what is known of it, or what wishes lead to changed since.
    unsettled: bool,
    digest: Option<u128>,
}

impl Pipeline {
    /// A pipeline with nothing in it.
    ///
    /// # Errors
    /// [`FileError`] when STATE cannot be made.
    pub fn new(
        dir: &Arc<RunDir>,
        boot: BootId,
        control: Control,
        own_addresses: Vec<IpAddr>,
        exact_http: NameList,
        node: &Node,
    ) -> Result<Self, FileError> {
        let state = state_file::open_or_create(dir, boot)?;
        Ok(Self {
            dir: Arc::clone(dir),
            boot,
            state,
            slots: SlotAllocator::recover(state),
            images: ImageFiles::new(Arc::clone(dir), boot, control, 0),
            own_addresses,
            control_plane: None,
            exact_http,
            locality: node.locality.clone(),
            local_cluster: node.metadata_text(LOCAL_CLUSTER).map(str::to_owned),
            resources: Resources::default(),
            hostnames: Hostnames::default(),
            compiled: Compiled::default(),
            stale: Stale::Everything,
            encoder: Encoder::default(),
            outliers: Outliers::new(hash_words(&[now(), u64::from(std::process::id())])),
            is_published: false,
            settled: BTreeSet::new(),
            unsettled: true,
            digest: None,
        })
    }

    /// STATE, as large as it is by now.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Takes over the pod's own addresses; true when they changed, and with them what is to be compiled.
    pub fn is_at(&mut self, own_addresses: Vec<IpAddr>) -> bool {
        let changed = self.own_addresses != own_addresses;
        self.own_addresses = own_addresses;
        self.stale_if(changed);
        changed
    }

    /// Takes over where the control plane was reached, if it was over TCP; true when that is to be compiled.
    pub fn control_plane_is_at(&mut self, address: Option<IpAddr>) -> bool {
        let changed = address.is_some() && self.control_plane != address;
        self.control_plane = address.or(self.control_plane);
        self.stale_if(changed);
        changed
    }

    /// Takes over an answer of DNS; true when it is to be compiled.
    pub fn take_answer(&mut self, answer: Answer) -> bool {
        let changed = self.hostnames.take(answer);
        self.stale_if(changed);
        changed
    }

    /// All of it is to be compiled, and what wishes lead to may be something else then.
    fn stale_if(&mut self, changed: bool) {
        if changed {
            (self.stale, self.unsettled) = (Stale::Everything, true);
        }
    }

    /// Applies an event; true when a publish may look different for it.
    pub fn apply(&mut self, event: Event, now: Millis) -> bool {
        match &event {
            Event::Accepted { kind: ResourceType::Endpoint, name, .. } => {
                self.unsettled |= !self.resources.is_settled(ResourceType::Endpoint, name);
                if let Stale::Endpoints(names) = &mut self.stale {
                    names.insert(name.clone());
                }
            }
            Event::Accepted { .. } | Event::Removed { .. } => self.stale_if(true),
            // Nothing of them is compiled.
            Event::Missing { .. } | Event::Rejected { .. } => self.unsettled = true,
            Event::Answered { .. } => {}
        }
        self.resources.apply(event, now)
    }

    /// Other names are subscribed than before.
    pub const fn subscribed(&mut self) {
        self.unsettled = true;
    }

    /// Whether other wishes may be answered than were.
    pub const fn may_settle(&self) -> bool {
        self.unsettled
    }

    /// What was compiled last.
    pub const fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// When the next interval of outlier detection ends, in the clock's time.
    pub const fn outliers_due(&self) -> Option<Millis> {
        self.outliers.next_due()
    }

    /// Ends intervals of outlier detection that are over.
    pub fn sweep_outliers(&mut self, now: Millis) {
        self.outliers.sweep(&self.compiled.mesh, self.state, now);
    }

    /// Looks every recorded connection up; returns how many live on.
    pub fn check_connections(&mut self, caretaker: &mut Caretaker, now: Millis, go_on: &mut dyn FnMut()) -> usize {
        caretaker.check(self.state, &self.compiled.mesh, &mut self.outliers, now, go_on)
    }

    /// Generation published last; 0 = none in this term.
    pub const fn generation(&self) -> u64 {
        self.images.generation()
    }

    /// Whether the published image answers a wish.
    pub fn answers(&self, key: u64) -> bool {
        self.digest.is_some() && is_answered(key, &self.compiled.wanted, &self.settled)
    }

    /// Compiles what there is, growing STATE when slots run out.
    pub fn compile(&mut self) -> Extent {
        self.is_published &= !self.is_stale();
        let stale = std::mem::replace(&mut self.stale, Stale::Endpoints(BTreeSet::new()));
        let (extent, clusters) = match stale {
            Stale::Endpoints(names) => self.compile_endpoints(&names).map(|places| (Extent::Endpoints, places)),
            Stale::Everything => None,
        }
        .unwrap_or_else(|| {
            self.compile_all();
            (Extent::Everything, (0..).zip(&self.compiled.mesh.clusters).map(|(index, _)| index).collect())
        });
        tell_additions(&self.compiled.mesh, &self.state);
        self.outliers.compiled(&self.compiled.mesh, clusters.into_iter(), self.state, now());
        extent
    }

    fn compile_all(&mut self) {
        let missing = self.compile_once();
        let Some(slots) = state_file::larger(self.state.mapped_slots(), missing) else { return };
        match state_file::grow(&self.dir, self.boot, self.state, slots) {
            Ok(grown) => {
                self.state = grown;
                self.slots.grown(grown);
                self.compile_once();
            }
            // Endpoints without a slot are balanced without counters.
            Err(error) => log::warn!("{error}; {missing} endpoints go without counters"),
        }
    }

    /// Returns how many slots were missing.
    fn compile_once(&mut self) -> usize {
        let mut missing = 0;
        // What is replaced need not take up memory beside what replaces it.
        self.compiled = Compiled::default();
        self.slots.at(now());
        let (input, slots, compiled) = self.input();
        *compiled = compile(&input, &mut |tag| {
            let slot = slots.slot(tag);
            missing += usize::from(slot.is_none());
            slot
        });
        self.hostnames.watch(&self.compiled.hostnames);
        missing
    }

    /// The clusters that were compiled; `None` = it is all to be compiled.
    fn compile_endpoints(&mut self, names: &BTreeSet<String>) -> Option<Vec<u32>> {
        self.slots.at(now());
        let (input, slots, compiled) = self.input();
        update_endpoints(compiled, &input, names, &mut |tag| slots.slot(tag))
    }

    /// What is compiled, and what a compile changes.
    fn input(&mut self) -> (Input<'_>, &mut SlotAllocator, &mut Compiled) {
        let resources = &self.resources;
        let input = Input {
            listeners: &resources.listeners,
            routes: &resources.routes,
            clusters: &resources.clusters,
            endpoints: &resources.endpoints,
            names: resources.names.as_ref(),
            resolved: self.hostnames.resolved(),
            own_addresses: &self.own_addresses,
            control_plane: self.control_plane,
            exact_http: &self.exact_http,
            locality: self.locality.clone(),
            local_cluster: self.local_cluster.as_deref(),
        };
        (input, &mut self.slots, &mut self.compiled)
    }

    fn is_stale(&self) -> bool {
        !matches!(&self.stale, Stale::Endpoints(names) if names.is_empty())
    }

    /// Publishes what was compiled; true when the image changed.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn publish(&mut self, term: &Term) -> Result<bool, PipelineError> {
        // A refresh may be for wishes alone. What a removed file had is published anew.
        if self.is_published && self.digest.is_some() {
            return Ok(false);
        }
        let content = self.encoder.encode(&self.compiled.mesh)?;
        let digest = digest(content);
        let changed = self.digest != Some(digest);
        if changed {
            check_room(memory::room(), content.len())?;
            self.images.publish(term, content)?;
            self.digest = Some(digest);
        }
        self.is_published = true;
        Ok(changed)
    }

    /// Takes over which of the EDS names that are subscribed the published image has, once it has all that was accepted.
    pub fn settle(&mut self, subscribed: &BTreeSet<String>) {
        if self.is_published && !self.is_stale() && std::mem::take(&mut self.unsettled) {
            let resources = &self.resources;
            let settled = subscribed.iter().filter(|name| resources.is_settled(ResourceType::Endpoint, name));
            self.settled = settled.cloned().collect();
        }
    }

    /// Gives up memory that only the next publish would use.
    pub fn rest(&mut self) {
        self.encoder = Encoder::default();
    }

    /// Looks for what was removed from under the leader; true when the image is to be published anew.
    ///
    /// # Errors
    /// [`FileError`] when STATE cannot be put back.
    pub fn restore_files(&mut self) -> Result<bool, FileError> {
        let lacks_image = !self.images.are_in_place();
        if lacks_image {
            log::warn!("the image's file was removed; it is published anew");
            self.images.abandon();
            self.digest = None;
        }
        if let Some(state) = state_file::restore(&self.dir, self.boot, self.state)? {
            log::warn!("STATE was removed; a copy takes its place");
            self.state = state;
            self.slots.grown(state);
        }
        Ok(lacks_image)
    }

    /// Retires slots that the published image no longer names.
    pub fn sweep_slots(&mut self, now: Millis) {
        self.slots.sweep(&self.compiled.live_tags, now);
    }
}

/// XXH3-128 of words, without a copy of all of them.
fn digest(content: &[u64]) -> u128 {
    let mut hash = Xxh3::new();
    let mut bytes = [0_u8; 4096];
    for words in content.chunks(bytes.len() / 8) {
        let (places, _) = bytes.as_chunks_mut();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        hash.update(bytes.get(..words.len().saturating_mul(8)).unwrap_or_default());
    }
    hash.digest128()
}

fn check_room(room: Option<u64>, words: usize) -> Result<(), PipelineError> {
    let needed = (file_words(words) as u64).saturating_mul(8).max(ROOM_LEAST);
    match room {
        Some(room) if room < needed => Err(PipelineError::NoRoom { room }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
