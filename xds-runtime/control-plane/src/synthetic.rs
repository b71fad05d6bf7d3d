//! A mesh of any size, for benchmarks: services with endpoints, as Kubernetes YAML and as what it renders to.
//!
//! The same numbers always give the same text. It is a cluster's, small things apart: namespaces of a hundred or so
//! services, one port each, endpoints in three zones, addresses of the ranges that clusters use.

use std::fmt::Write;
use std::net::Ipv4Addr;

use crate::{InputError, Snapshot};

/// Services per namespace.
const NAMESPACE: usize = 100;
/// Zones that endpoints are spread over.
const ZONES: usize = 3;
const VIPS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
/// Where endpoints are that moved.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 112, 0, 0);
const PODS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);

/// A mesh that is made up. Services and their endpoints are numbered from 0.
///
/// ```
/// use control_plane::{Proxy, Synthetic, type_url};
///
/// let mesh = Synthetic::new(100, 10);
/// let before = mesh.snapshot()?.resources(&Proxy::default());
/// let after = mesh.moved(42).snapshot()?.resources(&Proxy::default());
/// let changed = after[type_url::ENDPOINT].iter().filter(|(name, entry)| before[type_url::ENDPOINT][*name] != **entry);
/// assert_eq!(changed.map(|(name, _)| name.clone()).collect::<Vec<_>>(), [Synthetic::cluster(42)]);
/// # Ok::<(), control_plane::InputError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Synthetic {
    services: usize,
    endpoints: usize,
    port: &'static str,
    moved: Option<usize>,
}

impl Synthetic {
    /// The port of every service.
    pub const PORT: u16 = 80;
    /// The port of every endpoint.
    pub const TARGET_PORT: u16 = 8080;

    /// So many services of so many endpoints each. Their ports are TCP: a listener for each.
    pub const fn new(services: usize, endpoints: usize) -> Self {
        Self { services, endpoints, port: "tcp", moved: None }
    }

    /// The same with HTTP ports: one listener, and one route configuration with a virtual host for each service.
    #[must_use]
    pub const fn http(mut self) -> Self {
        self.port = "http";
        self
    }

    /// The same after the first endpoint of a service was replaced by another one.
    #[must_use]
    pub const fn moved(mut self, service: usize) -> Self {
        self.moved = Some(service);
        self
    }

    /// The host name of a service.
    pub fn host(service: usize) -> String {
        format!("{}.{}.svc.cluster.local", name(service), namespace(service))
    }

    /// The name of a service's cluster, which its endpoints go by as well.
    pub fn cluster(service: usize) -> String {
        format!("outbound|{}||{}", Self::PORT, Self::host(service))
    }

    /// The ClusterIP of a service.
    pub fn vip(service: usize) -> Ipv4Addr {
        nth(VIPS, service)
    }

    /// The address of a service's endpoint.
    pub fn endpoint(&self, service: usize, endpoint: usize) -> Ipv4Addr {
        match (endpoint, self.moved) {
            (0, Some(moved)) if moved == service => nth(ELSEWHERE, service),
            _ => nth(PODS, service * self.endpoints + endpoint),
        }
    }

    /// All of it as YAML: a Service and an EndpointSlice each.
    pub fn yaml(&self) -> String {
        let mut text = String::new();
        for service in 0..self.services {
            // Writing to a string does not fail.
            let _ = self.write(&mut text, service);
        }
        text
    }

    /// All of it, ready to be served.
    ///
    /// # Errors
    /// None, as long as this crate reads what it writes.
    pub fn snapshot(&self) -> Result<Snapshot, InputError> {
        Snapshot::from_yaml(&self.yaml())
    }

    fn write(&self, text: &mut String, service: usize) -> std::fmt::Result {
        let (name, namespace) = (name(service), namespace(service));
        let (port_name, port, target, vip) = (self.port, Self::PORT, Self::TARGET_PORT, Self::vip(service));
        write!(
            text,
            "\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{clusterIP: {vip}, ports: [{{name: {port_name}, port: {port}, targetPort: {target}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: {port_name}, port: {target}}}]
endpoints:
"
        )?;
        for endpoint in 0..self.endpoints {
            let (address, zone) = (self.endpoint(service, endpoint), endpoint % ZONES);
            writeln!(text, "- {{addresses: [{address}], zone: zone-{zone}}}")?;
        }
        writeln!(text, "---")
    }
}

fn name(service: usize) -> String {
    format!("service-{service}")
}

fn namespace(service: usize) -> String {
    format!("team-{}", service / NAMESPACE)
}

/// The `nth` address after that of a network.
fn nth(network: Ipv4Addr, nth: usize) -> Ipv4Addr {
    let nth = u32::try_from(nth).unwrap_or(u32::MAX);
    Ipv4Addr::from(u32::from(network).saturating_add(nth).saturating_add(1))
}
