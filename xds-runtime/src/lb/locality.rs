//! Which endpoints of a priority are balanced together: one locality's, by weight, or all of them.
//!
//! As Envoy's locality-weighted balancing: a locality's weight shrinks with its share of healthy endpoints times
//! the overprovisioning factor; with its share of degraded ones, when those are picked. In panic all are balanced
//! without regard to localities.

use super::candidates::{Candidates, Class};
use super::entropy::{Entropy, below};
use crate::image::{LocalityView, PriorityView, SetView, Torn};

/// The locality to pick from; `None` = the whole priority.
#[inline(always)]
pub(super) fn pick(
    candidates: &Candidates<'_>,
    priority: &PriorityView,
    class: Class,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<SetView>, Torn> {
    if candidates.cluster.locality_weighted && class != Class::Any && priority.locality_count() > 1 {
        by_weight(candidates, priority, class, entropy)
    } else {
        Ok(None)
    }
}

#[inline(never)]
fn by_weight(
    candidates: &Candidates<'_>,
    priority: &PriorityView,
    class: Class,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<SetView>, Torn> {
    let mut sum = 0_u64;
    let mut taken = None;
    for locality in candidates.view.localities(priority)? {
        let weight = effective_weight(candidates, &locality, class)?;
        sum = sum.saturating_add(weight);
        if weight > 0 && below(entropy, sum) < weight {
            taken = Some(locality.set);
        }
    }
    Ok(taken)
}

/// `weight * min(100 %, overprovisioning * available / total)`, in thousandths.
#[inline(always)]
fn effective_weight(candidates: &Candidates<'_>, locality: &LocalityView, class: Class) -> Result<u64, Torn> {
    let counts = candidates.counts(&locality.set)?;
    let available = if class == Class::Degraded { counts.degraded } else { counts.healthy };
    let factor = u64::from(candidates.cluster.overprovisioning_factor);
    let share = available.saturating_mul(factor).saturating_mul(10).checked_div(counts.total).unwrap_or(0).min(1000);
    Ok(u64::from(locality.weight) * share)
}
