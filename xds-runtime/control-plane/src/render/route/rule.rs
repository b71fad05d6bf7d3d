//! HTTP rules of VirtualServices.

use std::num::NonZeroU16;

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, HashPolicy};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, QueryParameterMatcher, RedirectAction, Route, RouteAction, RouteMatch,
    WeightedCluster, redirect_action,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

use super::super::Proxy;
use super::super::wire::u32_value;
use super::{destination_port, hash, shares};
use crate::input::{HttpMatch, HttpRoute, StringMatch};
use crate::model::{Mesh, Routes, full_host};

/// The rules of a VirtualService for one port, in order, ending with the first that always matches.
pub(super) fn rules(mesh: &Mesh, proxy: &Proxy, routes: &Routes, port: NonZeroU16) -> Vec<Route> {
    let mut rules = Vec::new();
    for http in &routes.spec.http {
        let Some(action) = action(mesh, proxy, routes, http, port) else {
            continue;
        };
        let always = HttpMatch::default();
        let alternatives = if http.matches.is_empty() { std::slice::from_ref(&always) } else { &http.matches };
        for alternative in alternatives.iter().filter(|matches| matches.port.is_none_or(|wanted| wanted == port)) {
            let matches = route_match(alternative);
            let unconditional = matches == any_path();
            let name = if http.name.is_empty() && unconditional { "default" } else { &http.name };
            rules.push(Route {
                name: name.to_owned(),
                r#match: Some(matches),
                action: Some(action.clone()),
                ..Default::default()
            });
            if unconditional {
                return rules;
            }
        }
    }
    rules
}

/// A rule that sends everything to one cluster.
pub(super) fn to_cluster(name: &str, cluster: String, hash_policy: Vec<HashPolicy>) -> Route {
    Route {
        name: name.to_owned(),
        r#match: Some(any_path()),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
            hash_policy,
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn any_path() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}

fn action(mesh: &Mesh, proxy: &Proxy, routes: &Routes, http: &HttpRoute, port: NonZeroU16) -> Option<Action> {
    if let Some(redirect) = &http.redirect {
        let path = redirect_action::PathRewriteSpecifier::PathRedirect(redirect.uri.clone());
        return Some(Action::Redirect(RedirectAction {
            host_redirect: redirect.authority.clone(),
            path_rewrite_specifier: (!redirect.uri.is_empty()).then_some(path),
            ..Default::default()
        }));
    }
    if let Some(answer) = &http.direct_response {
        return Some(Action::DirectResponse(DirectResponseAction { status: answer.status, ..Default::default() }));
    }
    let clusters = shares(mesh, &routes.namespace, &http.route, port);
    let specifier = match clusters.as_slice() {
        [] => return None,
        [(only, _)] => ClusterSpecifier::Cluster(only.clone()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several
                .iter()
                .map(|(name, weight)| ClusterWeight {
                    name: name.clone(),
                    weight: u32_value(*weight),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }),
    };
    let hosts: Vec<String> =
        http.route.iter().map(|entry| full_host(&entry.destination.host, &routes.namespace)).collect();
    let destinations = http.route.iter().zip(&hosts).map(|(entry, host)| {
        let port = destination_port(mesh, host, &entry.destination, port);
        (host.as_str(), entry.destination.subset.as_str(), port)
    });
    Some(Action::Route(RouteAction {
        hash_policy: hash::policies(mesh, proxy, destinations),
        cluster_specifier: Some(specifier),
        ..Default::default()
    }))
}

fn route_match(matches: &HttpMatch) -> RouteMatch {
    let path = match &matches.uri {
        Some(StringMatch { exact: Some(path), .. }) => PathSpecifier::Path(path.clone()),
        Some(StringMatch { prefix: Some(path), .. }) if path != "/" && !path.ends_with('/') => {
            PathSpecifier::PathSeparatedPrefix(path.clone())
        }
        Some(StringMatch { prefix: Some(path), .. }) => PathSpecifier::Prefix(path.clone()),
        Some(StringMatch { regex: Some(regex), .. }) => PathSpecifier::SafeRegex(regex_matcher(regex)),
        _ => PathSpecifier::Prefix("/".to_owned()),
    };
    let pseudo = [(":method", &matches.method), (":authority", &matches.authority)];
    let mut headers: Vec<HeaderMatcher> =
        pseudo.into_iter().filter_map(|(name, value)| value.as_ref().map(|value| header(name, value, false))).collect();
    headers.extend(matches.headers.iter().map(|(name, value)| header(name, value, false)));
    headers.extend(matches.without_headers.iter().map(|(name, value)| header(name, value, true)));
    let query_parameters = matches
        .query_params
        .iter()
        .map(|(name, value)| QueryParameterMatcher {
            name: name.clone(),
            query_parameter_match_specifier: Some(match string_matcher(value) {
                Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
                None => QueryParameterMatchSpecifier::PresentMatch(true),
            }),
        })
        .collect();
    RouteMatch { path_specifier: Some(path), headers, query_parameters, ..Default::default() }
}

fn header(name: &str, value: &StringMatch, invert_match: bool) -> HeaderMatcher {
    let specifier = match string_matcher(value) {
        Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
        None => HeaderMatchSpecifier::PresentMatch(true),
    };
    HeaderMatcher { name: name.to_owned(), invert_match, header_match_specifier: Some(specifier), ..Default::default() }
}

/// `None` when the string only has to be there.
fn string_matcher(value: &StringMatch) -> Option<StringMatcher> {
    let pattern = match (&value.exact, &value.prefix, &value.regex) {
        (Some(text), ..) => MatchPattern::Exact(text.clone()),
        (_, Some(text), _) => MatchPattern::Prefix(text.clone()),
        (.., Some(regex)) => MatchPattern::SafeRegex(regex_matcher(regex)),
        (None, None, None) => return None,
    };
    Some(StringMatcher { match_pattern: Some(pattern), ..Default::default() })
}

fn regex_matcher(regex: &str) -> RegexMatcher {
    RegexMatcher { regex: regex.to_owned(), ..Default::default() }
}
