//! The accepted resources, typed and by name, and what is known about each type's synchronisation.
//!
//! ```text
//!   (none) --Accepted--> good --Accepted--> good'
//!                          |---Rejected---> good, with a rejection beside it
//!                          |---Removed----> (none)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::ads::{Event, Removal};
use crate::resource::{
    Cluster, Decoded, Listener, LoadAssignment, NameTable, Resource, ResourceType, RouteConfiguration, decode,
};
use crate::shm::Millis;

/// Standing rejections remembered for one type.
const REJECTIONS_MOST: usize = 256;

/// A rejected resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its name; empty when it had none.
    pub name: String,
    /// The version that the control plane gave it.
    pub version: String,
    /// Field and rule.
    pub reason: String,
    /// When.
    pub at: Millis,
}

/// What is known about one type.
#[derive(Debug, Default)]
pub struct Sync {
    /// The control plane has answered in this term.
    pub answered: bool,
    /// Taken over from a predecessor.
    pub seeded: bool,
    /// The last response's time.
    pub last_answer: Option<Millis>,
    /// The last response's version; empty where the control plane gives none.
    pub version: String,
    /// The last NACK.
    pub last_rejection: Option<Rejection>,
    /// Rejections that stand, by name.
    pub rejected: BTreeMap<String, Rejection>,
    /// Names that were asked for and do not exist.
    pub missing: BTreeSet<String>,
}

/// Last good resources.
#[derive(Debug, Default)]
pub struct Resources {
    /// LDS.
    pub listeners: BTreeMap<String, Box<Listener>>,
    /// RDS.
    pub routes: BTreeMap<String, RouteConfiguration>,
    /// CDS.
    pub clusters: BTreeMap<String, Box<Cluster>>,
    /// EDS.
    pub endpoints: BTreeMap<String, LoadAssignment>,
    /// NDS.
    pub names: Option<NameTable>,
    kinds: BTreeMap<ResourceType, Sync>,
}

impl Resources {
    /// Takes over a resource that a predecessor accepted; false when its bytes are no longer valid (a newer build
    /// may be stricter).
    pub fn seed(&mut self, kind: ResourceType, name: &str, raw: &Bytes) -> bool {
        let Decoded::Valid { name, resource } = decode(kind, name, raw) else { return false };
        self.insert(name, *resource);
        self.kinds.entry(kind).or_default().seeded = true;
        true
    }

    /// Applies an event; true when a publish may look different for it.
    pub fn apply(&mut self, event: Event, now: Millis) -> bool {
        match event {
            Event::Accepted { kind, name, resource, .. } => {
                let sync = self.kinds.entry(kind).or_default();
                sync.rejected.remove(&name);
                sync.missing.remove(&name);
                self.insert(name, *resource);
                true
            }
            Event::Removed { kind, name, why } => {
                let sync = self.kinds.entry(kind).or_default();
                sync.rejected.remove(&name);
                match why {
                    Removal::Server if is_by_name(kind) => sync.missing.insert(name.clone()),
                    _ => sync.missing.remove(&name),
                };
                self.remove(kind, &name);
                true
            }
            Event::Missing { kind, name } => self.kinds.entry(kind).or_default().missing.insert(name),
            Event::Rejected { kind, name, version, reason } => {
                let sync = self.kinds.entry(kind).or_default();
                let rejection = Rejection { name: name.clone(), version, reason, at: now };
                if sync.rejected.len() < REJECTIONS_MOST || sync.rejected.contains_key(&name) {
                    sync.rejected.insert(name.clone(), rejection.clone());
                }
                sync.last_rejection = Some(rejection);
                // A name whose only value is bad is answered: nobody need wait for it.
                !self.has(kind, &name) && self.kinds.entry(kind).or_default().missing.insert(name)
            }
            Event::Answered { kind, version } => {
                let sync = self.kinds.entry(kind).or_default();
                sync.version = version;
                sync.last_answer = Some(now);
                !std::mem::replace(&mut sync.answered, true)
            }
        }
    }

    /// What is known about a type.
    pub fn sync(&self, kind: ResourceType) -> Option<&Sync> {
        self.kinds.get(&kind)
    }

    /// True when a type was answered, or taken over from a predecessor.
    pub fn is_ready(&self, kind: ResourceType) -> bool {
        self.sync(kind).is_some_and(|sync| sync.answered || sync.seeded)
    }

    /// True when a subscribed name is there, or is known not to be.
    pub fn is_settled(&self, kind: ResourceType, name: &str) -> bool {
        self.has(kind, name) || self.sync(kind).is_some_and(|sync| sync.missing.contains(name))
    }

    /// Number of resources of a type.
    pub fn count(&self, kind: ResourceType) -> usize {
        match kind {
            ResourceType::Listener => self.listeners.len(),
            ResourceType::Route => self.routes.len(),
            ResourceType::Cluster => self.clusters.len(),
            ResourceType::Endpoint => self.endpoints.len(),
            ResourceType::NameTable => usize::from(self.names.is_some()),
        }
    }

