//! What the input means: services with their endpoints, policies and routes, free of where they came from.
//!
//! ```text
//! documents -> build -> Mesh { services, rules, routes, raw }  -> render, once per kind of client
//! ```

mod build;
mod protocol;
mod slices;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

pub(crate) use protocol::Protocol;

use crate::input::{Address, DestinationRule, OutlierDetection, TrafficPolicy, VirtualService};
use crate::input::{ConnectionPool, LoadBalancer, OutboundMode, Sidecar};

/// The suffix of Kubernetes service names.
pub(crate) const CLUSTER_SUFFIX: &str = "svc.cluster.local";
/// The namespace whose rules hold for the whole mesh.
const ROOT_NAMESPACE: &str = "istio-system";

/// The whole input.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mesh {
    /// Services by host name.
    pub services: BTreeMap<String, Service>,
    /// DestinationRules, in order of appearance.
    rules: Vec<Rule>,
    /// VirtualServices that hold for sidecars, in order of appearance.
    pub routes: Vec<Routes>,
    /// Sidecars with their namespace, in order of appearance.
    sidecars: Vec<(String, Sidecar)>,
    /// Resources served as they are.
    pub raw: Vec<crate::input::RawResource>,
    /// What was ignored and why, one line each.
    pub warnings: Vec<String>,
}

/// A service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Fully qualified host name.
    pub host: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object: the first label of a Kubernetes service.
    pub name: String,
    /// Where it was registered.
    pub registry: Registry,
    /// Its addresses; prefixes only for ServiceEntries.
    pub addresses: Vec<Address>,
    /// The address Istio allocates to a ServiceEntry without one, for clients that capture DNS.
    pub auto_address: Option<Ipv4Addr>,
    /// Where endpoints come from.
    pub resolution: Resolution,
    /// TCP ports.
    pub ports: Vec<Port>,
    /// Endpoints, ready ones only.
    pub instances: Vec<Instance>,
    /// Host names that stand for this one (ExternalName services).
    pub aliases: Vec<String>,
}

/// The registry of a service, as the name table says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registry {
    Kubernetes,
    External,
}

impl Registry {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "Kubernetes",
            Self::External => "External",
        }
    }
}

/// Where the endpoints of a service come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Known addresses, sent by EDS.
    Endpoints,
    /// Every address of each name.
    StrictDns,
    /// The first address of the name.
    LogicalDns,
    /// Where the program dialled (headless services, ServiceEntries without resolution).
    Passthrough,
}

/// A TCP port of a service.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub number: NonZeroU16,
    pub protocol: Protocol,
}

/// An endpoint of a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instance {
    /// IP address, or a host name for DNS.
    pub address: InstanceAddress,
    /// Service port to the port it listens on; a port that is missing has no listener there.
    pub ports: BTreeMap<NonZeroU16, NonZeroU16>,
    pub labels: BTreeMap<String, String>,
    pub locality: Locality,
    pub weight: u32,
    /// `hostname` and `subdomain` of the pod, when it has both: it gets a name of its own below a headless service.
    pub pod_name: Option<(String, String)>,
}

/// Address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InstanceAddress {
    Ip(IpAddr),
    Host(String),
}

impl std::fmt::Display for InstanceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Host(host) => host.fmt(f),
        }
    }
}

/// Region, zone and sub-zone; each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Locality {
    pub region: String,
    pub zone: String,
    pub sub_zone: String,
}

impl Locality {
    /// Reads `region/zone/subzone`; missing parts are empty.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), sub_zone: next() }
    }

    /// Whether `pattern` (`region/zone/*`, `*`, `region`) covers this locality.
    pub fn matches(&self, pattern: &str) -> bool {
        let own = [&self.region, &self.zone, &self.sub_zone];
        for (part, own) in pattern.splitn(3, '/').zip(own) {
            if part == "*" {
                return true;
            }
            if part != own {
                return false;
            }
        }
        true
    }
}

/// A DestinationRule with its namespace and a full host name.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub namespace: String,
    pub host: String,
    pub spec: DestinationRule,
}

/// A VirtualService with its namespace and full host names.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    pub namespace: String,
    pub hosts: Vec<String>,
    pub spec: VirtualService,
}

/// The policy that holds for one port of a host or subset.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy<'a> {
    pub load_balancer: Option<&'a LoadBalancer>,
    pub connection_pool: Option<&'a ConnectionPool>,
    pub outlier_detection: Option<&'a OutlierDetection>,
    pub tls: Option<&'a crate::input::Tls>,
}

