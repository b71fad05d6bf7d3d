//! Priorities: how much goes to each, and what happens when too few endpoints are healthy.
//!
//! Envoy's arithmetic. A priority's availability is `min(100, overprovisioning * healthy / total)` percent. When the
//! sum over all priorities is under 100, each counts relative to that sum. Load fills the healthy share of the
//! priorities in order, then the degraded one. A priority whose healthy and degraded endpoints are under the
//! panic threshold, while the sum is under 100, is in panic: its load goes to any of its endpoints. With nothing
//! available at all, priorities get load by their number of endpoints.

use super::candidates::{Candidates, Class, Counts, Host};
use super::entropy::{Entropy, below};
use super::{hashed, least_request, locality, random, round_robin};
use crate::image::{PolicyView, PriorityView, Torn};

/// Priorities of a cluster that are looked at; Envoy allows no more either.
pub(crate) const MAX_PRIORITIES: u32 = 128;

/// One endpoint of the cluster, `None` when none is usable.
pub(super) fn pick(candidates: &Candidates<'_>, entropy: &mut (impl Entropy + ?Sized)) -> Result<Option<Host>, Torn> {
    let exact = candidates.somebody_is_ejected();
    if let Some(host) = pick_counted(candidates, exact, entropy)? {
        return Ok(Some(host));
    }
    // Ejections that the cluster's slot did not tell of: count again before giving up.
    if exact { Ok(None) } else { pick_counted(candidates, true, entropy) }
}

