//! NDS: the name table.

use std::collections::BTreeMap;

use super::Proxy;
use crate::model::{InstanceAddress, Mesh, Registry, Service};

/// `istio.networking.nds.v1.NameTable`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NameTable {
    /// Host name to addresses.
    #[prost(btree_map = "string, message", tag = "1")]
    pub table: BTreeMap<String, NameInfo>,
}

/// `istio.networking.nds.v1.NameTable.NameInfo`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NameInfo {
    /// Addresses.
    #[prost(string, repeated, tag = "1")]
    pub ips: Vec<String>,
    /// `Kubernetes` or `External`.
    #[prost(string, tag = "2")]
    pub registry: String,
    /// First label of a Kubernetes service.
    #[prost(string, tag = "3")]
    pub shortname: String,
    /// Namespace of a Kubernetes service.
    #[prost(string, tag = "4")]
    pub namespace: String,
    /// Further names.
    #[prost(string, repeated, tag = "5")]
    pub alt_hosts: Vec<String>,
}

/// The names a client can resolve. Without ports: one name may serve several.
pub(super) fn name_table(mesh: &Mesh, proxy: &Proxy) -> NameTable {
    let mut table = BTreeMap::new();
    for service in mesh.services.values() {
        let mut ips: Vec<String> = service.vips(proxy.auto_allocated).iter().map(ToString::to_string).collect();
        if service.is_headless() {
            for (ip, pod_name) in pods(service) {
                ips.push(ip.clone());
                if let Some(name) = pod_name {
                    add_pod(&mut table, service, &name, ip);
                }
            }
        }
        // A name whose addresses are not known is not the mesh's: it stays with DNS.
        if !ips.is_empty() {
            for alias in &service.aliases {
                table.insert(alias.clone(), alias_info(alias, ips.clone()));
            }
            table.insert(service.host.clone(), info(service, ips, service.name.clone()));
        }
    }
    NameTable { table }
}

/// The pods of a headless service that listen on one of its ports (all of them when it has none), each with its
/// name below the service, if it has one.
fn pods(service: &Service) -> impl Iterator<Item = (String, Option<String>)> {
    service.instances.iter().filter_map(|instance| {
        let InstanceAddress::Ip(ip) = &instance.address else {
            return None;
        };
        let subdomain_is_own = |subdomain: &str| subdomain.is_empty() || subdomain == service.name;
        let name = match &instance.pod_name {
            Some((hostname, subdomain)) if subdomain_is_own(subdomain) => Some(hostname.clone()),
            _ => None,
        };
        Some((ip.to_string(), name))
    })
}

fn add_pod(table: &mut BTreeMap<String, NameInfo>, service: &Service, pod: &str, ip: String) {
    let name = format!("{pod}.{}", service.host);
    table.entry(name).or_insert_with(|| info(service, Vec::new(), format!("{pod}.{}", service.name))).ips.push(ip);
}

fn info(service: &Service, ips: Vec<String>, shortname: String) -> NameInfo {
    let registry = service.registry.as_str().to_owned();
    match service.registry {
        Registry::Kubernetes => {
            NameInfo { ips, registry, shortname, namespace: service.namespace.clone(), alt_hosts: Vec::new() }
        }
        Registry::External => NameInfo { ips, registry, ..NameInfo::default() },
    }
}

/// An ExternalName service: a Kubernetes service whose host is `name.namespace.svc...`.
fn alias_info(host: &str, ips: Vec<String>) -> NameInfo {
    let mut labels = host.split('.').map(str::to_owned);
    NameInfo {
        ips,
        registry: Registry::Kubernetes.as_str().to_owned(),
        shortname: labels.next().unwrap_or_default(),
        namespace: labels.next().unwrap_or_default(),
        alt_hosts: Vec::new(),
    }
}
