//! What few clusters ask for beside their policy: a record of its own, so that the others carry none.

use crate::image::layout::{BALANCING_WORDS, NONE};
use crate::shm::{pack, unpack};

/// What a cluster asks for beside its policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balancing {
    /// New endpoints get less, for a while.
    pub slow_start: Option<SlowStart>,
    /// As much as is fair stays in the node's locality.
    pub zone_aware: Option<ZoneAware>,
    /// Least request looks at every endpoint.
    pub full_scan: bool,
    /// How many percent of its share of connections an endpoint may have, where the policy hashes; over 0.
    pub hash_balance_factor: Option<u32>,
    /// A priority in panic has no endpoint, instead of any.
    pub fail_on_panic: bool,
    /// The cluster to take when this one has no usable endpoint.
    pub otherwise: Option<u32>,
}

/// Slow start: a new endpoint's weight grows over `window_ms` (see `lb::slow_start`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// How long an endpoint is new, milliseconds; over 0.
    pub window_ms: u32,
    /// Aggression in thousandths; over 0.
    pub aggression_thousandths: u32,
    /// The least share of its weight, in hundredths of a percent.
    pub min_weight: u32,
}

/// Zone-aware routing in priority 0 (see `lb::zone_aware`). It is there only where the node's locality has endpoints
/// of the local cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneAware {
    /// Index of the node's own cluster: who calls. The localities of priority 0 here are found in its priority 0 by
    /// their names.
    pub local: u32,
    /// The node's locality among those of priority 0, if it has endpoints here.
    pub own: Option<u32>,
    /// Percentage of picks that it is in force for.
    pub routing_enabled: u32,
    /// Healthy endpoints below which it is not.
    pub min_cluster_size: u32,
    /// Localities count by what their endpoints weigh.
    pub by_weight: bool,
    /// Everything stays, where the node's locality has this many healthy endpoints.
    pub force_local: Option<u32>,
}

/// Flags of a record.
const ZONE_AWARE: u32 = 1;
const BY_WEIGHT: u32 = 2;
const FAIL_ON_PANIC: u32 = 4;
const FULL_SCAN: u32 = 8;

impl Balancing {
    /// The words of a record.
    pub(super) fn words(&self) -> [u64; BALANCING_WORDS] {
        let start = self.slow_start.unwrap_or(SlowStart { window_ms: 0, aggression_thousandths: 0, min_weight: 0 });
        let none = ZoneAware {
            local: NONE,
            own: None,
            routing_enabled: 0,
            min_cluster_size: 0,
            by_weight: false,
            force_local: None,
        };
        let zones = self.zone_aware.unwrap_or(none);
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let flags = flag(self.zone_aware.is_some(), ZONE_AWARE)
            | flag(zones.by_weight, BY_WEIGHT)
            | flag(self.fail_on_panic, FAIL_ON_PANIC)
            | flag(self.full_scan, FULL_SCAN);
        let index = |index: Option<u32>| index.unwrap_or(NONE);
        [
            pack(start.window_ms, start.aggression_thousandths),
            pack(start.min_weight, self.hash_balance_factor.unwrap_or(0)),
            pack(index(self.otherwise), flags),
            pack(zones.local, index(zones.own)),
            pack(zones.routing_enabled, zones.min_cluster_size),
            pack(index(zones.force_local), 0),
        ]
    }

    /// What such words say.
    pub(super) fn from_words(words: [u64; BALANCING_WORDS]) -> Self {
        let [
            (window_ms, aggression_thousandths),
            (min_weight, balance),
            (otherwise, flags),
            (local, own),
            (routing_enabled, min_cluster_size),
            (force_local, _),
        ] = words.map(unpack);
        let index = |index: u32| Some(index).filter(|index| *index != NONE);
        Self {
            slow_start: (window_ms > 0).then_some(SlowStart { window_ms, aggression_thousandths, min_weight }),
            zone_aware: (flags & ZONE_AWARE != 0).then_some(ZoneAware {
                local,
                own: index(own),
                routing_enabled,
                min_cluster_size,
                by_weight: flags & BY_WEIGHT != 0,
                force_local: index(force_local),
            }),
            full_scan: flags & FULL_SCAN != 0,
            hash_balance_factor: Some(balance).filter(|percent| *percent > 0),
            fail_on_panic: flags & FAIL_ON_PANIC != 0,
            otherwise: index(otherwise),
        }
    }
}
