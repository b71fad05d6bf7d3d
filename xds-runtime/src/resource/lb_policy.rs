//! Load-balancing policies: the enum of old and the list of extensions.

use envoy_types::pb::envoy::config::cluster::v3::cluster::LbPolicy as WirePolicy;
use envoy_types::pb::envoy::config::core::v3::RuntimeDouble;
use envoy_types::pb::envoy::extensions::load_balancing_policies as ext;
use envoy_types::pb::google::protobuf::{UInt32Value, UInt64Value};

use super::any::{message_name, unpack};
use super::balancing::{Balancing, SlowStart, ZoneAware, hash_balance_factor};
use super::invalid::{Invalid, Under};
use super::model::LbPolicy;
use super::subsets;
use super::wire::{self, Any, LbConfig};
use crate::lb::MAX_CHOICES;

/// Envoy's bound of both ring sizes.
const RING_MOST: u64 = 8 * 1024 * 1024;
/// Envoy's bound of a Maglev table.
const MAGLEV_MOST: u64 = 5_000_011;
/// How deep policies may contain policies.
const DEPTH: usize = 4;

/// A policy and what came with it.
#[derive(Debug)]
pub(super) struct Chosen {
    pub policy: LbPolicy,
    /// What is set beside it.
    pub balancing: Balancing,
    /// The policy itself asks for locality weights.
    pub locality_weighted: bool,
    /// Hosts are hashed by their hostname.
    pub hash_hostnames: bool,
    /// Valid settings that are not honoured.
    pub unsupported: Vec<String>,
}

impl From<LbPolicy> for Chosen {
    fn from(policy: LbPolicy) -> Self {
        Self {
            policy,
            balancing: Balancing::default(),
            locality_weighted: false,
            hash_hostnames: false,
            unsupported: Vec::new(),
        }
    }
}

impl Chosen {
    fn starting(mut self, slow_start: Option<SlowStart>) -> Self {
        self.balancing.slow_start = slow_start;
        self
    }
}

/// The policy of a cluster: `load_balancing_policy` when it is there, else `lb_policy`.
pub(super) fn convert(cluster: &wire::Cluster) -> Result<Chosen, Invalid> {
    if let Some(list) = &cluster.load_balancing_policy {
        return from_list(list, DEPTH).under("load_balancing_policy");
    }
    let config = cluster.lb_config.as_ref();
    match WirePolicy::try_from(cluster.lb_policy) {
        Ok(WirePolicy::RoundRobin) => match config {
            Some(LbConfig::RoundRobinLbConfig(c)) => SlowStart::of_cluster(c.slow_start_config.clone())
                .under("round_robin_lb_config")
                .map(|slow_start| Chosen::from(LbPolicy::RoundRobin).starting(slow_start)),
            _ => Ok(LbPolicy::RoundRobin.into()),
        },
        Ok(WirePolicy::LeastRequest) => match config {
            Some(LbConfig::LeastRequestLbConfig(c)) => least_request(c.choice_count, c.active_request_bias.as_ref())
                .and_then(|chosen| Ok(chosen.starting(SlowStart::of_cluster(c.slow_start_config.clone())?)))
                .under("least_request_lb_config"),
            _ => least_request(None, None),
        },
        Ok(WirePolicy::Random) => Ok(LbPolicy::Random.into()),
        Ok(WirePolicy::RingHash) => match config {
            Some(LbConfig::RingHashLbConfig(c)) => match c.hash_function {
                0 => ring_hash(c.minimum_ring_size, c.maximum_ring_size, false),
                1 => ring_hash(c.minimum_ring_size, c.maximum_ring_size, true),
                other => Err(Invalid::new("hash_function", format!("{other} is not defined"))),
            }
            .under("ring_hash_lb_config"),
            _ => ring_hash(None, None, false),
        },
        Ok(WirePolicy::Maglev) => match config {
            Some(LbConfig::MaglevLbConfig(c)) => maglev(c.table_size).under("maglev_lb_config"),
            _ => maglev(None),
        },
        Ok(WirePolicy::ClusterProvided) => Ok(LbPolicy::ClusterProvided.into()),
        Ok(WirePolicy::LoadBalancingPolicyConfig) => Err(Invalid::missing("load_balancing_policy")),
        Err(_) => Err(Invalid::new("lb_policy", format!("{} is not defined", cluster.lb_policy))),
    }
}

