//! Clusters: their policies, settings and members.

use super::{Read, Run, StrRef, Torn, View, keepalive_from, some};
use crate::image::balancing::Balancing;
use crate::image::layout::*;
use crate::image::mesh::{Keepalive, PassReason};
use crate::shm::{load, unpack};

/// A cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClusterView {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: StrRef,
    /// Hash of the name: part of its cursors' slot tags.
    pub hash: u64,
    /// Hash of the name of the cluster whose slots its endpoints and connections have: its own, or a subset's whole.
    pub owner: u64,
    /// Policy.
    pub policy: PolicyView,
    /// False: endpoints were not received yet.
    pub endpoints_known: bool,
    /// Honour locality weights.
    pub locality_weighted: bool,
    /// Slot in STATE.
    pub slot: Option<u32>,
    /// Connect timeout in milliseconds.
    pub connect_timeout_ms: u32,
    /// Limit of connections.
    pub max_connections: Option<u32>,
    /// TCP keepalive.
    pub keepalive: Option<Keepalive>,
    /// Panic threshold in hundredths of a percent.
    pub panic_threshold: u16,
    /// Overprovisioning factor, percent.
    pub overprovisioning_factor: u32,
    /// Its outlier detection among all, from 1; 0 = none.
    pub(super) outlier: u32,
    pub(super) priorities: Run,
    /// Where that is what few clusters have; 0 = it has nothing of it.
    rare: u32,
}

impl ClusterView {
    /// Number of priorities.
    pub const fn priority_count(&self) -> u32 {
        self.priorities.count
    }
}

/// A policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyView {
    /// Weighted round robin.
    RoundRobin,
    /// Least request.
    LeastRequest {
        /// Candidates.
        choice_count: u32,
        /// Exponent in thousandths.
        bias_thousandths: u32,
    },
    /// Weighted random.
    Random,
    /// Ring hash.
    RingHash,
    /// Maglev.
    Maglev,
    /// The priorities of other clusters one after the other: [`View::weighted`], [`View::members`].
    Aggregate {
        /// Where they begin.
        first: u32,
        /// How many there are.
        count: u32,
    },
    /// Left to the kernel.
    Pass(PassReason, StrRef),
    /// Refused.
    Refuse,
}

impl PolicyView {
    /// Whether a connection's key decides.
    pub const fn hashes(self) -> bool {
        matches!(self, Self::RingHash | Self::Maglev)
    }
}

impl<'a> View<'a> {
    /// Number of clusters.
    pub fn cluster_count(&self) -> Read<u32> {
        Ok(self.section(Section::Clusters)?.count)
    }

    /// The cluster at `index`.
    #[inline(always)]
    pub fn cluster(&self, index: u32) -> Read<ClusterView> {
        let [name, hash, kind, parameter, slot, limit, priorities, rare] =
            self.record::<CLUSTER_WORDS>(Section::Clusters, index)?;
        let (kind, parameter, hash) = (load(kind), load(parameter), load(hash));
        let policy = match kind as u8 {
            POLICY_ROUND_ROBIN => PolicyView::RoundRobin,
            POLICY_LEAST_REQUEST => {
                let (choice_count, bias_thousandths) = unpack(parameter);
                PolicyView::LeastRequest { choice_count, bias_thousandths }
            }
            POLICY_RANDOM => PolicyView::Random,
            POLICY_RING_HASH => PolicyView::RingHash,
            POLICY_MAGLEV => PolicyView::Maglev,
            POLICY_AGGREGATE => {
                let (first, count) = unpack(parameter);
                PolicyView::Aggregate { first, count }
            }
            POLICY_REFUSE => PolicyView::Refuse,
            POLICY_PASS => {
                let reason = PassReason::from_code((kind >> 12) as u8 & 15).ok_or(Torn)?;
                PolicyView::Pass(reason, StrRef::own(parameter))
            }
            _ => return Err(Torn),
        };
        let flags = kind >> 8;
        let (slot, connect_timeout_ms) = unpack(load(slot));
        let (limit, outlier) = unpack(load(limit));
        let (rare, head) = unpack(load(rare));
        let (owner, keepalive) = if rare == 0 { (hash, None) } else { self.rare(rare)? };
        Ok(ClusterView {
            index,
            name: StrRef { head, tail: load(name) },
            hash,
            owner,
            policy,
            endpoints_known: flags & CLUSTER_KNOWN != 0,
            locality_weighted: flags & CLUSTER_LOCALITY_WEIGHTED != 0,
            slot: some(slot),
            connect_timeout_ms,
            max_connections: some(limit),
            keepalive,
            panic_threshold: (kind >> 16) as u16,
            overprovisioning_factor: (kind >> 32) as u32,
            outlier,
            priorities: Run::from_word(load(priorities)),
            rare,
        })
    }

    /// The owner and the keepalive of a cluster that has what few have.
    #[inline(never)]
    fn rare(&self, rare: u32) -> Read<(u64, Option<Keepalive>)> {
        let owner = self.word(Section::Tables, rare)?;
        Ok((owner, keepalive_from(self.word(Section::Tables, rare.checked_add(1).ok_or(Torn)?)?)))
    }

    /// What a cluster asks for beside its policy; mostly nothing.
    #[inline]
    pub fn balancing(&self, cluster: &ClusterView) -> Read<Balancing> {
        if cluster.rare == 0 { Ok(Balancing::default()) } else { self.balancing_at(cluster.rare) }
    }

    #[inline(never)]
    fn balancing_at(&self, rare: u32) -> Read<Balancing> {
        let mut words = [0_u64; BALANCING_WORDS];
        for (nth, word) in (2..).zip(&mut words) {
            *word = self.word(Section::Tables, rare.checked_add(nth).ok_or(Torn)?)?;
        }
        Ok(Balancing::from_words(words))
    }

    /// The clusters that have the endpoints of a cluster: itself, or the members of an aggregate.
    pub fn members(&self, cluster: ClusterView) -> impl Iterator<Item = Read<ClusterView>> {
        let (first, count) = match cluster.policy {
            PolicyView::Aggregate { first, count } => (first, count),
            _ => (0, 1),
        };
        (0..count).map(move |nth| match cluster.policy {
            PolicyView::Aggregate { .. } => self.cluster(self.weighted(first, nth)?.0),
            _ => Ok(cluster),
        })
    }
}