fn pick_counted(
    candidates: &Candidates<'_>,
    exact: bool,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Host>, Torn> {
    let Some((nth, class)) = choose(candidates, exact, entropy)? else { return Ok(None) };
    let tier = candidates.view.priority(&candidates.cluster, nth)?;
    if let Some(host) = pick_in(candidates, &tier, class, exact, entropy)? {
        return Ok(Some(host));
    }
    let spare = other_tiers(candidates, exact, |tier, class| pick_in(candidates, tier, class, exact, entropy))?;
    if spare.is_none() && candidates.avoids_something() {
        // Everything was tried: the same again is better than nothing.
        return pick_in(&candidates.without_avoid(), &tier, class, exact, entropy);
    }
    Ok(spare)
}

/// What `find` finds first: healthy and degraded endpoints in order of priority, then those of priorities in panic.
fn other_tiers<T>(
    candidates: &Candidates<'_>,
    exact: bool,
    mut find: impl FnMut(&PriorityView, Class) -> Result<Option<T>, Torn>,
) -> Result<Option<T>, Torn> {
    for nth in 0..count(candidates)? {
        let tier = candidates.view.priority(&candidates.cluster, nth)?;
        for class in [Class::Healthy, Class::Degraded] {
            if let Some(found) = find(&tier, class)? {
                return Ok(Some(found));
            }
        }
    }
    let totals = Totals::of(candidates, exact)?;
    for nth in 0..count(candidates)? {
        let tier = candidates.view.priority(&candidates.cluster, nth)?;
        if totals.panics(candidates, &candidates.counts(&tier.set, exact)?)
            && let Some(found) = find(&tier, Class::Any)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether the cluster holds a usable endpoint besides `picked`.
pub(super) fn another_than(candidates: &Candidates<'_>, picked: &Host) -> Result<bool, Torn> {
    let exact = candidates.somebody_is_ejected();
    let another = |tier: &PriorityView, class| {
        Ok(if candidates.holds_another(&tier.set, class, picked)? { Some(()) } else { None })
    };
    Ok(other_tiers(candidates, exact, another)?.is_some())
}

fn count(candidates: &Candidates<'_>) -> Result<u32, Torn> {
    let count = candidates.cluster.priority_count();
    if count > MAX_PRIORITIES { Err(Torn) } else { Ok(count) }
}

fn pick_in(
    candidates: &Candidates<'_>,
    tier: &PriorityView,
    class: Class,
    exact: bool,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Host>, Torn> {
    // Tables span a priority; localities are in their weights. What is usable and in no table is still used.
    let tabled = match candidates.cluster.policy {
        PolicyView::RingHash => Some(hashed::ring(candidates, tier, class, entropy.next())?),
        PolicyView::Maglev => Some(hashed::maglev(candidates, tier, class, entropy.next())?),
        _ => None,
    };
    if let Some(picked) = tabled {
        return if picked.is_some() { Ok(picked) } else { candidates.scan(&tier.set, class, entropy) };
    }
    let set = locality::pick(candidates, tier, class, exact, entropy)?;
    let picked = match candidates.cluster.policy {
        PolicyView::RoundRobin => round_robin::pick(candidates, &set, class, entropy),
        PolicyView::LeastRequest { choice_count, bias_thousandths } => {
            least_request::pick(candidates, &set, class, choice_count, bias_thousandths, entropy)
        }
        PolicyView::Random => random::pick(candidates, &set, class, entropy),
        PolicyView::RingHash | PolicyView::Maglev | PolicyView::Pass(..) | PolicyView::Refuse => Ok(None),
    }?;
    if picked.is_none() && set != tier.set {
        // A locality without a usable endpoint: the others of the priority.
        return candidates.scan(&tier.set, class, entropy);
    }
    Ok(picked)
}

/// What the priorities add up to.
#[derive(Clone, Copy, Default)]
struct Totals {
    /// Healthy and degraded availability of all priorities, percent, not yet cut at 100.
    available: u64,
    endpoints: u64,
}

impl Totals {
    fn of(candidates: &Candidates<'_>, exact: bool) -> Result<Self, Torn> {
        let mut totals = Self::default();
        for nth in 0..count(candidates)? {
            let counts = counts_of(candidates, nth, exact)?;
            let (healthy, degraded) = availability(candidates, &counts);
            totals.available += healthy + degraded;
            totals.endpoints += counts.total;
        }
        Ok(totals)
    }

    fn panics(&self, candidates: &Candidates<'_>, counts: &Counts) -> bool {
        let good = ((counts.healthy + counts.degraded) * 10_000).checked_div(counts.total).unwrap_or(0);
        self.available < 100 && good < u64::from(candidates.cluster.panic_threshold)
    }
}

fn counts_of(candidates: &Candidates<'_>, nth: u32, exact: bool) -> Result<Counts, Torn> {
    candidates.counts(&candidates.view.priority(&candidates.cluster, nth)?.set, exact)
}

/// Healthy and degraded availability, percent.
fn availability(candidates: &Candidates<'_>, counts: &Counts) -> (u64, u64) {
    let factor = u64::from(candidates.cluster.overprovisioning_factor);
    let percent = |count: u64| (count * factor).checked_div(counts.total).unwrap_or(0).min(100);
    (percent(counts.healthy), percent(counts.degraded))
}

/// The priority whose turn it is, and which of its endpoints.
fn choose(
    candidates: &Candidates<'_>,
    exact: bool,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<(u32, Class)>, Torn> {
    let priorities = count(candidates)?;
    if priorities == 0 {
        return Ok(None);
    }
    if availability(candidates, &counts_of(candidates, 0, exact)?).0 == 100 {
        return Ok(Some((0, Class::Healthy)));
    }
    let totals = Totals::of(candidates, exact)?;
    if totals.available == 0 {
        return by_endpoints(candidates, priorities, exact, totals, entropy);
    }
    let whole = totals.available.min(100);
    // The draw falls into the load of one priority: percent of the whole, healthy shares first.
    let mut left = below(entropy, whole);
    for class in [Class::Healthy, Class::Degraded] {
        for nth in 0..priorities {
            let counts = counts_of(candidates, nth, exact)?;
            let (healthy, degraded) = availability(candidates, &counts);
            let share = if class == Class::Healthy { healthy } else { degraded };
            if left < share {
                let class = if totals.panics(candidates, &counts) { Class::Any } else { class };
                return Ok(Some((nth, class)));
            }
            left -= share;
        }
    }
    Err(Torn)
}

/// Nothing available, to the percent: by number of endpoints, if panic is allowed at all.
fn by_endpoints(
    candidates: &Candidates<'_>,
    priorities: u32,
    exact: bool,
    totals: Totals,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<(u32, Class)>, Torn> {
    if candidates.cluster.panic_threshold == 0 {
        // No panic: a few healthy ones among many (under one percent) are still used.
        return Ok(Some((0, Class::Healthy)));
    }
    let mut left = below(entropy, totals.endpoints);
    for nth in 0..priorities {
        let total = counts_of(candidates, nth, exact)?.total;
        if left < total {
            return Ok(Some((nth, Class::Any)));
        }
        left -= total;
    }
    Ok(None)
}
