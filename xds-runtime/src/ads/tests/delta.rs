use super::*;
use crate::ads::delta::Delta;
use crate::ads::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

fn resource(kind: ResourceType, name: &str, version: &str, value: Bytes) -> Resource {
    Resource { name: name.to_owned(), version: version.to_owned(), resource: Some(any(kind, value)) }
}

fn response(kind: ResourceType, nonce: &str, resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce: nonce.to_owned(),
        resources,
        removed_resources: names(removed),
        ..Default::default()
    }
}

fn clusters(nonce: &str, clusters: &[(&str, i64)]) -> DeltaDiscoveryResponse {
    let one = |(name, timeout): &(&str, i64)| resource(Cluster, name, nonce, cluster_bytes(name, *timeout));
    response(Cluster, nonce, clusters.iter().map(one).collect(), &[])
}

fn endpoints(nonce: &str, list: &[&str]) -> DeltaDiscoveryResponse {
    let one = |name: &&str| resource(Endpoint, name, nonce, endpoint_bytes(name));
    response(Endpoint, nonce, list.iter().map(one).collect(), &[])
}

/// A stream whose first requests went out.
fn open(session: &mut Session) -> Delta {
    let mut stream = Delta::default();
    sent(&mut stream, session);
    stream
}

/// The only request that is due, which is a reply: it must not touch subscriptions.
#[track_caller]
fn only_reply(stream: &mut Delta, session: &mut Session) -> DeltaDiscoveryRequest {
    let mut all = sent(stream, session);
    assert_eq!(all.len(), 1, "{all:?}");
    let reply = all.remove(0);
    assert!(!reply.response_nonce.is_empty(), "{reply:?}");
    assert_eq!((reply.resource_names_subscribe.len(), reply.resource_names_unsubscribe.len()), (0, 0));
    reply
}

#[test]
fn a_stream_begins_with_wildcards_and_the_node_once() {
    let mut session = session();
    let all = sent(&mut Delta::default(), &mut session);
    let types: Vec<&str> = all.iter().map(|r| r.type_url.as_str()).collect();
    assert_eq!(types, [Cluster.type_url(), Listener.type_url(), NameTable.type_url()]);
    assert!(all.iter().all(|r| r.resource_names_subscribe.is_empty() && r.response_nonce.is_empty()));
    let with_node: Vec<bool> = all.iter().map(|r| r.node.is_some()).collect();
    assert_eq!(with_node, [true, false, false]);
}

#[test]
fn a_type_without_names_is_never_opened_as_a_wildcard() {
    let mut session = session();
    let mut stream = open(&mut session);
    session.set_names(Endpoint, names(&["a"]));
    session.set_names(Endpoint, names(&[]));
    assert_eq!(sent(&mut stream, &mut session), []);
    session.set_names(Endpoint, names(&["b"]));
    let all = sent(&mut stream, &mut session);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].resource_names_subscribe, names(&["b"]));
    assert_eq!(all[0].resource_names_unsubscribe, names(&[]));
}

#[test]
fn a_change_of_names_sends_the_difference_without_a_nonce() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a", "b"]));
    let mut stream = open(&mut session);
    stream.handle(&mut session, endpoints("1", &["a", "b"]));
    session.set_names(Endpoint, names(&["b", "c"]));
    let all = sent(&mut stream, &mut session);
    assert_eq!(all.len(), 2, "the ACK, and the change beside it");
    assert_eq!(all[0].response_nonce, "1");
    assert_eq!(all[1].response_nonce, "");
    assert_eq!(all[1].resource_names_subscribe, names(&["c"]));
    assert_eq!(all[1].resource_names_unsubscribe, names(&["a"]));
    assert_eq!(brief(&mut session), "+a +b . ~a");
}

#[test]
fn a_response_is_acknowledged_with_its_nonce() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("n1", &[("a", 1)]));
    assert_eq!(brief(&mut session), "+a .");
    let ack = only_reply(&mut stream, &mut session);
    assert_eq!((ack.response_nonce.as_str(), ack.error_detail), ("n1", None));
}

