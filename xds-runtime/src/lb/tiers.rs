//! The priorities that a pick goes through: a cluster's own, or, of an aggregate, those of its members one after the
//! other, each with the settings, the policy and the slots of its own cluster.

use std::cell::Cell;

use super::candidates::{Candidates, Counts};
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
    looks: Cell<u32>,
}

impl<'a> Reading<'a> {
    pub fn new(view: &'a View<'a>, state: Option<&'a State>, call: &'a Call<'a>) -> Self {
        Self { view, state, call, looks: Cell::new(MAX_LOOKS) }
    }

    /// One more look.
    ///
    /// # Errors
    /// [`Torn`] when there were too many.
    #[inline]
    pub fn look(&self) -> Result<(), Torn> {
        self.looks.set(self.looks.get().checked_sub(1).ok_or(Torn)?);
        Ok(())
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
    /// Its endpoints as this call sees them.
    pub candidates: Candidates<'a>,
    pub view: PriorityView,
    /// Which priority of its cluster it is.
    pub nth: u32,
}

impl<'a> Tier<'a> {
    pub const fn cluster(&self) -> &'a ClusterView {
        self.candidates.cluster
    }

    /// How many of its endpoints are in which condition.
    #[inline(always)]
    pub fn counts(&self) -> Result<Counts, Torn> {
        self.candidates.counts(&self.view.set)
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
    #[inline(always)]
    pub fn count(&self) -> Result<u32, Torn> {
        if self.is_aggregate() {
            return self.count_members();
        }
        let count = self.cluster.priority_count();
        if count > MAX_PRIORITIES { Err(Torn) } else { Ok(count) }
    }

    #[inline(never)]
    fn count_members(&self) -> Result<u32, Torn> {
        let mut count = 0_u32;
        for nth in 0..self.members()? {
            count = count.saturating_add(self.member(nth)?.priority_count());
            if count > MAX_PRIORITIES {
                return Err(Torn);
            }
        }
        Ok(count)
    }

    /// The priority at a place; `member` keeps the member of an aggregate that it is of.
    #[inline(always)]
    pub fn at<'b>(&self, mut nth: u32, member: &'b mut Option<ClusterView>) -> Result<Tier<'b>, Torn>
    where
        'a: 'b,
    {
        let cluster = if self.is_aggregate() { member.insert(self.member_at(&mut nth)?) } else { self.cluster };
        let view = self.reading.view.priority(cluster, nth)?;
        Ok(Tier { candidates: Candidates::new(self.reading, cluster, self.exact)?, view, nth })
    }

    /// The member that has the priority at a place, which becomes its place among the member's own.
    #[inline(never)]
    fn member_at(&self, nth: &mut u32) -> Result<ClusterView, Torn> {
        for member in 0..self.members()? {
            let cluster = self.member(member)?;
            match nth.checked_sub(cluster.priority_count()) {
                Some(rest) => *nth = rest,
                None => return Ok(cluster),
            }
        }
        Err(Torn)
    }

    fn members(&self) -> Result<u32, Torn> {
        match self.cluster.policy {
            PolicyView::Aggregate { count, .. } if count > MAX_PRIORITIES => Err(Torn),
            PolicyView::Aggregate { count, .. } => Ok(count),
            _ => Ok(0),
        }
    }

    fn member(&self, nth: u32) -> Result<ClusterView, Torn> {
        let PolicyView::Aggregate { first, .. } = self.cluster.policy else { return Err(Torn) };
        let member = self.reading.view.cluster(self.reading.view.weighted(first, nth)?.0)?;
        // Compile names members that have endpoints of their own.
        if matches!(member.policy, PolicyView::Aggregate { .. }) { Err(Torn) } else { Ok(member) }
    }
}
