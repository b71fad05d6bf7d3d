//! What both protocols have in common: a session gets requests and configurations, and gives responses.

use envoy_types::pb::envoy::config::core::v3::Node;

use crate::{Resources, type_url};

/// A configuration as one client sees it.
pub(super) struct View<'a> {
    pub generation: u64,
    pub resources: &'a Resources,
}

/// One client's stream, without its bytes.
pub(super) trait Session: Default + Send + 'static {
    type Request: Send;
    type Response: prost::Message + Send;

    /// The node, which a client sends at least with its first request.
    fn node(request: &Self::Request) -> Option<&Node>;

    /// Handles a request: what to answer, and what the request says of an earlier answer.
    fn request(&mut self, request: Self::Request, view: &View<'_>) -> (Vec<Self::Response>, Option<Verdict>);

    /// What a new configuration changes for this client.
    fn update(&mut self, view: &View<'_>) -> Vec<Self::Response>;

    /// The type of a response.
    fn type_url(response: &Self::Response) -> &str;

    /// For each type of which everything sent was accepted: up to which generation.
    fn acked(&self) -> Vec<(String, u64)>;
}

/// A client's word on a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ack { type_url: String },
    Nack { type_url: String, nonce: String, message: String },
}

/// Types of which a client always gets everything; names in requests are ignored, as in istiod.
pub(super) fn is_wildcard(url: &str) -> bool {
    matches!(url, type_url::LISTENER | type_url::CLUSTER | type_url::NAME_TABLE)
}

/// Types of which a client only ever gets what it names.
pub(super) fn is_by_name(url: &str) -> bool {
    matches!(url, type_url::ROUTE | type_url::ENDPOINT)
}

/// The subscribed types in the order of pushing, types that istiod does not know at the end.
pub(super) fn in_push_order<'a>(types: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut types: Vec<String> = types.cloned().collect();
    let rank = |url: &String| type_url::PUSH_ORDER.iter().position(|known| known == url).unwrap_or(usize::MAX);
    types.sort_by_key(rank);
    types
}

/// Book-keeping of nonces for one type: what was sent last, and whether the client took it.
///
/// ```text
///            send                      ack of the last nonce
///   Settled ------> Outstanding(nonce) ----------------------> Settled, acked up to what was checked
///                        | nack
///                        v
///                     Settled, acked as before
/// ```
#[derive(Debug, Default)]
pub(super) struct Nonces {
    last: String,
    outstanding: bool,
    refused: bool,
    checked: u64,
    acked: Option<u64>,
}

impl Nonces {
    /// A response with this nonce goes out.
    pub fn sent(&mut self, nonce: String) {
        self.last = nonce;
        self.outstanding = true;
        self.refused = false;
    }

    /// The session looked at this generation; with nothing outstanding, the client has it.
    pub fn checked(&mut self, generation: u64) {
        self.checked = generation;
        if !self.outstanding && !self.refused {
            self.acked = Some(generation);
        }
    }

    /// True for the nonce of the last response.
    pub fn is_last(&self, nonce: &str) -> bool {
        self.last == nonce
    }

    /// The client accepted the last response.
    pub fn accept(&mut self) {
        self.outstanding = false;
        self.refused = false;
        self.acked = Some(self.checked);
    }

    /// The client refused the last response.
    pub fn refuse(&mut self) {
        self.outstanding = false;
        self.refused = true;
    }

    /// Up to which generation the client has everything.
    pub fn acked(&self) -> Option<u64> {
        self.acked
    }
}
