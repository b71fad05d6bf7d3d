//! What YAML becomes, by meaning: names, addresses and references of the rendered resources.
#![allow(clippy::expect_used)]

mod support;

use std::collections::BTreeMap;

use control_plane::{NameTable, Proxy, Resources, Snapshot, type_url};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use prost::Message;
use support::{http_service, service, snapshot};

/// The resources of one client, decoded on demand.
struct Rendered(std::sync::Arc<Resources>);

impl Rendered {
    #[track_caller]
    fn of(yaml: &str) -> Self {
        Self(snapshot(yaml).resources(&Proxy::default()))
    }

    #[track_caller]
    fn get<T: Message + Default>(&self, url: &str, name: &str) -> T {
        let all = self.0.get(url).expect("every type is there");
        let Some(entry) = all.get(name) else { panic!("no {name} among {:?}", all.keys()) };
        T::decode(entry.resource.value.as_slice()).expect("what was encoded")
    }

    fn has(&self, url: &str, name: &str) -> bool {
        self.0.get(url).is_some_and(|all| all.contains_key(name))
    }

    #[track_caller]
    fn cluster(&self, name: &str) -> Cluster {
        self.get(type_url::CLUSTER, name)
    }

    #[track_caller]
    fn listener(&self, name: &str) -> Listener {
        self.get(type_url::LISTENER, name)
    }

    #[track_caller]
    fn domains(&self, routes: &str, host: &str) -> Vec<String> {
        let routes: RouteConfiguration = self.get(type_url::ROUTE, routes);
        let found = routes.virtual_hosts.into_iter().find(|entry| entry.name == host);
        found.expect("the virtual host").domains
    }

    #[track_caller]
    fn names(&self) -> BTreeMap<String, Vec<String>> {
        let table: NameTable = self.get(type_url::NAME_TABLE, "");
        table.table.into_iter().map(|(name, info)| (name, info.ips)).collect()
    }

    /// Priority and weight of each locality (`region/zone`), with its addresses.
    #[track_caller]
    fn localities(&self, cluster: &str) -> Vec<(String, u32, u32, usize)> {
        let assignment: ClusterLoadAssignment = self.get(type_url::ENDPOINT, cluster);
        let describe = |group: envoy_types::pb::envoy::config::endpoint::v3::LocalityLbEndpoints| {
            let locality = group.locality.unwrap_or_default();
            let weight = group.load_balancing_weight.map_or(0, |weight| weight.value);
            (format!("{}/{}", locality.region, locality.zone), group.priority, weight, group.lb_endpoints.len())
        };
        assignment.endpoints.into_iter().map(describe).collect()
    }
}

#[track_caller]
fn discovery(cluster: &Cluster) -> DiscoveryType {
    match cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(number)) => number.try_into().expect("a known type"),
        _ => panic!("{cluster:?}"),
    }
}

/// What a chain does: `tcp CLUSTER=WEIGHT..` or `rds NAME`.
#[track_caller]
fn meaning(chain: &FilterChain) -> String {
    let Some(filter::ConfigType::TypedConfig(any)) = chain.filters.first().and_then(|f| f.config_type.as_ref()) else {
        panic!("a chain without filter: {chain:?}")
    };
    if any.type_url.ends_with(".TcpProxy") {
        let proxy = TcpProxy::decode(any.value.as_slice()).expect("a TCP proxy");
        return match proxy.cluster_specifier.expect("a cluster") {
            ClusterSpecifier::Cluster(name) => format!("tcp {name}"),
            ClusterSpecifier::WeightedClusters(several) => {
                let parts = several.clusters.iter().map(|part| format!(" {}={}", part.name, part.weight));
                format!("tcp{}", parts.collect::<String>())
            }
        };
    }
    let manager = HttpConnectionManager::decode(any.value.as_slice()).expect("an HTTP connection manager");
    match manager.route_specifier.expect("routes") {
        RouteSpecifier::Rds(rds) => format!("rds {}", rds.route_config_name),
        other => panic!("{other:?}"),
    }
}

/// The meanings of a listener's chains, and of its default chain.
#[track_caller]
fn meanings(listener: &Listener) -> (Vec<String>, Option<String>) {
    (listener.filter_chains.iter().map(meaning).collect(), listener.default_filter_chain.as_ref().map(meaning))
}

