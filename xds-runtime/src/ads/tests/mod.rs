//! Behaviour of the sans-io machine: synchronous, one test per rule.

#![allow(clippy::expect_used, reason = "a failed expectation is how a test fails")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use prost::Message;

use super::event::{Event, Removal};
use super::machine::Protocol;
use super::session::{Session, SyncState};
use super::wire::{self, Any};
use crate::resource::ResourceType::{self, Cluster, Endpoint, Listener, NameTable, Route};

mod client;
mod delta;
mod random;
mod server;
mod sotw;

/// A session for a node with an id.
fn session() -> Session {
    Session::new(wire::Node { id: "node".to_owned(), ..Default::default() })
}

/// Everything that the stream has to send now.
fn sent<P: Protocol>(stream: &mut P, session: &mut Session) -> Vec<P::Request> {
    let now = Instant::now();
    std::iter::from_fn(|| stream.outgoing(session, now)).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// A STATIC cluster without endpoints; `timeout` seconds make one version differ from another.
fn cluster_bytes(name: &str, timeout: i64) -> Bytes {
    let connect_timeout = Some(envoy_types::pb::google::protobuf::Duration { seconds: timeout, nanos: 0 });
    let cluster = cluster::Cluster { name: name.to_owned(), connect_timeout, ..Default::default() };
    Bytes::from(cluster.encode_to_vec())
}

/// A cluster that breaks a rule: its connect timeout is 0.
fn bad_cluster_bytes(name: &str) -> Bytes {
    cluster_bytes(name, 0)
}

fn endpoint_bytes(name: &str) -> Bytes {
    let assignment = endpoint::ClusterLoadAssignment { cluster_name: name.to_owned(), ..Default::default() };
    Bytes::from(assignment.encode_to_vec())
}

fn any(kind: ResourceType, value: Bytes) -> Any {
    Any { type_url: kind.type_url().to_owned(), value }
}

/// Events in short: `+name` accepted, `-name` removed by the server, `~name` unsubscribed, `?name` missing,
/// `!name` rejected, `.` end of a response.
fn brief(session: &mut Session) -> String {
    let word = |event: Event| match event {
        Event::Accepted { name, .. } => format!("+{name}"),
        Event::Removed { name, why: Removal::Server, .. } => format!("-{name}"),
        Event::Removed { name, why: Removal::Unsubscribed, .. } => format!("~{name}"),
        Event::Missing { name, .. } => format!("?{name}"),
        Event::Rejected { name, .. } => format!("!{name}"),
        Event::Answered { .. } => ".".to_owned(),
    };
    session.take_events().into_iter().map(word).collect::<Vec<_>>().join(" ")
}
