//! An endpoint as a member of its cluster: the two slots that count it.

use crate::state::{Slot, State};

/// The slots of an endpoint and of its cluster. A slot that was given to something else since is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Slot of the endpoint.
    pub endpoint_slot: Option<u32>,
    /// Tag of that slot.
    pub endpoint_tag: u64,
    /// Slot of the cluster.
    pub cluster_slot: Option<u32>,
    /// Tag of that slot.
    pub cluster_tag: u64,
}

impl Member {
    /// The endpoint's slot.
    pub fn endpoint(&self, state: &State) -> Option<Slot<'static>> {
        state.slot(self.endpoint_slot?, self.endpoint_tag)
    }

    /// The cluster's slot.
    pub fn cluster(&self, state: &State) -> Option<Slot<'static>> {
        state.slot(self.cluster_slot?, self.cluster_tag)
    }

    /// Takes one connection out of the counts of both.
    pub fn uncount(&self, state: &State) {
        for slot in [self.cluster(state), self.endpoint(state)].into_iter().flatten() {
            slot.close_connection();
        }
    }
}