#[test]
fn an_http_port_shares_the_wildcard_listener_and_passes_everything_else() {
    let rendered = Rendered::of(&http_service("greeter", "10.96.0.10", &[]));
    let (chains, default) = meanings(&rendered.listener("0.0.0.0_80"));
    assert_eq!(chains, ["rds 80"]);
    assert_eq!(default.as_deref(), Some("tcp PassthroughCluster"));
}

#[test]
fn a_tcp_port_listens_on_the_virtual_address() {
    let rendered = Rendered::of(&service("db", "10.96.0.30", "tcp", 5432, &[]));
    let (chains, default) = meanings(&rendered.listener("10.96.0.30_5432"));
    assert_eq!((chains, default), (vec!["tcp outbound|5432||db.default.svc.cluster.local".to_owned()], None));
    assert!(!rendered.has(type_url::ROUTE, "5432"));
}

#[test]
fn an_undeclared_protocol_is_sniffed_on_the_virtual_address() {
    let rendered = Rendered::of(&service("any", "10.96.0.40", "", 9000, &[]));
    let host = "any.default.svc.cluster.local";
    let (chains, default) = meanings(&rendered.listener("10.96.0.40_9000"));
    assert_eq!(chains, [format!("rds {host}:9000")]);
    assert_eq!(default, Some(format!("tcp outbound|9000||{host}")));
    assert_eq!(rendered.domains(&format!("{host}:9000"), &format!("{host}:9000")), ["*"]);
}

#[test]
fn domains_hold_names_and_addresses_with_and_without_port_and_short_names_by_namespace() {
    let yaml = http_service("greeter", "10.96.0.10", &[]);
    let host = "greeter.default.svc.cluster.local";
    let own = Rendered::of(&yaml).domains("80", &format!("{host}:80"));
    for domain in [host, "greeter", "greeter.default", "greeter.default.svc", "10.96.0.10"] {
        for domain in [domain.to_owned(), format!("{domain}:80")] {
            assert!(own.contains(&domain), "{domain} is not in {own:?}");
        }
    }
    let elsewhere = Rendered(snapshot(&yaml).resources(&Proxy::in_namespace("shop")));
    let elsewhere = elsewhere.domains("80", &format!("{host}:80"));
    assert!(!elsewhere.contains(&"greeter".to_owned()) && elsewhere.contains(&"greeter.default".to_owned()));
}

#[test]
fn the_catch_all_listeners_pass_outbound_and_are_marked_inbound() {
    let rendered = Rendered::of("");
    let (chains, _) = meanings(&rendered.listener("virtualOutbound"));
    assert_eq!(chains, ["tcp BlackHoleCluster", "tcp PassthroughCluster"]);
    assert_eq!(rendered.listener("virtualInbound").traffic_direction, 1);
}

const HEADLESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ports: [{name: tcp, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: tcp, port: 5432}]
endpoints:
- {addresses: [10.1.0.1], hostname: db-0}
- {addresses: [10.1.0.2], hostname: db-1}
- {addresses: [10.1.0.3], conditions: {ready: false}}
";

#[test]
fn a_headless_service_listens_on_each_ready_pod_and_names_each() {
    let rendered = Rendered::of(HEADLESS);
    let host = "db.default.svc.cluster.local";
    let (chains, _) = meanings(&rendered.listener("10.1.0.1_5432"));
    assert_eq!(chains, [format!("tcp outbound|5432||{host}")]);
    assert!(!rendered.has(type_url::LISTENER, "10.1.0.3_5432"));
    let cluster = rendered.cluster(&format!("outbound|5432||{host}"));
    assert_eq!((discovery(&cluster), cluster.lb_policy()), (DiscoveryType::OriginalDst, LbPolicy::ClusterProvided));
    let names = rendered.names();
    assert_eq!(names.get(host).map(Vec::as_slice), Some(&["10.1.0.1".to_owned(), "10.1.0.2".to_owned()][..]));
    assert_eq!(names.get(&format!("db-1.{host}")).map(Vec::as_slice), Some(&["10.1.0.2".to_owned()][..]));
}

#[test]
fn an_external_name_is_another_name_of_the_service_it_names() {
    let alias = "apiVersion: v1\nkind: Service\nmetadata: {name: hello, namespace: shop}\n\
                 spec: {type: ExternalName, externalName: greeter.default.svc.cluster.local}\n";
    let rendered = Rendered::of(&(http_service("greeter", "10.96.0.10", &[]) + alias));
    let names = rendered.names();
    assert_eq!(names.get("hello.shop.svc.cluster.local"), names.get("greeter.default.svc.cluster.local"));
    assert!(!rendered.has(type_url::CLUSTER, "outbound|80||hello.shop.svc.cluster.local"));
    let domains = rendered.domains("80", "greeter.default.svc.cluster.local:80");
    assert!(domains.contains(&"hello.shop".to_owned()), "{domains:?}");
}

