//! Priorities: how much goes to each, and what happens when too few endpoints are healthy.
//!
//! Envoy's arithmetic. A priority's availability is `min(100, overprovisioning * healthy / total)` percent. When the
//! sum over all priorities is under 100, each counts relative to that sum. Load fills the healthy share of the
//! priorities in order, then the degraded one. A priority whose healthy and degraded endpoints are under the
//! panic threshold, while the sum is under 100, is in panic: its load goes to any of its endpoints. With all of them
//! in panic, they get load by their number of endpoints.
//!
//! Steps are functions of their own also in the optimised library (`inline(never)`): one frame would hold what every
//! policy needs, and whoever connects may have a small stack.
//!
//! An aggregate shares its load over the priorities of its members as if they were one cluster's; whether one of
//! them is in panic is then its own cluster's business.

use super::candidates::{Candidates, Class, Counts, Host};
use super::entropy::{Constant, Entropy, Seeded};
use super::tiers::{Tier, Tiers};
use super::zone_aware::Zone;
use super::{bounded, hashed, least_request, locality, random, round_robin, zone_aware};
use crate::image::{ClusterView, PolicyView, Torn};

/// An endpoint and the cluster that it is of: the one that was asked for, or a member of it.
pub(super) struct Picked {
    pub cluster: ClusterView,
    pub host: Host,
}

