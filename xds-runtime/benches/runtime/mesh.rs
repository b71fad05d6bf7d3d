//! A mesh, on its way from YAML to the words of an image.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bytes::Bytes;
use control_plane::{Entry, Proxy, Snapshot, type_url};
use prost::Message;
use xds_runtime::ads::delta::Delta;
use xds_runtime::ads::wire::{Any, DeltaDiscoveryResponse, Node, Resource};
use xds_runtime::ads::{Event, Protocol, Session};
use xds_runtime::boot::BootId;
use xds_runtime::compile::{Compiled, Input, compile};
use xds_runtime::config::NameList;
use xds_runtime::image::{ImageFile, Publisher, encode, file_words};
use xds_runtime::leader::resources::Resources;
use xds_runtime::resource::{Locality, ResourceType};
use xds_runtime::state::{SlotAllocator, State, state_words};

pub const BOOT: BootId = BootId::from_words([1, 2]);
const NOW: u64 = 1_000_000;

/// What a control plane sends of a mesh: one response for each type.
pub struct Responses(BTreeMap<String, BTreeMap<String, Entry>>);

impl Responses {
    pub fn of(yaml: &str) -> Self {
        Self(Snapshot::from_yaml(yaml).unwrap().resources(&Proxy::default()).as_ref().clone())
    }

    /// A response with all resources of a type.
    pub fn of_type(&self, url: &str) -> Bytes {
        self.some_of_type(url, |_| true)
    }

    /// A response with the resources that `is_wanted` by name.
    pub fn some_of_type(&self, url: &str, is_wanted: impl Fn(&str) -> bool) -> Bytes {
        let resource = |(name, entry): (&String, &Entry)| Resource {
            name: name.clone(),
            version: entry.version.clone(),
            resource: Some(Any { type_url: url.to_owned(), value: entry.resource.value.clone().into() }),
        };
        let wanted = self.0[url].iter().filter(|(name, _)| is_wanted(name));
        let response = DeltaDiscoveryResponse {
            type_url: url.to_owned(),
            nonce: "1".to_owned(),
            resources: wanted.map(resource).collect(),
            ..Default::default()
        };
        response.encode_to_vec().into()
    }

    pub fn names(&self, url: &str) -> impl Iterator<Item = String> {
        self.0[url].keys().cloned()
    }
}

/// A stream that has subscribed to all of a mesh.
pub struct Stream {
    session: Session,
    delta: Delta,
}

impl Stream {
    pub fn to(responses: &Responses) -> Self {
        let (mut session, mut delta) = (Session::new(Node::default()), Delta::default());
        session.set_names(ResourceType::Endpoint, responses.names(type_url::ENDPOINT));
        session.set_names(ResourceType::Route, responses.names(type_url::ROUTE));
        while delta.outgoing(&mut session, Instant::now()).is_some() {}
        Self { session, delta }
    }

    /// Takes the bytes of a response.
    pub fn receive(&mut self, bytes: Bytes) -> Vec<Event> {
        self.delta.handle(&mut self.session, DeltaDiscoveryResponse::decode(bytes).unwrap());
        self.session.take_events()
    }
}

/// A leader's accepted resources, and where it publishes them.
pub struct Mesh {
    pub resources: Resources,
    pub state: State,
    slots: SlotAllocator,
}

impl Mesh {
    /// Everything was received.
    pub fn of(responses: &Responses) -> Self {
        let (mut stream, mut resources) = (Stream::to(responses), Resources::default());
        let mut endpoints = 0;
        for url in type_url::PUSH_ORDER {
            for event in stream.receive(responses.of_type(url)) {
                assert!(!matches!(event, Event::Rejected { .. }), "{event:?}");
                resources.apply(event, NOW);
            }
        }
        for assignment in resources.endpoints.values() {
            endpoints += assignment.localities.iter().map(|locality| locality.endpoints.len() + 1).sum::<usize>();
        }
        let slots = endpoints + 4 * resources.clusters.len() + 64;
        let state = State::format(zeroed(state_words(slots)), BOOT).unwrap();
        Self { resources, state, slots: SlotAllocator::recover(state) }
    }

    pub fn of_yaml(yaml: &str) -> Self {
        Self::of(&Responses::of(yaml))
    }

    pub fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            self.resources.apply(event, NOW);
        }
    }

    pub fn compile(&mut self) -> Compiled {
        self.slots.at(NOW);
        let input = Input {
            listeners: &self.resources.listeners,
            routes: &self.resources.routes,
            clusters: &self.resources.clusters,
            endpoints: &self.resources.endpoints,
            names: self.resources.names.as_ref(),
            resolved: &BTreeMap::new(),
            own_addresses: &[[10, 244, 0, 2].into()],
            control_plane: None,
            exact_http: &NameList::default(),
            locality: Locality::default(),
            local_cluster: None,
        };
        compile(&input, &mut |tag| self.slots.slot(tag))
    }

    /// The image, published.
    pub fn image(&mut self) -> ImageFile {
        let content = encode(&self.compile().mesh).unwrap();
        let words = zeroed(file_words(content.len()));
        Publisher::format(words, BOOT, 1, 0).unwrap().publish(&content).unwrap();
        ImageFile::open(words, BOOT, 1).unwrap()
    }
}

/// Words in place of a mapped file; they stay.
pub fn zeroed(words: usize) -> &'static [AtomicU64] {
    Box::leak((0..words).map(|_| AtomicU64::new(0)).collect())
}
