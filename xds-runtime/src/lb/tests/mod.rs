//! A cluster of one destination, compiled, encoded and balanced.

mod aggregate;
mod cluster;
mod hashed;
mod policy;
mod properties;
mod slow_start;
mod spill_over;
mod zone_aware;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::*;
use crate::boot::BootId;
use crate::compile::{Input, compile};
use crate::config::NameList;
use crate::image::{Mesh, encode};
use crate::outlier::Detector;
use crate::outlier::testing::ANYBODY;
use crate::resource::*;
use crate::shm::Words;
use crate::state::{SlotAllocator, state_words};

const NOW: Millis = 1_000_000;
const VIP: [u8; 4] = [10, 96, 0, 1];

/// An endpoint: port (its name), weight, health.
type Host = (u16, u32, Health);
/// Localities with their weight.
type Tier = Vec<(u32, Vec<Host>)>;
/// Priorities.
type Shape = Vec<Tier>;

/// One priority of one locality of healthy endpoints with these weights, ports from 1.
fn weights(weights: &[u32]) -> Shape {
    vec![vec![(1, (1..).zip(weights).map(|(port, weight)| (port, *weight, Health::Healthy)).collect())]]
}

fn ip(port: u16) -> IpAddr {
    [127, 0, (port >> 8) as u8, port as u8].into()
}

fn assignment(shape: &Shape) -> LoadAssignment {
    let mut localities = Vec::new();
    for (priority, groups) in (0..).zip(shape) {
        for (zone, (weight, endpoints)) in groups.iter().enumerate() {
            let endpoint = |(port, weight, health): &Host| Endpoint {
                address: EndpointAddress::Socket(SocketAddr::new(ip(*port), *port)),
                health: *health,
                weight: *weight,
                tls_mode_istio: false,
                is_gateway: false,
                details: None,
            };
            localities.push(LocalityEndpoints {
                locality: Locality { region: "r".into(), zone: format!("z{zone}"), sub_zone: String::new() },
                priority,
                weight: Some(*weight),
                endpoints: endpoints.iter().map(endpoint).collect(),
            });
        }
    }
    LoadAssignment { cluster_name: "c".into(), localities, overprovisioning_factor: 140, unsupported: Vec::new() }
}

fn cluster_of(policy: LbPolicy, shape: &Shape) -> Cluster {
    Cluster {
        name: "c".into(),
        discovery: Discovery::Static(assignment(shape)),
        policy,
        balancing: crate::resource::Balancing::default(),
        locality_weighted: false,
        hash_hostnames: false,
        panic_threshold: 50.0,
        connect_timeout: Duration::from_millis(1234),
        max_connections: Some(7),
        outlier_detection: None,
        tls: UpstreamTls::None,
        keepalive: None,
        unsupported: Vec::new(),
    }
}

const LEAST_REQUEST: LbPolicy = LbPolicy::LeastRequest { choice_count: 2, active_request_bias: 1.0 };

/// A leaked STATE whose pages cost nothing until they are touched: there are hundreds of them.
fn state(slots: usize) -> State {
    let words = Box::leak(vec![0_u64; state_words(slots)].into_boxed_slice());
    // SAFETY: same size and alignment; the words are leaked and from here on only seen as atomics.
    let words = unsafe { std::slice::from_raw_parts(words.as_mut_ptr().cast::<AtomicU64>(), words.len()) };
    State::format(words, BootId::from_words([1, 2])).unwrap()
}

/// A connection from a socket that is not bound.
fn call(address: WordAddr, port: u16, avoid: &[(WordAddr, u16)]) -> Call<'_> {
    Call { address, port, source: &|| None, now: NOW, avoid }
}

/// An encoded mesh and its STATE.
struct Rig {
    content: Vec<AtomicU64>,
    state: State,
    own: Seeded,
}

impl Rig {
    fn new(cluster: Cluster) -> Self {
        Self::edited(vec![(cluster, 1)], |_| {})
    }

