//! Settings of balancing beside the policy itself: slow start, zones, bounded loads.
//!
//! Envoy has each of them twice, in the cluster and in the policies' extensions: two messages, one meaning.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster as proto;
use envoy_types::pb::envoy::config::core::v3::RuntimeDouble;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3 as ext;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf as google;

use super::invalid::{Invalid, Under};
use super::scalar::duration;
use super::subsets::Subsets;

/// Envoy's default `min_weight_percent`.
const MIN_WEIGHT_PERCENT: f64 = 10.0;

/// What a cluster asks for beside its policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balancing {
    /// New endpoints get less, for a while (round robin and least request).
    pub slow_start: Option<SlowStart>,
    /// How zones count, where no locality weights are in force and the policy does not hash.
    pub zone_aware: ZoneAware,
    /// Least request looks at every endpoint (`selection_method` FULL_SCAN), not at `choice_count`.
    pub full_scan: bool,
    /// `hash_balance_factor`: how many percent of its share of connections an endpoint may have, where the policy
    /// hashes; at least 100.
    pub hash_balance_factor: Option<u32>,
    /// What routes ask for leads to some of the endpoints.
    pub subsets: Option<Box<Subsets>>,
}

/// `zone_aware_lb_config`. Envoy has it in force with these defaults wherever it knows its own cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZoneAware {
    /// `routing_enabled`: the percentage of picks that it is in force for, 0 to 100.
    pub routing_enabled: f64,
    /// `min_cluster_size`: healthy endpoints below which it is not.
    pub min_cluster_size: u64,
    /// `fail_traffic_on_panic`: no endpoint instead of any.
    pub fail_traffic_on_panic: bool,
    /// `locality_basis`: zones count by what their endpoints weigh, not by their number.
    pub by_weight: bool,
    /// `force_local_zone`: everything stays, where the own zone has this many healthy endpoints.
    pub force_local_zone: Option<u32>,
}

impl Default for ZoneAware {
    fn default() -> Self {
        Self {
            routing_enabled: 100.0,
            min_cluster_size: 6,
            fail_traffic_on_panic: false,
            by_weight: false,
            force_local_zone: None,
        }
    }
}

impl ZoneAware {
    /// The cluster's own message.
    pub(super) fn of_cluster(wire: proto::common_lb_config::ZoneAwareLbConfig) -> Result<Self, Invalid> {
        Ok(Self {
            routing_enabled: percentage(wire.routing_enabled, 100.0, "routing_enabled")?,
            min_cluster_size: wire.min_cluster_size.map_or(6, |size| size.value),
            fail_traffic_on_panic: wire.fail_traffic_on_panic,
            ..Self::default()
        })
    }

    /// The extensions' message.
    #[expect(deprecated, reason = "the older way to force the local zone is part of the message")]
    pub(super) fn of_extension(wire: ext::locality_lb_config::ZoneAwareLbConfig) -> Result<Self, Invalid> {
        let forced = wire.force_local_zone.map(|force| force.min_size.map_or(1, |size| size.value));
        Ok(Self {
            routing_enabled: percentage(wire.routing_enabled, 100.0, "routing_enabled")?,
            min_cluster_size: wire.min_cluster_size.map_or(6, |size| size.value),
            fail_traffic_on_panic: wire.fail_traffic_on_panic,
            by_weight: match wire.locality_basis {
                0 => false,
                1 => true,
                other => return Err(Invalid::new("locality_basis", format!("{other} is not defined"))),
            },
            force_local_zone: forced.or(wire.force_locality_direct_routing.then_some(1)),
        })
    }
}

/// `slow_start_config`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// How long an endpoint is new; over zero.
    pub window: Duration,
    /// The weight grows with `time^(1 / aggression)`; over 0 and finite.
    pub aggression: f64,
    /// An endpoint has at least this percentage of its weight, 0 to 100.
    pub min_weight_percent: f64,
}

impl SlowStart {
    /// The cluster's own message.
    pub(super) fn of_cluster(wire: Option<proto::SlowStartConfig>) -> Result<Option<Self>, Invalid> {
        wire.map_or(Ok(None), |wire| Self::new(wire.slow_start_window, wire.aggression, wire.min_weight_percent))
            .under("slow_start_config")
    }

    /// The extensions' message.
    pub(super) fn of_extension(wire: Option<ext::SlowStartConfig>) -> Result<Option<Self>, Invalid> {
        wire.map_or(Ok(None), |wire| Self::new(wire.slow_start_window, wire.aggression, wire.min_weight_percent))
            .under("slow_start_config")
    }

    /// A window of zero is no slow start, and an aggression that is not over zero is 1 (Envoy).
    fn new(
        window: Option<google::Duration>,
        aggression: Option<RuntimeDouble>,
        min_weight_percent: Option<Percent>,
    ) -> Result<Option<Self>, Invalid> {
        let window = duration(window, "slow_start_window")?.unwrap_or_default();
        let min_weight_percent = percentage(min_weight_percent, MIN_WEIGHT_PERCENT, "min_weight_percent")?;
        let aggression = aggression.map_or(1.0, |aggression| aggression.default_value);
        let aggression = if aggression.is_finite() && aggression > 0.0 { aggression } else { 1.0 };
        Ok((window.as_millis() > 0).then_some(Self { window, aggression, min_weight_percent }))
    }
}

/// Envoy: at least 100 percent.
pub(super) fn hash_balance_factor(wire: Option<google::UInt32Value>) -> Result<Option<u32>, Invalid> {
    match wire.map(|factor| factor.value) {
        Some(low @ ..100) => Err(Invalid::new("hash_balance_factor", format!("{low} is below 100"))),
        factor => Ok(factor),
    }
}

/// A percentage with a fraction; `default` when absent.
pub(super) fn percentage(wire: Option<Percent>, default: f64, field: &str) -> Result<f64, Invalid> {
    let value = wire.map_or(default, |percent| percent.value);
    if (0.0..=100.0).contains(&value) { Ok(value) } else { Err(Invalid::new(field, "is no percentage")) }
}
