//! EndpointSlices, Pods and Nodes to the endpoints of a Service.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use super::{Instance, InstanceAddress, Locality};
use crate::input::{AddressType, EndpointSlice, Node, Object, Pod, PortRef, Service, SliceEndpoint, SlicePort};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const LOCALITY_LABEL: &str = "istio-locality";
const REGION_LABEL: &str = "topology.kubernetes.io/region";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const SUBZONE_LABEL: &str = "topology.istio.io/subzone";

/// What the endpoints of Services are made of.
#[derive(Default)]
pub(super) struct Slices {
    /// By namespace and service name.
    slices: BTreeMap<(String, String), Vec<EndpointSlice>>,
    pods: BTreeMap<(String, String), Pod>,
    pods_by_ip: BTreeMap<IpAddr, (String, String)>,
    nodes: BTreeMap<String, Locality>,
    orphans: Vec<String>,
}

impl Slices {
    pub fn add_slice(&mut self, slice: EndpointSlice) {
        match slice.metadata.labels.get(SERVICE_LABEL) {
            Some(service) => {
                let key = (slice.metadata.namespace.clone(), service.clone());
                self.slices.entry(key).or_default().push(slice);
            }
            None => self.orphans.push(slice.metadata.name),
        }
    }

    pub fn add_pod(&mut self, pod: Pod) {
        let key = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        if let Some(ip) = pod.status.pod_ip {
            self.pods_by_ip.insert(ip, key.clone());
        }
        self.pods.insert(key, pod);
    }

    pub fn add_node(&mut self, node: Node) {
        let label = |name| node.metadata.labels.get(name).cloned().unwrap_or_default();
        let locality =
            Locality { region: label(REGION_LABEL), zone: label(ZONE_LABEL), sub_zone: label(SUBZONE_LABEL) };
        self.nodes.insert(node.metadata.name, locality);
    }

    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.orphans.iter().map(|name| format!("EndpointSlice {name}: has no label {SERVICE_LABEL}, ignored"))
    }

    /// The ready endpoints of a Service, ordered by address.
    pub fn instances_of(&self, service: &Object<Service>) -> Vec<Instance> {
        let key = (service.metadata.namespace.clone(), service.metadata.name.clone());
        // An address may stand in several slices, with other ports in each.
        let mut instances: BTreeMap<IpAddr, Instance> = BTreeMap::new();
        for slice in self.slices.get(&key).map_or(&[][..], Vec::as_slice) {
            if slice.address_type == AddressType::Fqdn {
                continue;
            }
            let ports = ports_of(&service.spec, &slice.ports);
            for endpoint in &slice.endpoints {
                let ready = endpoint.conditions.ready.unwrap_or(true);
                if !ready && !service.spec.publish_not_ready_addresses {
                    continue;
                }
                for ip in endpoint.addresses.iter().filter_map(|text| text.parse().ok()) {
                    match instances.get_mut(&ip) {
                        Some(known) => known.ports.extend(&ports),
                        None => {
                            instances.insert(ip, self.instance(&key.0, ip, endpoint, ports.clone()));
                        }
                    }
                }
            }
        }
        instances.into_values().collect()
    }

    fn instance(
        &self,
        namespace: &str,
        ip: IpAddr,
        endpoint: &SliceEndpoint,
        ports: BTreeMap<NonZeroU16, NonZeroU16>,
    ) -> Instance {
        let pod = self.pod_of(namespace, ip, endpoint);
        let hostname = endpoint.hostname.clone().or_else(|| pod.and_then(|pod| pod.spec.hostname.clone()));
        let subdomain = pod.and_then(|pod| pod.spec.subdomain.clone());
        Instance {
            address: InstanceAddress::Ip(ip),
            ports,
            labels: pod.map(|pod| pod.metadata.labels.clone()).unwrap_or_default(),
            locality: self.locality_of(pod, endpoint),
            weight: 1,
            pod_name: hostname.map(|hostname| (hostname, subdomain.unwrap_or_default())),
        }
    }

    fn pod_of(&self, namespace: &str, ip: IpAddr, endpoint: &SliceEndpoint) -> Option<&Pod> {
        match &endpoint.target_ref {
            Some(target) if target.kind == "Pod" => self.pods.get(&(namespace.to_owned(), target.name.clone())),
            Some(_) => None,
            None => self.pods.get(self.pods_by_ip.get(&ip)?),
        }
    }

    /// As Istio: the pod's own label, else the labels of its node; the slice's zone completes what they leave open.
    fn locality_of(&self, pod: Option<&Pod>, endpoint: &SliceEndpoint) -> Locality {
        if let Some(label) = pod.and_then(|pod| pod.metadata.labels.get(LOCALITY_LABEL)) {
            return Locality::parse(&label.replace('.', "/"));
        }
        let node = endpoint.node_name.as_ref().or_else(|| pod.and_then(|pod| pod.spec.node_name.as_ref()));
        let mut locality = node.and_then(|node| self.nodes.get(node)).cloned().unwrap_or_default();
        if locality.zone.is_empty() {
            locality.zone = endpoint.zone.clone().unwrap_or_default();
        }
        locality
    }
}

/// Service port to target port. A slice names its ports as the Service does; slices written by hand may carry the
/// name of the target port instead, and a single port may go unnamed.
fn ports_of(service: &Service, slice: &[SlicePort]) -> BTreeMap<NonZeroU16, NonZeroU16> {
    let mut ports = BTreeMap::new();
    for port in &service.ports {
        let by_name = slice.iter().find(|candidate| candidate.name == port.name);
        let by_target = || {
            let PortRef::Name(target) = port.target_port.as_ref()? else {
                return None;
            };
            slice.iter().find(|candidate| candidate.name == *target)
        };
        let the_only = || match (slice, service.ports.as_slice()) {
            ([only], [_]) if only.name.is_empty() || port.name.is_empty() => Some(only),
            _ => None,
        };
        if let Some(target) = by_name.or_else(by_target).or_else(the_only).and_then(|found| found.port) {
            ports.insert(port.port, target);
        }
    }
    ports
}
