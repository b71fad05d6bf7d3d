//! Delta ADS: one stream.
//!
//! Rules that shaped it (xDS protocol, and what istiod does):
//! * an empty first subscription of a type is the wildcard, so a type that is subscribed by name sends nothing
//!   until it has names;
//! * replies (with a nonce) never carry names, changes of subscriptions never carry a nonce;
//! * an ACK waiting to be sent is replaced by a newer one of its type; a NACK is never lost;
//! * names in `initial_resource_versions` take part in removal: only wanted names are listed.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::machine::Protocol;
use super::nack::Complaints;
use super::session::{Incoming, Session, index, is_wildcard};
use super::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status};
use crate::resource::ResourceType;

/// Room for names in one request: istiod receives at most 4 MiB a message.
const NAMES_MOST: usize = 3 << 20;
/// Replies that may wait: a driver that sends after each response never has more than one.
const REPLIES_MOST: usize = 1024;
/// gRPC's INVALID_ARGUMENT.
const INVALID_ARGUMENT: i32 = 3;

/// One type on one stream.
#[derive(Debug, Default)]
struct Kind {
    /// The first request was made.
    opened: bool,
    /// Names that the server has been told.
    subscribed: BTreeSet<String>,
    /// The first request could not list all that is known: the first response, which is complete for a wildcard,
    /// decides what is gone.
    infer_removal: bool,
}

/// One delta stream; see [`Protocol`].
#[derive(Debug, Default)]
pub struct Delta {
    node_sent: bool,
    kinds: [Kind; ResourceType::ALL.len()],
    replies: VecDeque<DeltaDiscoveryRequest>,
}

impl Protocol for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;
    const METHOD: &'static str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    const NAME: &'static str = "delta";

    fn outgoing(&mut self, session: &mut Session, now: Instant) -> Option<DeltaDiscoveryRequest> {
        let mut request = match self.replies.pop_front() {
            Some(reply) => reply,
            None => ResourceType::ALL.into_iter().find_map(|kind| self.subscription(kind, session, now))?,
        };
        if !std::mem::replace(&mut self.node_sent, true) {
            request.node = Some(session.node().clone());
        }
        Some(request)
    }

    fn handle(&mut self, session: &mut Session, response: DeltaDiscoveryResponse) {
        let Some(kind) = ResourceType::from_type_url(&response.type_url) else {
            let message = "this type was never subscribed".to_owned();
            self.reply(response.type_url, response.nonce, Some(Status { code: INVALID_ARGUMENT, message }));
            return;
        };
        let state = &mut self.kinds[index(kind)];
        let subscribed = &state.subscribed;
        let is_subscribed = |name: &str| is_wildcard(kind) || subscribed.contains(name);
        let mut complaints = Complaints::default();
        let mut present = BTreeSet::new();
        for resource in response.resources {
            if !resource.name.is_empty() && !is_subscribed(&resource.name) {
                continue;
            }
            // Without content it is a heartbeat: what is known stays.
            let Some(any) = resource.resource else {
                present.insert(resource.name);
                continue;
            };
            let incoming = Incoming {
                kind,
                name: &resource.name,
                version: &resource.version,
                type_url: &any.type_url,
                value: any.value,
                is_subscribed: &is_subscribed,
            };
            present.extend(session.receive(incoming, &mut complaints));
        }
        for name in response.removed_resources {
            if is_subscribed(&name) {
                session.gone(kind, name);
            }
        }
        if std::mem::take(&mut state.infer_removal) && complaints.absence_proves_removal() {
            session.retain(kind, &present);
        }
        session.answered(kind, &response.system_version_info);
        self.reply(response.type_url, response.nonce, complaints.into_status());
    }
}

impl Delta {
    /// The next change of subscriptions of a type.
    fn subscription(
        &mut self,
        kind: ResourceType,
        session: &mut Session,
        now: Instant,
    ) -> Option<DeltaDiscoveryRequest> {
        let state = &mut self.kinds[index(kind)];
        let mut request = DeltaDiscoveryRequest { type_url: kind.type_url().to_owned(), ..Default::default() };
        if is_wildcard(kind) {
            if std::mem::replace(&mut state.opened, true) {
                return None;
            }
            state.infer_removal = !list_versions(kind, session, &mut request);
            return Some(request);
        }
        if !state.opened && session.wanted(kind).is_empty() {
            return None;
        }
        let mut room = NAMES_MOST;
        let added: Vec<String> = session
            .wanted(kind)
            .difference(&state.subscribed)
            .take_while(|name| take_room(&mut room, name.len()))
            .cloned()
            .collect();
        let dropped: Vec<String> = state
            .subscribed
            .difference(session.wanted(kind))
            .take_while(|name| take_room(&mut room, name.len()))
            .cloned()
            .collect();
        if added.is_empty() && dropped.is_empty() {
            return None;
        }
        session.forget_unwanted(kind);
        for name in &added {
            if !state.opened {
                request.initial_resource_versions.extend(version_of(kind, session, name, &mut room));
            }
            session.subscribing(kind, name, now);
            state.subscribed.insert(name.clone());
        }
        for name in &dropped {
            state.subscribed.remove(name);
        }
        state.opened = true;
        request.resource_names_subscribe = added;
        request.resource_names_unsubscribe = dropped;
        Some(request)
    }

    fn reply(&mut self, type_url: String, nonce: String, error_detail: Option<Status>) {
        // Without a nonce a request is not a reply: it would change subscriptions.
        if nonce.is_empty() {
            return;
        }
        let stale = |r: &DeltaDiscoveryRequest| r.error_detail.is_none() && r.type_url == type_url;
        if error_detail.is_none() {
            self.replies.retain(|r| !stale(r));
        }
        if self.replies.len() < REPLIES_MOST {
            self.replies.push_back(DeltaDiscoveryRequest {
                type_url,
                response_nonce: nonce,
                error_detail,
                ..Default::default()
            });
        }
    }
}

/// Lists what is known of a wildcard type; false when not all of it had room.
fn list_versions(kind: ResourceType, session: &Session, request: &mut DeltaDiscoveryRequest) -> bool {
    let mut room = NAMES_MOST;
    // The name table has no name to be listed under.
    for (name, version) in session.versions(kind).filter(|(name, _)| !name.is_empty()) {
        if !take_room(&mut room, name.len().saturating_add(version.len())) {
            return false;
        }
        request.initial_resource_versions.insert(name.clone(), version.to_owned());
    }
    true
}

fn version_of(kind: ResourceType, session: &Session, name: &str, room: &mut usize) -> Option<(String, String)> {
    let (name, version) = session.version(kind, name)?;
    take_room(room, name.len().saturating_add(version.len())).then(|| (name.clone(), version.to_owned()))
}

/// Takes room for `bytes` and what the encoding adds; false when there is none.
fn take_room(room: &mut usize, bytes: usize) -> bool {
    match room.checked_sub(bytes.saturating_add(12)) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    }
}
