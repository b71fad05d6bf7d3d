//! RDS: route configurations, also inline in HTTP connection managers.

use std::collections::HashSet;

use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;

use super::invalid::{Invalid, Under};
use super::metadata::{self, Metadata};
use super::model::{HashPolicy, Route, RouteAction, RouteConfiguration, VirtualHost, WeightedCluster};
use super::scalar;
use super::wire::{self, Action, ClusterSpecifier, PolicySpecifier};

mod condition;

/// A route configuration; an empty name is the caller's business.
pub(super) fn convert(wire: wire::RouteConfiguration) -> Result<RouteConfiguration, Invalid> {
    let mut virtual_hosts = Vec::with_capacity(wire.virtual_hosts.len());
    let mut domains = HashSet::new();
    for (i, host) in wire.virtual_hosts.into_iter().enumerate() {
        let host = virtual_host(host).under_at("virtual_hosts", i)?;
        for domain in &host.domains {
            // Envoy: domains are unique over all virtual hosts of a configuration, without regard to case.
            if !domains.insert(domain.to_ascii_lowercase()) {
                let why = format!("{domain:?} is there twice");
                return Err(Invalid::new(format!("virtual_hosts[{i}].domains"), why));
            }
        }
        virtual_hosts.push(host);
    }
    Ok(RouteConfiguration { name: wire.name, virtual_hosts })
}

fn virtual_host(wire: wire::VirtualHost) -> Result<VirtualHost, Invalid> {
    if wire.name.is_empty() {
        return Err(Invalid::missing("name"));
    }
    if wire.domains.is_empty() || wire.domains.iter().any(String::is_empty) {
        return Err(Invalid::missing("domains"));
    }
    let mut routes = Vec::with_capacity(wire.routes.len());
    if wire.require_tls == TlsRequirementType::All as i32 {
        routes.push(unsupported("redirect to https (require_tls)"));
    }
    if wire.matcher.is_some() {
        routes.push(unsupported("virtual host matcher"));
    }
    for (i, route) in wire.routes.into_iter().enumerate() {
        routes.push(convert_route(route).under_at("routes", i)?);
    }
    Ok(VirtualHost { name: wire.name, domains: wire.domains, routes })
}

fn unsupported(what: &str) -> Route {
    Route { name: String::new(), condition: None, action: RouteAction::Unsupported(what.to_owned()) }
}

fn convert_route(wire: wire::Route) -> Result<Route, Invalid> {
    let condition = match &wire.r#match {
        Some(rule) => condition::in_words(rule).under("match")?,
        None => return Err(Invalid::missing("match")),
    };
    let action = action(wire.action.ok_or_else(|| Invalid::missing("action"))?)?;
    Ok(Route { name: wire.name, condition, action })
}

fn action(wire: Action) -> Result<RouteAction, Invalid> {
    Ok(match wire {
        Action::Route(forward) => return forward_to(forward).under("route"),
        Action::Redirect(_) => RouteAction::Unsupported("redirect".to_owned()),
        Action::DirectResponse(response) => RouteAction::Unsupported(format!("direct response {}", response.status)),
        Action::FilterAction(_) => RouteAction::Unsupported("filter action".to_owned()),
        Action::NonForwardingAction(_) => RouteAction::Unsupported("non-forwarding action".to_owned()),
    })
}

pub(super) fn forward_to(wire: wire::RouteAction) -> Result<RouteAction, Invalid> {
    let hash = hash_policy(&wire.hash_policy);
    let metadata = metadata::of_load_balancing(wire.metadata_match.as_ref()).under("metadata_match")?;
    Ok(match wire.cluster_specifier.ok_or_else(|| Invalid::missing("cluster_specifier"))? {
        ClusterSpecifier::Cluster(name) if name.is_empty() => {
            return Err(Invalid::missing("cluster"));
        }
        ClusterSpecifier::Cluster(name) => {
            RouteAction::Clusters(vec![WeightedCluster { name, weight: 1, metadata }], hash)
        }
        ClusterSpecifier::WeightedClusters(list) => {
            return weighted(list, hash, &metadata).under("weighted_clusters");
        }
        ClusterSpecifier::ClusterHeader(header) => RouteAction::Unsupported(format!("cluster from header {header}")),
        ClusterSpecifier::ClusterSpecifierPlugin(name) => {
            RouteAction::Unsupported(format!("cluster specifier plugin {name}"))
        }
        ClusterSpecifier::InlineClusterSpecifierPlugin(_) => {
            RouteAction::Unsupported("inline cluster specifier plugin".to_owned())
        }
    })
}

/// Envoy: every entry states a weight, 0 is allowed (never picked), the sum is over 0 and within 32 bits.
fn weighted(wire: wire::WeightedCluster, hash: HashPolicy, metadata: &Metadata) -> Result<RouteAction, Invalid> {
    let mut sum = 0;
    let mut clusters = Vec::with_capacity(wire.clusters.len());
    for (i, entry) in wire.clusters.into_iter().enumerate() {
        let field = |name: &str| format!("clusters[{i}].{name}");
        let weight = entry.weight.ok_or_else(|| Invalid::missing(field("weight")))?.value;
        scalar::add_weight(&mut sum, weight, "clusters.weight")?;
        match (entry.name.is_empty(), entry.cluster_header.is_empty()) {
            (false, true) if weight == 0 => {}
            (false, true) => {
                let metadata = metadata::over(metadata, entry.metadata_match.as_ref())
                    .under("metadata_match")
                    .under_at("clusters", i)?;
                clusters.push(WeightedCluster { name: entry.name, weight, metadata });
            }
            (true, false) => {
                return Ok(RouteAction::Unsupported(format!("cluster from header {}", entry.cluster_header)));
            }
            _ => {
                return Err(Invalid::new(field("name"), "exactly one of name and cluster_header is required"));
            }
        }
    }
    if sum == 0 {
        return Err(Invalid::new("clusters.weight", "the sum of weights is 0"));
    }
    Ok(RouteAction::Clusters(clusters, hash))
}

/// The source address alone can be told before the request; a policy that needs more is named.
fn hash_policy(wire: &[wire::HashPolicy]) -> HashPolicy {
    let mut needs = Vec::new();
    for policy in wire {
        needs.push(match &policy.policy_specifier {
            Some(PolicySpecifier::ConnectionProperties(properties)) if properties.source_ip => continue,
            Some(PolicySpecifier::ConnectionProperties(_)) | None => "connection properties".to_owned(),
            Some(PolicySpecifier::Header(header)) => format!("header {}", header.name),
            Some(PolicySpecifier::Cookie(cookie)) => format!("cookie {}", cookie.name),
            Some(PolicySpecifier::QueryParameter(parameter)) => format!("query parameter {}", parameter.name),
            Some(PolicySpecifier::FilterState(state)) => format!("filter state {}", state.name),
        });
    }
    match (wire.is_empty(), needs.is_empty()) {
        (true, _) => HashPolicy::None,
        (false, true) => HashPolicy::SourceIp,
        (false, false) => HashPolicy::Unsupported(needs.join(", ")),
    }
}
