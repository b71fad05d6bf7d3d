//! What of a request is hashed, when a destination's load balancing is by hash.

use std::num::NonZeroU16;

use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, Header, PolicySpecifier, QueryParameter,
};

use super::super::Proxy;
use super::super::wire::duration;
use crate::input::ConsistentHash;
use crate::model::Mesh;

/// The hash policies of these destinations: host, subset and port.
pub(super) fn policies<'a>(
    mesh: &Mesh,
    proxy: &Proxy,
    destinations: impl Iterator<Item = (&'a str, &'a str, NonZeroU16)>,
) -> Vec<HashPolicy> {
    let policy = |(host, subset, port): (&str, &str, NonZeroU16)| {
        let service = mesh.services.get(host)?;
        let rule = mesh.rule(service, &proxy.namespace)?;
        let subset = (!subset.is_empty()).then_some(subset);
        let settings = rule.policy(subset, port).load_balancer?;
        specifier(settings.consistent_hash.as_ref()?)
    };
    let wrap = |specifier| HashPolicy { policy_specifier: Some(specifier), ..Default::default() };
    destinations.filter_map(policy).map(wrap).collect()
}

fn specifier(hash: &ConsistentHash) -> Option<PolicySpecifier> {
    if let Some(name) = &hash.http_header_name {
        Some(PolicySpecifier::Header(Header { header_name: name.clone(), ..Default::default() }))
    } else if let Some(cookie) = &hash.http_cookie {
        Some(PolicySpecifier::Cookie(Cookie {
            name: cookie.name.clone(),
            path: cookie.path.clone(),
            ttl: cookie.ttl.map(duration),
            ..Default::default()
        }))
    } else if hash.use_source_ip {
        Some(PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }))
    } else {
        let name = hash.http_query_parameter_name.clone()?;
        Some(PolicySpecifier::QueryParameter(QueryParameter { name }))
    }
}
