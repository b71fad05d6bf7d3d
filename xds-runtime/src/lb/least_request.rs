//! Least request: towards endpoints with fewer live connections of the whole pod.
//!
//! With equal weights, as Envoy does, `choice_count` random endpoints are compared and the one with the fewest
//! connections is taken; or all of them are (FULL_SCAN). With unequal ones, and while an endpoint is new (slow start),
//! an endpoint's share is `weight / (connections + 1)^bias`; Envoy gives it by a scheduler under a lock, here it is
//! drawn: from all usable endpoints when they are few, else from a sample that was drawn by weight.

use super::candidates::{Candidates, Class, Host};
use super::entropy::{Entropy, below};
use super::power::power;
use super::random;
use super::slow_start::happens;
use crate::image::{Place, SetView, Torn};

/// Draws of one pick: a larger `choice_count` is this one, and is said to be.
pub(crate) const MAX_CHOICES: u32 = 128;

/// Endpoints that are drawn by weight.
const SAMPLE: u32 = 16;

/// A usable endpoint.
#[inline(never)]
pub(super) fn pick(
    candidates: &Candidates<'_>,
    set: &SetView,
    class: Class,
    choice_count: u32,
    bias_thousandths: u32,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Place>, Torn> {
    if candidates.starting.is_none() && candidates.view.weights(set)?.stride == 0 {
        if candidates.balancing()?.full_scan {
            return fewest_of_all(candidates, set, class, entropy);
        }
        return fewest(candidates, set, class, choice_count.clamp(1, MAX_CHOICES), entropy);
    }
    let mut lottery = Lottery { sum: 0.0, taken: None };
    if set.len() <= SAMPLE {
        for index in 0..set.len() {
            let host = candidates.host(set, index)?;
            if candidates.usable(&host, class) {
                let share = candidates.weight(&host) * relief(candidates, &host, bias_thousandths);
                lottery.enter(&host, share, entropy);
            }
        }
    } else {
        for _ in 0..SAMPLE {
            // Drawn by weight: the weight is in the odds of being drawn.
            let Some(host) = random::pick(candidates, set, class, entropy)? else { break };
            lottery.enter(&host, relief(candidates, &host, bias_thousandths), entropy);
        }
    }
    Ok(lottery.taken)
}

fn fewest(
    candidates: &Candidates<'_>,
    set: &SetView,
    class: Class,
    choices: u32,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Place>, Torn> {
    let mut best: Option<(Place, u64)> = None;
    for _ in 0..choices {
        let Some(host) = random::pick(candidates, set, class, entropy)? else { break };
        let active = active(candidates, &host);
        if best.is_none_or(|(_, fewest)| active < fewest) {
            best = Some((host.place, active));
        }
    }
    Ok(best.map(|(place, _)| place))
}

/// One of those with the fewest connections, each as likely.
fn fewest_of_all(
    candidates: &Candidates<'_>,
    set: &SetView,
    class: Class,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Place>, Torn> {
    let (mut best, mut fewest, mut alike) = (None, u64::MAX, 0);
    for index in 0..set.len() {
        let host = candidates.host(set, index)?;
        if !candidates.usable(&host, class) {
            continue;
        }
        let active = active(candidates, &host);
        if active < fewest {
            (fewest, alike) = (active, 0);
        }
        alike += u64::from(active == fewest);
        if active == fewest && below(entropy, alike) == 0 {
            best = Some(host.place);
        }
    }
    Ok(best)
}

fn active(candidates: &Candidates<'_>, host: &Host) -> u64 {
    candidates.slot(host).map_or(0, |slot| slot.active())
}

/// `1 / (connections + 1)^bias`
fn relief(candidates: &Candidates<'_>, host: &Host, bias_thousandths: u32) -> f64 {
    1.0 / power((active(candidates, host) as f64) + 1.0, bias_thousandths, 1000)
}

/// Keeps one of the entries, each with the odds of its share.
struct Lottery {
    sum: f64,
    taken: Option<Place>,
}

impl Lottery {
    fn enter(&mut self, host: &Host, share: f64, entropy: &mut (impl Entropy + ?Sized)) {
        self.sum += share;
        if self.taken.is_none() || happens(share / self.sum, entropy) {
            self.taken = Some(host.place);
        }
    }
}
