//! The last good typed resources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::event::{Event, Removal};
use super::session::{index, is_wildcard};
use crate::resource::{Decoded, Resource, ResourceType, decode};

/// Rejections remembered for one type.
const REJECTIONS_MOST: usize = 256;

/// A rejected resource, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Resource name; empty when it had none.
    pub name: String,
    /// Field and rule.
    pub reason: String,
    /// When, in the clock of whoever applied the event (CLOCK_BOOTTIME milliseconds in the leader).
    pub at: u64,
}

/// One accepted resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Version as the server named it.
    pub version: String,
    /// The typed resource.
    pub resource: Arc<Resource>,
}

#[derive(Debug, Default)]
struct Kind {
    entries: BTreeMap<String, Entry>,
    missing: BTreeSet<String>,
    rejected: BTreeMap<String, Rejection>,
    last_rejection: Option<Rejection>,
    answered: bool,
    seeded: bool,
    dirty: bool,
}

/// Last good resources by type and name, what is wrong with newer ones, and what changed since the last look.
///
/// ```text
///   (none) --Accepted--> good --Accepted--> good'      dirty each time
///                          |---Rejected---> good, with a rejection beside it; not dirty
///                          |---Removed----> (none)     dirty
/// ```
#[derive(Debug, Default)]
pub struct Store {
    kinds: [Kind; ResourceType::ALL.len()],
}

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over a resource that a predecessor accepted. False when the bytes are not valid any more (a newer
    /// build may be stricter).
    pub fn seed(&mut self, kind: ResourceType, name: &str, version: &str, raw: &[u8]) -> bool {
        let Decoded::Valid { name, resource } = decode(kind, name, raw) else {
            return false;
        };
        let state = self.kind_mut(kind);
        state.entries.insert(name, Entry { version: version.to_owned(), resource: Arc::from(resource) });
        state.seeded = true;
        state.dirty = true;
        true
    }

    /// Applies one event; `now` is only recorded.
    pub fn apply(&mut self, event: Event, now: u64) {
        match event {
            Event::Accepted { kind, name, version, raw: _, resource } => {
                let state = self.kind_mut(kind);
                state.rejected.remove(&name);
                state.missing.remove(&name);
                state.entries.insert(name, Entry { version, resource: Arc::from(resource) });
                state.dirty = true;
            }
            Event::Removed { kind, name, why } => {
                let state = self.kind_mut(kind);
                state.rejected.remove(&name);
                state.dirty |= state.entries.remove(&name).is_some();
                // Still subscribed, and the server says that it is not there.
                if why == Removal::Server && !is_wildcard(kind) {
                    state.missing.insert(name);
                } else {
                    state.missing.remove(&name);
                }
            }
            Event::Missing { kind, name } => {
                let state = self.kind_mut(kind);
                state.dirty |= state.missing.insert(name);
            }
            Event::Rejected { kind, name, reason } => {
                let state = self.kind_mut(kind);
                let rejection = Rejection { name: name.clone(), reason, at: now };
                if state.rejected.len() < REJECTIONS_MOST || state.rejected.contains_key(&name) {
                    state.rejected.insert(name, rejection.clone());
                }
                state.last_rejection = Some(rejection);
            }
            Event::Answered { kind } => {
                let state = self.kind_mut(kind);
                state.dirty |= !state.answered;
                state.answered = true;
            }
        }
    }

    /// The last good value.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.kind(kind).entries.get(name).map(|e| &e.resource)
    }

    /// All last good values of a type, by name.
    pub fn entries(&self, kind: ResourceType) -> &BTreeMap<String, Entry> {
        &self.kind(kind).entries
    }

    /// True when the server said, or let time say, that a subscribed resource does not exist.
    pub fn is_missing(&self, kind: ResourceType, name: &str) -> bool {
        self.kind(kind).missing.contains(name)
    }

    /// True when a type has been answered, or taken over from a predecessor: it may be published.
    pub fn is_ready(&self, kind: ResourceType) -> bool {
        self.kind(kind).answered || self.kind(kind).seeded
    }

    /// Rejections that still stand (no valid value came since), by name; at most 256.
    pub fn rejections(&self, kind: ResourceType) -> impl Iterator<Item = &Rejection> {
        self.kind(kind).rejected.values()
    }

    /// The last rejection of a type, standing or not.
    pub fn last_rejection(&self, kind: ResourceType) -> Option<&Rejection> {
        self.kind(kind).last_rejection.as_ref()
    }

    /// Whether a type changed since the last call with it; clears the mark.
    pub fn take_dirty(&mut self, kind: ResourceType) -> bool {
        std::mem::take(&mut self.kind_mut(kind).dirty)
    }

    fn kind(&self, kind: ResourceType) -> &Kind {
        &self.kinds[index(kind)]
    }

    fn kind_mut(&mut self, kind: ResourceType) -> &mut Kind {
        &mut self.kinds[index(kind)]
    }
}
