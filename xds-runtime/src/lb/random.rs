//! Random: by weight for policies that sample so, and Envoy's RANDOM, which weighs nothing.

use super::candidates::{Candidates, Class, Host};
use super::entropy::{Entropy, below};
use super::schedule;
use crate::image::{Place, SetView, Torn};

/// A usable endpoint, each as likely as it weighs.
#[inline(always)]
pub(super) fn pick(
    candidates: &Candidates<'_>,
    set: &SetView,
    class: Class,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Host>, Torn> {
    candidates.draw(set, class, entropy, |entropy, weights| {
        let position = (u128::from(entropy.next()) * u128::from(weights.sum)) >> 64;
        schedule::at(candidates.view, weights, position as u64)
    })
}

/// A usable endpoint, each as likely as any other, whatever it weighs.
#[inline(never)]
pub(super) fn evenly(
    candidates: &Candidates<'_>,
    set: &SetView,
    class: Class,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Place>, Torn> {
    const DRAWS: u32 = 32;
    if set.is_empty() {
        return Ok(None);
    }
    for _ in 0..DRAWS {
        let host = candidates.host(set, below(entropy, u64::from(set.len())) as u32)?;
        if candidates.usable(&host, class) {
            return Ok(Some(host.place));
        }
    }
    Ok(candidates.scan_by(set, class, entropy, |_| 1.0)?.map(|host| host.place))
}
