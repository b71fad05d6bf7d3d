//! `status.json`: what the leader says about itself, for `ldmesh status`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::resources::Resources;
use crate::resource::ResourceType;
use crate::shm::Millis;

/// The leader's report. Times are CLOCK_BOOTTIME milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// When it was written.
    pub written: Millis,
    /// Who leads.
    pub leader: LeaderStatus,
    /// The control plane.
    pub control_plane: ControlPlaneStatus,
    /// Per type.
    pub types: Vec<TypeStatus>,
    /// Settings that were not taken, and what does not work.
    pub problems: Vec<String>,
    /// What the mesh says and this build leaves out.
    pub notes: Vec<String>,
}

/// Who leads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaderStatus {
    /// `agent` or `thread`.
    pub kind: String,
    /// Its pid in its own namespace.
    pub pid: u32,
    /// Its term.
    pub epoch: u32,
    /// The generation it published last.
    pub generation: u64,
}

/// The control plane and the way to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlPlaneStatus {
    /// Its address.
    pub uri: String,
    /// Who this pod is to it: `envoy.config.core.v3.Node` in the JSON of protobuf.
    pub node: serde_json::Value,
    /// Whether there is a stream.
    pub connected: bool,
    /// `delta` or `sotw`, of the last stream.
    pub protocol: String,
    /// Why there is no stream.
    pub reason: String,
    /// Since when it is as it is.
    pub since: Millis,
}

/// One resource type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TypeStatus {
    /// `CDS`, ..
    pub name: String,
    /// `answered`, `seeded` or `waiting`.
    pub state: String,
    /// Resources held.
    pub resources: usize,
    /// Time of the last response.
    pub last_answer: Option<Millis>,
    /// Version of the last response; empty where the control plane gives none.
    pub version: String,
    /// Names that are asked for, without an answer yet.
    pub requested: Vec<String>,
    /// Names that were asked for and do not exist.
    pub missing: Vec<String>,
    /// Rejections that stand.
    pub rejected: Vec<Nack>,
    /// The last NACK, standing or not.
    pub last_nack: Option<Nack>,
}

/// A rejected resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nack {
    /// Its name.
    pub name: String,
    /// The version that the control plane gave it.
    pub version: String,
    /// Field and rule.
    pub reason: String,
    /// When.
    pub at: Millis,
}

/// The report on each type; `routes` and `endpoints` are the names that are asked for.
pub fn types(resources: &Resources, routes: &BTreeSet<String>, endpoints: &BTreeSet<String>) -> Vec<TypeStatus> {
    ResourceType::ALL
        .into_iter()
        .map(|kind| {
            let sync = resources.sync(kind);
            let nack = |rejection: &super::resources::Rejection| Nack {
                name: rejection.name.clone(),
                version: rejection.version.clone(),
                reason: rejection.reason.clone(),
                at: rejection.at,
            };
            let requested = match kind {
                ResourceType::Route => resources.unsettled(kind, routes),
                ResourceType::Endpoint => resources.unsettled(kind, endpoints),
                _ => Vec::new(),
            };
            let state = match sync {
                Some(sync) if sync.answered => "answered",
                Some(sync) if sync.seeded => "seeded",
                _ => "waiting",
            };
            TypeStatus {
                name: kind.short().to_owned(),
                state: state.to_owned(),
                resources: resources.count(kind),
                last_answer: sync.and_then(|sync| sync.last_answer),
                version: sync.map(|sync| sync.version.clone()).unwrap_or_default(),
                requested: requested.into_iter().cloned().collect(),
                missing: sync.map(|sync| sync.missing.iter().cloned().collect()).unwrap_or_default(),
                rejected: sync.map(|sync| sync.rejected.values().map(nack).collect()).unwrap_or_default(),
                last_nack: sync.and_then(|sync| sync.last_rejection.as_ref().map(nack)),
            }
        })
        .collect()
}
