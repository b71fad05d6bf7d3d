//! What the ADS client knows independently of any one stream: wanted names, known versions, pending events.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU128;
use std::time::{Duration, Instant};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::event::{Event, Removal};
use super::nack::Complaints;
use super::wire;
use crate::resource::{Decoded, ResourceType, decode, unwrap_resource};

/// How long a server may take to send a subscribed resource before it counts as not existing (xDS, gRFC A57).
pub const DOES_NOT_EXIST_AFTER: Duration = Duration::from_secs(15);

/// Which of two is meant nobody knows; the first applies, as with clusters and listeners in Envoy.
const TWICE: &str = "it is there twice in one response, with different content: the first applies";

/// Whether a type was ever answered in this process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// No response of this type has come.
    NeverAnswered,
    /// At least one response has come.
    Answered,
}

/// What is known of one resource.
#[derive(Clone, Debug)]
struct Known {
    version: Box<str>,
    /// Digest of the accepted bytes: a resend of the same bytes is no change. `None` after a rejection, so that
    /// the return to the accepted bytes is told.
    digest: Option<NonZeroU128>,
}

impl Known {
    fn is(&self, digest: u128) -> bool {
        self.digest.is_some_and(|known| known.get() == digest)
    }
}

/// One resource type.
#[derive(Debug, Default)]
struct Kind {
    wanted: BTreeSet<String>,
    known: BTreeMap<String, Known>,
    /// Subscribed names without an answer, and when they count as missing.
    awaited: BTreeMap<String, Instant>,
    /// Names without a value that were told as missing or rejected: the owner remembers them, and is told when they are
    /// no longer wanted, or gone.
    told: BTreeSet<String>,
    answered: bool,
}

/// State that outlives streams. See [`super`].
#[derive(Debug, Default)]
pub struct Session {
    node: wire::Node,
    kinds: [Kind; ResourceType::ALL.len()],
    events: Vec<Event>,
}

/// Clusters, listeners and the name table are subscribed as a whole.
pub(super) fn is_wildcard(kind: ResourceType) -> bool {
    matches!(kind, ResourceType::Cluster | ResourceType::Listener | ResourceType::NameTable)
}

impl Session {
    /// A session for this node, knowing nothing.
    pub fn new(node: wire::Node) -> Self {
        Self { node, ..Self::default() }
    }

    /// What the predecessor accepted: named to the server on connect, so that it can say what is gone.
    pub fn seed(&mut self, kind: ResourceType, name: &str, version: &str, raw: &[u8]) {
        let known = Known { version: version.into(), digest: NonZeroU128::new(xxh3_128(raw)) };
        self.kind_mut(kind).known.insert(name.to_owned(), known);
    }

    /// Sets the names of a type that is subscribed by name. Has no effect on wildcard types.
    ///
    /// A name that is no longer wanted stays known until the unsubscription is sent, so that a name which goes
    /// and comes back in between costs nothing.
    pub fn set_names(&mut self, kind: ResourceType, names: impl IntoIterator<Item = String>) {
        if !is_wildcard(kind) {
            self.kind_mut(kind).wanted = names.into_iter().filter(|n| !n.is_empty()).collect();
        }
    }

    /// Whether a type was ever answered.
    pub fn sync(&self, kind: ResourceType) -> SyncState {
        if self.kind(kind).answered { SyncState::Answered } else { SyncState::NeverAnswered }
    }

    /// True while a subscribed name has neither been sent nor been said or timed out as missing.
    pub fn is_awaited(&self, kind: ResourceType, name: &str) -> bool {
        self.kind(kind).awaited.contains_key(name)
    }

