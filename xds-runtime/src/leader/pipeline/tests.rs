//! What is published, and that a compile in part gives what a compile of everything gives.

use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, CustomClusterType, DiscoveryType, EdsClusterConfig, LbConfig, LbPolicy,
    LbSubsetConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig, common_lb_config,
    lb_subset_config::LbSubsetSelector,
};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter::ConfigType};
use envoy_types::pb::envoy::extensions::clusters::aggregate::v3::ClusterConfig;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier};
use envoy_types::pb::google::protobuf;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::ads::Removal;
use crate::control::testing::control;
use crate::leader::testing::run_dir_at;
use crate::resource::{Decoded, NameInfo, NameTable, Resource, decode};
use crate::shm::WordAddr;

/// Clusters, each behind a listener of its own and with an EDS name of its own unless it is told otherwise.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const OWN: &str = "10.0.0.3";

struct Fixture {
    _folder: tempfile::TempDir,
    pipeline: Pipeline,
}

/// A pipeline with the listeners, a name for each, and plain clusters without endpoints.
fn fixture(node: &Node) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let dir = Arc::new(run_dir_at(folder.path()));
    let boot = BootId::from_words([1, 2]);
    let mut pipeline = Pipeline::new(&dir, boot, control(), Vec::new(), NameList::default(), node).unwrap();
    let mut table = NameTable::default();
    for (nth, name) in (1..).zip(NAMES) {
        // The last address is one that Istio makes up.
        let address = if nth < NAMES.len() { format!("10.0.0.{nth}") } else { "240.240.0.1".to_owned() };
        accept(&mut pipeline, ResourceType::Listener, &listener(name, &address));
        accept(&mut pipeline, ResourceType::Cluster, &cluster(name, name));
        let addresses = vec![address.parse().unwrap()];
        let info = NameInfo { addresses, registry: "Kubernetes".to_owned(), ..NameInfo::default() };
        table.names.insert(format!("{name}.example"), info);
    }
    take(&mut pipeline, ResourceType::NameTable, String::new(), Resource::Names(table));
    pipeline.compile();
    Fixture { _folder: folder, pipeline }
}

fn accept(pipeline: &mut Pipeline, kind: ResourceType, message: &impl Message) {
    match decode(kind, "", &message.encode_to_vec().into()) {
        Decoded::Valid { name, resource } => take(pipeline, kind, name, *resource),
        other => panic!("{other:?}"),
    }
}

fn take(pipeline: &mut Pipeline, kind: ResourceType, name: String, resource: Resource) {
    let (version, raw) = ("1".to_owned(), bytes::Bytes::new());
    pipeline.apply(Event::Accepted { kind, name, version, raw, resource: Box::new(resource) }, 1);
}

fn socket(address: &str, port: u32) -> Option<core::Address> {
    let port_specifier = Some(core::socket_address::PortSpecifier::PortValue(port));
    let socket = core::SocketAddress { address: address.to_owned(), port_specifier, ..Default::default() };
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

fn any(name: &str, message: &impl Message) -> protobuf::Any {
    protobuf::Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn listener(name: &str, address: &str) -> Listener {
    let cluster_specifier = Some(ClusterSpecifier::Cluster(name.to_owned()));
    let proxy = TcpProxy { cluster_specifier, ..Default::default() };
    let config = any("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", &proxy);
    let filter = Filter { config_type: Some(ConfigType::TypedConfig(config)), ..Default::default() };
    Listener {
        name: name.to_owned(),
        address: socket(address, 80),
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        traffic_direction: core::TrafficDirection::Outbound.into(),
        ..Default::default()
    }
}

/// A cluster with the endpoints of an EDS name.
fn cluster(name: &str, service: &str) -> Cluster {
    let ads = core::config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource::default());
    let source = core::ConfigSource { config_source_specifier: Some(ads), ..Default::default() };
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(source), service_name: service.to_owned() }),
        ..Default::default()
    }
}

fn aggregate(name: &str, members: &[&str]) -> Cluster {
    let config = ClusterConfig { clusters: members.iter().map(|name| (*name).to_owned()).collect() };
    let typed_config = Some(any("envoy.extensions.clusters.aggregate.v3.ClusterConfig", &config));
    let custom = CustomClusterType { name: "aggregate".to_owned(), typed_config };
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(custom)),
        lb_policy: LbPolicy::ClusterProvided.into(),
        ..Default::default()
    }
}