/// The first policy of the list that this build has; without one, the names of all.
fn from_list(list: &wire::LoadBalancingPolicy, depth: usize) -> Result<Chosen, Invalid> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Invalid::new("policies", "nested too deep"));
    };
    if list.policies.is_empty() {
        return Err(Invalid::missing("policies"));
    }
    let mut names = Vec::new();
    for (i, entry) in list.policies.iter().enumerate() {
        let Some(extension) = &entry.typed_extension_config else {
            return Err(Invalid::missing(format!("policies[{i}].typed_extension_config")));
        };
        let Some(any) = &extension.typed_config else {
            names.push(extension.name.clone());
            continue;
        };
        match from_extension(any, depth).under_at("policies", i)? {
            Chosen { policy: LbPolicy::Unsupported(name), .. } => names.push(name),
            chosen => return Ok(chosen),
        }
    }
    Ok(LbPolicy::Unsupported(names.join(", ")).into())
}

fn from_extension(any: &Any, depth: usize) -> Result<Chosen, Invalid> {
    let name = message_name(&any.type_url);
    let Some(short) = name.strip_prefix("envoy.extensions.load_balancing_policies.") else {
        return Ok(LbPolicy::Unsupported(name.to_owned()).into());
    };
    match short {
        "round_robin.v3.RoundRobin" => {
            let c: ext::round_robin::v3::RoundRobin = unpack(any)?;
            let chosen = Chosen::from(LbPolicy::RoundRobin).starting(SlowStart::of_extension(c.slow_start_config)?);
            with_locality(chosen, c.locality_lb_config)
        }
        "least_request.v3.LeastRequest" => {
            let c: ext::least_request::v3::LeastRequest = unpack(any)?;
            let chosen = least_request(c.choice_count, c.active_request_bias.as_ref())?;
            let chosen = chosen.starting(SlowStart::of_extension(c.slow_start_config)?);
            let mut chosen = with_locality(chosen, c.locality_lb_config)?;
            chosen.balancing.full_scan = match c.selection_method {
                0 => false,
                1 => true,
                other => return Err(Invalid::new("selection_method", format!("{other} is not defined"))),
            };
            Ok(chosen)
        }
        "random.v3.Random" => {
            let c: ext::random::v3::Random = unpack(any)?;
            with_locality(LbPolicy::Random.into(), c.locality_lb_config)
        }
        "ring_hash.v3.RingHash" => {
            let c: ext::ring_hash::v3::RingHash = unpack(any)?;
            let murmur2 = match c.hash_function {
                0 | 1 => false,
                2 => true,
                other => return Err(Invalid::new("hash_function", format!("{other} is not defined"))),
            };
            let chosen = ring_hash(c.minimum_ring_size, c.maximum_ring_size, murmur2)?;
            // What the policy has of its own counts where there is no common message.
            #[allow(deprecated, reason = "it is part of the proto")]
            let own = (c.use_hostname_for_hashing, c.hash_balance_factor);
            let locality_weighted = c.locality_weighted_lb_config.is_some();
            match c.consistent_hashing_lb_config {
                Some(common) => hashing(chosen, Some(common), locality_weighted),
                None => {
                    let (hash_hostnames, factor) = own;
                    let mut chosen = Chosen { locality_weighted, hash_hostnames, ..chosen };
                    chosen.balancing.hash_balance_factor = hash_balance_factor(factor)?;
                    Ok(chosen)
                }
            }
        }
        "maglev.v3.Maglev" => {
            let c: ext::maglev::v3::Maglev = unpack(any)?;
            let chosen = maglev(c.table_size)?;
            hashing(chosen, c.consistent_hashing_lb_config, c.locality_weighted_lb_config.is_some())
        }
        "subset.v3.Subset" => {
            let mut c: wire::Subset = unpack(any)?;
            let inner = c.subset_lb_policy.take().ok_or_else(|| Invalid::missing("subset_lb_policy"))?;
            let mut chosen = from_list(&inner, depth).under("subset_lb_policy")?;
            chosen.balancing.subsets = subsets::of_extension(c, &mut chosen.unsupported)?.map(Box::new);
            Ok(chosen)
        }
        "cluster_provided.v3.ClusterProvided" => Ok(LbPolicy::ClusterProvided.into()),
        "wrr_locality.v3.WrrLocality" => {
            let c: wire::WrrLocality = unpack(any)?;
            let inner = c.endpoint_picking_policy.ok_or_else(|| Invalid::missing("endpoint_picking_policy"))?;
            let mut chosen = from_list(&inner, depth).under("endpoint_picking_policy")?;
            chosen.locality_weighted = true;
            Ok(chosen)
        }
        _ => Ok(LbPolicy::Unsupported(name.to_owned()).into()),
    }
}