/// A service with an endpoint in each of three places, two of them with other labels.
fn spread(policy: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: far}}
spec:
  hosts: [far.example.com]
  addresses: [10.9.0.1]
  resolution: STATIC
  ports: [{{number: 80, name: tcp, protocol: TCP, targetPort: 8080}}]
  endpoints:
  - {{address: 10.2.0.1, locality: r1/z1, labels: {{version: v1}}}}
  - {{address: 10.2.0.2, locality: r1/z2, labels: {{version: v2}}}}
  - {{address: 10.2.0.3, locality: r2/z1, labels: {{version: v2}}, weight: 3}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: far}}
spec:
  host: far.example.com
  trafficPolicy: {policy}
  subsets: [{{name: v2, labels: {{version: v2}}}}]
"
    )
}

const FAR: &str = "outbound|80||far.example.com";

#[track_caller]
fn far(policy: &str) -> Rendered {
    let snapshot: Snapshot = snapshot(&spread(policy));
    Rendered(snapshot.resources(&Proxy::default().in_locality("r1", "z1", "")))
}

fn place(locality: &str, priority: u32, weight: u32, endpoints: usize) -> (String, u32, u32, usize) {
    (locality.to_owned(), priority, weight, endpoints)
}

#[test]
fn failover_priorities_come_only_with_outlier_detection() {
    let flat = [place("r1/z1", 0, 1, 1), place("r1/z2", 0, 1, 1), place("r2/z1", 0, 3, 1)];
    assert_eq!(far("{}").localities(FAR), flat);
    let near_first = [place("r1/z1", 0, 1, 1), place("r1/z2", 1, 1, 1), place("r2/z1", 2, 3, 1)];
    assert_eq!(far("{outlierDetection: {consecutive5xxErrors: 3}}").localities(FAR), near_first);
}

#[test]
fn failover_by_labels_puts_first_what_shares_most_of_them() {
    let rendered = |settings: &str, proxy: Proxy| {
        let policy = format!(
            "{{outlierDetection: {{consecutive5xxErrors: 3}}, loadBalancer: {{localityLbSetting: {{{settings}}}}}}}"
        );
        Rendered(snapshot(&spread(&policy)).resources(&proxy)).localities(FAR)
    };
    let client = || Proxy::default().in_locality("r2", "z1", "").with_label("version", "v2");
    let settings = "failoverPriority: [version, topology.kubernetes.io/region]";
    // r2/z1 shares both, r1/z2 the first, r1/z1 none.
    let both = [place("r1/z1", 2, 1, 1), place("r1/z2", 1, 1, 1), place("r2/z1", 0, 3, 1)];
    assert_eq!(rendered(settings, client()), both);
    let fixed = "failoverPriority: ['version=v1']";
    assert_eq!(rendered(fixed, client()), [place("r1/z1", 0, 1, 1), place("r1/z2", 1, 1, 1), place("r2/z1", 1, 3, 1)]);
    let flat = [place("r1/z1", 0, 1, 1), place("r1/z2", 0, 1, 1), place("r2/z1", 0, 3, 1)];
    assert_eq!(rendered(settings, Proxy::default()), flat, "a client without labels");
}

#[test]
fn a_distribution_sets_the_weights_of_localities_and_empties_the_others() {
    let policy = "{loadBalancer: {localityLbSetting: {distribute: [{from: r1/*, to: {r1/z1: 80, r1/z2: 20}}]}}}";
    let expected = [place("r1/z1", 0, 80, 1), place("r1/z2", 0, 20, 1), place("r2/z1", 0, 3, 0)];
    assert_eq!(far(policy).localities(FAR), expected);
}

#[test]
fn a_subset_has_a_cluster_with_the_endpoints_that_carry_its_labels() {
    let rendered = far("{}");
    let name = "outbound|80|v2|far.example.com";
    assert_eq!(rendered.cluster(name).eds_cluster_config.map(|eds| eds.service_name).as_deref(), Some(name));
    assert_eq!(rendered.localities(name), [place("r1/z2", 0, 1, 1), place("r2/z1", 0, 3, 1)]);
}