fn text(fields: &[(&str, &str)]) -> protobuf::Struct {
    let value = |text: &str| protobuf::Value { kind: Some(protobuf::value::Kind::StringValue(text.to_owned())) };
    protobuf::Struct { fields: fields.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect() }
}

/// What may come.
#[derive(Clone, Debug)]
enum Push {
    Endpoints(endpoint::ClusterLoadAssignment),
    Missing(&'static str),
    Rejected(&'static str),
    Gone(ResourceType, &'static str, Removal),
    Cluster(Box<Cluster>),
    Own(bool),
}

impl Push {
    fn reach(self, pipeline: &mut Pipeline) {
        let eds = ResourceType::Endpoint;
        match self {
            Self::Endpoints(assignment) => accept(pipeline, eds, &assignment),
            Self::Missing(name) => drop(pipeline.apply(Event::Missing { kind: eds, name: name.to_owned() }, 1)),
            Self::Rejected(name) => {
                let (name, version, reason) = (name.to_owned(), "2".to_owned(), "no port".to_owned());
                pipeline.apply(Event::Rejected { kind: eds, name, version, reason }, 1);
            }
            Self::Gone(kind, name, why) => {
                pipeline.apply(Event::Removed { kind, name: name.to_owned(), why }, 1);
            }
            Self::Cluster(cluster) => accept(pipeline, ResourceType::Cluster, &*cluster),
            Self::Own(is_there) => drop(pipeline.is_at(is_there.then(|| OWN.parse().unwrap()).into_iter().collect())),
        }
    }
}

fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.to_vec())
}

fn lb_endpoint() -> impl Strategy<Value = endpoint::LbEndpoint> {
    let modes = prop::sample::select(vec!["istio", "disabled"]);
    let workloads = prop::sample::select(vec!["greeter;default;;;", ";;;;east"]);
    let keys = prop::option::of(prop::sample::select(vec!["x", "y"]));
    (1_u8..9, 0..6_i32, 1_u32..4, modes, workloads, keys).prop_map(|(ip, health, weight, mode, workload, key)| {
        let balancing = key.map(|key| ("envoy.lb".to_owned(), text(&[("hash_key", key), ("version", key)])));
        let filter_metadata = [
            ("envoy.transport_socket_match".to_owned(), text(&[("tlsMode", mode)])),
            ("istio".to_owned(), text(&[("workload", workload)])),
        ];
        let host = endpoint::Endpoint {
            address: socket(&format!("127.0.0.{ip}"), 8080),
            hostname: format!("host-{ip}"),
            ..Default::default()
        };
        endpoint::LbEndpoint {
            health_status: health,
            load_balancing_weight: Some(protobuf::UInt32Value { value: weight }),
            metadata: Some(core::Metadata {
                filter_metadata: filter_metadata.into_iter().chain(balancing).collect(),
                ..Default::default()
            }),
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(host)),
        }
    })
}

/// Priorities with gaps, zones with and without weights.
fn assignments() -> impl Strategy<Value = endpoint::ClusterLoadAssignment> {
    let zones = prop::sample::select(vec!["", "x", "y"]);
    let endpoints = prop::collection::vec(lb_endpoint(), 0..5);
    let localities =
        (zones, 0_u32..4, prop::option::of(1_u32..5), endpoints).prop_map(|(zone, priority, weight, lb_endpoints)| {
            endpoint::LocalityLbEndpoints {
                locality: Some(core::Locality { zone: zone.to_owned(), ..Default::default() }),
                priority,
                load_balancing_weight: weight.map(|value| protobuf::UInt32Value { value }),
                lb_endpoints,
                ..Default::default()
            }
        });
    let policy = |(factor, weighted_priority_health)| endpoint::cluster_load_assignment::Policy {
        overprovisioning_factor: Some(protobuf::UInt32Value { value: factor }),
        weighted_priority_health,
        ..Default::default()
    };
    let policies = (100_u32..200, prop::bool::weighted(0.1)).prop_map(policy);
    let names = prop_oneof![9 => names(), 1 => Just("nobody")];
    (names, prop::collection::vec(localities, 0..4), prop::option::of(policies)).prop_map(
        |(name, endpoints, policy)| endpoint::ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints,
            policy,
            ..Default::default()
        },
    )
}

