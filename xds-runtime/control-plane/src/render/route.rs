//! RDS: one configuration per HTTP port, and one per sniffed port.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

use super::Proxy;
use super::target::{PASSTHROUGH, cluster_name};
use super::wire::bool_value;
use crate::input::{Destination, Weighted};
use crate::model::{CLUSTER_SUFFIX, Mesh, Port, Protocol, Registry, Service, full_host};

mod hash;
mod rule;

/// Every route configuration that a listener names.
pub(super) fn configurations(mesh: &Mesh, proxy: &Proxy) -> Vec<RouteConfiguration> {
    let mut shared: BTreeMap<NonZeroU16, Vec<(&Service, &Port)>> = BTreeMap::new();
    let mut configurations = Vec::new();
    for service in mesh.services.values() {
        for port in &service.ports {
            match port.protocol {
                Protocol::Http | Protocol::Undeclared => {
                    shared.entry(port.number).or_default().push((service, port));
                }
                Protocol::Tcp | Protocol::Tls => {}
            }
            if port.protocol == Protocol::Undeclared {
                configurations.push(sniffed(mesh, proxy, service, port));
            }
        }
    }
    for (number, ports) in shared {
        // Sniffed ports bind their own addresses; they are in the shared configuration as well, but do not make one.
        let named =
            ports.iter().any(|(service, port)| port.protocol == Protocol::Http || needs_wildcard(service, proxy));
        if named {
            configurations.push(by_port(mesh, proxy, number, &ports));
        }
    }
    configurations
}

fn needs_wildcard(service: &Service, proxy: &Proxy) -> bool {
    service.vips(proxy.auto_allocated).is_empty() && !service.is_headless()
}

/// The configuration of a sniffed port: its address is the service's own, so every host name goes there.
fn sniffed(mesh: &Mesh, proxy: &Proxy, service: &Service, port: &Port) -> RouteConfiguration {
    let name = format!("{}:{}", service.host, port.number);
    configuration(name.clone(), vec![virtual_host(mesh, proxy, service, port, name, vec!["*".to_owned()])])
}

fn by_port(mesh: &Mesh, proxy: &Proxy, number: NonZeroU16, ports: &[(&Service, &Port)]) -> RouteConfiguration {
    // Envoy rejects a configuration in which a domain stands twice.
    let mut taken = BTreeSet::new();
    let mut hosts = Vec::new();
    for (service, port) in ports {
        let mut domains = domains(service, proxy, number);
        domains.retain(|domain| taken.insert(domain.clone()));
        if !domains.is_empty() {
            let name = format!("{}:{number}", service.host);
            hosts.push(virtual_host(mesh, proxy, service, port, name, domains));
        }
    }
    // Hosts that only a VirtualService knows.
    for routes in &mesh.routes {
        for host in
            routes.hosts.iter().filter(|host| !routes.spec.http.is_empty() && !mesh.services.contains_key(*host))
        {
            let mut domains = with_port(host, number);
            domains.retain(|domain| taken.insert(domain.clone()));
            let rules = rule::rules(mesh, proxy, routes, number);
            if !domains.is_empty() && !rules.is_empty() && !host.starts_with('*') {
                hosts.push(VirtualHost {
                    name: format!("{host}:{number}"),
                    domains,
                    routes: rules,
                    ..Default::default()
                });
            }
        }
    }
    if taken.insert("*".to_owned()) {
        hosts.push(VirtualHost {
            name: "allow_any".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![rule::to_cluster("allow_any", PASSTHROUGH.to_owned(), Vec::new())],
            ..Default::default()
        });
    }
    configuration(number.to_string(), hosts)
}

fn configuration(name: String, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration { name, virtual_hosts, validate_clusters: bool_value(false), ..Default::default() }
}

fn virtual_host(
    mesh: &Mesh,
    proxy: &Proxy,
    service: &Service,
    port: &Port,
    name: String,
    domains: Vec<String>,
) -> VirtualHost {
    let mut routes =
        mesh.routes_of(&service.host).map_or_else(Vec::new, |routes| rule::rules(mesh, proxy, routes, port.number));
    if routes.is_empty() {
        let own = (service.host.as_str(), "", port.number);
        let cluster = cluster_name(port.number, "", &service.host);
        routes.push(rule::to_cluster("default", cluster, hash::policies(mesh, proxy, std::iter::once(own))));
    }
    VirtualHost { name, domains, routes, include_request_attempt_count: true, ..Default::default() }
}

/// Every name and address a request to the service may carry, with and without the port.
fn domains(service: &Service, proxy: &Proxy, port: NonZeroU16) -> Vec<String> {
    let mut domains = Vec::new();
    for host in std::iter::once(&service.host).chain(&service.aliases) {
        let kubernetes = service.registry == Registry::Kubernetes || host.ends_with(CLUSTER_SUFFIX);
        domains.extend(with_port(host, port));
        if kubernetes {
            for short in short_names(host, &proxy.namespace) {
                domains.extend(with_port(&short, port));
            }
        }
        if service.is_headless() {
            domains.extend(with_port(&format!("*.{host}"), port));
        }
    }
    for vip in service.vips(proxy.auto_allocated) {
        let literal = if vip.is_ipv6() { format!("[{vip}]") } else { vip.to_string() };
        domains.extend(with_port(&literal, port));
    }
    domains
}

fn with_port(host: &str, port: NonZeroU16) -> Vec<String> {
    vec![host.to_owned(), format!("{host}:{port}")]
}

/// The forms of `name.namespace.svc.cluster.local` that resolv.conf's search list would complete.
fn short_names(host: &str, client_namespace: &str) -> Vec<String> {
    let Some((name, namespace)) =
        host.strip_suffix(CLUSTER_SUFFIX).and_then(|head| head.strip_suffix('.')).and_then(|head| head.split_once('.'))
    else {
        return Vec::new();
    };
    let mut names = vec![format!("{name}.{namespace}.svc"), format!("{name}.{namespace}")];
    if namespace == client_namespace {
        names.insert(0, name.to_owned());
    }
    names
}

/// The port a destination means: the one it names, the only one its service has, or the listener's.
fn destination_port(mesh: &Mesh, host: &str, destination: &Destination, listener_port: NonZeroU16) -> NonZeroU16 {
    let only_port = mesh.services.get(host).and_then(|service| match service.ports.as_slice() {
        [only] => Some(only.number),
        _ => None,
    });
    destination.port.map(|port| port.number).or(only_port).unwrap_or(listener_port)
}

/// The clusters of weighted destinations. A single destination has weight 1; one with weight 0 among several is left
/// out.
pub(super) fn shares(
    mesh: &Mesh,
    namespace: &str,
    destinations: &[Weighted],
    listener_port: NonZeroU16,
) -> Vec<(String, u32)> {
    let several = destinations.len() > 1;
    destinations
        .iter()
        .filter(|entry| !several || entry.weight > 0)
        .map(|entry| {
            let host = full_host(&entry.destination.host, namespace);
            let port = destination_port(mesh, &host, &entry.destination, listener_port);
            (cluster_name(port, &entry.destination.subset, &host), if several { entry.weight } else { 1 })
        })
        .collect()
}
