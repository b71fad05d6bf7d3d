//! State-of-the-world ADS, as istiod speaks it.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};

use super::session::{Nonces, Session, Verdict, View, in_push_order, is_by_name, is_wildcard};
use crate::Entry;

/// A state-of-the-world stream.
#[derive(Debug, Default)]
pub(super) struct Sotw {
    types: BTreeMap<String, Subscription>,
    nonce: u64,
}

/// What a client has and wants of one type.
#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Versions in the last response, `None` before the first.
    sent: Option<BTreeMap<String, String>>,
    nonces: Nonces,
}

impl Session for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn node(request: &DiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(response: &DiscoveryResponse) -> &str {
        &response.type_url
    }

    fn request(&mut self, request: DiscoveryRequest, view: &View<'_>) -> (Vec<DiscoveryResponse>, Option<Verdict>) {
        let url = request.type_url.clone();
        let subscription = self.types.entry(url.clone()).or_default();
        let starts = request.response_nonce.is_empty();
        if !starts && !subscription.nonces.is_last(&request.response_nonce) {
            // Stale: the client will answer the later response too.
            return (Vec::new(), None);
        }
        let verdict = (!starts).then(|| subscription.verdict(&request));
        let names: BTreeSet<String> = request.resource_names.into_iter().collect();
        subscription.wildcard = is_wildcard(&url) || (names.is_empty() && !is_by_name(&url));
        let asks_for_more = !names.is_subset(&subscription.names);
        subscription.names = names;
        let due =
            if subscription.wildcard { starts } else { asks_for_more || (starts && !subscription.names.is_empty()) };
        (self.answer(&url, view, due).into_iter().collect(), verdict)
    }

    fn update(&mut self, view: &View<'_>) -> Vec<DiscoveryResponse> {
        let types = in_push_order(self.types.keys());
        types.iter().filter_map(|url| self.answer(url, view, false)).collect()
    }

    fn acked(&self) -> Vec<(String, u64)> {
        let acked = |(url, subscription): (&String, &Subscription)| Some((url.clone(), subscription.nonces.acked()?));
        self.types.iter().filter_map(acked).collect()
    }
}

impl Sotw {
    /// The whole state of a type when it is not what the client was sent last, or when an answer is due.
    fn answer(&mut self, url: &str, view: &View<'_>, due: bool) -> Option<DiscoveryResponse> {
        let subscription = self.types.get_mut(url)?;
        let none = BTreeMap::new();
        let wanted: Vec<(&String, &Entry)> = view
            .resources
            .get(url)
            .unwrap_or(&none)
            .iter()
            .filter(|(name, _)| subscription.wildcard || subscription.names.contains(*name))
            .collect();
        let versions: BTreeMap<String, String> =
            wanted.iter().map(|(name, entry)| ((*name).clone(), entry.version.clone())).collect();
        if !due && subscription.is_nothing_new(&versions) {
            subscription.nonces.checked(view.generation);
            return None;
        }
        subscription.sent = Some(versions);
        self.nonce = self.nonce.wrapping_add(1);
        subscription.nonces.sent(self.nonce.to_string());
        subscription.nonces.checked(view.generation);
        Some(DiscoveryResponse {
            version_info: view.generation.to_string(),
            type_url: url.to_owned(),
            resources: wanted.into_iter().map(|(_, entry)| entry.resource.clone()).collect(),
            nonce: self.nonce.to_string(),
            ..Default::default()
        })
    }
}

impl Subscription {
    fn verdict(&mut self, request: &DiscoveryRequest) -> Verdict {
        let type_url = request.type_url.clone();
        match &request.error_detail {
            Some(error) => {
                self.nonces.refuse();
                Verdict::Nack { type_url, nonce: request.response_nonce.clone(), message: error.message.clone() }
            }
            None => {
                self.nonces.accept();
                Verdict::Ack { type_url }
            }
        }
    }

    /// Whether a client that was sent `self.sent` needs nothing. Names it no longer wants do not count, and before
    /// its first answer only a request can call for one.
    fn is_nothing_new(&self, versions: &BTreeMap<String, String>) -> bool {
        let Some(sent) = &self.sent else {
            return versions.is_empty();
        };
        if self.wildcard {
            return sent == versions;
        }
        let still_wanted = sent.iter().filter(|(name, _)| self.names.contains(*name));
        still_wanted.eq(versions.iter())
    }
}
