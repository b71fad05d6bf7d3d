//! Bounded loads: a key leaves an endpoint that has more than its share of the connections.
//!
//! Envoy's `hash_balance_factor` (percent). An endpoint may have that many times its share, by weight, of the cluster's
//! connections, the new one included. From one that has more a key goes on to the others in an order of its own, always
//! the same, to the first that has room; where none has, to the one that is the least over.

use super::candidates::{Candidates, Class, Host};
use crate::image::{Place, SetView, Torn};

/// The endpoint for a key whose own is `first`.
#[inline(never)]
pub(super) fn pick(
    candidates: &Candidates<'_>,
    set: &SetView,
    class: Class,
    key: u64,
    first: Place,
    factor: u32,
) -> Result<Place, Torn> {
    let first = candidates.host_at(first)?;
    let mut weights = 0_u64;
    for index in 0..set.len() {
        let host = candidates.host(set, index)?;
        if candidates.usable(&host, class) {
            weights += u64::from(host.endpoint.weight);
        }
    }
    let room = (candidates.connections().saturating_add(1)).saturating_mul(u64::from(factor)).div_ceil(100);
    let load = |host: &Host| {
        let share = f64::from(host.endpoint.weight) / (weights.max(1) as f64);
        let mine = ((room as f64) * share).ceil().max(1.0);
        candidates.slot(host).map_or(0.0, |slot| slot.active() as f64) / mine
    };
    let mut least = (first.place, load(&first));
    if least.1 <= 1.0 {
        return Ok(first.place);
    }
    let mut order = Order::of(key, u64::from(set.len()));
    for _ in 0..set.len() {
        let host = candidates.host(set, order.next())?;
        if host.is(&first) || !candidates.usable(&host, class) {
            continue;
        }
        let load = load(&host);
        if load <= 1.0 {
            return Ok(host.place);
        }
        if load < least.1 {
            least = (host.place, load);
        }
    }
    Ok(least.0)
}

/// The numbers below a length, each once, from a place and in steps that a key decides.
struct Order {
    at: u64,
    step: u64,
    length: u64,
}

impl Order {
    fn of(key: u64, length: u64) -> Self {
        let length = length.max(1);
        let coprime = |step: &u64| {
            let (mut a, mut b) = (*step, length);
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a == 1
        };
        // One is found soon: 1 at the latest.
        let from = (key >> 32) % length;
        let step = (from..length).chain(0..from).find(coprime).unwrap_or(1);
        Self { at: key % length, step, length }
    }

    fn next(&mut self) -> u32 {
        let at = self.at;
        self.at = (at + self.step) % self.length;
        at as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn an_order_is_each_place_once() {
        for length in 1..60_u64 {
            for key in (0..40).map(|n| crate::shm::hash_words(&[n])) {
                let mut order = Order::of(key, length);
                let mut seen: Vec<u32> = (0..length).map(|_| order.next()).collect();
                seen.sort_unstable();
                assert!(seen.into_iter().map(u64::from).eq(0..length), "{key} of {length}");
            }
        }
    }
}
