//! Istio's ServiceEntry.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use serde::Deserialize;

use super::kubernetes::Labels;
use super::scalar::{Address, nullable};

/// The spec of a ServiceEntry.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "the spec of a ServiceEntry")]
pub(crate) struct ServiceEntry {
    pub hosts: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub addresses: Vec<Address>,
    #[serde(default, deserialize_with = "nullable")]
    pub ports: Vec<EntryPort>,
    #[serde(default)]
    pub resolution: ServiceEntryResolution,
    #[serde(default, deserialize_with = "nullable")]
    pub endpoints: Vec<EntryEndpoint>,
}

/// A port of a ServiceEntry.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a port of a ServiceEntry")]
pub(crate) struct EntryPort {
    pub number: NonZeroU16,
    #[serde(default)]
    pub protocol: String,
    pub name: String,
    #[serde(default)]
    pub target_port: Option<NonZeroU16>,
}

/// Where a ServiceEntry's endpoints come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ServiceEntryResolution {
    #[default]
    None,
    Static,
    Dns,
    DnsRoundRobin,
}

/// An endpoint of a ServiceEntry.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "an endpoint of a ServiceEntry")]
pub(crate) struct EntryEndpoint {
    pub address: String,
    #[serde(default, deserialize_with = "nullable")]
    pub ports: BTreeMap<String, NonZeroU16>,
    #[serde(default, deserialize_with = "nullable")]
    pub labels: Labels,
    /// `region/zone/subzone`.
    #[serde(default)]
    pub locality: String,
    #[serde(default)]
    pub weight: Option<u32>,
}