#[test]
fn a_waiting_ack_gives_way_to_a_newer_one_of_its_type_only() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a"]));
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("c1", &[("a", 1)]));
    stream.handle(&mut session, endpoints("e1", &["a"]));
    stream.handle(&mut session, clusters("c2", &[("a", 2)]));
    let nonces: Vec<String> = sent(&mut stream, &mut session).into_iter().map(|r| r.response_nonce).collect();
    assert_eq!(nonces, ["e1", "c2"]);
}

#[test]
fn a_nack_is_not_lost_to_a_newer_ack() {
    let mut session = session();
    let mut stream = open(&mut session);
    let bad = resource(Cluster, "a", "1", bad_cluster_bytes("a"));
    stream.handle(&mut session, response(Cluster, "c1", vec![bad], &[]));
    stream.handle(&mut session, clusters("c2", &[("a", 2)]));
    let replies: Vec<(String, bool)> =
        sent(&mut stream, &mut session).into_iter().map(|r| (r.response_nonce, r.error_detail.is_some())).collect();
    assert_eq!(replies, [("c1".to_owned(), true), ("c2".to_owned(), false)]);
}

#[test]
fn a_nack_names_every_bad_resource_and_the_good_ones_apply() {
    let mut session = session();
    let mut stream = open(&mut session);
    let resources = vec![
        resource(Cluster, "bad1", "1", bad_cluster_bytes("bad1")),
        resource(Cluster, "good", "1", cluster_bytes("good", 1)),
        resource(Cluster, "bad2", "1", Bytes::from_static(&[0xff])),
    ];
    stream.handle(&mut session, response(Cluster, "n1", resources, &[]));
    assert_eq!(brief(&mut session), "!bad1 +good !bad2 .");
    let nack = only_reply(&mut stream, &mut session).error_detail.expect("a NACK");
    assert_eq!(nack.code, 3);
    assert!(nack.message.contains("bad1: connect_timeout: must be over 0"), "{}", nack.message);
    assert!(nack.message.contains("bad2: not a Cluster"), "{}", nack.message);
    assert!(!nack.message.contains("good:"), "{}", nack.message);
}

#[test]
fn the_text_of_a_nack_is_bounded_and_counts_the_rest() {
    let mut session = session();
    let mut stream = open(&mut session);
    let long = "x".repeat(1000);
    let resources = (0..2000)
        .map(|i| resource(Cluster, &format!("{long}{i}"), "1", bad_cluster_bytes(&format!("{long}{i}"))))
        .collect();
    stream.handle(&mut session, response(Cluster, "n1", resources, &[]));
    let nack = only_reply(&mut stream, &mut session).error_detail.expect("a NACK");
    assert!(nack.message.starts_with("2000 rejected: "));
    assert!(nack.message.len() < 300 << 10, "{}", nack.message.len());
    assert!(nack.message.contains("; and "));
}

#[test]
fn a_rejected_resource_keeps_its_last_good_version() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("v1", &[("a", 1)]));
    let bad = resource(Cluster, "a", "v2", bad_cluster_bytes("a"));
    stream.handle(&mut session, response(Cluster, "n2", vec![bad], &[]));
    assert_eq!(brief(&mut session), "+a . !a .");
    session.disconnected();
    let first = sent(&mut Delta::default(), &mut session).remove(0);
    assert_eq!(first.initial_resource_versions.get("a").map(String::as_str), Some("v1"));
}

#[test]
fn a_cluster_that_was_never_good_and_is_removed_is_told_as_gone_once() {
    let mut session = session();
    let mut stream = open(&mut session);
    let bad = resource(Cluster, "a", "1", bad_cluster_bytes("a"));
    stream.handle(&mut session, response(Cluster, "1", vec![bad], &[]));
    stream.handle(&mut session, response(Cluster, "2", vec![], &["a"]));
    stream.handle(&mut session, response(Cluster, "3", vec![], &["a"]));
    assert_eq!(brief(&mut session), "!a . -a . .");
}

