//! Delta ADS, as istiod speaks it.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

use super::session::{Nonces, Session, Verdict, View, in_push_order, is_by_name, is_wildcard};
use crate::{Entry, type_url};

/// A delta stream.
#[derive(Debug, Default)]
pub(super) struct Delta {
    types: BTreeMap<String, Subscription>,
    nonce: u64,
}

/// What a client has and wants of one type.
#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Version the client was sent; `None` = it was told that there is no such resource.
    sent: BTreeMap<String, Option<String>>,
    nonces: Nonces,
}

impl Session for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn node(request: &DeltaDiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(response: &DeltaDiscoveryResponse) -> &str {
        &response.type_url
    }

    fn request(
        &mut self,
        request: DeltaDiscoveryRequest,
        view: &View<'_>,
    ) -> (Vec<DeltaDiscoveryResponse>, Option<Verdict>) {
        let url = request.type_url.clone();
        let first = !self.types.contains_key(&url);
        let subscription = self.types.entry(url.clone()).or_default();
        let verdict = subscription.verdict(&request);
        let must_answer = subscription.change(request, first);
        let mut responses = Vec::new();
        if must_answer {
            responses.extend(self.answer(&url, view, true));
            // istiod sends endpoints again after it answered a request for clusters: a client that got a new
            // cluster waits for them.
            if url == type_url::CLUSTER && self.forget_versions(type_url::ENDPOINT) {
                responses.extend(self.answer(type_url::ENDPOINT, view, false));
            }
        }
        (responses, verdict)
    }

    fn update(&mut self, view: &View<'_>) -> Vec<DeltaDiscoveryResponse> {
        let types = in_push_order(self.types.keys());
        types.iter().filter_map(|url| self.answer(url, view, false)).collect()
    }

    fn acked(&self) -> Vec<(String, u64)> {
        let acked = |(url, subscription): (&String, &Subscription)| Some((url.clone(), subscription.nonces.acked()?));
        self.types.iter().filter_map(acked).collect()
    }
}

impl Delta {
    /// What the client lacks of a type; `None` when that is nothing, unless an answer is due anyway.
    fn answer(&mut self, url: &str, view: &View<'_>, due: bool) -> Option<DeltaDiscoveryResponse> {
        let subscription = self.types.get_mut(url)?;
        let none = BTreeMap::new();
        let (changed, removed) = subscription.difference(url, view.resources.get(url).unwrap_or(&none));
        if changed.is_empty() && removed.is_empty() && !due {
            subscription.nonces.checked(view.generation);
            return None;
        }
        self.nonce = self.nonce.wrapping_add(1);
        subscription.nonces.sent(self.nonce.to_string());
        subscription.nonces.checked(view.generation);
        Some(DeltaDiscoveryResponse {
            system_version_info: view.generation.to_string(),
            type_url: url.to_owned(),
            resources: changed,
            removed_resources: removed,
            nonce: self.nonce.to_string(),
            ..Default::default()
        })
    }

    /// Makes the next answer of a type contain everything again; false when it is not subscribed.
    fn forget_versions(&mut self, url: &str) -> bool {
        let Some(subscription) = self.types.get_mut(url) else {
            return false;
        };
        for version in subscription.sent.values_mut().flatten() {
            version.clear();
        }
        true
    }
}

impl Subscription {
    /// What the request says of an earlier response; a stale nonce says nothing.
    fn verdict(&mut self, request: &DeltaDiscoveryRequest) -> Option<Verdict> {
        if request.response_nonce.is_empty() || !self.nonces.is_last(&request.response_nonce) {
            return None;
        }
        let type_url = request.type_url.clone();
        Some(match &request.error_detail {
            Some(error) => {
                self.nonces.refuse();
                Verdict::Nack { type_url, nonce: request.response_nonce.clone(), message: error.message.clone() }
            }
            None => {
                self.nonces.accept();
                Verdict::Ack { type_url }
            }
        })
    }

    /// Applies changes of the subscription; true when they call for an answer.
    fn change(&mut self, request: DeltaDiscoveryRequest, first: bool) -> bool {
        if first {
            self.wildcard = is_wildcard(&request.type_url)
                || (request.resource_names_subscribe.is_empty() && !is_by_name(&request.type_url));
            // A reconnecting client says what it has, so that removals reach it. istiod does not believe the
            // versions: everything is sent again.
            self.sent.extend(request.initial_resource_versions.into_keys().map(|name| (name, Some(String::new()))));
        }
        let mut must_answer = first && self.wildcard;
        if is_wildcard(&request.type_url) {
            return must_answer;
        }
        for name in request.resource_names_unsubscribe {
            if name == "*" {
                self.wildcard = false;
            }
            self.names.remove(&name);
            self.sent.remove(&name);
        }
        for name in request.resource_names_subscribe {
            must_answer = true;
            if name == "*" {
                self.wildcard = true;
                continue;
            }
            // Asking again for what one has means that one lost it. The version is kept as unknown so that a
            // resource that is gone is reported as removed.
            self.sent.remove(&name);
            self.names.insert(name);
        }
        must_answer
    }

    /// Resources to send and names to remove, noted as sent.
    fn difference(&mut self, url: &str, resources: &BTreeMap<String, Entry>) -> (Vec<Resource>, Vec<String>) {
        let mut removed = Vec::new();
        let mut wanted: Vec<(&String, &Entry)> = Vec::new();
        if self.wildcard {
            wanted.extend(resources);
            self.sent.retain(|name, version| {
                let gone = !resources.contains_key(name) && version.is_some();
                if gone {
                    removed.push(name.clone());
                }
                !gone
            });
        } else {
            for name in &self.names {
                match resources.get_key_value(name) {
                    Some(found) => wanted.push(found),
                    None => {
                        if self.sent.insert(name.clone(), None) != Some(None) {
                            removed.push(name.clone());
                        }
                    }
                }
            }
        }
        let is_new = |(name, entry): &(&String, &Entry)| {
            self.sent.get(*name).and_then(Option::as_deref) != Some(entry.version.as_str())
        };
        // istiod has no real delta for listeners: a change of one sends them all.
        let everything = url == type_url::LISTENER && wanted.iter().any(is_new);
        if !everything {
            wanted.retain(is_new);
        }
        let changed = wanted
            .into_iter()
            .map(|(name, entry)| {
                self.sent.insert(name.clone(), Some(entry.version.clone()));
                Resource {
                    name: name.clone(),
                    version: entry.version.clone(),
                    resource: Some(entry.resource.clone()),
                    ..Default::default()
                }
            })
            .collect();
        (changed, removed)
    }
}