    /// The mesh may be edited before it is encoded.
    fn edited(weighted: Vec<(Cluster, u32)>, edit: impl FnOnce(&mut Mesh)) -> Self {
        let clusters = weighted.iter().map(|(c, weight)| WeightedCluster {
            name: c.name.clone(),
            weight: *weight,
            metadata: Metadata::new(),
        });
        let filter = NetworkFilter::TcpProxy(TcpProxy { clusters: clusters.collect(), hash: HashPolicy::SourceIp });
        let chain = FilterChain { name: String::new(), matches: ChainMatch::default(), filter, terminates_tls: false };
        let listener = Listener {
            name: "10.96.0.1_80".into(),
            address: Some((VIP, 80).into()),
            additional_addresses: Vec::new(),
            direction: Direction::Outbound,
            chains: vec![chain],
            default_chain: None,
        };
        let endpoints = |c: &Cluster| match &c.discovery {
            Discovery::Static(inline) => inline.localities.iter().map(|l| l.endpoints.len() + 2).sum(),
            _ => 0,
        };
        let state = state(8 + weighted.iter().map(|(c, _)| endpoints(c)).sum::<usize>());
        let mut book = SlotAllocator::recover(state);
        let mut mesh = compile(
            &Input {
                listeners: &BTreeMap::from([(listener.name.clone(), Box::new(listener))]),
                routes: &BTreeMap::new(),
                clusters: &weighted.into_iter().map(|(c, _)| (c.name.clone(), Box::new(c))).collect(),
                endpoints: &BTreeMap::new(),
                names: None,
                resolved: &BTreeMap::new(),
                own_addresses: &[],
                control_plane: None,
                exact_http: &NameList::default(),
                locality: Locality { region: "r".into(), zone: "z0".into(), sub_zone: String::new() },
                local_cluster: Some("callers"),
            },
            &mut |tag| book.slot(tag),
        )
        .mesh;
        mesh.clusters.iter_mut().for_each(|cluster| cluster.outlier = Some(ANYBODY));
        edit(&mut mesh);
        let content = encode(&mesh).unwrap().into_iter().map(AtomicU64::new).collect();
        Self { content, state, own: Seeded(42) }
    }

    fn choose_with(&self, state: Option<&State>, entropy: &mut Seeded, avoid: &[(WordAddr, u16)]) -> Choice {
        let view = View::new(Words::new(&self.content));
        choose(&view, state, &call(WordAddr::new(VIP.into()), 80, avoid), entropy).unwrap()
    }

    fn choose(&mut self, avoid: &[u16]) -> Choice {
        let avoid: Vec<_> = avoid.iter().map(|port| (WordAddr::new(ip(*port)), *port)).collect();
        let mut own = self.own.clone();
        let choice = self.choose_with(Some(&self.state), &mut own, &avoid);
        self.own = own;
        choice
    }

    #[track_caller]
    fn pick(&mut self, avoid: &[u16]) -> Pick {
        match self.choose(avoid) {
            Choice::Endpoint(pick) => {
                assert_eq!(pick.address.ip(), ip(pick.port), "address and port of different endpoints");
                pick
            }
            other => panic!("no endpoint: {other:?}"),
        }
    }

    /// How often each endpoint is picked in `count` picks.
    fn tally(&mut self, count: usize) -> BTreeMap<u16, usize> {
        let mut tally = BTreeMap::new();
        for _ in 0..count {
            *tally.entry(self.pick(&[]).port).or_default() += 1;
        }
        tally
    }

    /// The pick that would be made were only this endpoint left: its slots.
    fn slots_of(&mut self, port: u16) -> Pick {
        (0..100_000).map(|_| self.pick(&[])).find(|pick| pick.port == port).expect("the endpoint is picked at times")
    }

    fn eject(&mut self, port: u16) {
        let pick = self.slots_of(port);
        eject(&self.state, &pick, NOW + 1);
    }

    fn set_active(&mut self, port: u16, active: u64) {
        let pick = self.slots_of(port);
        self.state.slot(pick.endpoint_slot.unwrap(), pick.endpoint_tag).unwrap().set_active(active);
    }
}

/// Ejects a pick's endpoint.
fn eject(state: &State, pick: &Pick, until: Millis) {
    pick.member().cluster(state).unwrap().somebody_is_ejected(until);
    pick.member().endpoint(state).unwrap().eject(until, 1, Detector::Consecutive5xx);
}

/// Pearson's statistic against expected shares; for a fixed seed a test either always passes or never.
#[track_caller]
fn check_shares(tally: &BTreeMap<u16, usize>, shares: &[(u16, f64)]) {
    let picks: usize = tally.values().sum();
    let whole: f64 = shares.iter().map(|(_, share)| share).sum();
    let mut statistic = 0.0;
    for (port, share) in shares {
        let expected = picks as f64 * share / whole;
        let seen = tally.get(port).copied().unwrap_or(0) as f64;
        statistic += (seen - expected).powi(2) / expected;
    }
    assert!(tally.keys().all(|port| shares.iter().any(|(known, _)| known == port)), "unexpected endpoint: {tally:?}");
    // The 99.9 % quantile of chi-square is under 2 * k + 12 for every k degrees of freedom up to 100.
    let limit = 2.0 * shares.len() as f64 + 12.0;
    assert!(statistic < limit, "shares {shares:?} but {tally:?} (statistic {statistic:.1}, limit {limit})");
}
