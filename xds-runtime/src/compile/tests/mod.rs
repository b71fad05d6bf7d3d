//! Hand-made resources in, tables out.

mod clusters;
mod listeners;
mod matching;
mod names;
mod routes;
mod server_names;
mod subsets;
mod update;

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::image::{Action, DefaultAction, Destination, PassReason, Policy};
use crate::resource::*;
use crate::shm::WordAddr;

/// The resources of a test.
#[derive(Default)]
struct World {
    listeners: BTreeMap<String, Box<Listener>>,
    routes: BTreeMap<String, RouteConfiguration>,
    clusters: BTreeMap<String, Box<Cluster>>,
    endpoints: BTreeMap<String, LoadAssignment>,
    names: Option<NameTable>,
    resolved: BTreeMap<String, Vec<IpAddr>>,
    own: Vec<IpAddr>,
    locality: Locality,
    local_cluster: Option<&'static str>,
    control_plane: Option<IpAddr>,
    exact_http: NameList,
}

impl World {
    fn listener(mut self, name: &str, address: &str, chains: Vec<FilterChain>, default: Option<FilterChain>) -> Self {
        let listener = Listener {
            name: name.into(),
            address: Some(address.parse().unwrap()),
            additional_addresses: Vec::new(),
            direction: Direction::Outbound,
            chains,
            default_chain: default.map(Box::new),
        };
        self.listeners.insert(name.into(), Box::new(listener));
        self
    }

    fn route(mut self, name: &str, virtual_hosts: Vec<VirtualHost>) -> Self {
        self.routes.insert(name.into(), RouteConfiguration { name: name.into(), virtual_hosts });
        self
    }

    fn cluster(mut self, cluster: Cluster) -> Self {
        self.clusters.insert(cluster.name.clone(), Box::new(cluster));
        self
    }

    /// EDS clusters of these names.
    fn eds(self, names: &[&str]) -> Self {
        names.iter().fold(self, |world, name| world.cluster(cluster(name, Discovery::Eds((*name).into()))))
    }

    fn assignment(mut self, assignment: LoadAssignment) -> Self {
        self.endpoints.insert(assignment.cluster_name.clone(), assignment);
        self
    }

    fn name(mut self, name: &str, registry: &str, ips: &[&str], alt_hosts: &[&str]) -> Self {
        let info = NameInfo {
            addresses: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            registry: registry.into(),
            alt_hosts: alt_hosts.iter().map(|host| (*host).into()).collect(),
            ..NameInfo::default()
        };
        self.names.get_or_insert_default().names.insert(name.into(), info);
        self
    }

    fn compile(&self) -> Compiled {
        let mut next = 0;
        self.compile_with(&mut |_| {
            next += 1;
            Some(next)
        })
    }

    fn compile_with(&self, slots: &mut dyn FnMut(u64) -> Option<u32>) -> Compiled {
        compile(&self.input(), slots)
    }

    fn input(&self) -> Input<'_> {
        Input {
            listeners: &self.listeners,
            routes: &self.routes,
            clusters: &self.clusters,
            endpoints: &self.endpoints,
            names: self.names.as_ref(),
            resolved: &self.resolved,
            own_addresses: &self.own,
            control_plane: self.control_plane,
            exact_http: &self.exact_http,
            locality: self.locality.clone(),
            local_cluster: self.local_cluster,
        }
    }
}

fn cluster(name: &str, discovery: Discovery) -> Cluster {
    Cluster {
        name: name.into(),
        discovery,
        policy: LbPolicy::RoundRobin,
        balancing: Balancing::default(),
        locality_weighted: false,
        hash_hostnames: false,
        panic_threshold: 50.0,
        connect_timeout: Duration::from_secs(5),
        max_connections: None,
        outlier_detection: None,
        tls: UpstreamTls::None,
        keepalive: None,
        unsupported: Vec::new(),
    }
}

fn endpoint(address: EndpointAddress) -> Endpoint {
    Endpoint { address, health: Health::Healthy, weight: 1, tls_mode_istio: false, is_gateway: false, details: None }
}

fn socket(address: &str) -> Endpoint {
    endpoint(EndpointAddress::Socket(address.parse().unwrap()))
}

/// An assignment of one locality.
fn assignment(name: &str, endpoints: Vec<Endpoint>) -> LoadAssignment {
    let group = LocalityEndpoints { locality: Locality::default(), priority: 0, weight: None, endpoints };
    LoadAssignment {
        cluster_name: name.into(),
        localities: vec![group],
        overprovisioning_factor: 140,
        unsupported: Vec::new(),
    }
}

fn tcp(clusters: &[(&str, u32)]) -> NetworkFilter {
    NetworkFilter::TcpProxy(TcpProxy { clusters: weighted(clusters), hash: HashPolicy::None })
}

fn weighted(clusters: &[(&str, u32)]) -> Vec<WeightedCluster> {
    clusters
        .iter()
        .map(|(name, weight)| WeightedCluster { name: (*name).into(), weight: *weight, metadata: Metadata::new() })
        .collect()
}

fn rds(name: &str) -> NetworkFilter {
    NetworkFilter::Http(HttpRoutes::Rds(name.into()))
}

fn chain(filter: NetworkFilter) -> FilterChain {
    matching(ChainMatch::default(), filter)
}

fn matching(matches: ChainMatch, filter: NetworkFilter) -> FilterChain {
    FilterChain { name: String::new(), matches, filter, terminates_tls: false }
}

/// The chain of Istio's protocol sniffing.
fn sniffed(filter: NetworkFilter) -> FilterChain {
    let matches = ChainMatch {
        transport_protocol: "raw_buffer".into(),
        application_protocols: vec!["http/1.1".into(), "h2c".into()],
        ..ChainMatch::default()
    };
    matching(matches, filter)
}

fn passthrough() -> FilterChain {
    chain(tcp(&[("PassthroughCluster", 1)]))
}

/// A virtual host whose one rule sends everything to a cluster.
fn host(domains: &[&str], to: &str) -> VirtualHost {
    let all = rule(None, RouteAction::Clusters(weighted(&[(to, 1)]), HashPolicy::None));
    VirtualHost { name: domains[0].into(), domains: domains.iter().map(|d| (*d).into()).collect(), routes: vec![all] }
}

fn rule(condition: Option<&str>, action: RouteAction) -> Route {
    Route { name: String::new(), condition: condition.map(Into::into), action }
}

fn destination<'c>(compiled: &'c Compiled, address: &str) -> Option<&'c Destination> {
    let address: SocketAddr = address.parse().unwrap();
    compiled.mesh.destinations.iter().find(|found| SocketAddr::new(found.address, found.port) == address)
}

/// The action of a destination, clusters by name.
#[track_caller]
fn check_clusters(compiled: &Compiled, address: &str, expected: &[(&str, u32)]) {
    let Some(Destination { action: Action::Clusters { shares: clusters, .. }, .. }) = destination(compiled, address)
    else {
        panic!("{address} leads to no cluster: {:?}", destination(compiled, address));
    };
    let named: Vec<_> = clusters
        .iter()
        .map(|(index, weight)| (compiled.mesh.clusters[*index as usize].name.as_str(), *weight))
        .collect();
    assert_eq!(named, expected);
}

#[track_caller]
fn check_action(compiled: &Compiled, address: &str, expected: &Action) {
    assert_eq!(destination(compiled, address).map(|found| &found.action), Some(expected));
}

fn key(ip: &str) -> u64 {
    WordAddr::new(ip.parse().unwrap()).wanted_key()
}
