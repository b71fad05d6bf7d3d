//! Load balancing: from (address, port) to one endpoint, as the control plane's policies say.
//!
//! ```text
//! destination -> weighted -> cluster -> priority -> locality -> policy -> endpoint
//!                 (by weight)  (or the  (spill-over, panic)     (round robin, least request, random, ring hash,
//!                               members of an aggregate)         Maglev; slow start)
//! ```
//! Pickers are pure: they read an image view and STATE and take time and randomness as arguments. Nothing here
//! allocates, locks or calls the system, so it may run in a signal handler. The only thing written is the cursor
//! of the set that was picked from; counting a pick's outcome in its slots is the caller's.
//! Work is bounded whatever the image says: a healthy pick looks at a few endpoints, and a corrupt one ends in
//! [`Torn`] after [`MAX_LOOKS`].

mod bounded;
mod candidates;
mod entropy;
mod hashed;
mod least_request;
mod locality;
mod power;
mod priority;
mod random;
mod round_robin;
mod schedule;
mod server_name;
mod slow_start;
mod tiers;
mod weighted;
mod zone_aware;

pub use entropy::{Entropy, Seeded};
pub(crate) use least_request::MAX_CHOICES;
pub use server_name::{ServerNames, UNNAMED};
pub use slow_start::tell_additions;
pub(crate) use tiers::MAX_PRIORITIES;

use std::net::IpAddr;

use crate::image::{
    ActionView, ClusterView, DefaultAction, EndpointView, HashOn, Keepalive, PassReason, PolicyView, Torn, View,
};
use crate::shm::{Millis, WordAddr};
use crate::state::{Member, SlotKind, State, named_tag};
use entropy::Constant;
use tiers::{Reading, Tiers};

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
    /// Index of the cluster in the image: of an aggregate's member, where it came from one.
    pub cluster: u32,
    /// Slot of the cluster in STATE.
    pub cluster_slot: Option<u32>,
    /// Tag of that slot.
    pub cluster_tag: u64,
    /// The cluster's connect timeout.
    pub connect_timeout_ms: u32,
    /// The cluster's limit of connections.
    pub max_connections: Option<u32>,
    /// The cluster's TCP keepalive.
    pub keepalive: Option<Keepalive>,
    /// Another usable endpoint exists that is neither this one nor to be avoided.
    pub alternatives: bool,
}

impl Pick {
    /// The endpoint as a member of its cluster.
    pub const fn member(&self) -> Member {
        Member {
            endpoint_slot: self.endpoint_slot,
            endpoint_tag: self.endpoint_tag,
            cluster_slot: self.cluster_slot,
            cluster_tag: self.cluster_tag,
        }
    }
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Connect to this endpoint.
    Endpoint(Pick),
    /// Leave it to the kernel.
    Pass(PassReason),
    /// Refuse it: its cluster goes nowhere.
    BlackHole,
    /// Refuse it: the mesh does not describe it, and only what it describes is allowed.
    NotInRegistry,
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
    choose_named(view, state, call, UNNAMED, entropy)
}

/// [`choose`], where the connection may be going to ask for a TLS server name.
///
/// # Errors
/// As [`choose`].
pub fn choose_named(
    view: &View<'_>,
    state: Option<&State>,
    call: &Call<'_>,
    names: &ServerNames<'_>,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Choice, Torn> {
    let (index, hash) = match target(view, call, names, entropy)? {
        Target::Cluster(index, hash) => (index, hash),
        Target::Other(choice) => return Ok(choice),
    };
    let mut cluster = view.cluster(index)?;
    let hashes = cluster.policy.hashes();
    let key = match hash {
        _ if !hashes && !hashes_somewhere(view, &cluster)? => None,
        HashOn::SourceIp => Some(hashed::source_key(view, call)?),
        HashOn::Nothing => Some(entropy.next()),
    };
    let reading = Reading::new(view, state, call);
    let mut pick = |cluster: &ClusterView| match key.filter(|_| hashes) {
        Some(key) => pick_from(&reading, cluster, None, &mut Constant(key)),
        None => pick_from(&reading, cluster, key, entropy),
    };
    let choice = pick(&cluster);
    // Once more at most: a corrupt image may lead in circles.
    if matches!(choice, Ok(Choice::Pass(PassReason::NoHealthyEndpoint)))
        && let Some(other) = view.balancing(&cluster)?.otherwise
    {
        cluster = view.cluster(other)?;
        return pick(&cluster);
    }
    choice
}