#[test]
fn a_destination_rule_sets_policy_limits_timeouts_and_ejection() {
    let cluster = far("{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 251}}}, \
         connectionPool: {tcp: {maxConnections: 7, connectTimeout: 250ms, tcpKeepalive: {time: 30s, probes: 2}}}, \
         outlierDetection: {consecutive5xxErrors: 2, interval: 1s, minHealthPercent: 10}}")
    .cluster(FAR);
    assert_eq!(cluster.lb_policy(), LbPolicy::Maglev);
    assert_eq!(cluster.connect_timeout.map(|timeout| (timeout.seconds, timeout.nanos)), Some((0, 250_000_000)));
    let limits = cluster.circuit_breakers.and_then(|breakers| breakers.thresholds.into_iter().next());
    let limits = limits.expect("thresholds");
    assert_eq!(limits.max_connections.map(|limit| limit.value), Some(7));
    assert_eq!(limits.max_requests.map(|limit| limit.value), Some(u32::MAX));
    let keepalive = cluster.upstream_connection_options.and_then(|options| options.tcp_keepalive).expect("keepalive");
    assert_eq!(keepalive.keepalive_time.map(|time| time.value), Some(30));
    let ejection = cluster.outlier_detection.expect("outlier detection");
    assert_eq!(ejection.consecutive_5xx.map(|limit| limit.value), Some(2));
    let threshold = cluster.common_lb_config.and_then(|common| common.healthy_panic_threshold);
    assert_eq!(threshold.map(|percent| percent.value), Some(10.0));
}

#[test]
fn a_warmup_is_slow_start_for_the_policies_that_have_it() {
    let of = |settings: &str| {
        let cluster = far(&format!("{{loadBalancer: {{{settings}}}}}")).cluster(FAR);
        let start = match cluster.lb_config {
            Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config,
            Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config,
            _ => None,
        }?;
        let window = start.slow_start_window.map(|window| window.seconds);
        let aggression = start.aggression.map(|aggression| aggression.default_value);
        Some((window, aggression, start.min_weight_percent.map(|percent| percent.value)))
    };
    let warmup = "warmup: {duration: 60s, minimumPercent: 20, aggression: 1.5}";
    assert_eq!(of(&format!("simple: ROUND_ROBIN, {warmup}")), Some((Some(60), Some(1.5), Some(20.0))));
    assert_eq!(of("warmupDurationSecs: 30s"), Some((Some(30), Some(1.0), Some(10.0))), "least request is the default");
    assert_eq!(of(&format!("warmupDurationSecs: 30s, {warmup}")), Some((Some(60), Some(1.5), Some(20.0))));
    assert_eq!(of(&format!("simple: RANDOM, {warmup}")), None);
    assert_eq!(of("simple: ROUND_ROBIN"), None);
}

#[test]
fn a_destination_rule_without_policy_means_least_request_and_ten_seconds() {
    let cluster = far("{}").cluster(FAR);
    assert_eq!(cluster.lb_policy(), LbPolicy::LeastRequest);
    assert_eq!(cluster.connect_timeout.map(|timeout| timeout.seconds), Some(10));
    assert_eq!(cluster.outlier_detection, None);
}

#[test]
fn a_tcp_route_splits_by_weight_and_leaves_out_what_has_none() {
    let routes = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: far}
spec:
  hosts: [far.example.com]
  tcp:
  - route:
    - {destination: {host: far.example.com, subset: v1}, weight: 90}
    - {destination: {host: far.example.com, subset: v2}, weight: 10}
    - {destination: {host: far.example.com}, weight: 0}
";
    let rendered = Rendered::of(&format!("{}---{routes}", spread("{}")));
    let (chains, _) = meanings(&rendered.listener("10.9.0.1_80"));
    assert_eq!(chains, ["tcp outbound|80|v1|far.example.com=90 outbound|80|v2|far.example.com=10"]);
}

#[test]
fn tcp_rules_hold_for_the_clients_ports_and_subnets_that_they_name() {
    let routes = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: far}
spec:
  hosts: [far.example.com]
  gateways: [mesh, ingress]
  tcp:
  - match: [{port: 81}]
    route: [{destination: {host: never}}]
  - match: [{gateways: [ingress]}]
    route: [{destination: {host: never}}]
  - match: [{sourceLabels: {app: front, tier: a}}, {sourceNamespace: bank}]
    route: [{destination: {host: far.example.com, subset: v1}}]
  - match: [{destinationSubnets: [10.9.0.0/24], port: 80, gateways: [mesh]}]
    route: [{destination: {host: far.example.com, subset: v2}}]
