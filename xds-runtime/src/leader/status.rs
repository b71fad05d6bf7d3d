//! `status.json`: what the leader says about itself, for `ldmesh status`.

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
    /// Field and rule.
    pub reason: String,
    /// When.
    pub at: Millis,
}

/// The report on each type.
pub fn types(resources: &Resources) -> Vec<TypeStatus> {
    ResourceType::ALL
        .into_iter()
        .map(|kind| {
            let sync = resources.sync(kind);
            let nack = |rejection: &super::resources::Rejection| Nack {
                name: rejection.name.clone(),
                reason: rejection.reason.clone(),
                at: rejection.at,
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
                rejected: sync.map(|sync| sync.rejected.values().map(nack).collect()).unwrap_or_default(),
                last_nack: sync.and_then(|sync| sync.last_rejection.as_ref().map(nack)),
            }
        })
        .collect()
}