fn balanced() -> impl Strategy<Value = Option<(LbPolicy, Option<LbConfig>)>> {
    let u64v = |value| Some(protobuf::UInt64Value { value });
    let ring = RingHashLbConfig { minimum_ring_size: u64v(8), maximum_ring_size: u64v(64), ..Default::default() };
    let maglev = MaglevLbConfig { table_size: u64v(13) };
    let slow_start_window = Some(protobuf::Duration { seconds: 30, nanos: 0 });
    let slow_start_config = Some(SlowStartConfig { slow_start_window, ..Default::default() });
    let slow = RoundRobinLbConfig { slow_start_config };
    prop_oneof![
        Just(None),
        Just(Some((LbPolicy::RoundRobin, Some(LbConfig::RoundRobinLbConfig(slow))))),
        Just(Some((LbPolicy::LeastRequest, None))),
        Just(Some((LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring))))),
        Just(Some((LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(maglev))))),
    ]
}

fn clusters() -> impl Strategy<Value = Cluster> {
    let discovery = (names(), prop_oneof![8 => Just(None), 1 => names().prop_map(Some)])
        .prop_map(|(name, service)| cluster(name, service.unwrap_or(name)));
    let settings = (balanced(), any_bool(), any_bool(), any_bool(), prop::bool::weighted(0.1));
    let eds = (discovery, settings).prop_map(|(mut cluster, (balanced, weighted, hostnames, outliers, subsets))| {
        if let Some((policy, config)) = balanced {
            (cluster.lb_policy, cluster.lb_config) = (policy.into(), config);
        }
        let by_locality = common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(Default::default());
        cluster.common_lb_config = Some(CommonLbConfig {
            consistent_hashing_lb_config: Some(common_lb_config::ConsistentHashingLbConfig {
                use_hostname_for_hashing: hostnames,
                hash_balance_factor: None,
            }),
            locality_config_specifier: weighted.then_some(by_locality),
            ..Default::default()
        });
        cluster.outlier_detection = outliers.then(OutlierDetection::default);
        let selector = LbSubsetSelector { keys: vec!["version".to_owned()], ..Default::default() };
        cluster.lb_subset_config =
            subsets.then(|| LbSubsetConfig { subset_selectors: vec![selector], ..Default::default() });
        cluster
    });
    let aggregates = (names(), names(), names()).prop_map(|(name, one, two)| aggregate(name, &[one, two]));
    prop_oneof![9 => eds, 1 => aggregates]
}

fn any_bool() -> impl Strategy<Value = bool> {
    prop::bool::ANY
}

fn pushes() -> impl Strategy<Value = Push> {
    let removals = prop::sample::select(vec![Removal::Server, Removal::Unsubscribed]);
    let kinds = prop::sample::select(vec![ResourceType::Endpoint, ResourceType::Cluster, ResourceType::Listener]);
    prop_oneof![
        12 => assignments().prop_map(Push::Endpoints),
        1 => names().prop_map(Push::Missing),
        1 => names().prop_map(Push::Rejected),
        1 => (kinds, names(), removals).prop_map(|(kind, name, why)| Push::Gone(kind, name, why)),
        2 => clusters().prop_map(|cluster| Push::Cluster(Box::new(cluster))),
        1 => any_bool().prop_map(Push::Own),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_mesh_compiled_in_part_is_the_mesh_compiled_anew(
        clusters in prop::collection::vec(clusters(), 0..6),
        pushes in prop::collection::vec(prop::collection::vec(pushes(), 1..4), 1..12),
        has_zones in prop::bool::weighted(0.1),
    ) {
        let metadata = if has_zones { serde_json::json!({LOCAL_CLUSTER: "a"}) } else { serde_json::Value::Null };
        let Fixture { _folder, mut pipeline } = fixture(&Node { metadata, ..Node::default() });
        for cluster in clusters {
            accept(&mut pipeline, ResourceType::Cluster, &cluster);
        }
        for batch in pushes {
            for push in batch {
                push.reach(&mut pipeline);
            }
            pipeline.compile();
        }
        let in_part = pipeline.compiled.clone();
        pipeline.stale = Stale::Everything;
        pipeline.compile();
        prop_assert_eq!(&in_part, &pipeline.compiled);
    }
}

fn assignment(name: &str, ip: &str) -> endpoint::ClusterLoadAssignment {
    let host = endpoint::Endpoint { address: socket(ip, 8080), ..Default::default() };
    let one = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(host)),
        ..Default::default()
    };
    let locality = endpoint::LocalityLbEndpoints { lb_endpoints: vec![one], ..Default::default() };
    endpoint::ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: vec![locality], ..Default::default() }
}