#[test]
fn the_return_to_the_accepted_bytes_after_a_rejection_is_told() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("1", &[("a", 1)]));
    let bad = resource(Cluster, "a", "2", bad_cluster_bytes("a"));
    stream.handle(&mut session, response(Cluster, "2", vec![bad], &[]));
    stream.handle(&mut session, clusters("3", &[("a", 1)]));
    assert_eq!(brief(&mut session), "+a . !a . +a .");
}

#[test]
fn a_resend_of_the_same_bytes_is_no_change_but_a_new_version() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("v1", &[("a", 1)]));
    stream.handle(&mut session, clusters("v2", &[("a", 1)]));
    assert_eq!(brief(&mut session), "+a . .");
    let first = sent(&mut Delta::default(), &mut session).remove(0);
    assert_eq!(first.initial_resource_versions.get("a").map(String::as_str), Some("v2"));
}

#[test]
fn removed_resources_are_removed() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("1", &[("a", 1), ("b", 1)]));
    stream.handle(&mut session, response(Cluster, "2", vec![], &["a", "never-known"]));
    assert_eq!(brief(&mut session), "+a +b . -a .");
}

#[test]
fn a_late_answer_does_not_revive_an_unsubscribed_name() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a", "b"]));
    let mut stream = open(&mut session);
    session.set_names(Endpoint, names(&["b"]));
    sent(&mut stream, &mut session);
    stream.handle(&mut session, endpoints("1", &["a", "b"]));
    assert_eq!(brief(&mut session), "+b .");
    assert_eq!(only_reply(&mut stream, &mut session).error_detail, None);
}

#[test]
fn a_name_that_goes_and_comes_back_before_it_was_sent_stays_known() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a", "b"]));
    let mut stream = open(&mut session);
    stream.handle(&mut session, endpoints("1", &["a", "b"]));
    sent(&mut stream, &mut session);
    session.set_names(Endpoint, names(&["b"]));
    session.set_names(Endpoint, names(&["a", "b"]));
    assert_eq!(sent(&mut stream, &mut session), []);
    assert_eq!(brief(&mut session), "+a +b .");
}

#[test]
fn a_name_that_was_unsubscribed_and_returns_is_accepted_again() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a", "b"]));
    let mut stream = open(&mut session);
    stream.handle(&mut session, endpoints("1", &["a", "b"]));
    session.set_names(Endpoint, names(&["b"]));
    sent(&mut stream, &mut session);
    session.set_names(Endpoint, names(&["a", "b"]));
    sent(&mut stream, &mut session);
    stream.handle(&mut session, endpoints("2", &["a"]));
    assert_eq!(brief(&mut session), "+a +b . ~a +a .");
}

#[test]
fn a_reconnect_subscribes_again_and_says_what_is_known() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a", "b"]));
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("c1", &[("x", 1)]));
    stream.handle(&mut session, endpoints("e1", &["a", "b"]));
    session.disconnected();
    session.set_names(Endpoint, names(&["b", "c"]));
    let all = sent(&mut Delta::default(), &mut session);
    assert!(all.iter().all(|r| r.response_nonce.is_empty()), "no reply to the old stream");
    assert_eq!(all[0].initial_resource_versions, [("x".to_owned(), "c1".to_owned())].into());
    assert_eq!(all[1].resource_names_subscribe, names(&["b", "c"]));
    // A name that is listed would be subscribed: `a` must not be.
    assert_eq!(all[1].initial_resource_versions, [("b".to_owned(), "e1".to_owned())].into());
    assert_eq!(brief(&mut session), "+x . +a +b . ~a");
}

#[test]
fn what_vanished_during_a_disconnection_is_removed_on_the_servers_word() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("1", &[("a", 1), ("b", 1)]));
    session.disconnected();
    let mut stream = open(&mut session);
    stream.handle(&mut session, response(Cluster, "2", vec![], &["b"]));
    assert_eq!(brief(&mut session), "+a +b . -b .");
}