    /// When [`Session::tick`] is next due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.kinds.iter().flat_map(|k| k.awaited.values()).min().copied()
    }

    /// Tells the subscribed names that were not sent in time.
    pub fn tick(&mut self, now: Instant) {
        for kind in ResourceType::ALL {
            let awaited = &self.kind(kind).awaited;
            let late: Vec<String> = awaited.iter().filter(|(_, at)| **at <= now).map(|(n, _)| n.clone()).collect();
            for name in late {
                self.missing(kind, name);
            }
        }
    }

    /// The stream is over: nothing is awaited until it is subscribed again.
    pub fn disconnected(&mut self) {
        for kind in &mut self.kinds {
            kind.awaited.clear();
        }
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn node(&self) -> &wire::Node {
        &self.node
    }

    pub(super) fn wanted(&self, kind: ResourceType) -> &BTreeSet<String> {
        &self.kind(kind).wanted
    }

    /// Known names with their versions.
    pub(super) fn versions(&self, kind: ResourceType) -> impl Iterator<Item = (&String, &str)> {
        self.kind(kind).known.iter().map(|(name, known)| (name, &*known.version))
    }

    /// The name and version of one known resource.
    pub(super) fn version(&self, kind: ResourceType, name: &str) -> Option<(&String, &str)> {
        self.kind(kind).known.get_key_value(name).map(|(name, known)| (name, &*known.version))
    }

    pub(super) fn knows(&self, kind: ResourceType, name: &str) -> bool {
        self.kind(kind).known.contains_key(name)
    }

    /// A subscription for `name` goes out: its clock starts, unless its last good value is there.
    pub(super) fn subscribing(&mut self, kind: ResourceType, name: &str, now: Instant) {
        let kind = self.kind_mut(kind);
        if !kind.known.contains_key(name) {
            kind.awaited.insert(name.to_owned(), now + DOES_NOT_EXIST_AFTER);
        }
    }

    /// Forgets what is known and no longer wanted.
    pub(super) fn forget_unwanted(&mut self, kind: ResourceType) {
        let state = self.kind_mut(kind);
        let wanted = &state.wanted;
        state.awaited.retain(|name, _| wanted.contains(name));
        let unwanted: BTreeSet<String> =
            state.known.keys().chain(&state.told).filter(|n| !wanted.contains(*n)).cloned().collect();
        state.told.retain(|name| wanted.contains(name));
        for name in unwanted {
            self.removed(kind, name, Removal::Unsubscribed);
        }
    }

    /// The server says that a resource is gone or does not exist.
    pub(super) fn gone(&mut self, kind: ResourceType, name: String) {
        if self.knows(kind, &name) {
            self.removed(kind, name, Removal::Server);
        } else if self.kind(kind).awaited.contains_key(&name) {
            self.missing(kind, name);
        } else if is_wildcard(kind) && self.kind(kind).told.contains(&name) {
            self.removed(kind, name, Removal::Server);
        }
    }

    fn missing(&mut self, kind: ResourceType, name: String) {
        let state = self.kind_mut(kind);
        state.awaited.remove(&name);
        state.told.insert(name.clone());
        self.events.push(Event::Missing { kind, name });
    }

    fn removed(&mut self, kind: ResourceType, name: String, why: Removal) {
        let state = self.kind_mut(kind);
        state.known.remove(&name);
        if is_wildcard(kind) {
            state.told.remove(&name);
        }
        if why == Removal::Server && !is_wildcard(kind) {
            state.told.insert(name.clone());
        }
        self.events.push(Event::Removed { kind, name, why });
    }

    /// Decodes one resource of a response and records the outcome. Returns its name if it has one.
    pub(super) fn receive(&mut self, incoming: Incoming<'_>, complaints: &mut Complaints) -> Option<String> {
        let kind = incoming.kind;
        let wrapper = match unwrap_resource(incoming.type_url, incoming.value.clone()) {
            Ok(wrapper) => wrapper,
            Err(reason) => return self.reject(&incoming, incoming.name.to_owned(), reason, complaints),
        };
        let name = if incoming.name.is_empty() { &wrapper.name } else { incoming.name };
        if wrapper.type_url != kind.type_url() {
            let reason = format!("type {:?} in a response of {}", wrapper.type_url, kind.short());
            return self.reject(&incoming, name.to_owned(), reason, complaints);
        }
        let digest = xxh3_128(&wrapper.value);
        if let Some(known) = self.kind_mut(kind).known.get_mut(name)
            && known.is(digest)
        {
            known.version = incoming.version.into();
            // The same as what is known, but not as its namesake: that one would have replaced it.
            complaints.is_the_only(name, digest);
            return Some(name.to_owned());
        }
        match decode(kind, name, &wrapper.value) {
            Decoded::Valid { name, .. } if !(incoming.is_subscribed)(&name) => Some(name),
            Decoded::Valid { name, .. } if !complaints.is_the_only(&name, digest) => {
                self.reject(&incoming, name, TWICE.to_owned(), complaints)
            }
            Decoded::Valid { name, resource } => {
                let state = self.kind_mut(kind);
                state.awaited.remove(&name);
                state.told.remove(&name);
                let known = Known { version: incoming.version.into(), digest: NonZeroU128::new(digest) };
                let before = state.known.insert(name.clone(), known);
                // Without a name in the envelope (SotW) the same bytes are recognised only here.
                if !before.is_some_and(|known| known.is(digest)) {
                    self.events.push(Event::Accepted {
                        kind,
                        name: name.clone(),
                        version: incoming.version.to_owned(),
                        raw: wrapper.value,
                        resource,
                    });
                }
                Some(name)
            }
            Decoded::Rejected { name, .. } if !(incoming.is_subscribed)(&name) => Some(name),
            Decoded::Rejected { name, reason } => self.reject(&incoming, name, reason, complaints),
            Decoded::Undecodable { reason } => self.reject(&incoming, String::new(), reason, complaints),
        }
    }

    fn reject(
        &mut self,
        incoming: &Incoming<'_>,
        name: String,
        reason: String,
        complaints: &mut Complaints,
    ) -> Option<String> {
        let (kind, version) = (incoming.kind, incoming.version.to_owned());
        if name.is_empty() && kind != ResourceType::NameTable {
            complaints.undecodable(&reason);
            self.events.push(Event::Rejected { kind, name, version, reason });
            return None;
        }
        complaints.rejected(&name, &reason);
        let state = self.kind_mut(kind);
        state.awaited.remove(&name);
        match state.known.get_mut(&name) {
            Some(known) => known.digest = None,
            None => {
                state.told.insert(name.clone());
            }
        }
        self.events.push(Event::Rejected { kind, name: name.clone(), version, reason });
        Some(name)
    }

    /// Removes every known resource that a complete list does not contain.
    pub(super) fn retain(&mut self, kind: ResourceType, present: &BTreeSet<String>) {
        let state = self.kind(kind);
        let told = state.told.iter().filter(|_| is_wildcard(kind));
        let held: BTreeSet<&String> = state.known.keys().chain(told).collect();
        let absent: Vec<String> = held.into_iter().filter(|name| !present.contains(*name)).cloned().collect();
        for name in absent {
            self.removed(kind, name, Removal::Server);
        }
    }

    /// The end of a response, with its version.
    pub(super) fn answered(&mut self, kind: ResourceType, version: &str) {
        self.kind_mut(kind).answered = true;
        self.events.push(Event::Answered { kind, version: version.to_owned() });
    }

    fn kind(&self, kind: ResourceType) -> &Kind {
        &self.kinds[index(kind)]
    }

    fn kind_mut(&mut self, kind: ResourceType) -> &mut Kind {
        &mut self.kinds[index(kind)]
    }
}

/// One resource of a response.
pub(super) struct Incoming<'a> {
    pub kind: ResourceType,
    /// Name in the envelope; empty where there is none.
    pub name: &'a str,
    pub version: &'a str,
    pub type_url: &'a str,
    pub value: Bytes,
    /// Whether a name is subscribed on this stream: others are ignored, a late answer must not revive them.
    pub is_subscribed: &'a dyn Fn(&str) -> bool,
}

/// Position of a type in arrays indexed by type.
pub(super) const fn index(kind: ResourceType) -> usize {
    match kind {
        ResourceType::Cluster => 0,
        ResourceType::Endpoint => 1,
        ResourceType::Listener => 2,
        ResourceType::Route => 3,
        ResourceType::NameTable => 4,
    }
}
