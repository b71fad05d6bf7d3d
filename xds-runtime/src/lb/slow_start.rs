//! Slow start: a new endpoint gets less than its weight says, and more with time.
//!
//! Envoy's formula: within the window an endpoint weighs `weight * max(least, (age / window)^(1 / aggression))`.
//! Envoy rebuilds its schedule for each pick meanwhile. Here a draw from the schedule of full weights is accepted
//! with the share that the endpoint has, relative to the largest share of its set: the proportions are the same, and
//! endpoints that are equally new take turns as ever. When an endpoint was added is told by its slot, so all
//! processes of the pod agree, and a leader that takes over changes nothing.

use super::candidates::{Candidates, Host};
use super::entropy::{Entropy, below};
use super::power::power;
use crate::image::{Mesh, SetView, SlowStart, Torn};
use crate::shm::Millis;
use crate::state::State;

/// Sets up to this size are looked through for their largest share; of a larger one it is taken to be all.
const LOOKED_THROUGH: u32 = 32;

/// Tells each cluster with slow start when its newest endpoint was added: pickers look at the age of endpoints only
/// while one is new. The leader calls this when slots were given and before the mesh is published.
pub fn tell_additions(mesh: &Mesh, state: &State) {
    for cluster in mesh.clusters.iter().filter(|cluster| cluster.balancing.slow_start.is_some()) {
        let added = |slot: Option<u32>| slot.and_then(|index| state.slot_at(index)).map_or(0, |slot| slot.added());
        let localities = cluster.priorities.iter().flatten().flat_map(|priority| &priority.localities);
        let newest = localities.flat_map(|locality| &locality.endpoints).map(|endpoint| added(endpoint.slot)).max();
        if let (Some(slot), Some(newest)) = (cluster.slot.and_then(|index| state.slot_at(index)), newest)
            && slot.added() < newest
        {
            slot.set_added(newest);
        }
    }
}

/// Slow start in force: some endpoint of the cluster is new.
#[derive(Clone, Copy)]
pub(super) struct Starting {
    settings: SlowStart,
    now: Millis,
}

impl Starting {
    /// `None`: no endpoint is new. `newest`: when the newest one was added.
    pub fn new(settings: SlowStart, newest: Millis, now: Millis) -> Option<Self> {
        (now.saturating_sub(newest) < u64::from(settings.window_ms)).then_some(Self { settings, now })
    }

    /// The share of its weight that an endpoint has: 1 for one that is not new, or of unknown age.
    pub fn share(&self, candidates: &Candidates<'_>, host: &Host) -> f64 {
        let Some(slot) = candidates.slot(host).filter(|slot| slot.added() != 0) else { return 1.0 };
        let age = self.now.saturating_sub(slot.added());
        let window = u64::from(self.settings.window_ms);
        if age >= window {
            return 1.0;
        }
        let time = (age.max(1) as f64) / (window as f64);
        let least = f64::from(self.settings.min_weight) / 10_000.0;
        // No endpoint weighs nothing, whatever the settings: somebody has to be picked.
        power(time, 1000, self.settings.aggression_thousandths).max(least).clamp(1e-9, 1.0)
    }

    /// The largest share in a set, or a bound of it.
    pub fn largest(&self, candidates: &Candidates<'_>, set: &SetView) -> Result<f64, Torn> {
        if set.len() > LOOKED_THROUGH {
            return Ok(1.0);
        }
        let mut largest = 0.0_f64;
        for index in 0..set.len() {
            largest = largest.max(self.share(candidates, &candidates.host(set, index)?));
        }
        Ok(largest)
    }
}

/// True with this probability.
pub(super) fn happens(probability: f64, entropy: &mut (impl Entropy + ?Sized)) -> bool {
    const TICKETS: u64 = 1 << 32;
    probability >= 1.0 || (below(entropy, TICKETS) as f64) < probability * (TICKETS as f64)
}