/// A session that knows more clusters than one request can list, reconnected.
fn reconnected_with_too_much_to_list() -> (Session, Delta, String) {
    let mut session = session();
    let long = "x".repeat(2 << 20);
    for i in 0..2 {
        let name = format!("{long}{i}");
        session.seed(Cluster, &name, "1", &cluster_bytes(&name, 1));
    }
    let stream = open(&mut session);
    (session, stream, long)
}

#[test]
fn a_reconnect_with_too_much_to_list_infers_removal_from_the_first_response() {
    let (mut session, mut stream, long) = reconnected_with_too_much_to_list();
    stream.handle(&mut session, clusters("1", &[(&format!("{long}0"), 1)]));
    assert_eq!(brief(&mut session), format!("-{long}1 ."));
    stream.handle(&mut session, clusters("2", &[]));
    assert_eq!(brief(&mut session), ".", "only the first response is complete");
}

#[test]
fn bytes_without_a_name_suspend_the_inference_of_removal() {
    let (mut session, mut stream, long) = reconnected_with_too_much_to_list();
    let resources = vec![
        resource(Cluster, &format!("{long}0"), "1", cluster_bytes(&format!("{long}0"), 1)),
        resource(Cluster, "", "1", Bytes::from_static(&[0xff])),
    ];
    stream.handle(&mut session, response(Cluster, "1", resources, &[]));
    assert_eq!(brief(&mut session), "! .");
}

#[test]
fn a_subscribed_name_that_is_not_sent_in_15_s_is_missing() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a", "b", "c"]));
    let start = Instant::now();
    let mut stream = Delta::default();
    while stream.outgoing(&mut session, start).is_some() {}
    stream.handle(&mut session, endpoints("1", &["a"]));
    stream.handle(&mut session, response(Endpoint, "2", vec![], &["b"]));
    assert_eq!(brief(&mut session), "+a . ?b .", "the server's word needs no clock");
    assert_eq!(session.next_deadline(), Some(start + Duration::from_secs(15)));
    assert!(session.is_awaited(Endpoint, "c"));
    session.tick(start + Duration::from_millis(14_999));
    assert_eq!(brief(&mut session), "");
    session.tick(start + Duration::from_secs(15));
    assert_eq!(brief(&mut session), "?c");
    assert_eq!(session.next_deadline(), None);
}

#[test]
fn a_disconnection_stops_the_clocks_and_a_known_name_has_none() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a", "b"]));
    let mut stream = open(&mut session);
    stream.handle(&mut session, endpoints("1", &["a"]));
    session.disconnected();
    assert_eq!(session.next_deadline(), None);
    open(&mut session);
    assert!(session.is_awaited(Endpoint, "b"));
    assert!(!session.is_awaited(Endpoint, "a"));
}

#[test]
fn the_owner_is_told_to_forget_a_missing_name_that_is_no_longer_wanted() {
    let mut session = session();
    session.set_names(Endpoint, names(&["a", "b", "c", "d"]));
    let mut stream = open(&mut session);
    stream.handle(&mut session, endpoints("1", &["a", "b"]));
    let bad = resource(Endpoint, "d", "1", Bytes::from_static(&[0xff]));
    stream.handle(&mut session, response(Endpoint, "2", vec![bad], &["b", "c"]));
    assert_eq!(brief(&mut session), "+a +b . !d -b ?c .");
    session.set_names(Endpoint, names(&["a"]));
    sent(&mut stream, &mut session);
    assert_eq!(brief(&mut session), "~b ~c ~d");
}

#[test]
fn a_type_counts_as_answered_from_its_first_response() {
    let mut session = session();
    let mut stream = open(&mut session);
    assert_eq!(session.sync(Cluster), SyncState::NeverAnswered);
    stream.handle(&mut session, clusters("1", &[]));
    assert_eq!(session.sync(Cluster), SyncState::Answered);
    assert_eq!(session.sync(Route), SyncState::NeverAnswered);
}

