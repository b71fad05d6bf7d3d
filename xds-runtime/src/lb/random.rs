//! Weighted random.

use super::candidates::{Candidates, Class, Host};
use super::entropy::Entropy;
use super::schedule;
use crate::image::{SetView, Torn};

/// A usable endpoint, each as likely as it weighs.
pub(super) fn pick(
    candidates: &Candidates<'_>,
    set: &SetView,
    class: Class,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<Option<Host>, Torn> {
    candidates.draw(set, class, entropy, |random| {
        let position = (u128::from(random()) * u128::from(set.sum)) >> 64;
        schedule::at(candidates.view, set, position as u64)
    })
}
