//! Ejecting an endpoint so that pickers see it.

use crate::shm::Millis;
use crate::state::State;

use super::Pick;

/// Ejects a pick's endpoint until `until`. The cluster's slot remembers that somebody is ejected until then:
/// pickers count the healthy endpoints of a cluster one by one only while that is so.
pub fn eject(state: &State, pick: &Pick, until: Millis) {
    if let Some(cluster) = pick.cluster_slot.and_then(|index| state.slot(index, pick.cluster_tag))
        && cluster.ejected_until() < until
    {
        cluster.eject(until);
    }
    if let Some(endpoint) = pick.endpoint_slot.and_then(|index| state.slot(index, pick.endpoint_tag)) {
        endpoint.eject(until);
    }
}
