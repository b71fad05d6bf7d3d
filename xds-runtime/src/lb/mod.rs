//! Load balancing: from (address, port) to one endpoint, as the control plane's policies say.
//!
//! ```text
//! destination -> weighted -> cluster -> priority -> locality -> policy -> endpoint
//!                 (by weight)          (spill-over, panic)     (round robin, least request, random)
//! ```
//! Pickers are pure: they read an image view and STATE and take time and randomness as arguments. Nothing here
//! allocates, locks or calls the system, so it may run in a signal handler. The only thing written is the cursor
//! of the set that was picked from; counting a pick's outcome in its slots is the caller's.
//! Work is bounded whatever the image says: a healthy pick looks at a few endpoints, and a corrupt one ends in
//! [`Torn`] after [`MAX_LOOKS`].

mod candidates;
mod ejection;
mod entropy;
mod least_request;
mod locality;
mod power;
mod priority;
mod random;
mod round_robin;
mod schedule;
mod weighted;

pub use ejection::eject;
pub use entropy::{Entropy, Seeded};
pub(crate) use priority::MAX_PRIORITIES;

use crate::image::{ActionView, ClusterView, DefaultAction, PassReason, PolicyView, Torn, View};
use crate::shm::{Millis, WordAddr};
use crate::state::{SlotKind, State, named_tag};
use candidates::Candidates;

/// Endpoints that one call looks at before it gives the image up as corrupt.
pub const MAX_LOOKS: u32 = 1 << 21;

/// The endpoint for one connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Address of the endpoint.
    pub address: WordAddr,
    /// Port of the endpoint.
    pub port: u16,
    /// Slot of the endpoint in STATE.
    pub endpoint_slot: Option<u32>,
    /// Tag of that slot.
    pub endpoint_tag: u64,
    /// Index of the cluster in the image.
    pub cluster: u32,
    /// Slot of the cluster in STATE.
    pub cluster_slot: Option<u32>,
    /// Tag of that slot.
    pub cluster_tag: u64,
    /// The cluster's connect timeout.
    pub connect_timeout_ms: u32,
    /// The cluster's limit of connections.
    pub max_connections: Option<u32>,
    /// Another usable endpoint exists that is neither this one nor to be avoided.
    pub alternatives: bool,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Connect to this endpoint.
    Endpoint(Pick),
    /// Leave it to the kernel.
    Pass(PassReason),
    /// Refuse it: a black hole, or a destination outside the registry where only that is allowed.
    Refuse,
    /// The mesh does not describe it.
    NotMesh,
}

/// Chooses for a connection to `destination` and `port`. `avoid` holds the endpoints already tried for this call:
/// they are picked again only when nothing else is usable (then `alternatives` is false).
///
/// # Errors
/// [`Torn`] when the view contradicts itself: a publish came in between, or the file is corrupt.
pub fn choose(
    view: &View<'_>,
    state: Option<&State>,
    destination: WordAddr,
    port: u16,
    now: Millis,
    entropy: &mut (impl Entropy + ?Sized),
    avoid: &[(WordAddr, u16)],
) -> Result<Choice, Torn> {
    let Some(found) = view.destination(destination, port)? else {
        return Ok(match view.default_action(destination)? {
            DefaultAction::Pass => Choice::NotMesh,
            DefaultAction::Refuse => Choice::Refuse,
        });
    };
    match found.action {
        ActionView::Pass(reason) => Ok(Choice::Pass(reason)),
        ActionView::Refuse => Ok(Choice::Refuse),
        ActionView::Clusters { first, count } => {
            let cluster = view.cluster(weighted::pick(view, first, count, entropy)?)?;
            from_cluster(view, state, cluster, now, entropy, avoid)
        }
    }
}

fn from_cluster(
    view: &View<'_>,
    state: Option<&State>,
    cluster: ClusterView,
    now: Millis,
    entropy: &mut (impl Entropy + ?Sized),
    avoid: &[(WordAddr, u16)],
) -> Result<Choice, Torn> {
    if let PolicyView::Pass(reason, _) = cluster.policy {
        return Ok(Choice::Pass(reason));
    }
    if !cluster.endpoints_known {
        return Ok(Choice::Pass(PassReason::NoEndpointsYet));
    }
    let candidates = Candidates::new(view, state, cluster, now, avoid);
    let Some(host) = priority::pick(&candidates, entropy)? else {
        return Ok(Choice::Pass(PassReason::NoHealthyEndpoint));
    };
    let alternatives = priority::another_than(&candidates, &host)?;
    Ok(Choice::Endpoint(endpoint_pick(&cluster, &host, alternatives)))
}

fn endpoint_pick(cluster: &ClusterView, host: &candidates::Host, alternatives: bool) -> Pick {
    Pick {
        address: host.endpoint.address,
        port: host.endpoint.port,
        endpoint_slot: host.endpoint.slot,
        endpoint_tag: host.tag,
        cluster: cluster.index,
        cluster_slot: cluster.slot,
        cluster_tag: named_tag(SlotKind::Cluster, cluster.hash),
        connect_timeout_ms: cluster.connect_timeout_ms,
        max_connections: cluster.max_connections,
        alternatives,
    }
}

#[cfg(test)]
mod tests;