";
    let yaml = format!("{}---{routes}", spread("{}"));
    let chains = |proxy: Proxy| meanings(&Rendered(snapshot(&yaml).resources(&proxy)).listener("10.9.0.1_80")).0;
    let (own, v1) = ("tcp outbound|80||far.example.com", "tcp outbound|80|v1|far.example.com");
    let subnet = "tcp outbound|80|v2|far.example.com";
    assert_eq!(chains(Proxy::default()), [subnet]);
    let labelled = || Proxy::default().with_label("app", "front");
    assert_eq!(chains(labelled()), [subnet], "one label of two");
    assert_eq!(chains(labelled().with_label("tier", "a").with_label("x", "y")), [v1]);
    assert_eq!(chains(Proxy::in_namespace("bank")), [v1]);
    let listener = Rendered(snapshot(&yaml).resources(&Proxy::default())).listener("10.9.0.1_80");
    let prefixes = &listener.filter_chains[0].filter_chain_match.as_ref().expect("a match").prefix_ranges;
    assert_eq!(prefixes.iter().map(|p| p.address_prefix.as_str()).collect::<Vec<_>>(), ["10.9.0.0"]);
    assert_eq!(meanings(&listener).1.as_deref(), Some(own), "the rest of its addresses");
}

#[test]
fn http_rules_keep_their_conditions_and_end_with_the_first_that_has_none() {
    let rules = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter}
spec:
  hosts: [greeter]
  http:
  - match: [{uri: {prefix: /v2}}, {headers: {x-user: {exact: me}}}]
    route: [{destination: {host: greeter, subset: v2}}]
  - route: [{destination: {host: greeter}}]
  - route: [{destination: {host: never}}]
";
    let rendered = Rendered::of(&(http_service("greeter", "10.96.0.10", &[]) + rules));
    let routes: RouteConfiguration = rendered.get(type_url::ROUTE, "80");
    let host = routes.virtual_hosts.iter().find(|host| host.name.starts_with("greeter.")).expect("the host");
    let conditions: Vec<usize> =
        host.routes.iter().map(|route| route.r#match.as_ref().map_or(0, |matches| matches.headers.len())).collect();
    assert_eq!(conditions, [0, 1, 0]);
    assert!(!format!("{host:?}").contains("never"));
}

#[test]
fn service_entries_resolve_as_they_say() {
    let entry = |host: &str, resolution: &str, protocol: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: x}}\nspec:\n  \
             hosts: [{host}]\n  resolution: {resolution}\n  ports: [{{number: 443, name: p, protocol: {protocol}}}]\n---\n"
        )
    };
    let yaml = entry("dns.example.com", "DNS", "TLS") + &entry("none.example.com", "NONE", "TCP");
    let rendered = Rendered::of(&yaml);
    let dns = rendered.cluster("outbound|443||dns.example.com");
    assert_eq!(discovery(&dns), DiscoveryType::StrictDns);
    assert!(format!("{:?}", dns.load_assignment).contains("\"dns.example.com\""));
    assert_eq!(discovery(&rendered.cluster("outbound|443||none.example.com")), DiscoveryType::OriginalDst);
    let shared = rendered.listener("0.0.0.0_443");
    let (chains, default) = meanings(&shared);
    assert_eq!(chains, ["tcp outbound|443||dns.example.com"]);
    assert_eq!(default.as_deref(), Some("tcp outbound|443||none.example.com"));
    assert_eq!(rendered.names(), BTreeMap::new());
    let capturing = Rendered(snapshot(&yaml).resources(&Proxy::default().with_auto_allocated_addresses()));
    let names = capturing.names();
    let allocated = names.get("dns.example.com").and_then(|ips| ips.first()).expect("an address");
    assert!(allocated.starts_with("240.240."), "{allocated}");
    assert!(capturing.has(type_url::LISTENER, &format!("{allocated}_443")));
    assert_eq!(names.len(), 1, "nothing is allocated where the program's own address counts");
}

#[test]
fn pods_and_nodes_give_labels_and_localities() {
    let yaml = http_service("greeter", "10.96.0.10", &["127.0.1.1"]).replace(
        "- addresses: [127.0.1.1]",
        "- {addresses: [127.0.1.1], targetRef: {kind: Pod, name: g-1}, nodeName: n1}",
    ) + "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: g-1, labels: {version: v1}}}
- {apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z}}}
- apiVersion: networking.istio.io/v1
  kind: DestinationRule
  metadata: {name: g}
  spec: {host: greeter, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
";
    let rendered = Rendered::of(&yaml);
    let cluster = |subset: &str| format!("outbound|80|{subset}|greeter.default.svc.cluster.local");
    assert_eq!(rendered.localities(&cluster("v1")), [place("r/z", 0, 1, 1)]);
    assert_eq!(rendered.localities(&cluster("v2")), []);
}

