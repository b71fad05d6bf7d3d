//! Which endpoints of a cluster may be picked now.

use super::entropy::Entropy;
use super::slow_start::{Starting, happens};
use super::tiers::Reading;
use crate::image::{Balancing, ClusterView, EndpointView, HealthView, Place, SetView, Torn, View, WeightsView};
use crate::resource::Health;
use crate::shm::WordAddr;
use crate::state::{Slot, SlotKind, named_tag};

/// Which endpoints a pick is from. Draining ones are in no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Healthy and not ejected.
    Healthy,
    /// Degraded and not ejected.
    Degraded,
    /// Panic: too few are healthy to tell, so all of them.
    Any,
}

/// An endpoint and its place.
#[derive(Clone, Copy)]
pub(super) struct Host {
    pub endpoint: EndpointView,
    pub place: Place,
}

impl Host {
    /// Whether it is the same endpoint as another one, at whatever place.
    pub fn is(&self, other: &Self) -> bool {
        (self.endpoint.address, self.endpoint.port) == (other.endpoint.address, other.endpoint.port)
    }
}

/// A cluster's endpoints as one call sees them.
#[derive(Clone, Copy)]
pub(super) struct Candidates<'a> {
    pub view: &'a View<'a>,
    pub cluster: &'a ClusterView,
    pub reading: &'a Reading<'a>,
    avoid: &'a [(WordAddr, u16)],
    /// Some endpoint is ejected, as far as the cluster's slot says (see [`crate::outlier`]), or it is not believed:
    /// endpoints are counted one by one.
    exact: bool,
    /// Slow start, where the policy has it and some endpoint is new.
    pub starting: Option<Starting>,
}

/// How many endpoints of a set are in which condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub healthy: u64,
    pub degraded: u64,
    pub total: u64,
}

impl<'a> Candidates<'a> {
    #[inline(always)]
    pub fn new(reading: &'a Reading<'a>, cluster: &'a ClusterView, exact: bool) -> Result<Self, Torn> {
        let Reading { view, call, .. } = *reading;
        let mut candidates = Self { view, cluster, reading, avoid: call.avoid, exact, starting: None };
        let slow_start = view.balancing(cluster)?.slow_start;
        // Few have either: the others need no look at the cluster's slot.
        if cluster.detects_outliers() || slow_start.is_some() {
            let slot = candidates.cluster_slot();
            candidates.exact |= cluster.detects_outliers() && slot.is_some_and(|slot| slot.is_ejected(call.now));
            let newest = slot.map_or(0, |slot| slot.added());
            candidates.starting = slow_start.and_then(|settings| Starting::new(settings, newest, call.now));
        }
        Ok(candidates)
    }

    /// What the cluster asks for beside its policy.
    #[inline]
    pub fn balancing(&self) -> Result<Balancing, Torn> {
        self.view.balancing(self.cluster)
    }

    /// From here on nothing is avoided.
    pub const fn avoid_nothing(&mut self) {
        self.avoid = &[];
    }

    /// The endpoint at `index` of a set.
    #[inline(always)]
    pub fn host(&self, set: &SetView, index: u32) -> Result<Host, Torn> {
        self.reading.look()?;
        self.host_at(set.place(index)?)
    }

    /// The endpoint at a place, which was looked at before.
    #[inline(always)]
    pub fn host_at(&self, place: Place) -> Result<Host, Torn> {
        Ok(Host { endpoint: self.view.endpoint_at(place)?, place })
    }

