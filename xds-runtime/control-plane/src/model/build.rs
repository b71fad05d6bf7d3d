//! Documents to a [`Mesh`].

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

use super::slices::Slices;
use super::{Instance, InstanceAddress, Locality, Mesh, Port, Protocol, Registry, Resolution, Routes, Rule, Service};
use crate::input::{
    Address, ClusterIp, Document, Object, Service as ServiceSpec, ServiceEntry, ServiceEntryResolution, Transport,
};

impl Mesh {
    /// Builds the mesh of these documents.
    pub fn of_documents(documents: Vec<Document>) -> Self {
        let mut mesh = Self::default();
        let mut slices = Slices::default();
        let mut services = Vec::new();
        let mut aliases = Vec::new();
        let mut unknown = BTreeSet::new();
        let mut queue: Vec<Document> = documents.into_iter().rev().collect();
        while let Some(document) = queue.pop() {
            match document {
                Document::List(items) => queue.extend(items.into_iter().rev()),
                Document::Service(object) => services.push(*object),
                Document::EndpointSlice(slice) => slices.add_slice(slice),
                Document::Pod(pod) => slices.add_pod(*pod),
                Document::Node(node) => slices.add_node(node),
                Document::DestinationRule(object) => mesh.rules.push(rule(*object)),
                Document::VirtualService(object) => mesh.add_routes(*object),
                Document::ServiceEntry(object) => mesh.add_entry(&object),
                Document::Sidecar(object) => mesh.sidecars.push((object.metadata.namespace, object.spec)),
                Document::XdsResource(raw) => mesh.raw.push(raw),
                Document::Irrelevant => {}
                Document::Unknown(title) => {
                    unknown.insert(title);
                }
            }
        }
        for object in services {
            match external_name(&object.spec) {
                Some(target) => aliases.push((host_of(&object), target)),
                None => mesh.add_service(&object, &slices),
            }
        }
        mesh.add_aliases(aliases);
        mesh.allocate_addresses();
        mesh.warnings
            .extend(slices.warnings().chain(unknown.iter().map(|title| format!("{title}: unknown kind, ignored"))));
        mesh
    }

    fn insert(&mut self, service: Service) {
        match self.services.entry(service.host.clone()) {
            Entry::Vacant(place) => {
                place.insert(service);
            }
            Entry::Occupied(place) => {
                let line = format!("{}: defined more than once, the first one is used", place.key());
                self.warnings.push(line);
            }
        }
    }

    fn add_service(&mut self, object: &Object<ServiceSpec>, slices: &Slices) {
        let spec = &object.spec;
        let headless = spec.cluster_ip == Some(ClusterIp::None);
        let listed = if spec.cluster_ips.is_empty() { spec.cluster_ip.as_slice() } else { &spec.cluster_ips };
        let addresses: Vec<Address> = listed
            .iter()
            .filter_map(|ip| match ip {
                ClusterIp::Ip(ip) => Some(Address { ip: *ip, prefix: None }),
                ClusterIp::None | ClusterIp::Unset => None,
            })
            .collect();
        let host = host_of(object);
        if !headless && addresses.is_empty() {
            self.warnings.push(format!("{host}: has no clusterIP and is not headless, its name will not resolve"));
        }
        let ports = spec
            .ports
            .iter()
            .filter(|port| port.protocol == Transport::Tcp)
            .filter_map(|port| {
                let protocol = Protocol::of_port(&port.name, port.app_protocol.as_deref(), port.port)?;
                Some(Port { number: port.port, protocol })
            })
            .collect();
        self.insert(Service {
            namespace: object.metadata.namespace.clone(),
            name: object.metadata.name.clone(),
            registry: Registry::Kubernetes,
            addresses,
            auto_address: None,
            resolution: if headless { Resolution::Passthrough } else { Resolution::Endpoints },
            ports,
            instances: slices.instances_of(object),
            aliases: Vec::new(),
            host,
        });
    }

    fn add_entry(&mut self, object: &Object<ServiceEntry>) {
        let spec = &object.spec;
        let resolution = match spec.resolution {
            ServiceEntryResolution::None => Resolution::Passthrough,
            ServiceEntryResolution::Static => Resolution::Endpoints,
            ServiceEntryResolution::Dns => Resolution::StrictDns,
            ServiceEntryResolution::DnsRoundRobin => Resolution::LogicalDns,
        };
        let ports: Vec<Port> = spec
            .ports
            .iter()
            .filter_map(|port| Some(Port { number: port.number, protocol: Protocol::named(&port.protocol)? }))
            .collect();
        for host in &spec.hosts {
            let host = host.to_ascii_lowercase();
            self.insert(Service {
                instances: entry_instances(spec, resolution, &host),
                namespace: object.metadata.namespace.clone(),
                name: object.metadata.name.clone(),
                registry: Registry::External,
                addresses: spec.addresses.clone(),
                auto_address: None,
                resolution,
                ports: ports.clone(),
                aliases: Vec::new(),
                host,
            });
        }
    }

