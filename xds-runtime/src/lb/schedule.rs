//! Places in a set by weight.
//!
//! A set's endpoints lie one after the other on a line, each as long as its weight. A position on the line is an
//! endpoint. Counting positions by a stride that is coprime with the line's length visits every position once
//! per cycle: each endpoint exactly as often as it weighs, and its turns spread over the cycle.

use crate::image::{Torn, View, WeightsView};

/// The endpoint whose turn `cursor` is.
pub(super) fn turn(view: &View<'_>, weights: &WeightsView, cursor: u64) -> Result<u32, Torn> {
    let sum = u64::from(weights.sum);
    let turn = cursor.checked_rem(sum).ok_or(Torn)?;
    if weights.stride == 0 {
        return Ok(turn as u32);
    }
    at(view, weights, turn.wrapping_mul(u64::from(weights.stride)).checked_rem(sum).ok_or(Torn)?)
}

/// The endpoint at a position below the sum of weights.
#[inline(always)]
pub(super) fn at(view: &View<'_>, weights: &WeightsView, position: u64) -> Result<u32, Torn> {
    if weights.stride == 0 { Ok(position as u32) } else { search(view, weights, position) }
}

#[inline(never)]
fn search(view: &View<'_>, weights: &WeightsView, position: u64) -> Result<u32, Torn> {
    let (mut low, mut high) = (0, weights.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if u64::from(view.weights_to(weights, middle)?) > position {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if low < weights.len() { Ok(low) } else { Err(Torn) }
}