/// Where a destination leads.
enum Target {
    /// To the cluster at this index; what is its key, if it hashes.
    Cluster(u32, HashOn),
    /// To none.
    Other(Choice),
}

#[inline(always)]
fn target(
    view: &View<'_>,
    call: &Call<'_>,
    names: &ServerNames<'_>,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Target, Torn> {
    let Some(found) = view.destination(call.address, call.port)? else {
        return Ok(Target::Other(match view.default_action(call.address)? {
            DefaultAction::Pass => Choice::NotMesh,
            DefaultAction::Refuse => Choice::NotInRegistry,
        }));
    };
    let action = match found.action {
        ActionView::ServerNames(patterns) => server_name::action(view, &patterns, names)?,
        action => action,
    };
    match action {
        ActionView::ServerNames(_) => Err(Torn),
        ActionView::Pass(reason) => Ok(Target::Other(Choice::Pass(reason))),
        ActionView::Refuse => Ok(Target::Other(Choice::BlackHole)),
        ActionView::Clusters { first, count, hash } => {
            Ok(Target::Cluster(weighted::pick(view, first, count, entropy)?, hash))
        }
    }
}

/// Whether a cluster is an aggregate with a member that hashes.
fn hashes_somewhere(view: &View<'_>, cluster: &ClusterView) -> Result<bool, Torn> {
    let PolicyView::Aggregate { first, count } = cluster.policy else { return Ok(false) };
    if count > MAX_PRIORITIES {
        return Err(Torn);
    }
    for nth in 0..count {
        if view.cluster(view.weighted(first, nth)?.0)?.policy.hashes() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[inline(never)]
fn pick_from(
    reading: &Reading<'_>,
    cluster: &ClusterView,
    key: Option<u64>,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Choice, Torn> {
    if let PolicyView::Pass(reason, _) = cluster.policy {
        return Ok(Choice::Pass(reason));
    }
    if cluster.policy == PolicyView::Refuse {
        return Ok(Choice::BlackHole);
    }
    if !cluster.endpoints_known {
        return Ok(Choice::Pass(PassReason::NoEndpointsYet));
    }
    let tiers = Tiers::new(reading, cluster);
    let Some(picked) = priority::pick(&tiers, key, entropy)? else {
        return Ok(Choice::Pass(PassReason::NoHealthyEndpoint));
    };
    let alternatives = picked.another || priority::another_than(&tiers, &picked.host)?;
    let member;
    let cluster = if picked.cluster == cluster.index {
        cluster
    } else {
        member = reading.view.cluster(picked.cluster)?;
        &member
    };
    Ok(Choice::Endpoint(endpoint_pick(cluster, &reading.view.endpoint_at(picked.host)?, alternatives)))
}

#[inline(always)]
fn endpoint_pick(cluster: &ClusterView, endpoint: &EndpointView, alternatives: bool) -> Pick {
    Pick {
        address: endpoint.address,
        port: endpoint.port,
        endpoint_slot: endpoint.slot,
        endpoint_tag: endpoint.tag(cluster),
        cluster: cluster.index,
        cluster_slot: cluster.slot,
        cluster_tag: named_tag(SlotKind::Cluster, cluster.owner),
        connect_timeout_ms: cluster.connect_timeout_ms,
        max_connections: cluster.max_connections,
        keepalive: cluster.keepalive,
        alternatives,
    }
}

#[cfg(test)]
mod tests;
