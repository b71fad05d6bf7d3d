//! What a large mesh takes up in the leader, for each of its services.
#![allow(clippy::unwrap_used)] // a test: what fails here is to be seen

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Instant;

use control_plane::{Entry, Proxy, Synthetic, type_url};
use prost::Message;
use xds_runtime::ads::delta::Delta;
use xds_runtime::ads::wire::{Any, DeltaDiscoveryResponse, Node, Resource};
use xds_runtime::ads::{Event, Protocol, Session};
use xds_runtime::boot::BootId;
use xds_runtime::compile::{Input, compile};
use xds_runtime::config::{NameList, Settings};
use xds_runtime::leader::journal::{Journal, Seed};
use xds_runtime::leader::resources::Resources;
use xds_runtime::leader::run_dir::RunDir;
use xds_runtime::resource::{Locality, ResourceType};

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// Counts the bytes that are allocated, each allocation as glibc rounds it.
struct Counting;

fn rounded(size: usize) -> isize {
    isize::try_from((size + 8).next_multiple_of(16).max(32)).unwrap_or(isize::MAX)
}

// SAFETY: everything is the system allocator's; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SERVICES: usize = 1000;
const ENDPOINTS: usize = 10;
const NOW: u64 = 1_000_000;
/// Bytes a service.
const CLUSTER_KEPT: isize = 900;
const ENDPOINT_KEPT: isize = 1_500;
const LISTENER_KEPT: isize = 870;
const NAMES_KEPT: isize = 440;
const NOTED: isize = 80;
const COMPILED: isize = 2_150;

/// What is allocated.
fn live() -> isize {
    LIVE.load(Ordering::Relaxed) / SERVICES as isize
}

/// What is kept of a service with ten endpoints: in the session and as typed resources, in the journal's index, compiled.
/// The bounds are what it takes, and a tenth more: they tell when something new is kept of each resource.
#[test]
fn a_service_takes_up_a_bounded_amount_of_memory() {
    let responses = Synthetic::new(SERVICES, ENDPOINTS).snapshot().unwrap().resources(&Proxy::default());
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().to_str().unwrap();
    let settings = Settings::from_env([("LDMESH_XDS", "http://127.0.0.1:1"), ("LDMESH_RUN_DIR", run_dir)]);
    let dir = Arc::new(RunDir::open(&settings).unwrap());
    let mut journal = Journal::start(&dir, BootId::from_words([1, 2]), 1, &Seed::new()).unwrap();
    let (mut session, mut delta) = (Session::new(Node::default()), Delta::default());
    session.set_names(ResourceType::Endpoint, responses[type_url::ENDPOINT].keys().cloned());
    while delta.outgoing(&mut session, Instant::now()).is_some() {}
    let mut resources = Resources::default();
    for (url, kept, noted) in [
        (type_url::CLUSTER, CLUSTER_KEPT, NOTED),
        (type_url::ENDPOINT, ENDPOINT_KEPT, NOTED),
        (type_url::LISTENER, LISTENER_KEPT, NOTED),
        (type_url::NAME_TABLE, NAMES_KEPT, NOTED),
    ] {
        let before = live();
        let events = received(&mut session, &mut delta, url, &responses[url]);
        let received = live();
        for event in &events {
            if let Event::Accepted { kind, name, version, raw, .. } = event {
                journal.accepted(*kind, name, version, NOW, raw).unwrap();
            }
        }
        journal.flush().unwrap();
        let in_journal = live() - received;
        check(&format!("{url} in the journal's index"), in_journal, noted);
        for event in events {
            assert!(!matches!(event, Event::Rejected { .. }), "{event:?}");
            resources.apply(event, NOW);
        }
        check(url, live() - before - in_journal, kept);
    }
    let before = live();
    let input = Input {
        listeners: &resources.listeners,
        routes: &resources.routes,
        clusters: &resources.clusters,
        endpoints: &resources.endpoints,
        names: resources.names.as_ref(),
        resolved: &BTreeMap::new(),
        own_addresses: &[[10, 244, 0, 2].into()],
        control_plane: None,
        exact_http: &NameList::default(),
        locality: Locality::default(),
        local_cluster: None,
    };
    let _compiled = compile(&input, &mut |_| Some(1));
    check("compiled", live() - before, COMPILED);
}

#[track_caller]
fn check(what: &str, taken: isize, most: isize) {
    println!("{what}: {taken} bytes a service");
    assert!(taken <= most, "{what}: {taken} bytes a service, {most} are allowed");
}

/// The events of a response with these resources.
fn received(session: &mut Session, delta: &mut Delta, url: &str, resources: &BTreeMap<String, Entry>) -> Vec<Event> {
    let resource = |(name, entry): (&String, &Entry)| Resource {
        name: name.clone(),
        version: entry.version.clone(),
        resource: Some(Any { type_url: url.to_owned(), value: entry.resource.value.clone().into() }),
    };
    let response = DeltaDiscoveryResponse {
        type_url: url.to_owned(),
        nonce: "1".to_owned(),
        resources: resources.iter().map(resource).collect(),
        ..Default::default()
    };
    let bytes = bytes::Bytes::from(response.encode_to_vec());
    drop(response);
    delta.handle(session, DeltaDiscoveryResponse::decode(bytes).unwrap());
    while delta.outgoing(session, Instant::now()).is_some() {}
    session.take_events()
}
