//! The priorities that a pick goes through: a cluster's own, or, of an aggregate, those of its members one after the
//! other, each with the settings, the policy and the slots of its own cluster.

use std::cell::Cell;

use super::candidates::Candidates;
use super::{Call, MAX_LOOKS};
use crate::image::{ClusterView, PolicyView, PriorityView, Torn, View};
use crate::state::State;

/// Priorities of a cluster that are looked at; Envoy allows no more either.
pub(crate) const MAX_PRIORITIES: u32 = 128;

/// What one pick reads, and how much it may still look at.
pub(super) struct Reading<'a> {
    pub view: &'a View<'a>,
    pub state: Option<&'a State>,
    pub call: &'a Call<'a>,
    pub looks: Cell<u32>,
}

impl<'a> Reading<'a> {
    pub fn new(view: &'a View<'a>, state: Option<&'a State>, call: &'a Call<'a>) -> Self {
        Self { view, state, call, looks: Cell::new(MAX_LOOKS) }
    }

    /// How many endpoints were looked at.
    #[cfg(test)]
    pub fn looked_at(&self) -> u32 {
        MAX_LOOKS - self.looks.get()
    }
}

/// A cluster's priorities in order.
#[derive(Clone, Copy)]
pub(super) struct Tiers<'a> {
    pub reading: &'a Reading<'a>,
    /// The cluster, or the aggregate.
    pub cluster: &'a ClusterView,
    /// Count endpoints one by one, whatever the clusters' slots say of ejections.
    pub exact: bool,
}

/// One priority of one cluster.
pub(super) struct Tier<'a> {
    pub cluster: ClusterView,
    pub view: PriorityView,
    /// Which priority of its cluster it is.
    pub nth: u32,
    pub reading: &'a Reading<'a>,
    exact: bool,
}

impl Tier<'_> {
    /// Its endpoints as this call sees them. Made when they are looked at: a cluster's description is large, and the
    /// stack of whoever connects may be small.
    pub fn candidates(&self) -> Candidates<'_> {
        Candidates::new(self.reading, &self.cluster, self.exact)
    }
}

impl<'a> Tiers<'a> {
    pub const fn new(reading: &'a Reading<'a>, cluster: &'a ClusterView) -> Self {
        Self { reading, cluster, exact: false }
    }

    pub const fn is_aggregate(&self) -> bool {
        matches!(self.cluster.policy, PolicyView::Aggregate { .. })
    }

    /// The same priorities, counted one by one.
    pub const fn exactly(self) -> Self {
        Self { exact: true, ..self }
    }

    /// How many there are.
    pub fn count(&self) -> Result<u32, Torn> {
        let mut count = 0_u32;
        for nth in 0..self.members()? {
            count = count.saturating_add(self.member(nth)?.priority_count());
            if count > MAX_PRIORITIES {
                return Err(Torn);
            }
        }
        Ok(count)
    }

    /// The priority at a place.
    #[inline(never)]
    pub fn at(&self, nth: u32) -> Result<Tier<'a>, Torn> {
        if self.is_aggregate() { self.at_member(nth) } else { self.tier(*self.cluster, nth) }
    }

    #[inline(never)]
    fn at_member(&self, mut nth: u32) -> Result<Tier<'a>, Torn> {
        for member in 0..self.members()? {
            let cluster = self.member(member)?;
            if let Some(rest) = nth.checked_sub(cluster.priority_count()) {
                nth = rest;
                continue;
            }
            return self.tier(cluster, nth);
        }
        Err(Torn)
    }

    fn tier(&self, cluster: ClusterView, nth: u32) -> Result<Tier<'a>, Torn> {
        let view = self.reading.view.priority(&cluster, nth)?;
        Ok(Tier { cluster, view, nth, reading: self.reading, exact: self.exact })
    }

    fn members(&self) -> Result<u32, Torn> {
        match self.cluster.policy {
            PolicyView::Aggregate { count, .. } if count > MAX_PRIORITIES => Err(Torn),
            PolicyView::Aggregate { count, .. } => Ok(count),
            _ => Ok(1),
        }
    }

    fn member(&self, nth: u32) -> Result<ClusterView, Torn> {
        let PolicyView::Aggregate { first, .. } = self.cluster.policy else { return Ok(*self.cluster) };
        let member = self.reading.view.cluster(self.reading.view.weighted(first, nth)?.0)?;
        // Compile names members that have endpoints of their own.
        if matches!(member.policy, PolicyView::Aggregate { .. }) { Err(Torn) } else { Ok(member) }
    }
}
