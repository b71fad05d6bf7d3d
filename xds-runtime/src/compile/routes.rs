//! HTTP routes, as far as a connection can follow them: to the addresses their domains name, by the first rule that
//! holds for every request.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::image::{Action, HashOn, PassReason};
use crate::resource::{HashPolicy, RouteAction, RouteConfiguration, VirtualHost};

use super::clusters::Clusters;
use super::names::Names;

/// A virtual host's domain.
enum Domain<'a> {
    Any,
    Ip(IpAddr, Option<u16>),
    Host(&'a str, Option<u16>),
}

impl<'a> Domain<'a> {
    fn parse(text: &'a str) -> Self {
        if text == "*" {
            return Self::Any;
        }
        if let Ok(ip) = text.parse() {
            return Self::Ip(ip, None);
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Self::Ip(socket.ip(), Some(socket.port()));
        }
        if let Some(v6) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            && let Ok(v6) = v6.parse::<Ipv6Addr>()
        {
            return Self::Ip(v6.into(), None);
        }
        match text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
            Some((host, port)) => Self::Host(host, Some(port)),
            None => Self::Host(text, None),
        }
    }
}

/// The addresses that a virtual host is reached at on this port: those its domains say, else those of its names.
/// (A Kubernetes service always says its VIPs; one that does not is headless, and its addresses are endpoints.)
pub(super) fn addresses(host: &VirtualHost, port: u16, names: &Names<'_>) -> Vec<IpAddr> {
    let here = |stated: Option<u16>| stated.is_none_or(|stated| stated == port);
    let mut found = Vec::new();
    for domain in &host.domains {
        if let Domain::Ip(ip, stated) = Domain::parse(domain)
            && here(stated)
            && !found.contains(&ip)
        {
            found.push(ip);
        }
    }
    if !found.is_empty() {
        return found;
    }
    for domain in &host.domains {
        if let Domain::Host(name, stated) = Domain::parse(domain)
            && here(stated)
            && let Some(info) = names.table.get(name).filter(|info| info.registry != "Kubernetes")
        {
            found.extend(info.addresses.iter().filter(|ip| !found.contains(ip)).copied().collect::<Vec<_>>());
        }
    }
    found
}

/// The virtual host for a connection to a listener's own address: the one that names it, else the one for any
/// domain, else the only one.
pub(super) fn virtual_host<'a>(
    routes: &'a RouteConfiguration,
    address: SocketAddr,
    names: &Names<'_>,
) -> Option<&'a VirtualHost> {
    let hosts = &routes.virtual_hosts;
    let any = |host: &&VirtualHost| host.domains.iter().any(|domain| matches!(Domain::parse(domain), Domain::Any));
    if address.ip().is_unspecified() {
        return hosts.iter().find(any);
    }
    let named = |host: &&VirtualHost| addresses(host, address.port(), names).contains(&address.ip());
    let only = || if let [only] = hosts.as_slice() { Some(only) } else { None };
    hosts.iter().find(named).or_else(|| hosts.iter().find(any)).or_else(only)
}

/// What a connection attempt can tell of a hash policy.
pub(super) fn hash_on(policy: &HashPolicy) -> HashOn {
    if *policy == HashPolicy::SourceIp { HashOn::SourceIp } else { HashOn::Nothing }
}

/// The names of a virtual host.
fn names(host: &VirtualHost) -> impl Iterator<Item = &str> {
    host.domains.iter().filter_map(|domain| match Domain::parse(domain) {
        Domain::Host(name, _) => Some(name),
        Domain::Any | Domain::Ip(..) => None,
    })
}

/// What a connection to a virtual host means, and the rules that were left out.
pub(super) fn action<'a>(host: &'a VirtualHost, clusters: &mut Clusters<'a, '_>) -> (Action, String) {
    let mut left_out: Vec<_> = Vec::new();
    for route in &host.routes {
        if let Some(condition) = &route.condition {
            left_out.push(condition.as_str());
            continue;
        }
        if !left_out.is_empty() {
            let rules = left_out.join("; ");
            if names(host).any(|name| clusters.is_exact(name)) {
                clusters.note(format!(
                    "{}: connections pass, for its HTTP rules depend on the request: {rules}",
                    host.name
                ));
                return (Action::Pass(PassReason::NeedsBytes), rules);
            }
            clusters.note(format!("{}: HTTP rules that depend on the request were left out: {rules}", host.name));
        }
        return match &route.action {
            RouteAction::Clusters(weighted, hash) => {
                let key = hash_on(hash);
                if let HashPolicy::Unsupported(needs) = hash {
                    left_out.push(needs);
                }
                (clusters.action(weighted, key), left_out.join("; "))
            }
            RouteAction::Unsupported(name) => {
                left_out.push(name);
                (Action::Pass(PassReason::Unsupported), left_out.join("; "))
            }
        };
    }
    (Action::Pass(PassReason::NeedsBytes), left_out.join("; "))
}
