//! One of a destination's clusters, by weight.

use super::entropy::{Entropy, below};
use crate::image::{Torn, View};

/// The index of the cluster. `first` and `count` are those of the action.
pub(super) fn pick(
    view: &View<'_>,
    first: u32,
    count: u32,
    entropy: &mut (impl Entropy + ?Sized),
) -> Result<u32, Torn> {
    if count == 1 {
        return Ok(view.weighted(first, 0)?.0);
    }
    let mut sum = 0_u64;
    for nth in 0..count {
        sum += u64::from(view.weighted(first, nth)?.1);
    }
    let mut left = below(entropy, sum);
    for nth in 0..count {
        let (cluster, weight) = view.weighted(first, nth)?;
        match left.checked_sub(u64::from(weight)) {
            Some(rest) => left = rest,
            None => return Ok(cluster),
        }
    }
    // No cluster, or none with a weight: compile writes neither.
    Err(Torn)
}
