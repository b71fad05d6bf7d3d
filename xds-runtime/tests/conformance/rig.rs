//! A destination with its clusters, compiled, encoded and picked from.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use xds_runtime::boot::BootId;
use xds_runtime::compile::{Input, compile};
use xds_runtime::config::NameList;
use xds_runtime::image::{Endpoint as Compiled, Mesh, View, encode};
use xds_runtime::lb::{Call, Choice, Seeded, choose, tell_additions};
use xds_runtime::resource::*;
use xds_runtime::shm::{Millis, WordAddr, Words};
use xds_runtime::state::{SlotAllocator, State, state_words};

pub const NOW: Millis = 10_000_000;
const VIP: [u8; 4] = [10, 96, 0, 1];
const SLOTS: usize = 1 << 16;

/// One STATE for all tests of the process: the names of their clusters differ.
static STATE: LazyLock<State> = LazyLock::new(|| {
    let words = (0..state_words(SLOTS)).map(|_| AtomicU64::new(0)).collect();
    State::format(Box::leak(words), BootId::from_words([1, 2])).unwrap()
});
static BOOK: LazyLock<Mutex<SlotAllocator>> = LazyLock::new(|| Mutex::new(SlotAllocator::recover(*STATE)));
static RIGS: AtomicUsize = AtomicUsize::new(0);

/// How many picks each endpoint got, by its port.
pub type Tally = BTreeMap<u16, u64>;

/// An endpoint: its port tells it from all others.
pub fn host(port: u16) -> Endpoint {
    let ip = IpAddr::from([127, 1, (port >> 8) as u8, port as u8]);
    Endpoint {
        address: EndpointAddress::Socket(SocketAddr::new(ip, port)),
        health: Health::Healthy,
        weight: 1,
        tls_mode_istio: false,
        is_gateway: false,
        details: None,
    }
}

/// Hosts with ports from 1 on and these weights.
pub fn weighing(weights: &[u32]) -> Vec<Endpoint> {
    (1..).zip(weights).map(|(port, weight)| Endpoint { weight: *weight, ..host(port) }).collect()
}

/// So many healthy, degraded and unhealthy hosts, with ports from one on.
pub fn hosts(first: u16, healthy: u16, degraded: u16, unhealthy: u16) -> Vec<Endpoint> {
    let health = |n| match n {
        n if n < healthy => Health::Healthy,
        n if n < healthy + degraded => Health::Degraded,
        _ => Health::Unhealthy,
    };
    (0..healthy + degraded + unhealthy).map(|n| Endpoint { health: health(n), ..host(first + n) }).collect()
}

/// Zone `zone` at a priority, with its weight.
pub fn zone(zone: u32, priority: u32, weight: u32, endpoints: Vec<Endpoint>) -> LocalityEndpoints {
    let locality = Locality { region: "r".into(), zone: format!("z{zone}"), sub_zone: String::new() };
    LocalityEndpoints { locality, priority, weight: Some(weight), endpoints }
}

/// A cluster of these localities.
pub fn cluster(name: &str, policy: LbPolicy, localities: Vec<LocalityEndpoints>) -> Cluster {
    let assignment =
        LoadAssignment { cluster_name: name.into(), localities, overprovisioning_factor: 140, unsupported: Vec::new() };
    Cluster {
        name: name.into(),
        discovery: Discovery::Static(assignment),
        policy,
        balancing: Balancing::default(),
        locality_weighted: false,
        hash_hostnames: false,
        panic_threshold: 50.0,
        connect_timeout: Duration::from_secs(1),
        max_connections: None,
        outlier_detection: None,
        tls: UpstreamTls::None,
        keepalive: None,
        unsupported: Vec::new(),
    }
}

/// A cluster of one locality.
pub fn flat(policy: LbPolicy, endpoints: Vec<Endpoint>) -> Cluster {
    cluster("c", policy, vec![zone(0, 0, 1, endpoints)])
}

/// An aggregate of clusters.
pub fn aggregate(members: &[Cluster]) -> Cluster {
    let names = members.iter().map(|member| member.name.clone()).collect();
    Cluster { discovery: Discovery::Aggregate(names), ..cluster("aggregate", LbPolicy::ClusterProvided, Vec::new()) }
}

/// A destination: the first cluster, or those that `shares` names.
pub struct Rig {
    content: Vec<AtomicU64>,
    /// What was encoded.
    pub mesh: Mesh,
    entropy: Seeded,
}

impl Rig {
    pub fn new(clusters: Vec<Cluster>) -> Self {
        let to = vec![share(&clusters.first().unwrap().name, 1)];
        Self::to(clusters, to)
    }

    /// A destination that these clusters share.
    pub fn to(clusters: Vec<Cluster>, shares: Vec<WeightedCluster>) -> Self {
        let filter = NetworkFilter::TcpProxy(TcpProxy { clusters: shares, hash: HashPolicy::SourceIp });
        Self::through(clusters, filter)
    }