    /// Names of `asked` about which nothing is known yet.
    pub fn unsettled<'a>(&self, kind: ResourceType, asked: &'a BTreeSet<String>) -> Vec<&'a String> {
        asked.iter().filter(|name| !self.is_settled(kind, name)).collect()
    }

    fn has(&self, kind: ResourceType, name: &str) -> bool {
        match kind {
            ResourceType::Listener => self.listeners.contains_key(name),
            ResourceType::Route => self.routes.contains_key(name),
            ResourceType::Cluster => self.clusters.contains_key(name),
            ResourceType::Endpoint => self.endpoints.contains_key(name),
            ResourceType::NameTable => self.names.is_some(),
        }
    }

    fn insert(&mut self, name: String, resource: Resource) {
        match resource {
            Resource::Listener(listener) => drop(self.listeners.insert(name, listener)),
            Resource::Route(routes) => drop(self.routes.insert(name, routes)),
            Resource::Cluster(cluster) => drop(self.clusters.insert(name, cluster)),
            Resource::Endpoints(endpoints) => drop(self.endpoints.insert(name, endpoints)),
            Resource::Names(names) => self.names = Some(names),
        }
    }

    fn remove(&mut self, kind: ResourceType, name: &str) {
        match kind {
            ResourceType::Listener => drop(self.listeners.remove(name)),
            ResourceType::Route => drop(self.routes.remove(name)),
            ResourceType::Cluster => drop(self.clusters.remove(name)),
            ResourceType::Endpoint => drop(self.endpoints.remove(name)),
            ResourceType::NameTable => self.names = None,
        }
    }
}

/// Whether resources of a type are asked for one by one.
const fn is_by_name(kind: ResourceType) -> bool {
    matches!(kind, ResourceType::Route | ResourceType::Endpoint)
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use prost::Message;

    use super::*;

    const EDS: ResourceType = ResourceType::Endpoint;

    fn accepted(name: &str) -> Event {
        let assignment = LoadAssignment {
            cluster_name: name.to_owned(),
            localities: Vec::new(),
            overprovisioning_factor: 140,
            unsupported: Vec::new(),
        };
        Event::Accepted {
            kind: EDS,
            name: name.to_owned(),
            version: "1".to_owned(),
            raw: Bytes::new(),
            resource: Box::new(Resource::Endpoints(assignment)),
        }
    }

    fn rejected(name: &str) -> Event {
        Event::Rejected {
            kind: EDS,
            name: name.to_owned(),
            version: "1".to_owned(),
            reason: "endpoints: no port".to_owned(),
        }
    }

    #[test]
    fn a_rejected_resource_keeps_its_last_good_value_beside_the_reason() {
        let mut resources = Resources::default();
        assert!(resources.apply(accepted("a"), 1));
        assert!(!resources.apply(rejected("a"), 2), "nothing to publish");
        assert_eq!(resources.count(EDS), 1);
        assert_eq!(resources.sync(EDS).unwrap().rejected["a"].at, 2);
        resources.apply(accepted("a"), 3);
        assert!(resources.sync(EDS).unwrap().rejected.is_empty());
        assert_eq!(resources.sync(EDS).unwrap().last_rejection.as_ref().unwrap().reason, "endpoints: no port");
    }

    #[test]
    fn a_name_is_settled_once_it_is_there_missing_or_bad() {
        let mut resources = Resources::default();
        assert!(!resources.is_settled(EDS, "a"));
        resources.apply(accepted("a"), 1);
        resources.apply(Event::Missing { kind: EDS, name: "b".to_owned() }, 1);
        resources.apply(rejected("c"), 1);
        assert!(["a", "b", "c"].iter().all(|name| resources.is_settled(EDS, name)));
        resources.apply(Event::Removed { kind: EDS, name: "a".to_owned(), why: Removal::Unsubscribed }, 2);
        assert!(!resources.is_settled(EDS, "a"), "asked for again, it is awaited again");
    }

    #[test]
    fn an_assignment_that_the_server_removes_is_missing_until_nobody_wants_it() {
        let mut resources = Resources::default();
        let removed = |why| Event::Removed { kind: EDS, name: "a".to_owned(), why };
        resources.apply(accepted("a"), 1);
        assert!(resources.apply(removed(Removal::Server), 2));
        assert!(resources.is_settled(EDS, "a"));
        resources.apply(removed(Removal::Unsubscribed), 3);
        assert!(!resources.is_settled(EDS, "a"));
    }

    #[test]
    fn a_removed_cluster_is_not_remembered_and_neither_is_its_rejection() {
        let kind = ResourceType::Cluster;
        let mut resources = Resources::default();
        let (name, version) = ("a".to_owned(), "1".to_owned());
        resources.apply(Event::Rejected { kind, name: name.clone(), version, reason: "type: unknown".to_owned() }, 1);
        resources.apply(Event::Removed { kind, name, why: Removal::Server }, 2);
        let sync = resources.sync(kind).unwrap();
        assert!(sync.rejected.is_empty() && sync.missing.is_empty());
    }

    #[test]
    fn absence_is_news_once() {
        let mut resources = Resources::default();
        let missing = || Event::Missing { kind: EDS, name: "a".to_owned() };
        assert!(resources.apply(missing(), 1));
        assert!(!resources.apply(missing(), 2));
    }

    #[test]
    fn a_seed_makes_a_type_ready_before_it_is_answered() {
        let mut resources = Resources::default();
        assert!(!resources.seed(EDS, "a", &Bytes::from_static(b"not a resource")));
        assert!(!resources.is_ready(EDS));
        let assignment = ClusterLoadAssignment { cluster_name: "a".to_owned(), ..Default::default() };
        assert!(resources.seed(EDS, "a", &assignment.encode_to_vec().into()));
        assert!(resources.is_ready(EDS) && resources.is_settled(EDS, "a"));
    }
}