#[test]
fn endpoints_alone_are_compiled_in_part_and_with_anything_else_it_is_all() {
    let Fixture { _folder, mut pipeline } = fixture(&Node::default());
    let compiled = |pipeline: &mut Pipeline, pushes: Vec<Push>| {
        pushes.into_iter().for_each(|push| push.reach(pipeline));
        pipeline.compile()
    };
    let endpoints = |name| Push::Endpoints(assignment(name, "127.0.0.1"));
    assert_eq!(compiled(&mut pipeline, vec![endpoints("a"), endpoints("f")]), Extent::Endpoints);
    assert_eq!(compiled(&mut pipeline, vec![]), Extent::Endpoints);
    assert_eq!(compiled(&mut pipeline, vec![endpoints("a"), Push::Own(true)]), Extent::Everything);
    let gone = Push::Gone(ResourceType::Endpoint, "a", Removal::Server);
    assert_eq!(compiled(&mut pipeline, vec![gone]), Extent::Everything);
}

/// What a compile of everything may change is which wishes are answered: with an address of the pod's own, it leads
/// nowhere.
#[test]
fn whatever_is_compiled_whole_may_settle() {
    let Fixture { _folder, mut pipeline } = fixture(&Node::default());
    pipeline.unsettled = false;
    Push::Own(true).reach(&mut pipeline);
    assert!(pipeline.may_settle());
    pipeline.unsettled = false;
    Push::Endpoints(assignment("a", "127.0.0.1")).reach(&mut pipeline);
    assert!(pipeline.may_settle(), "it was not known");
    pipeline.unsettled = false;
    Push::Endpoints(assignment("a", "127.0.0.2")).reach(&mut pipeline);
    assert!(!pipeline.may_settle());
}

#[test]
fn a_wish_for_what_the_published_image_has_is_answered_without_another_publish() {
    let Fixture { _folder, mut pipeline } = fixture(&Node::default());
    let term = control().take_lead(1000).unwrap();
    let [wish, other] = ["10.0.0.1", "10.0.0.2"].map(|ip: &str| WordAddr::new(ip.parse().unwrap()).wanted_key());
    let subscribed: BTreeSet<String> = ["a".to_owned()].into();
    Push::Endpoints(assignment("a", "127.0.0.1")).reach(&mut pipeline);
    pipeline.settle(&subscribed);
    assert!(!pipeline.answers(wish), "nothing is published");
    pipeline.compile();
    assert!(pipeline.publish(&term).unwrap() && !pipeline.publish(&term).unwrap());
    pipeline.settle(&BTreeSet::new());
    assert!(!pipeline.answers(wish), "nobody wants it");
    pipeline.subscribed();
    pipeline.settle(&subscribed);
    assert!(pipeline.answers(wish) && !pipeline.answers(other));
    Push::Endpoints(assignment("b", "127.0.0.1")).reach(&mut pipeline);
    let subscribed: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
    pipeline.settle(&subscribed);
    assert!(!pipeline.answers(other), "it is in no image");
    pipeline.compile();
    pipeline.settle(&subscribed);
    assert!(!pipeline.answers(other), "nor in the one that is published");
    pipeline.publish(&term).unwrap();
    pipeline.settle(&subscribed);
    assert!(pipeline.answers(other));
}

#[test]
fn the_digest_is_of_all_words_and_of_no_more() {
    let content: Vec<u64> = (0..1500).collect();
    let bytes: Vec<u8> = content.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(digest(&content), xxhash_rust::xxh3::xxh3_128(&bytes));
}

#[test]
fn a_full_memory_cgroup_refuses_the_publish() {
    assert!(check_room(None, 1 << 20).is_ok());
    assert!(check_room(Some(64 << 20), 1 << 20).is_ok());
    assert!(matches!(check_room(Some(1 << 20), 10), Err(PipelineError::NoRoom { .. })));
    assert!(matches!(check_room(Some(5 << 20), 1 << 20), Err(PipelineError::NoRoom { .. })));
}
