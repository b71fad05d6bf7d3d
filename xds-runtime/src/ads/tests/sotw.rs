use super::*;
use crate::ads::sotw::Sotw;
use crate::ads::wire::{DiscoveryRequest, DiscoveryResponse};

fn response(kind: ResourceType, version: &str, nonce: &str, resources: Vec<Bytes>) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.to_owned(),
        resources: resources.into_iter().map(|r| any(kind, r)).collect(),
        type_url: kind.type_url().to_owned(),
        nonce: nonce.to_owned(),
    }
}

fn open(session: &mut Session) -> Sotw {
    let mut stream = Sotw::default();
    sent(&mut stream, session);
    stream
}

#[track_caller]
fn only(stream: &mut Sotw, session: &mut Session) -> DiscoveryRequest {
    let mut all = sent(stream, session);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn a_stream_begins_with_wildcards_and_no_version() {
    let mut session = session();
    session.seed(Cluster, "a", "old", &cluster_bytes("a", 1));
    let all = sent(&mut Sotw::default(), &mut session);
    let types: Vec<&str> = all.iter().map(|r| r.type_url.as_str()).collect();
    assert_eq!(types, [Cluster.type_url(), Listener.type_url(), NameTable.type_url()]);
    assert!(all.iter().all(|r| r.version_info.is_empty() && r.resource_names.is_empty()));
    assert!(all[0].node.is_some() && all[1].node.is_none());
}

#[test]
fn an_ack_carries_version_nonce_and_all_names() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a", "b"]));
    let mut stream = open(&mut session);
    stream.handle(&mut session, response(Endpoint, "v1", "n1", vec![endpoint_bytes("a")]));
    let ack = only(&mut stream, &mut session);
    assert_eq!((ack.version_info.as_str(), ack.response_nonce.as_str()), ("v1", "n1"));
    assert_eq!(ack.resource_names, names(&["a", "b"]));
}

#[test]
fn a_nack_repeats_the_last_accepted_version() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, response(Cluster, "v1", "n1", vec![cluster_bytes("a", 1)]));
    sent(&mut stream, &mut session);
    let bad = vec![bad_cluster_bytes("a"), cluster_bytes("b", 1)];
    stream.handle(&mut session, response(Cluster, "v2", "n2", bad));
    assert_eq!(brief(&mut session), "+a . !a +b .");
    let nack = only(&mut stream, &mut session);
    assert_eq!((nack.version_info.as_str(), nack.response_nonce.as_str()), ("v1", "n2"));
    assert!(nack.error_detail.is_some_and(|e| e.message.contains("a: connect_timeout")));
}

#[test]
fn a_changed_subscription_uses_the_latest_nonce() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a"]));
    let mut stream = open(&mut session);
    stream.handle(&mut session, response(Endpoint, "v1", "n1", vec![endpoint_bytes("a")]));
    sent(&mut stream, &mut session);
    session.set_names(Endpoint, names(&["a", "b"]));
    let change = only(&mut stream, &mut session);
    assert_eq!((change.version_info.as_str(), change.response_nonce.as_str()), ("v1", "n1"));
    assert_eq!(change.resource_names, names(&["a", "b"]));
}

#[test]
fn a_cluster_is_deleted_by_absence_and_an_assignment_is_not() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a", "b"]));
    let mut stream = open(&mut session);
    let both = vec![cluster_bytes("a", 1), cluster_bytes("b", 1)];
    stream.handle(&mut session, response(Cluster, "1", "1", both));
    stream.handle(&mut session, response(Cluster, "2", "2", vec![cluster_bytes("a", 1)]));
    assert_eq!(brief(&mut session), "+a +b . -b .");
    let both = vec![endpoint_bytes("a"), endpoint_bytes("b")];
    stream.handle(&mut session, response(Endpoint, "1", "3", both));
    stream.handle(&mut session, response(Endpoint, "2", "4", vec![endpoint_bytes("a")]));
    assert_eq!(brief(&mut session), "+a +b . .");
}