/// One endpoint of the cluster, `None` when none is usable. `key`: what policies that hash take for the connection's.
pub(super) fn pick(
    tiers: &Tiers<'_>,
    key: Option<u64>,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Picked>, Torn> {
    match pick_counted(tiers, key, entropy)? {
        Found::Endpoint(picked) => Ok(Some(picked)),
        Found::Fails => Ok(None),
        // Ejections that the cluster's slot did not tell of: count again before giving up.
        Found::Nothing => match pick_counted(&tiers.exactly(), key, entropy)? {
            Found::Endpoint(picked) => Ok(Some(picked)),
            Found::Nothing | Found::Fails => Ok(None),
        },
    }
}

/// What a pick comes to.
#[expect(clippy::large_enum_variant, reason = "it is returned once and kept nowhere")]
enum Found {
    Endpoint(Picked),
    /// No endpoint is usable, as far as was counted.
    Nothing,
    /// None is to be had, usable or not.
    Fails,
}

impl From<Option<Picked>> for Found {
    fn from(picked: Option<Picked>) -> Self {
        picked.map_or(Self::Nothing, Self::Endpoint)
    }
}

#[inline(never)]
fn pick_counted(tiers: &Tiers<'_>, key: Option<u64>, entropy: &mut (impl Entropy + ?Sized)) -> Result<Found, Torn> {
    let Some((nth, class)) = choose(tiers, entropy)? else { return Ok(Found::Nothing) };
    let tier = tiers.at(nth)?;
    let class = match class {
        _ if tiers.is_aggregate() && panics(tiers, &tier)? => Class::Any,
        // A priority has one table, of its healthy endpoints (Envoy): degraded ones only raise its load.
        Class::Degraded if tier.cluster.policy.hashes() => Class::Healthy,
        class => class,
    };
    let zone = zone_aware::decide(&tier, class, entropy)?;
    if zone == Zone::Fail {
        return Ok(Found::Fails);
    }
    if class == Class::Any && tier.cluster.balancing.fail_on_panic {
        return Ok(Found::Nothing);
    }
    if let Some(picked) = pick_in(&tier, &tier.candidates(), class, zone, key, entropy)? {
        return Ok(Found::Endpoint(picked));
    }
    let spare = others(tiers, |tier, class| {
        let zone = zone_aware::decide(tier, class, entropy)?;
        pick_in(tier, &tier.candidates(), class, zone, key, entropy)
    })?;
    if spare.is_some() || tiers.reading.call.avoid.is_empty() {
        return Ok(spare.into());
    }
    // Everything was tried: the same again is better than nothing.
    let again = pick_in(&tier, &tier.candidates().without_avoid(), class, zone, key, entropy)?;
    if again.is_some() {
        return Ok(again.into());
    }
    let any = others(tiers, |tier, class| {
        pick_in(tier, &tier.candidates().without_avoid(), class, Zone::Plain, key, entropy)
    })?;
    Ok(any.into())
}

/// What `find` finds first: healthy and degraded endpoints in order of priority, then those of priorities in panic.
#[inline(never)]
fn others<T>(
    tiers: &Tiers<'_>,
    mut find: impl FnMut(&Tier<'_>, Class) -> Result<Option<T>, Torn>,
) -> Result<Option<T>, Torn> {
    for nth in 0..tiers.count()? {
        let tier = tiers.at(nth)?;
        let classes: &[Class] =
            if tier.cluster.policy.hashes() { &[Class::Healthy] } else { &[Class::Healthy, Class::Degraded] };
        for class in classes {
            if let Some(found) = find(&tier, *class)? {
                return Ok(Some(found));
            }
        }
    }
    for nth in 0..tiers.count()? {
        let tier = tiers.at(nth)?;
        if !tier.cluster.balancing.fail_on_panic
            && panics(tiers, &tier)?
            && let Some(found) = find(&tier, Class::Any)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether the cluster holds a usable endpoint besides `picked`.
pub(super) fn another_than(tiers: &Tiers<'_>, picked: &Host) -> Result<bool, Torn> {
    let another = |tier: &Tier<'_>, class| {
        Ok(if tier.candidates().holds_another(&tier.view.set, class, picked)? { Some(()) } else { None })
    };
    Ok(others(tiers, another)?.is_some())
}

fn pick_in(
    tier: &Tier<'_>,
    candidates: &Candidates<'_>,
    class: Class,
    zone: Zone,
    key: Option<u64>,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Picked>, Torn> {
    let host = match key {
        Some(key) if tier.cluster.policy.hashes() => host_in(tier, candidates, class, zone, &mut Constant(key)),
        _ => host_in(tier, candidates, class, zone, entropy),
    };
    Ok(host?.map(|host| Picked { cluster: tier.cluster, host }))
}

#[inline(never)]
fn host_in(
    tier: &Tier<'_>,
    candidates: &Candidates<'_>,
    class: Class,
    zone: Zone,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Host>, Torn> {
    if candidates.cluster.policy.hashes() {
        return hashed_in(tier, candidates, class, entropy);
    }
    let set = match zone {
        Zone::Set(set) => set,
        Zone::Plain => locality::pick(candidates, &tier.view, class, entropy)?,
        Zone::Fail => return Ok(None),
    };
    let picked = match candidates.cluster.policy {
        PolicyView::RoundRobin => round_robin::pick(candidates, &set, class, entropy),
        PolicyView::LeastRequest { choice_count, bias_thousandths } => {
            least_request::pick(candidates, &set, class, choice_count, bias_thousandths, entropy)
        }
        PolicyView::Random => random::evenly(candidates, &set, class, entropy),
        PolicyView::RingHash
        | PolicyView::Maglev
        | PolicyView::Aggregate { .. }
        | PolicyView::Pass(..)
        | PolicyView::Refuse => Ok(None),
    }?;
    if picked.is_none() && set != tier.view.set {
        // A locality without a usable endpoint: the others of the priority.
        return candidates.scan(&tier.view.set, class, entropy);
    }
    Ok(picked)
}

/// Tables span a priority; localities are in their weights. What is usable and in no table is still used.
#[inline(never)]
fn hashed_in(
    tier: &Tier<'_>,
    candidates: &Candidates<'_>,
    class: Class,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Host>, Torn> {
    let key = entropy.next();
    let found = match candidates.cluster.policy {
        PolicyView::RingHash => hashed::ring(candidates, &tier.view, class, key)?,
        _ => hashed::maglev(candidates, &tier.view, class, key)?,
    };
    // One draw for each endpoint, and always the same ones for a key.
    let found = if found.is_some() { found } else { candidates.scan(&tier.view.set, class, &mut Seeded(key))? };
    match (found, candidates.cluster.balancing.hash_balance_factor) {
        (Some(host), Some(factor)) => bounded::pick(candidates, &tier.view.set, class, key, host, factor).map(Some),
        (found, _) => Ok(found),
    }
}

/// What the priorities add up to.
#[derive(Clone, Copy, Default)]
struct Totals {
    /// Healthy and degraded availability of all priorities, percent, not yet cut at 100.
    available: u64,
    endpoints: u64,
}

impl Totals {
    fn of(tiers: &Tiers<'_>) -> Result<Self, Torn> {
        let mut totals = Self::default();
        for nth in 0..tiers.count()? {
            let tier = tiers.at(nth)?;
            let counts = counts(&tier)?;
            let (healthy, degraded) = availability(&tier, &counts);
            totals.available += healthy + degraded;
            totals.endpoints += counts.total;
        }
        Ok(totals)
    }

    /// Whether a priority is in panic, by the threshold of `cluster`.
    #[inline(never)]
    fn panics(&self, cluster: &ClusterView, counts: &Counts) -> bool {
        let good = ((counts.healthy + counts.degraded) * 10_000).checked_div(counts.total).unwrap_or(0);
        self.available < 100 && good < u64::from(cluster.panic_threshold)
    }

    /// Whether all of them are.
    fn all_panic(&self, tiers: &Tiers<'_>) -> Result<bool, Torn> {
        if self.available >= 100 {
            return Ok(false);
        }
        for nth in 0..tiers.count()? {
            if !self.panics(tiers.cluster, &counts(&tiers.at(nth)?)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a priority is in panic as its own cluster sees it.
fn panics(tiers: &Tiers<'_>, tier: &Tier<'_>) -> Result<bool, Torn> {
    let own = Tiers { cluster: &tier.cluster, ..*tiers };
    Ok(Totals::of(&own)?.panics(&tier.cluster, &counts(tier)?))
}

fn counts(tier: &Tier<'_>) -> Result<Counts, Torn> {
    tier.candidates().counts(&tier.view.set)
}

/// Healthy and degraded availability, percent.
fn availability(tier: &Tier<'_>, counts: &Counts) -> (u64, u64) {
    let factor = u64::from(tier.cluster.overprovisioning_factor);
    let percent = |count: u64| (count * factor).checked_div(counts.total).unwrap_or(0).min(100);
    (percent(counts.healthy), percent(counts.degraded))
}

/// The priority whose turn it is, and which of its endpoints; of an aggregate without regard to panic.
#[inline(never)]
fn choose(tiers: &Tiers<'_>, entropy: &mut (impl Entropy + ?Sized)) -> Result<Option<(u32, Class)>, Torn> {
    let priorities = tiers.count()?;
    if priorities == 0 {
        return Ok(None);
    }
    let first = tiers.at(0)?;
    if availability(&first, &counts(&first)?).0 == 100 {
        return Ok(Some((0, Class::Healthy)));
    }
    let totals = Totals::of(tiers)?;
    if totals.all_panic(tiers)? {
        return by_endpoints(tiers, totals, entropy);
    }
    if totals.available == 0 {
        // No panic: a few healthy ones among many (under one percent) are still used.
        return Ok(Some((0, Class::Healthy)));
    }
    let whole = totals.available.min(100);
    let load = |nth, class| {
        let tier = tiers.at(nth)?;
        let (healthy, degraded) = availability(&tier, &counts(&tier)?);
        Ok((if class == Class::Healthy { healthy } else { degraded }) * 100 / whole)
    };
    let Some((nth, class)) = by_load(entropy, priorities, &[Class::Healthy, Class::Degraded], load)? else {
        return Err(Torn);
    };
    let panics = !tiers.is_aggregate() && totals.panics(tiers.cluster, &counts(&tiers.at(nth)?)?);
    Ok(Some((nth, if panics { Class::Any } else { class })))
}

/// Everything in panic: by number of endpoints.
#[inline(never)]
fn by_endpoints(
    tiers: &Tiers<'_>,
    totals: Totals,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<(u32, Class)>, Torn> {
    let class = if tiers.is_aggregate() { Class::Healthy } else { Class::Any };
    let load = |nth, _| Ok((counts(&tiers.at(nth)?)?.total * 100).checked_div(totals.endpoints).unwrap_or(0));
    by_load(entropy, tiers.count()?, &[class], load)
}

/// The priority and class that a draw falls to. Loads are whole percent and fill a hundred in order; what rounding
/// leaves of it goes to the first that has any. A connection's hash is drawn by its remainder, as Envoy does, so that
/// a source stays with its priority and goes to the one where Envoy would send it.
fn by_load(
    entropy: &mut (impl Entropy + ?Sized),
    priorities: u32,
    classes: &[Class],
    load: impl Fn(u32, Class) -> Result<u64, Torn>,
) -> Result<Option<(u32, Class)>, Torn> {
    const WHOLE: u64 = 100;
    let all = || classes.iter().flat_map(|class| (0..priorities).map(move |nth| (nth, *class)));
    let mut unloaded = WHOLE;
    for (nth, class) in all() {
        unloaded = unloaded.saturating_sub(load(nth, class)?);
    }
    let mut left = entropy.next() % WHOLE;
    for (nth, class) in all() {
        let mut share = load(nth, class)?;
        if share > 0 {
            share += std::mem::take(&mut unloaded);
        }
        match left.checked_sub(share) {
            Some(rest) => left = rest,
            None => return Ok(Some((nth, class))),
        }
    }
    Ok(None)
}
