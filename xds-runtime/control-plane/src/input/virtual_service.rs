//! Istio's VirtualService.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use serde::Deserialize;

use super::policy::PortNumber;
use super::scalar::{Address, nullable};

/// The spec of a VirtualService.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "the spec of a VirtualService")]
pub(crate) struct VirtualService {
    pub hosts: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub gateways: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub http: Vec<HttpRoute>,
    #[serde(default, deserialize_with = "nullable")]
    pub tcp: Vec<TcpRoute>,
}

/// An HTTP rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an HTTP route")]
pub(crate) struct HttpRoute {
    pub name: String,
    #[serde(rename = "match", deserialize_with = "nullable")]
    pub matches: Vec<HttpMatch>,
    #[serde(deserialize_with = "nullable")]
    pub route: Vec<Weighted>,
    pub redirect: Option<Redirect>,
    pub direct_response: Option<DirectResponse>,
}

/// One alternative of an HTTP rule's condition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an HTTP match")]
pub(crate) struct HttpMatch {
    pub uri: Option<StringMatch>,
    pub method: Option<StringMatch>,
    pub authority: Option<StringMatch>,
    #[serde(deserialize_with = "nullable")]
    pub headers: BTreeMap<String, StringMatch>,
    #[serde(deserialize_with = "nullable")]
    pub without_headers: BTreeMap<String, StringMatch>,
    #[serde(deserialize_with = "nullable")]
    pub query_params: BTreeMap<String, StringMatch>,
    pub port: Option<NonZeroU16>,
}

/// A condition on a string; with no key, the string only has to be there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, expecting = "one of exact, prefix, regex")]
pub(crate) struct StringMatch {
    pub exact: Option<String>,
    pub prefix: Option<String>,
    pub regex: Option<String>,
}

/// A redirect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a redirect")]
pub(crate) struct Redirect {
    pub uri: String,
    pub authority: String,
}

/// An answer without an upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a direct response")]
pub(crate) struct DirectResponse {
    pub status: u32,
}

/// A TCP rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a TCP route")]
pub(crate) struct TcpRoute {
    #[serde(rename = "match", default, deserialize_with = "nullable")]
    pub matches: Vec<TcpMatch>,
    pub route: Vec<Weighted>,
}

/// One alternative of a TCP rule's condition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a TCP match")]
pub(crate) struct TcpMatch {
    pub port: Option<NonZeroU16>,
    #[serde(deserialize_with = "nullable")]
    pub destination_subnets: Vec<Address>,
    #[serde(deserialize_with = "nullable")]
    pub source_labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub source_namespace: String,
    #[serde(deserialize_with = "nullable")]
    pub gateways: Vec<String>,
}

/// A destination with its share.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a weighted destination")]
pub(crate) struct Weighted {
    pub destination: Destination,
    #[serde(default)]
    pub weight: u32,
}

/// Where a rule sends.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a destination")]
pub(crate) struct Destination {
    pub host: String,
    #[serde(default)]
    pub subset: String,
    #[serde(default)]
    pub port: Option<PortNumber>,
}