    fn add_routes(&mut self, object: Object<crate::input::VirtualService>) {
        // Rules for gateways only are not for sidecars.
        let for_sidecars = object.spec.gateways.is_empty() || object.spec.gateways.iter().any(|name| name == "mesh");
        if for_sidecars {
            let namespace = object.metadata.namespace;
            let hosts = object.spec.hosts.iter().map(|host| super::full_host(host, &namespace)).collect();
            self.routes.push(Routes { namespace, hosts, spec: object.spec });
        }
    }

    /// An ExternalName service stands for the service it names; one that names nothing of the mesh is DNS's business.
    fn add_aliases(&mut self, aliases: Vec<(String, String)>) {
        let targets: BTreeMap<String, String> = aliases.into_iter().collect();
        for alias in targets.keys() {
            let mut target = alias;
            // A chain longer than the number of aliases is a circle.
            for _ in 0..targets.len() {
                match targets.get(target) {
                    Some(next) => target = next,
                    None => break,
                }
            }
            if let Some(service) = self.services.get_mut(target) {
                service.aliases.push(alias.clone());
            }
        }
    }

    /// Gives each ServiceEntry without an address one of 240.240.0.0/16. The address depends on the name, so that
    /// adding another entry moves nothing (collisions apart).
    fn allocate_addresses(&mut self) {
        let mut used = BTreeSet::new();
        for service in self.services.values_mut() {
            let wants = service.registry == Registry::External
                && service.addresses.is_empty()
                && service.resolution != Resolution::Passthrough
                && !service.host.starts_with('*');
            if !wants {
                continue;
            }
            let hash = xxhash_rust::xxh3::xxh3_64(service.host.as_bytes());
            // 254 x 254 addresses: neither 0 nor 255 in the last two octets.
            let start = hash % (254 * 254);
            let free = (0..254 * 254).map(|step| (start + step) % (254 * 254)).find(|slot| used.insert(*slot));
            service.auto_address = free.and_then(|slot| {
                let third = u8::try_from(slot / 254 + 1).ok()?;
                let fourth = u8::try_from(slot % 254 + 1).ok()?;
                Some(Ipv4Addr::new(240, 240, third, fourth))
            });
        }
    }
}

fn rule(object: Object<crate::input::DestinationRule>) -> Rule {
    let namespace = object.metadata.namespace;
    Rule { host: super::full_host(&object.spec.host, &namespace), namespace, spec: object.spec }
}

fn host_of(object: &Object<ServiceSpec>) -> String {
    format!("{}.{}.{}", object.metadata.name, object.metadata.namespace, super::CLUSTER_SUFFIX).to_ascii_lowercase()
}

fn external_name(spec: &ServiceSpec) -> Option<String> {
    match (&spec.kind, &spec.external_name) {
        (Some(kind), Some(target)) if kind == "ExternalName" => Some(target.trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    }
}

fn entry_instances(spec: &ServiceEntry, resolution: Resolution, host: &str) -> Vec<Instance> {
    let default_ports = || -> BTreeMap<NonZeroU16, NonZeroU16> {
        spec.ports.iter().map(|port| (port.number, port.target_port.unwrap_or(port.number))).collect()
    };
    let by_dns = matches!(resolution, Resolution::StrictDns | Resolution::LogicalDns);
    if spec.endpoints.is_empty() && by_dns {
        return vec![Instance {
            address: InstanceAddress::Host(host.to_owned()),
            ports: default_ports(),
            labels: BTreeMap::new(),
            locality: Locality::default(),
            weight: 1,
            pod_name: None,
        }];
    }
    let mut instances = Vec::new();
    for endpoint in &spec.endpoints {
        let address = match endpoint.address.parse() {
            Ok(ip) => InstanceAddress::Ip(ip),
            Err(_) if by_dns => InstanceAddress::Host(endpoint.address.to_ascii_lowercase()),
            // A host name or a unix socket where addresses are wanted.
            Err(_) => continue,
        };
        let mut ports = default_ports();
        for port in &spec.ports {
            if let Some(target) = endpoint.ports.get(&port.name) {
                ports.insert(port.number, *target);
            }
        }
        instances.push(Instance {
            address,
            ports,
            labels: endpoint.labels.clone(),
            locality: Locality::parse(&endpoint.locality),
            weight: endpoint.weight.unwrap_or(1).max(1),
            pod_name: None,
        });
    }
    instances
}