fn with_locality(mut chosen: Chosen, locality: Option<ext::common::v3::LocalityLbConfig>) -> Result<Chosen, Invalid> {
    use ext::common::v3::locality_lb_config::LocalityConfigSpecifier;
    match locality.and_then(|l| l.locality_config_specifier) {
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => chosen.locality_weighted = true,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zones)) => {
            chosen.balancing.zone_aware =
                ZoneAware::of_extension(zones).under("locality_lb_config.zone_aware_lb_config")?;
        }
        None => {}
    }
    Ok(chosen)
}

fn hashing(
    mut chosen: Chosen,
    common: Option<ext::common::v3::ConsistentHashingLbConfig>,
    locality_weighted: bool,
) -> Result<Chosen, Invalid> {
    let common = common.unwrap_or_default();
    chosen.balancing.hash_balance_factor =
        hash_balance_factor(common.hash_balance_factor).under("consistent_hashing_lb_config")?;
    Ok(Chosen { locality_weighted, hash_hostnames: common.use_hostname_for_hashing, ..chosen })
}

fn least_request(choices: Option<UInt32Value>, bias: Option<&RuntimeDouble>) -> Result<Chosen, Invalid> {
    let choice_count = choices.map_or(2, |c| c.value);
    if choice_count < 2 {
        return Err(Invalid::new("choice_count", format!("{choice_count} is below 2")));
    }
    // Envoy takes 1.0 where the bias is negative.
    let active_request_bias = bias.map(|b| b.default_value).filter(|b| b.is_finite() && *b >= 0.0).unwrap_or(1.0);
    let mut chosen = Chosen::from(LbPolicy::LeastRequest { choice_count, active_request_bias });
    if choice_count > MAX_CHOICES {
        chosen.unsupported.push(format!("choice_count over {MAX_CHOICES}"));
    }
    Ok(chosen)
}

fn ring_hash(min: Option<UInt64Value>, max: Option<UInt64Value>, murmur2: bool) -> Result<Chosen, Invalid> {
    let minimum_ring_size = min.map_or(1024, |v| v.value);
    let maximum_ring_size = max.map_or(RING_MOST, |v| v.value);
    if maximum_ring_size > RING_MOST {
        return Err(Invalid::new("maximum_ring_size", format!("{maximum_ring_size} is over {RING_MOST}")));
    }
    if minimum_ring_size > maximum_ring_size {
        return Err(Invalid::new("minimum_ring_size", format!("{minimum_ring_size} is over the maximum")));
    }
    Ok(LbPolicy::RingHash { minimum_ring_size, maximum_ring_size, murmur2 }.into())
}

fn maglev(size: Option<UInt64Value>) -> Result<Chosen, Invalid> {
    let table_size = size.map_or(65537, |v| v.value);
    if table_size > MAGLEV_MOST || !is_prime(table_size) {
        return Err(Invalid::new("table_size", format!("{table_size} is no prime up to {MAGLEV_MOST}")));
    }
    Ok(LbPolicy::Maglev { table_size }.into())
}

fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}
