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
use super::dns::Hostnames;
use super::files::FileError;
use super::image_files::{ImageFiles, PublishError};
use super::memory;
use super::outliers::Outliers;
use super::resources::Resources;
use super::run_dir::RunDir;
use super::state_file;
use super::subscriptions::is_answered;
use crate::ads::Node;
use crate::boot::BootId;
use crate::compile::{Compiled, Input, compile};
use crate::config::NameList;
use crate::control::{Control, Term};
use crate::image::{EncodeError, encode, file_words};
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
    outliers: Outliers,
    /// EDS names that the published image has (or knows to be missing).
    settled: BTreeSet<String>,
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
            outliers: Outliers::new(hash_words(&[now(), u64::from(std::process::id())])),
            settled: BTreeSet::new(),
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
        changed
    }

    /// Takes over where the control plane was reached, if it was over TCP; true when that is to be compiled.
    pub fn control_plane_is_at(&mut self, address: Option<IpAddr>) -> bool {
        let changed = address.is_some() && self.control_plane != address;
        self.control_plane = address.or(self.control_plane);
        changed
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
    pub fn compile(&mut self) {
        self.compile_all();
        self.outliers.compiled(&self.compiled.mesh, self.state, now());
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
        let (resources, slots) = (&self.resources, &mut self.slots);
        slots.at(now());
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
        let mut missing = 0;
        self.compiled = compile(&input, &mut |tag| {
            let slot = slots.slot(tag);
            missing += usize::from(slot.is_none());
            slot
        });
        tell_additions(&self.compiled.mesh, &self.state);
        self.hostnames.watch(&self.compiled.hostnames);
        missing
    }

    /// Publishes what was compiled; `subscribed` are the EDS names that are subscribed. True when the image changed.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn publish(&mut self, term: &Term, subscribed: &BTreeSet<String>) -> Result<bool, PipelineError> {
        let content = encode(&self.compiled.mesh)?;
        let digest = digest(&content);
        let changed = self.digest != Some(digest);
        if changed {
            check_room(memory::room(), content.len())?;
            self.images.publish(term, &content)?;
            self.digest = Some(digest);
        }
        let resources = &self.resources;
        let settled = subscribed.iter().filter(|name| resources.is_settled(ResourceType::Endpoint, name));
        self.settled = settled.cloned().collect();
        Ok(changed)
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
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_all_words_and_of_no_more() {
        let content: Vec<u64> = (0..1500).collect();
        let bytes: Vec<u8> = content.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(digest(&content), xxhash_rust::xxh3::xxh3_128(&bytes));
    }

    #[test]
    fn a_full_memory_cgroup_refuses_the_publish() {
        assert!(check_room(None, 1 << 20).is_ok());
        assert!(check_room(Some(64 << 20), 1 << 20).is_ok());
        assert!(matches!(check_room(Some(1 << 20), 10), Err(PipelineError::NoRoom { .. })));
        assert!(matches!(check_room(Some(5 << 20), 1 << 20), Err(PipelineError::NoRoom { .. })));
    }
}