impl Mesh {
    /// The rule for a service as a client in `namespace` sees it: the client's own namespace comes first, then the
    /// service's, then the root namespace; an exact host before a wildcard.
    pub fn rule(&self, service: &Service, namespace: &str) -> Option<&Rule> {
        [namespace, &service.namespace, ROOT_NAMESPACE].into_iter().find_map(|namespace| {
            self.rules
                .iter()
                .filter(|rule| rule.namespace == namespace && host_matches(&rule.host, &service.host))
                .max_by_key(|rule| (!rule.host.starts_with('*'), rule.host.len()))
        })
    }

    /// Whether unknown destinations are refused for a client: the Sidecar that selects its labels counts, then that of
    /// its namespace, then that of the root namespace.
    pub fn is_registry_only(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let selects = |sidecar: &Sidecar| match &sidecar.workload_selector {
            Some(selector) => selector.labels.iter().all(|(key, value)| labels.get(key) == Some(value)),
            None => false,
        };
        let own = || self.sidecars.iter().filter(|(of, _)| of == namespace).map(|(_, sidecar)| sidecar);
        let root = || self.sidecars.iter().filter(|(of, _)| of == ROOT_NAMESPACE).map(|(_, sidecar)| sidecar);
        let for_all = |sidecar: &&Sidecar| sidecar.workload_selector.is_none();
        let sidecar = own().find(|own| selects(own)).or_else(|| own().find(for_all)).or_else(|| root().find(for_all));
        let policy = sidecar.and_then(|sidecar| sidecar.outbound_traffic_policy.as_ref());
        policy.is_some_and(|policy| policy.mode == OutboundMode::RegistryOnly)
    }

    /// The first VirtualService for a host.
    pub fn routes_of(&self, host: &str) -> Option<&Routes> {
        self.routes.iter().find(|routes| routes.hosts.iter().any(|pattern| host_matches(pattern, host)))
    }
}

impl Rule {
    /// The policy for `port`, of `subset` when one is named. A subset's settings override the host's one by one;
    /// a port's settings replace all of them.
    pub fn policy(&self, subset: Option<&str>, port: NonZeroU16) -> Policy<'_> {
        let subset = subset.and_then(|name| self.spec.subsets.iter().find(|subset| subset.name == name));
        let base = policy_for_port(&self.spec.traffic_policy, port);
        let Some(subset) = subset else { return base };
        let own = policy_for_port(&subset.traffic_policy, port);
        if has_port(&subset.traffic_policy, port) {
            return own;
        }
        Policy {
            load_balancer: own.load_balancer.or(base.load_balancer),
            connection_pool: own.connection_pool.or(base.connection_pool),
            outlier_detection: own.outlier_detection.or(base.outlier_detection),
            tls: own.tls.or(base.tls),
        }
    }
}

fn has_port(policy: &TrafficPolicy, port: NonZeroU16) -> bool {
    policy.port_level_settings.iter().any(|settings| settings.port.number == port)
}

fn policy_for_port(policy: &TrafficPolicy, port: NonZeroU16) -> Policy<'_> {
    match policy.port_level_settings.iter().find(|settings| settings.port.number == port) {
        Some(settings) => Policy {
            load_balancer: settings.load_balancer.as_ref(),
            connection_pool: settings.connection_pool.as_ref(),
            outlier_detection: settings.outlier_detection.as_ref(),
            tls: settings.tls.as_ref(),
        },
        None => Policy {
            load_balancer: policy.load_balancer.as_ref(),
            connection_pool: policy.connection_pool.as_ref(),
            outlier_detection: policy.outlier_detection.as_ref(),
            tls: policy.tls.as_ref(),
        },
    }
}

impl Service {
    /// Addresses a client dials: the service's own, or the allocated one for a client that captures DNS.
    pub fn vips(&self, auto_allocated: bool) -> Vec<IpAddr> {
        let own: Vec<IpAddr> =
            self.addresses.iter().filter(|address| address.prefix.is_none()).map(|address| address.ip).collect();
        match self.auto_address {
            Some(address) if own.is_empty() && auto_allocated => vec![address.into()],
            _ => own,
        }
    }

    /// A Kubernetes service without a virtual address.
    pub fn is_headless(&self) -> bool {
        self.registry == Registry::Kubernetes && self.resolution == Resolution::Passthrough
    }
}

/// Whether `host` is `pattern` or, for `*.example.com` and `*`, below it.
pub(crate) fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// A host as written in a rule of `namespace`: one without a dot is a service of that namespace.
pub(crate) fn full_host(host: &str, namespace: &str) -> String {
    if host.contains('.') || host.starts_with('*') {
        host.to_ascii_lowercase()
    } else {
        format!("{host}.{namespace}.{CLUSTER_SUFFIX}")
    }
}