#[test]
fn a_raw_resource_takes_the_place_of_the_rendered_one() {
    let raw = format!(
        "apiVersion: ldmesh.io/v1alpha1\nkind: XdsResource\nspec:\n  typeUrl: {}\n  name: '{}'\n  base64: /////w==\n",
        type_url::CLUSTER,
        "outbound|80||greeter.default.svc.cluster.local"
    );
    let resources = snapshot(&(http_service("greeter", "10.96.0.10", &[]) + &raw)).resources(&Proxy::default());
    let clusters = resources.get(type_url::CLUSTER).expect("clusters");
    let entry = clusters.get("outbound|80||greeter.default.svc.cluster.local").expect("the raw one");
    assert_eq!(entry.resource.value, [0xff; 4]);
}

#[test]
fn unknown_kinds_are_named_once_and_well_known_ones_are_passed_over() {
    let unknown = "apiVersion: example.com/v1\nkind: Gadget\nspec: {}\n---\n";
    let known = "apiVersion: apps/v1\nkind: Deployment\nspec: {}\n";
    let snapshot = snapshot(&format!("{unknown}{unknown}{known}"));
    assert_eq!(snapshot.warnings(), ["Gadget (example.com/v1): unknown kind, ignored"]);
}

#[track_caller]
fn check_error(yaml: &str, expected: &str) {
    let error = Snapshot::from_yaml(yaml).expect_err("the YAML is wrong").to_string();
    assert!(error.starts_with(expected), "{error}\nis not about\n{expected}");
}

#[test]
fn errors_name_line_kind_and_field() {
    let good = http_service("greeter", "10.96.0.10", &[]);
    let lines = good.lines().count();
    let bad = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec:\n  clusterIP: 10.0.0\n";
    check_error(
        &format!("{good}{bad}"),
        &format!("<text>:{}: Service: spec.clusterIP: `10.0.0` is neither", lines + 5),
    );
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: x}\n  \
                spec:\n    ports:\n    - port: 0\n";
    check_error(list, "<text>:9: List: items[0].spec.ports[0].port: ");
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec:\n  host: x\n  \
                trafficPolicy:\n    loadBalancer: {simple: FASTEST}\n";
    check_error(rule, "<text>:7: DestinationRule: spec.trafficPolicy.loadBalancer.simple: unknown variant `FASTEST`");
    check_error("a: [", "<text>:");
}

#[test]
fn a_sidecar_says_what_happens_to_unknown_destinations() {
    let sidecar = |namespace: &str, rest: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: x, namespace: {namespace}}}\n\
             spec: {{egress: [{{hosts: ['*/*']}}]{rest}}}\n"
        )
    };
    let unknown = |yaml: &str, proxy: Proxy| {
        let yaml = http_service("greeter", "10.96.0.10", &[]) + yaml;
        let rendered = Rendered(snapshot(&yaml).resources(&proxy));
        let (chains, _) = meanings(&rendered.listener("virtualOutbound"));
        let (_, http) = meanings(&rendered.listener("0.0.0.0_80"));
        assert_eq!(chains.last(), http.as_ref(), "on an HTTP port as elsewhere");
        http.expect("a default chain")
    };
    let only = ", outboundTrafficPolicy: {mode: REGISTRY_ONLY}";
    let (pass, refuse) = ("tcp PassthroughCluster", "tcp BlackHoleCluster");
    assert_eq!(unknown("", Proxy::default()), pass);
    assert_eq!(unknown(&sidecar("default", only), Proxy::default()), refuse);
    assert_eq!(unknown(&sidecar("default", only), Proxy::in_namespace("other")), pass);
    assert_eq!(unknown(&sidecar("istio-system", only), Proxy::in_namespace("other")), refuse);
    let any = ", outboundTrafficPolicy: {mode: ALLOW_ANY}";
    let both = sidecar("istio-system", only) + &sidecar("default", any);
    assert_eq!(unknown(&both, Proxy::default()), pass, "the namespace's own");
    let selecting = sidecar("default", &format!(", workloadSelector: {{labels: {{app: front}}}}{only}"));
    assert_eq!(unknown(&selecting, Proxy::default()), pass);
    assert_eq!(unknown(&selecting, Proxy::default().with_label("app", "front")), refuse);
}
