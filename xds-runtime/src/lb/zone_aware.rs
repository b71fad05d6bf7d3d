//! Zone-aware routing: as much as is fair stays in the node's own locality.
//!
//! Envoy's arithmetic, for priority 0 only. The node's own cluster (the local cluster) tells how the callers are spread
//! over localities, the upstream cluster how the called are. Where the own locality has no smaller share of the called
//! than of the callers, everything stays; else what fits does, and the rest goes to the localities with room for it,
//! in proportion to that. Shares are hundredths of a percent and are computed from what the reader sees, ejections
//! included. What is known when the mesh is compiled (localities on both sides, the node's among them) was looked at
//! there: a cluster that has no settings here is balanced plainly.

use super::candidates::{Candidates, Class, Counts};
use super::entropy::{Entropy, below};
use super::tiers::{Reading, Tier};
use crate::image::{ClusterView, PriorityView, SetView, StrRef, Torn, ZoneAware};
use crate::resource::Health;

/// The whole of a share.
const WHOLE: u64 = 10_000;

/// What becomes of a pick in a priority.
pub(super) enum Zone {
    /// It is balanced without regard to zones.
    Plain,
    /// It is from this locality.
    Set(SetView),
    /// There is none: too few of the callers themselves are healthy (`fail_traffic_on_panic`).
    Fail,
}

/// Decides, in Envoy's order: whether zones count at all for this pick, then whether the callers are in panic.
#[inline(always)]
pub(super) fn decide(tier: &Tier<'_>, class: Class, entropy: &mut (impl Entropy + ?Sized)) -> Result<Zone, Torn> {
    match tier.candidates.balancing()?.zone_aware {
        Some(settings) if tier.nth == 0 && class != Class::Any => decide_by(&settings, tier, entropy),
        _ => Ok(Zone::Plain),
    }
}

#[inline(never)]
fn decide_by(settings: &ZoneAware, tier: &Tier<'_>, entropy: &mut (impl Entropy + ?Sized)) -> Result<Zone, Torn> {
    let candidates = &tier.candidates;
    let priority = &tier.view;
    if candidates.counts(&priority.set)?.healthy < u64::from(settings.min_cluster_size)
        || below(entropy, 100) >= u64::from(settings.routing_enabled)
    {
        return Ok(Zone::Plain);
    }
    let local = candidates.view.cluster(settings.local)?;
    let callers = Callers::of(candidates.reading, &local, settings)?;
    if callers.panic(candidates)? {
        return Ok(if candidates.balancing()?.fail_on_panic { Zone::Fail } else { Zone::Plain });
    }
    let called = healthy_weight(candidates, &priority.set, settings.by_weight)?;
    let share = |nth| -> Result<(u64, u64, SetView), Torn> {
        let locality = candidates.view.locality(priority, nth)?;
        let weight = healthy_weight(candidates, &locality.set, settings.by_weight)?;
        let upstream = (WHOLE * weight).checked_div(called).unwrap_or(0);
        Ok((upstream, if weight > 0 { callers.share(locality.name)? } else { 0 }, locality.set))
    };
    if let Some(own) = settings.own {
        let (upstream, local, set) = share(own)?;
        let forced = settings.force_local.is_some_and(|least| {
            candidates.counts(&set).is_ok_and(|counts| counts.healthy > 0 && counts.healthy >= u64::from(least))
        });
        if forced || (upstream > 0 && upstream >= local) {
            return Ok(Zone::Set(set));
        }
        if below(entropy, WHOLE) < (upstream * WHOLE).checked_div(local).unwrap_or(0) {
            return Ok(Zone::Set(set));
        }
    }
    // The others, by the room that each has beyond its own callers; without any (shares are rounded) one at random.
    let (mut rooms, mut taken, mut anyone) = (0, None, None);
    for nth in 0..priority.locality_count() {
        let (upstream, local, set) = share(nth)?;
        if below(entropy, u64::from(nth) + 1) == 0 {
            anyone = Some(set);
        }
        let room = if settings.own == Some(nth) { 0 } else { upstream.saturating_sub(local) };
        rooms += room;
        if room > 0 && below(entropy, rooms) < room {
            taken = Some(set);
        }
    }
    Ok(taken.or(anyone).map_or(Zone::Plain, Zone::Set))
}

/// The local cluster.
struct Callers<'a> {
    candidates: Candidates<'a>,
    priority: PriorityView,
    whole: u64,
    by_weight: bool,
}

impl<'a> Callers<'a> {
    fn of(reading: &'a Reading<'a>, cluster: &'a ClusterView, settings: &ZoneAware) -> Result<Self, Torn> {
        let callers = Candidates::new(reading, cluster, false)?;
        let priority = reading.view.priority(cluster, 0)?;
        let whole = healthy_weight(&callers, &priority.set, settings.by_weight)?;
        Ok(Self { candidates: callers, priority, whole, by_weight: settings.by_weight })
    }

    /// Whether they are in panic, by the threshold of the cluster that they call.
    fn panic(&self, called: &Candidates<'_>) -> Result<bool, Torn> {
        let Counts { healthy, degraded, total } = self.candidates.counts(&self.priority.set)?;
        let good = ((healthy + degraded) * WHOLE).checked_div(total).unwrap_or(0);
        Ok(good < u64::from(called.cluster.panic_threshold))
    }

    /// The share of the callers that is in their locality of this name.
    fn share(&self, name: StrRef) -> Result<u64, Torn> {
        for locality in self.candidates.view.localities(&self.priority)? {
            self.candidates.reading.look()?;
            if locality.name == name {
                let weight = healthy_weight(&self.candidates, &locality.set, self.by_weight)?;
                return Ok((WHOLE * weight).checked_div(self.whole).unwrap_or(0));
            }
        }
        Ok(0)
    }
}

/// The healthy endpoints of a set: their number, or what they weigh.
fn healthy_weight(candidates: &Candidates<'_>, set: &SetView, by_weight: bool) -> Result<u64, Torn> {
    if !by_weight {
        return Ok(candidates.counts(set)?.healthy);
    }
    let mut sum = 0;
    for index in 0..set.len() {
        let host = candidates.host(set, index)?;
        if candidates.health(&host) == Health::Healthy {
            sum += u64::from(host.endpoint.weight);
        }
    }
    Ok(sum)
}
