//! How the names of a DNS cluster are looked up: the fields of `Cluster`, or those of the `DnsCluster` extension.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::DnsLookupFamily;
use envoy_types::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as ExtensionFamily;
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use envoy_types::pb::google::protobuf as google;

use super::invalid::{Invalid, Under};
use super::model::{Dns, DnsFamily, DnsRefresh};
use super::{scalar, wire};

/// Envoy's default `dns_refresh_rate`.
const REFRESH: Duration = Duration::from_secs(5);
/// The default `max_interval`, in `base_interval`s.
const MAX_INTERVAL: u32 = 10;
/// The smallest `dns_min_refresh_rate` that Envoy takes, which is also how often a name is looked up here at most.
const LEAST_FLOOR: Duration = Duration::from_secs(1);

/// The fields of a cluster of type STRICT_DNS or LOGICAL_DNS; adds to `unsupported` those that are not honoured.
pub(super) fn of_cluster(wire: &wire::Cluster, unsupported: &mut Vec<String>) -> Result<Dns, Invalid> {
    let set = [
        (wire.typed_dns_resolver_config.is_some(), "typed_dns_resolver_config"),
        (wire.dns_resolution_config.is_some(), "dns_resolution_config"),
        (!wire.dns_resolvers.is_empty(), "dns_resolvers"),
        (wire.use_tcp_for_dns_lookups, "use_tcp_for_dns_lookups"),
        (jitters(wire.dns_jitter)?, "dns_jitter"),
    ];
    unsupported.extend(set.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned()));
    let family = match DnsLookupFamily::try_from(wire.dns_lookup_family) {
        Ok(DnsLookupFamily::Auto) => DnsFamily::Auto,
        Ok(DnsLookupFamily::V4Only) => DnsFamily::V4Only,
        Ok(DnsLookupFamily::V6Only) => DnsFamily::V6Only,
        Ok(DnsLookupFamily::V4Preferred) => DnsFamily::V4Preferred,
        Ok(DnsLookupFamily::All) => DnsFamily::All,
        Err(_) => return Err(Invalid::new("dns_lookup_family", "not defined")),
    };
    let failure = wire.dns_failure_refresh_rate.map(|rate| (rate.base_interval, rate.max_interval));
    Ok(Dns { family, refresh: refresh(wire.dns_refresh_rate, failure, wire.respect_dns_ttl)? })
}

/// The fields of the extension; adds to `unsupported` those that are not honoured.
pub(super) fn of_extension(wire: &DnsCluster, unsupported: &mut Vec<String>) -> Result<Dns, Invalid> {
    let least = scalar::duration(wire.dns_min_refresh_rate, "dns_min_refresh_rate")?;
    if least.is_some_and(|least| least < LEAST_FLOOR) {
        return Err(Invalid::new("dns_min_refresh_rate", "is below 1 s"));
    }
    let set = [
        (wire.typed_dns_resolver_config.is_some(), "typed_dns_resolver_config"),
        (jitters(wire.dns_jitter)?, "dns_jitter"),
        (least.is_some_and(|least| least > LEAST_FLOOR), "dns_min_refresh_rate"),
    ];
    unsupported.extend(set.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned()));
    let family = match ExtensionFamily::try_from(wire.dns_lookup_family) {
        Ok(ExtensionFamily::Unspecified | ExtensionFamily::Auto) => DnsFamily::Auto,
        Ok(ExtensionFamily::V4Only) => DnsFamily::V4Only,
        Ok(ExtensionFamily::V6Only) => DnsFamily::V6Only,
        Ok(ExtensionFamily::V4Preferred) => DnsFamily::V4Preferred,
        Ok(ExtensionFamily::All) => DnsFamily::All,
        Err(_) => return Err(Invalid::new("dns_lookup_family", "not defined")),
    };
    let failure = wire.dns_failure_refresh_rate.map(|rate| (rate.base_interval, rate.max_interval));
    Ok(Dns { family, refresh: refresh(wire.dns_refresh_rate, failure, wire.respect_dns_ttl)? })
}

/// Whether look-ups are to be put off by a random time; 0 is none.
fn jitters(wire: Option<google::Duration>) -> Result<bool, Invalid> {
    Ok(scalar::duration(wire, "dns_jitter")?.is_some_and(|jitter| !jitter.is_zero()))
}

fn refresh(
    rate: Option<google::Duration>,
    failure: Option<(Option<google::Duration>, Option<google::Duration>)>,
    respect_ttl: bool,
) -> Result<DnsRefresh, Invalid> {
    let interval = scalar::positive_duration(rate, REFRESH, "dns_refresh_rate")?;
    let (retry, retry_most) = match failure {
        None => (interval, interval),
        Some((None, _)) => return Err(Invalid::missing("dns_failure_refresh_rate.base_interval")),
        Some((base, most)) => {
            let at = "dns_failure_refresh_rate";
            let base = scalar::positive_duration(base, interval, "base_interval").under(at)?;
            let default = base.saturating_mul(MAX_INTERVAL);
            let most = scalar::positive_duration(most, default, "max_interval").under(at)?;
            if most < base {
                return Err(Invalid::new("dns_failure_refresh_rate.max_interval", "is below base_interval"));
            }
            (base, most)
        }
    };
    Ok(DnsRefresh { interval, respect_ttl, retry, retry_most })
}