#[test]
fn a_rejected_cluster_is_present_and_an_unnamed_one_suspends_deletion() {
    let mut session = session();
    let mut stream = open(&mut session);
    let three = vec![cluster_bytes("a", 1), cluster_bytes("b", 1), cluster_bytes("c", 1)];
    stream.handle(&mut session, response(Cluster, "1", "1", three));
    let rejected = vec![bad_cluster_bytes("a"), cluster_bytes("b", 1)];
    stream.handle(&mut session, response(Cluster, "2", "2", rejected));
    assert_eq!(brief(&mut session), "+a +b +c . !a -c .");
    let unnamed = vec![Bytes::from_static(&[0xff])];
    stream.handle(&mut session, response(Cluster, "3", "3", unnamed));
    assert_eq!(brief(&mut session), "! .");
}

#[test]
fn what_vanished_during_a_disconnection_is_deleted_by_absence() {
    let mut session = session();
    session.seed(Cluster, "gone", "1", &cluster_bytes("gone", 1));
    let mut stream = open(&mut session);
    stream.handle(&mut session, response(Cluster, "2", "1", vec![cluster_bytes("a", 1)]));
    assert_eq!(brief(&mut session), "+a -gone .");
}

#[test]
fn the_last_name_is_unsubscribed_only_after_an_answer() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a"]));
    let mut stream = open(&mut session);
    session.set_names(Endpoint, names(&[]));
    assert_eq!(sent(&mut stream, &mut session), [], "an empty list without a nonce is the wildcard");
    stream.handle(&mut session, response(Endpoint, "1", "n1", vec![endpoint_bytes("a")]));
    let request = only(&mut stream, &mut session);
    assert_eq!((request.response_nonce.as_str(), request.resource_names), ("n1", names(&[])));
    assert_eq!(brief(&mut session), "+a . ~a");
    stream.handle(&mut session, response(Endpoint, "2", "n2", vec![endpoint_bytes("a")]));
    assert_eq!(brief(&mut session), ".", "a late answer does not revive it");
}

#[test]
fn a_wrapped_resource_is_unwrapped() {
    let mut session = session();
    let mut stream = open(&mut session);
    let inner = Some(any(Cluster, cluster_bytes("a", 1)));
    let wrapper = wire::Resource { name: "a".to_owned(), version: "1".to_owned(), resource: inner };
    let mut message = response(Cluster, "1", "1", vec![]);
    message.resources = vec![Any {
        type_url: "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned(),
        value: Bytes::from(wrapper.encode_to_vec()),
    }];
    stream.handle(&mut session, message);
    assert_eq!(brief(&mut session), "+a .");
}

#[test]
fn what_delta_learned_is_kept_when_the_server_turns_out_to_have_sotw_only() {
    let mut session = session();
    session.seed(Cluster, "a", "1", &cluster_bytes("a", 1));
    let mut delta = crate::ads::delta::Delta::default();
    sent(&mut delta, &mut session);
    session.disconnected();
    let mut stream = open(&mut session);
    stream.handle(&mut session, response(Cluster, "2", "1", vec![cluster_bytes("a", 1)]));
    assert_eq!(brief(&mut session), ".");
}

#[test]
fn two_resources_of_one_name_are_told_apart_without_an_envelope() {
    let mut session = session();
    let mut stream = open(&mut session);
    let twice = vec![cluster_bytes("a", 1), cluster_bytes("b", 1), cluster_bytes("a", 2), cluster_bytes("b", 1)];
    stream.handle(&mut session, response(Cluster, "v1", "n1", twice));
    assert_eq!(brief(&mut session), "+a +b !a .");
    let nack = only(&mut stream, &mut session);
    assert_eq!((nack.version_info.as_str(), nack.response_nonce.as_str()), ("", "n1"));
    assert!(nack.error_detail.is_some_and(|e| e.message.contains("a: it is there twice")));
}
