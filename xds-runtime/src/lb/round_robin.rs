//! Weighted round robin over a cursor that all processes of the pod share.
//!
//! Degraded endpoints are drawn at random by weight: turns of two classes on one cursor would skew both, because a
//! class always goes on where the other stopped.

use super::candidates::{Candidates, Class};
use super::entropy::Entropy;
use super::{random, schedule};
use crate::image::{Place, SetView, Torn};

/// The next usable endpoint. Without a cursor (STATE is full) a random place of the schedule.
#[inline(never)]
pub(super) fn pick(
    candidates: &Candidates<'_>,
    set: &SetView,
    class: Class,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Place>, Torn> {
    if class == Class::Degraded {
        return Ok(random::pick(candidates, set, class, entropy)?.map(|host| host.place));
    }
    let cursor = candidates.cursor(set)?;
    // Pods begin at different places.
    let begin = candidates.view.seed()? ^ candidates.cluster.hash;
    let host = candidates.draw(set, class, entropy, |entropy, weights| {
        let turn = cursor.map_or_else(|| entropy.next(), |cursor| cursor.advance().wrapping_add(begin >> 1));
        schedule::turn(candidates.view, weights, turn)
    })?;
    Ok(host.map(|host| host.place))
}
