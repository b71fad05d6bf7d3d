//! Places in a set by weight.
//!
//! A set's endpoints lie one after the other on a line, each as long as its weight. A position on the line is an
//! endpoint. Counting positions by a stride that is coprime with the line's length visits every position once
//! per cycle: each endpoint exactly as often as it weighs, and its turns spread over the cycle.

use crate::image::{SetView, Torn, View};

/// The endpoint whose turn `cursor` is.
pub(super) fn turn(view: &View<'_>, set: &SetView, cursor: u64) -> Result<u32, Torn> {
    if set.stride == 0 {
        return Ok(cursor.checked_rem(u64::from(set.len())).ok_or(Torn)? as u32);
    }
    let sum = u64::from(set.sum);
    let position = cursor.checked_rem(sum).ok_or(Torn)?.wrapping_mul(u64::from(set.stride));
    at(view, set, position.checked_rem(sum).ok_or(Torn)?)
}

/// The endpoint at a position below the set's sum of weights.
pub(super) fn at(view: &View<'_>, set: &SetView, position: u64) -> Result<u32, Torn> {
    if set.stride == 0 && u64::from(set.len()) == u64::from(set.sum) {
        return Ok(position as u32);
    }
    let position = position + u64::from(set.before);
    let (mut low, mut high) = (0, set.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if u64::from(view.weights_to(set, middle)?) > position {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if low < set.len() { Ok(low) } else { Err(Torn) }
}