#[test]
fn a_type_that_was_never_subscribed_is_refused_and_changes_nothing() {
    let mut session = session();
    let mut stream = open(&mut session);
    let strange = DeltaDiscoveryResponse {
        type_url: "type.googleapis.com/other".to_owned(),
        nonce: "1".to_owned(),
        ..Default::default()
    };
    stream.handle(&mut session, strange);
    let reply = only_reply(&mut stream, &mut session);
    assert_eq!(reply.type_url, "type.googleapis.com/other");
    assert!(reply.error_detail.is_some());
    assert_eq!(brief(&mut session), "");
}

#[test]
fn a_response_without_a_nonce_is_applied_and_not_answered() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("", &[("a", 1)]));
    assert_eq!(brief(&mut session), "+a .");
    assert_eq!(sent(&mut stream, &mut session), []);
}

#[test]
fn a_resource_of_another_type_or_name_is_rejected() {
    let mut session = session();
    let mut stream = open(&mut session);
    let resources = vec![
        resource(Listener, "a", "1", cluster_bytes("a", 1)),
        resource(Cluster, "b", "1", cluster_bytes("other", 1)),
    ];
    stream.handle(&mut session, response(Cluster, "1", resources, &[]));
    assert_eq!(brief(&mut session), "!a !b .");
}

#[test]
fn a_heartbeat_keeps_what_is_known() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("1", &[("a", 1)]));
    let heartbeat = Resource { name: "a".to_owned(), ..Default::default() };
    stream.handle(&mut session, response(Cluster, "2", vec![heartbeat], &[]));
    assert_eq!(brief(&mut session), "+a . .");
}

#[test]
fn many_names_are_subscribed_in_requests_that_a_server_can_receive() {
    let mut session = session();
    let long = "x".repeat(1000);
    session.set_names(Endpoint, (0..10_000).map(|i| format!("{long}{i}")));
    let all = sent(&mut Delta::default(), &mut session);
    let sizes: Vec<usize> = all.iter().map(Message::encoded_len).collect();
    assert!(sizes.iter().all(|size| *size < 4 << 20), "{sizes:?}");
    let total: usize = all.iter().map(|r| r.resource_names_subscribe.len()).sum();
    assert_eq!(total, 10_000);
}

#[test]
fn the_name_table_is_accepted_and_replaced_without_a_name() {
    let mut session = session();
    let mut stream = open(&mut session);
    let table = |nonce: &str, value: &'static [u8]| {
        response(NameTable, nonce, vec![resource(NameTable, "", nonce, Bytes::from_static(value))], &[])
    };
    stream.handle(&mut session, table("1", b""));
    // One entry: host "a", nothing known about it.
    stream.handle(&mut session, table("2", b"\x0a\x03\x0a\x01a"));
    stream.handle(&mut session, table("3", b"\x0a\x03\x0a\x01a"));
    stream.handle(&mut session, table("4", b"\xff"));
    assert_eq!(brief(&mut session), "+ . + . . ! .");
    session.disconnected();
    let all = sent(&mut Delta::default(), &mut session);
    assert!(all.iter().all(|r| !r.initial_resource_versions.contains_key("")));
}

#[test]
fn of_two_resources_of_one_name_the_first_applies_and_the_other_is_rejected_by_name() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("1", &[("a", 1)]));
    sent(&mut stream, &mut session);
    stream.handle(&mut session, clusters("2", &[("a", 2), ("b", 1), ("a", 3)]));
    assert_eq!(brief(&mut session), "+a . +a +b !a .");
    let nack = only_reply(&mut stream, &mut session).error_detail.expect("a NACK");
    assert!(nack.message.starts_with("1 rejected: a: it is there twice"), "{}", nack.message);
    // The known one first: it stays, and its namesake does not replace it.
    stream.handle(&mut session, clusters("3", &[("b", 1), ("b", 2)]));
    assert_eq!(brief(&mut session), "!b .");
}

#[test]
fn the_same_resource_twice_is_no_fault() {
    let mut session = session();
    let mut stream = open(&mut session);
    stream.handle(&mut session, clusters("1", &[("a", 1), ("a", 1)]));
    assert_eq!(brief(&mut session), "+a .");
    assert_eq!(only_reply(&mut stream, &mut session).error_detail, None);
}