    /// STATE's slot of a host, if it has one that still counts it.
    #[inline]
    pub fn slot(&self, host: &Host) -> Option<Slot<'static>> {
        self.reading.state?.slot(host.endpoint.slot?, host.endpoint.tag(self.cluster))
    }

    /// STATE's cursor slot of a set.
    pub fn cursor(&self, set: &SetView) -> Result<Option<Slot<'static>>, Torn> {
        let (Some(state), Some(slot)) = (self.reading.state, set.slot) else { return Ok(None) };
        Ok(state.slot(slot, self.view.cursor_tag(set)?))
    }

    /// The condition of a host: what the control plane says, or ejected.
    #[inline]
    pub fn health(&self, host: &Host) -> Health {
        match host.endpoint.health {
            Health::Healthy | Health::Degraded if self.is_ejected(host) => Health::Unhealthy,
            health => health,
        }
    }

    /// An ejection holds for as long as the cluster has outlier detection.
    #[inline(always)]
    fn is_ejected(&self, host: &Host) -> bool {
        self.cluster.detects_outliers() && self.is_told_ejected(host)
    }

    fn is_told_ejected(&self, host: &Host) -> bool {
        self.slot(host).is_some_and(|slot| slot.is_ejected(self.reading.call.now))
    }

    /// Whether a host may be picked.
    #[inline]
    pub fn usable(&self, host: &Host, class: Class) -> bool {
        let fits = match (class, self.health(host)) {
            (_, Health::Draining) => false,
            (Class::Any, _) => true,
            (Class::Healthy, health) => health == Health::Healthy,
            (Class::Degraded, health) => health == Health::Degraded,
        };
        fits && !self.avoid.contains(&(host.endpoint.address, host.endpoint.port))
    }

    /// The cluster's live connections.
    pub fn connections(&self) -> u64 {
        self.cluster_slot().map_or(0, |slot| slot.active())
    }

    /// STATE's slot of the cluster.
    fn cluster_slot(&self) -> Option<Slot<'static>> {
        self.reading.state?.slot(self.cluster.slot?, named_tag(SlotKind::Cluster, self.cluster.owner))
    }

    /// The counts of a set: as the control plane says, or, while somebody is ejected, with that taken into account.
    #[inline(always)]
    pub fn counts(&self, set: &SetView) -> Result<Counts, Torn> {
        let HealthView { healthy, degraded, unhealthy } = self.view.health(set)?;
        let (healthy, degraded, unhealthy) = (u64::from(healthy), u64::from(degraded), u64::from(unhealthy));
        let counts = Counts { healthy, degraded, total: healthy + degraded + unhealthy };
        if self.exact { self.counted(set, counts.total) } else { Ok(counts) }
    }

    #[inline(never)]
    fn counted(&self, set: &SetView, total: u64) -> Result<Counts, Torn> {
        let mut counts = Counts { healthy: 0, degraded: 0, total };
        for index in 0..set.len() {
            match self.health(&self.host(set, index)?) {
                Health::Healthy => counts.healthy += 1,
                Health::Degraded => counts.degraded += 1,
                Health::Unhealthy | Health::Draining => {}
            }
        }
        Ok(counts)
    }

    /// Draws until a host is usable, a bounded number of times: a draw keeps the proportions of its schedule.
    /// When luck fails (nearly everything is unusable) all are looked at, and one is taken by weight.
    pub fn draw<E: Entropy + ?Sized>(
        &self,
        set: &SetView,
        class: Class,
        entropy: &mut E,
        mut next: impl FnMut(&mut E, &WeightsView) -> Result<u32, Torn>,
    ) -> Result<Option<Host>, Torn> {
        const DRAWS: u32 = 32;
        let weights = self.view.weights(set)?;
        if weights.sum == 0 {
            // No endpoint, or draining ones only.
            return Ok(None);
        }
        let starting = match self.starting {
            Some(starting) => Some((starting, starting.largest(self, set)?)),
            None => None,
        };
        for _ in 0..DRAWS {
            let host = self.host(set, next(entropy, &weights)?)?;
            let mut accepted = || starting.is_none_or(|(s, largest)| happens(s.share(self, &host) / largest, entropy));
            if self.usable(&host, class) && accepted() {
                return Ok(Some(host));
            }
        }
        self.scan(set, class, entropy)
    }

    /// One of the usable hosts by weight, looking at all of them.
    #[inline(never)]
    pub fn scan(
        &self,
        set: &SetView,
        class: Class,
        entropy: &mut (impl Entropy + ?Sized),
    ) -> Result<Option<Host>, Torn> {
        self.scan_by(set, class, entropy, |host| self.weight(host))
    }

    /// One of the usable hosts by a weight of the caller's, looking at all of them.
    pub fn scan_by(
        &self,
        set: &SetView,
        class: Class,
        entropy: &mut (impl Entropy + ?Sized),
        weigh: impl Fn(&Host) -> f64,
    ) -> Result<Option<Host>, Torn> {
        let mut sum = 0.0;
        let mut taken = None;
        for index in 0..set.len() {
            let host = self.host(set, index)?;
            if !self.usable(&host, class) {
                continue;
            }
            // Reservoir sampling: each host stays with probability weight / sum.
            let weight = weigh(&host);
            sum += weight;
            if happens(weight / sum, entropy) {
                taken = Some(host);
            }
        }
        Ok(taken)
    }

    /// What a host weighs now.
    pub fn weight(&self, host: &Host) -> f64 {
        let share = self.starting.map_or(1.0, |starting| starting.share(self, host));
        f64::from(host.endpoint.weight.max(1)) * share
    }

    /// Whether a set holds a usable host besides another one, looking from the place behind it.
    pub fn holds_another(&self, set: &SetView, class: Class, other: Place) -> Result<bool, Torn> {
        let mut index = set.nth_at(other).unwrap_or(0);
        let other = self.host_at(other)?;
        for _ in 0..set.len() {
            index = if index + 1 < set.len() { index + 1 } else { 0 };
            let host = self.host(set, index)?;
            if !host.is(&other) && self.usable(&host, class) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
