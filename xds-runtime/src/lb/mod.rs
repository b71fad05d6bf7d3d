//! Load balancing: from (address, port) to one endpoint, as the control plane's policies say.
//!
//! ```text
//! destination -> weighted -> cluster -> priority -> locality -> policy -> endpoint
//!                 (by weight)          (spill-over, panic)     (round robin, least request, random, ring hash, Maglev)
//! ```
//! Pickers are pure: they read an image view and STATE and take time and randomness as arguments. Nothing here
//! allocates, locks or calls the system, so it may run in a signal handler. The only thing written is the cursor
//! of the set that was picked from; counting a pick's outcome in its slots is the caller's.
//! Work is bounded whatever the image says: a healthy pick looks at a few endpoints, and a corrupt one ends in
//! [`Torn`] after [`MAX_LOOKS`].

mod candidates;
mod ejection;
mod entropy;
mod hashed;
mod least_request;
mod locality;
mod power;
mod priority;
mod random;
mod round_robin;
mod schedule;
mod slow_start;
mod weighted;

pub use ejection::eject;
pub use entropy::{Entropy, Seeded};
pub(crate) use priority::MAX_PRIORITIES;
pub use slow_start::tell_additions;

use std::net::IpAddr;

use crate::image::{ActionView, ClusterView, DefaultAction, HashOn, PassReason, PolicyView, Torn, View};
use crate::shm::{Millis, WordAddr};
use crate::state::{SlotKind, State, named_tag};
use candidates::Candidates;
use entropy::Constant;

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

/// A connection that is to be made.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The address that was dialled.
    pub address: WordAddr,
    /// The port that was dialled.
    pub port: u16,
    /// Where it comes from, where the socket is bound; asked only by policies that hash it. Without an answer it
    /// is the first of the pod's own addresses.
    pub source: &'a dyn Fn() -> Option<IpAddr>,
    /// The time.
    pub now: Millis,
    /// Endpoints already tried for this call: they are picked again only when nothing else is usable (then
    /// `alternatives` is false).
    pub avoid: &'a [(WordAddr, u16)],
}

/// Chooses for a connection.
///
/// # Errors
/// [`Torn`] when the view contradicts itself: a publish came in between, or the file is corrupt.
pub fn choose(
    view: &View<'_>,
    state: Option<&State>,
    call: &Call<'_>,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Choice, Torn> {
    let Some(found) = view.destination(call.address, call.port)? else {
        return Ok(match view.default_action(call.address)? {
            DefaultAction::Pass => Choice::NotMesh,
            DefaultAction::Refuse => Choice::Refuse,
        });
    };
    match found.action {
        ActionView::Pass(reason) => Ok(Choice::Pass(reason)),
        ActionView::Refuse => Ok(Choice::Refuse),
        ActionView::Clusters { first, count, hash } => {
            let cluster = view.cluster(weighted::pick(view, first, count, entropy)?)?;
            if !matches!(cluster.policy, PolicyView::RingHash | PolicyView::Maglev) {
                return from_cluster(view, state, cluster, call, entropy);
            }
            let key = match hash {
                HashOn::SourceIp => hashed::source_key(view, call)?,
                HashOn::Nothing => entropy.next(),
            };
            from_cluster(view, state, cluster, call, &mut Constant(key))
        }
    }
}

fn from_cluster(
    view: &View<'_>,
    state: Option<&State>,
    cluster: ClusterView,
    call: &Call<'_>,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Choice, Torn> {
    if let PolicyView::Pass(reason, _) = cluster.policy {
        return Ok(Choice::Pass(reason));
    }
    if !cluster.endpoints_known {
        return Ok(Choice::Pass(PassReason::NoEndpointsYet));
    }
    let candidates = Candidates::new(view, state, cluster, call.now, call.avoid);
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
