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

use super::candidates::{Class, Counts};
use super::entropy::{Constant, Entropy, Seeded};
use super::tiers::{Tier, Tiers};
use super::zone_aware::Zone;
use super::{bounded, hashed, least_request, locality, random, round_robin, zone_aware};
use crate::image::{ClusterView, Place, PolicyView, Torn};

/// Where an endpoint is, and the index of the cluster that it is of: the one that was asked for, or a member of it.
pub(super) struct Picked {
    pub cluster: u32,
    pub host: Place,
    /// Where it was picked there is another one, as usable; false = nobody looked, or not there.
    pub another: bool,
}

impl Picked {
    const fn of(tier: &Tier<'_>, host: Place) -> Self {
        Self { cluster: tier.cluster().index, host, another: false }
    }
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
    let count = tiers.count()?;
    if count == 0 {
        return Ok(Found::Nothing);
    }
    let mut member = None;
    let mut tier = tiers.at(0, &mut member)?;
    let mut class = Class::Healthy;
    // Mostly the first one takes all.
    if availability(&tier, &tier.counts()?).0 < 100 {
        let Some((nth, by_load)) = choose_by_load(tiers, count, entropy)? else { return Ok(Found::Nothing) };
        (tier, class) = (tiers.at(nth, &mut member)?, by_load);
    }
    let class = match class {
        _ if tiers.is_aggregate() && panics(tiers, &tier)? => Class::Any,
        // A priority has one table, of its healthy endpoints (Envoy): degraded ones only raise its load.
        Class::Degraded if tier.cluster().policy.hashes() => Class::Healthy,
        class => class,
    };
    let zone = zone_aware::decide(&tier, class, entropy)?;
    if matches!(zone, Zone::Fail) {
        return Ok(Found::Fails);
    }
    if class == Class::Any && tier.candidates.balancing()?.fail_on_panic {
        return Ok(Found::Nothing);
    }
    let Some(place) = pick_in(&tier, class, &zone, key, entropy)? else {
        return pick_elsewhere(tiers, &mut tier, class, &zone, key, entropy);
    };
    // In panic it depends on more than this priority: `another_than` looks.
    let another = class != Class::Any && tier.candidates.holds_another(&tier.view.set, class, place)?;
    Ok(Found::Endpoint(Picked { another, ..Picked::of(&tier, place) }))
}

