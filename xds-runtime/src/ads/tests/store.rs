use super::*;
use crate::ads::store::Store;
use crate::resource::{Decoded, Resource, decode};

fn accepted(name: &str, timeout: i64) -> Event {
    let raw = cluster_bytes(name, timeout);
    let Decoded::Valid { name, resource } = decode(Cluster, name, &raw) else { panic!("valid") };
    Event::Accepted { kind: Cluster, name, version: "1".to_owned(), raw, resource }
}

fn timeout(store: &Store, name: &str) -> Option<u64> {
    match store.get(Cluster, name).map(AsRef::as_ref) {
        Some(Resource::Cluster(cluster)) => Some(cluster.connect_timeout.as_secs()),
        _ => None,
    }
}

fn rejected(name: &str) -> Event {
    Event::Rejected { kind: Cluster, name: name.to_owned(), reason: "field: rule".to_owned() }
}

#[test]
fn a_rejection_keeps_the_last_good_value_and_is_remembered() {
    let mut store = Store::new();
    store.apply(accepted("a", 1), 10);
    assert!(store.take_dirty(Cluster));
    store.apply(rejected("a"), 20);
    assert_eq!(timeout(&store, "a"), Some(1));
    assert!(!store.take_dirty(Cluster), "nothing to publish");
    let standing: Vec<_> = store.rejections(Cluster).map(|r| (r.name.as_str(), r.at)).collect();
    assert_eq!(standing, [("a", 20)]);
    store.apply(accepted("a", 2), 30);
    assert_eq!(timeout(&store, "a"), Some(2));
    assert_eq!(store.rejections(Cluster).count(), 0);
    assert_eq!(store.last_rejection(Cluster).map(|r| r.at), Some(20), "status still shows it");
}

#[test]
fn a_seed_makes_a_type_ready_before_it_is_answered() {
    let mut store = Store::new();
    assert!(!store.is_ready(Cluster));
    assert!(store.seed(Cluster, "a", "1", &cluster_bytes("a", 3)));
    assert!(!store.seed(Cluster, "b", "1", &bad_cluster_bytes("b")));
    assert!(store.is_ready(Cluster));
    assert_eq!((timeout(&store, "a"), timeout(&store, "b")), (Some(3), None));
}

#[test]
fn removal_and_absence_are_changes_once() {
    let mut store = Store::new();
    store.apply(accepted("a", 1), 0);
    store.take_dirty(Cluster);
    let removed = Event::Removed { kind: Cluster, name: "a".to_owned(), why: Removal::Server };
    store.apply(removed.clone(), 0);
    assert!(store.take_dirty(Cluster));
    store.apply(removed, 0);
    assert!(!store.take_dirty(Cluster));
    let missing = Event::Missing { kind: Endpoint, name: "e".to_owned() };
    store.apply(missing.clone(), 0);
    assert!(store.take_dirty(Endpoint) && store.is_missing(Endpoint, "e"));
    store.apply(missing, 0);
    assert!(!store.take_dirty(Endpoint));
}

#[test]
fn an_assignment_that_the_server_removes_is_missing_until_nobody_wants_it() {
    let mut store = Store::new();
    let removed = |why| Event::Removed { kind: Endpoint, name: "e".to_owned(), why };
    store.apply(removed(Removal::Server), 0);
    assert!(store.is_missing(Endpoint, "e"));
    store.apply(removed(Removal::Unsubscribed), 0);
    assert!(!store.is_missing(Endpoint, "e"));
}
