//! State-of-the-world ADS: one stream, for servers without delta.
//!
//! Rules that shaped it (xDS protocol):
//! * every request of a type carries all its names and the latest nonce; one with an older nonce is dropped by the
//!   server in silence, and repaired by the reply to the response that made it old;
//! * `version_info` is the last accepted version of this stream: an older stream's version could make a server
//!   hold back what this one needs;
//! * a listener or cluster that is absent from a response is gone; a route or an assignment is not;
//! * an empty list of names is the wildcard before the first response of a type and unsubscribes after it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::machine::Protocol;
use super::nack::Complaints;
use super::session::{Incoming, Session, index, is_wildcard};
use super::wire::{DiscoveryRequest, DiscoveryResponse, Status};
use crate::resource::ResourceType;

/// Replies that may wait: a driver that sends after each response never has more than one.
const REPLIES_MOST: usize = 1024;

/// One type on one stream.
#[derive(Debug, Default)]
struct Kind {
    opened: bool,
    /// Names in the last request.
    subscribed: BTreeSet<String>,
    /// Nonce of the latest response.
    nonce: String,
    /// Version of the last accepted response.
    version: String,
}

/// A response to be answered.
#[derive(Debug)]
struct Reply {
    kind: ResourceType,
    nonce: String,
    error_detail: Option<Status>,
}

/// One SotW stream; see [`Protocol`].
#[derive(Debug, Default)]
pub struct Sotw {
    node_sent: bool,
    kinds: [Kind; ResourceType::ALL.len()],
    replies: VecDeque<Reply>,
}

impl Protocol for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;
    const METHOD: &'static str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
    const NAME: &'static str = "sotw";

    fn outgoing(&mut self, session: &mut Session, now: Instant) -> Option<DiscoveryRequest> {
        let mut request = match self.replies.pop_front() {
            Some(reply) => {
                let mut request = self.request(reply.kind, session, now);
                request.response_nonce = reply.nonce;
                request.error_detail = reply.error_detail;
                request
            }
            None => {
                let due = ResourceType::ALL.into_iter().find(|kind| self.is_due(*kind, session))?;
                self.request(due, session, now)
            }
        };
        if !std::mem::replace(&mut self.node_sent, true) {
            request.node = Some(session.node().clone());
        }
        Some(request)
    }

    fn handle(&mut self, session: &mut Session, response: DiscoveryResponse) {
        // Without a type it cannot be said which one to answer for; a NACK would subscribe to that type.
        let Some(kind) = ResourceType::from_type_url(&response.type_url) else {
            return;
        };
        let state = &mut self.kinds[index(kind)];
        let subscribed = &state.subscribed;
        let is_subscribed = |name: &str| is_wildcard(kind) || subscribed.contains(name);
        let mut complaints = Complaints::default();
        let mut present = BTreeSet::new();
        for any in response.resources {
            let incoming = Incoming {
                kind,
                name: "",
                version: &response.version_info,
                type_url: &any.type_url,
                value: any.value,
                is_subscribed: &is_subscribed,
            };
            present.extend(session.receive(incoming, &mut complaints));
        }
        if is_wildcard(kind) && complaints.absence_proves_removal() {
            session.retain(kind, &present);
        }
        session.answered(kind, &response.version_info);
        let error_detail = complaints.into_status();
        if error_detail.is_none() {
            state.version = response.version_info;
        }
        state.nonce.clone_from(&response.nonce);
        self.reply(Reply { kind, nonce: response.nonce, error_detail });
    }
}

impl Sotw {
    /// Whether the server must be told other names than it was.
    fn is_due(&self, kind: ResourceType, session: &Session) -> bool {
        let state = &self.kinds[index(kind)];
        if is_wildcard(kind) {
            return !state.opened;
        }
        let wanted = session.wanted(kind);
        if wanted.is_empty() && (!state.opened || state.nonce.is_empty()) {
            return false;
        }
        *wanted != state.subscribed
    }

    fn request(&mut self, kind: ResourceType, session: &mut Session, now: Instant) -> DiscoveryRequest {
        let state = &mut self.kinds[index(kind)];
        state.opened = true;
        let wanted = session.wanted(kind).clone();
        if wanted != state.subscribed {
            session.forget_unwanted(kind);
            for name in wanted.difference(&state.subscribed) {
                session.subscribing(kind, name, now);
            }
            state.subscribed.clone_from(&wanted);
        }
        DiscoveryRequest {
            version_info: state.version.clone(),
            resource_names: wanted.into_iter().collect(),
            type_url: kind.type_url().to_owned(),
            response_nonce: state.nonce.clone(),
            ..Default::default()
        }
    }

    fn reply(&mut self, reply: Reply) {
        // Without a nonce a request is a first one: it would be answered in full, again and again.
        if reply.nonce.is_empty() {
            return;
        }
        if reply.error_detail.is_none() {
            self.replies.retain(|r| r.kind != reply.kind || r.error_detail.is_some());
        }
        if self.replies.len() < REPLIES_MOST {
            self.replies.push_back(reply);
        }
    }
}