/// Nothing was found in the tier whose turn it is.
#[inline(never)]
fn pick_elsewhere(
    tiers: &Tiers<'_>,
    tier: &mut Tier<'_>,
    class: Class,
    zone: &Zone,
    key: Option<u64>,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Found, Torn> {
    let spare = others(tiers, |tier, class| {
        let zone = zone_aware::decide(tier, class, entropy)?;
        Ok(pick_in(tier, class, &zone, key, entropy)?.map(|place| Picked::of(tier, place)))
    })?;
    if spare.is_some() || tiers.reading.call.avoid.is_empty() {
        return Ok(spare.into());
    }
    // Everything was tried: the same again is better than nothing.
    tier.candidates.avoid_nothing();
    if let Some(again) = pick_in(tier, class, zone, key, entropy)? {
        return Ok(Found::Endpoint(Picked::of(tier, again)));
    }
    let any = others(tiers, |tier, class| {
        tier.candidates.avoid_nothing();
        Ok(pick_in(tier, class, &Zone::Plain, key, entropy)?.map(|place| Picked::of(tier, place)))
    })?;
    Ok(any.into())
}

/// What `find` finds first: healthy and degraded endpoints in order of priority, then those of priorities in panic.
#[inline(never)]
fn others<T>(
    tiers: &Tiers<'_>,
    mut find: impl FnMut(&mut Tier<'_>, Class) -> Result<Option<T>, Torn>,
) -> Result<Option<T>, Torn> {
    // One loop: two would have two descriptions of a tier on the stack.
    let count = tiers.count()?;
    let first = [Class::Healthy, Class::Degraded];
    for (classes, nth) in (0..count).map(|nth| (&first[..], nth)).chain((0..count).map(|nth| (&[Class::Any][..], nth)))
    {
        let mut member = None;
        let mut tier = tiers.at(nth, &mut member)?;
        for class in classes {
            // Keys keep to healthy endpoints, but in panic.
            if *class == Class::Degraded && tier.cluster().policy.hashes() {
                continue;
            }
            if *class == Class::Any && (tier.candidates.balancing()?.fail_on_panic || !panics(tiers, &tier)?) {
                continue;
            }
            if let Some(found) = find(&mut tier, *class)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// Whether the cluster holds a usable endpoint besides `picked`.
#[inline(never)]
pub(super) fn another_than(tiers: &Tiers<'_>, picked: &Place) -> Result<bool, Torn> {
    let another = |tier: &mut Tier<'_>, class| {
        Ok(if tier.candidates.holds_another(&tier.view.set, class, *picked)? { Some(()) } else { None })
    };
    Ok(others(tiers, another)?.is_some())
}

/// An endpoint of a priority. Where its policy hashes, the key is all the randomness there is.
fn pick_in(
    tier: &Tier<'_>,
    class: Class,
    zone: &Zone,
    key: Option<u64>,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Place>, Torn> {
    match key {
        Some(key) if tier.cluster().policy.hashes() => place_in(tier, class, zone, &mut Constant(key)),
        _ => place_in(tier, class, zone, entropy),
    }
}

#[inline(never)]
fn place_in(
    tier: &Tier<'_>,
    class: Class,
    zone: &Zone,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Place>, Torn> {
    let candidates = &tier.candidates;
    if candidates.cluster.policy.hashes() {
        return hashed_in(tier, class, entropy);
    }
    let locality;
    let part = match zone {
        Zone::Set(set) => Some(set),
        Zone::Plain => {
            locality = locality::pick(candidates, &tier.view, class, entropy)?;
            locality.as_ref()
        }
        Zone::Fail => return Ok(None),
    };
    let set = part.unwrap_or(&tier.view.set);
    let picked = match candidates.cluster.policy {
        PolicyView::RoundRobin => round_robin::pick(candidates, set, class, entropy),
        PolicyView::LeastRequest { choice_count, bias_thousandths } => {
            least_request::pick(candidates, set, class, choice_count, bias_thousandths, entropy)
        }
        PolicyView::Random => random::evenly(candidates, set, class, entropy),
        PolicyView::RingHash
        | PolicyView::Maglev
        | PolicyView::Aggregate { .. }
        | PolicyView::Pass(..)
        | PolicyView::Refuse => Ok(None),
    }?;
    if picked.is_none() && part.is_some() {
        // A locality without a usable endpoint: the others of the priority.
        return Ok(candidates.scan(&tier.view.set, class, entropy)?.map(|host| host.place));
    }
    Ok(picked)
}

/// Tables span a priority; localities are in their weights. What is usable and in no table is still used.
#[inline(never)]
fn hashed_in(tier: &Tier<'_>, class: Class, entropy: &mut (impl Entropy + ?Sized)) -> Result<Option<Place>, Torn> {
    let candidates = &tier.candidates;
    let key = entropy.next();
    let found = match candidates.cluster.policy {
        PolicyView::RingHash => hashed::ring(candidates, &tier.view, class, key)?,
        _ => hashed::maglev(candidates, &tier.view, class, key)?,
    };
    let found = match found {
        // One draw for each endpoint, and always the same ones for a key.
        None => candidates.scan(&tier.view.set, class, &mut Seeded(key))?.map(|host| host.place),
        found => found,
    };
    match (found, candidates.balancing()?.hash_balance_factor) {
        (Some(place), Some(factor)) => bounded::pick(candidates, &tier.view.set, class, key, place, factor).map(Some),
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
            let mut member = None;
            let tier = tiers.at(nth, &mut member)?;
            let counts = tier.counts()?;
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
            if !self.panics(tiers.cluster, &counts(tiers, nth)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a priority is in panic as its own cluster sees it.
fn panics(tiers: &Tiers<'_>, tier: &Tier<'_>) -> Result<bool, Torn> {
    let own = Tiers { cluster: tier.cluster(), ..*tiers };
    Ok(Totals::of(&own)?.panics(tier.cluster(), &tier.counts()?))
}

/// How many endpoints of a priority are in which condition.
fn counts(tiers: &Tiers<'_>, nth: u32) -> Result<Counts, Torn> {
    tiers.at(nth, &mut None)?.counts()
}

/// Healthy and degraded availability, percent.
fn availability(tier: &Tier<'_>, counts: &Counts) -> (u64, u64) {
    let factor = u64::from(tier.cluster().overprovisioning_factor);
    let percent = |count: u64| (count * factor).checked_div(counts.total).unwrap_or(0).min(100);
    (percent(counts.healthy), percent(counts.degraded))
}

/// The priority whose turn it is, and which of its endpoints; of an aggregate without regard to panic.
#[inline(never)]
fn choose_by_load(
    tiers: &Tiers<'_>,
    priorities: u32,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<(u32, Class)>, Torn> {
    let totals = Totals::of(tiers)?;
    if totals.all_panic(tiers)? {
        return by_endpoints(tiers, priorities, totals, entropy);
    }
    if totals.available == 0 {
        // No panic: a few healthy ones among many (under one percent) are still used.
        return Ok(Some((0, Class::Healthy)));
    }
    let whole = totals.available.min(100);
    let load = |nth, class| {
        let mut member = None;
        let tier = tiers.at(nth, &mut member)?;
        let (healthy, degraded) = availability(&tier, &tier.counts()?);
        Ok((if class == Class::Healthy { healthy } else { degraded }) * 100 / whole)
    };
    let Some((nth, class)) = by_load(entropy, priorities, &[Class::Healthy, Class::Degraded], load)? else {
        return Err(Torn);
    };
    let panics = !tiers.is_aggregate() && totals.panics(tiers.cluster, &counts(tiers, nth)?);
    Ok(Some((nth, if panics { Class::Any } else { class })))
}

/// Everything in panic: by number of endpoints.
#[inline(never)]
fn by_endpoints(
    tiers: &Tiers<'_>,
    priorities: u32,
    totals: Totals,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<(u32, Class)>, Torn> {
    let class = if tiers.is_aggregate() { Class::Healthy } else { Class::Any };
    let load = |nth, _| Ok((counts(tiers, nth)?.total * 100).checked_div(totals.endpoints).unwrap_or(0));
    by_load(entropy, priorities, &[class], load)
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