    fn through(mut clusters: Vec<Cluster>, mut filter: NetworkFilter) -> Self {
        // Slots are known by their cluster's name.
        let number = RIGS.fetch_add(1, Ordering::Relaxed);
        let renamed = |name: &str| format!("{name}-{number}");
        for cluster in &mut clusters {
            cluster.name = renamed(&cluster.name);
            if let Discovery::Aggregate(members) = &mut cluster.discovery {
                members.iter_mut().for_each(|member| *member = renamed(member));
            }
        }
        if let NetworkFilter::TcpProxy(proxy) = &mut filter {
            proxy.clusters.iter_mut().for_each(|share| share.name = renamed(&share.name));
        }
        let chain = FilterChain { name: String::new(), matches: ChainMatch::default(), filter, terminates_tls: false };
        let listener = Listener {
            name: "l".into(),
            address: Some((VIP, 80).into()),
            additional_addresses: Vec::new(),
            direction: Direction::Outbound,
            chains: vec![chain],
            default_chain: None,
        };
        let local = renamed("callers");
        let input = Input {
            listeners: &BTreeMap::from([("l".into(), Box::new(listener))]),
            routes: &BTreeMap::new(),
            clusters: &clusters.into_iter().map(|cluster| (cluster.name.clone(), Box::new(cluster))).collect(),
            endpoints: &BTreeMap::new(),
            names: None,
            resolved: &BTreeMap::new(),
            own_addresses: &[],
            control_plane: None,
            exact_http: &NameList::default(),
            locality: Locality { region: "r".into(), zone: "z0".into(), sub_zone: String::new() },
            local_cluster: Some(&local),
        };
        let mut book = BOOK.lock().unwrap_or_else(PoisonError::into_inner);
        let mesh = compile(&input, &mut |tag| book.slot(tag)).mesh;
        let content = encode(&mesh).unwrap().into_iter().map(AtomicU64::new).collect();
        Self { content, mesh, entropy: Seeded(42) }
    }

    fn endpoints(&self) -> impl Iterator<Item = &Compiled> {
        let priorities = self.mesh.clusters.iter().flat_map(|cluster| cluster.priorities.iter().flatten());
        priorities.flat_map(|priority| &priority.localities).flat_map(|locality| &locality.endpoints)
    }

    /// Sets the age of endpoints.
    pub fn aged(self, ages: &[(u16, Millis)]) -> Self {
        for endpoint in self.endpoints() {
            if let Some((_, age)) = ages.iter().find(|(port, _)| *port == endpoint.address.port()) {
                STATE.slot_at(endpoint.slot.unwrap()).unwrap().set_added(NOW - age);
            }
        }
        tell_additions(&self.mesh, &STATE);
        self
    }

    /// Sets how many connections endpoints have.
    pub fn busy(self, connections: &[(u16, u64)]) -> Self {
        for endpoint in self.endpoints() {
            if let Some((_, count)) = connections.iter().find(|(port, _)| *port == endpoint.address.port()) {
                STATE.slot_at(endpoint.slot.unwrap()).unwrap().set_active(*count);
            }
        }
        self
    }

    /// The port of the endpoint for a connection from `source`; `None` = there is none.
    pub fn pick_from(&mut self, source: Option<IpAddr>) -> Option<u16> {
        self.address_from(source).map(|address| address.port())
    }

    /// Its address.
    pub fn address_from(&mut self, source: Option<IpAddr>) -> Option<SocketAddr> {
        let view = View::new(Words::new(&self.content));
        let source = || source;
        let call = Call { address: WordAddr::new(VIP.into()), port: 80, source: &source, now: NOW, avoid: &[] };
        match choose(&view, Some(&STATE), &call, &mut self.entropy).unwrap() {
            Choice::Endpoint(pick) => Some(pick.address.socket(pick.port)),
            _ => None,
        }
    }

    /// Picks for connections from sources that all differ; those without an endpoint count for port 0.
    pub fn tally(&mut self, picks: u32) -> Tally {
        let mut tally = Tally::new();
        for n in 0..picks {
            let [_, b, c, d] = n.to_be_bytes();
            *tally.entry(self.pick_from(Some([10, b, c, d].into())).unwrap_or(0)).or_default() += 1;
        }
        tally
    }
}

/// A share of a destination.
pub fn share(name: &str, weight: u32) -> WeightedCluster {
    WeightedCluster { name: name.into(), weight, metadata: Metadata::new() }
}

/// An endpoint that carries metadata of text.
pub fn carrying(pairs: &[(&str, &str)], endpoint: Endpoint) -> Endpoint {
    let details = EndpointDetails { metadata: metadata(pairs), ..EndpointDetails::default() };
    Endpoint { details: Some(details.into()), ..endpoint }
}

/// Metadata of text.
pub fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().map(|(key, value)| ((*key).into(), MetadataValue::Text((*value).into()))).collect()
}
