//! The demo's Services as a control plane gets them: from `ldmesh serve`, or from istiod over a real API server.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::Ipv4Addr;

use ctests::namespace::POD_V4;
use ctests::{CONTROL_PLANE_URL, ControlPlane, ISTIOD_TLS_URL, Istiod, Kubernetes, Manifest, Pod, SpringServer};
use serde_json::json;

const SERVER: &str = include_str!("../../../k8s/demo/spring-server/kubernetes.yaml");
const CLIENT: &str = include_str!("../../../k8s/demo/spring-client/kubernetes.yaml");
/// The namespaces that have a `spring-server`, and its cluster address in each.
const NAMESPACES: [(&str, &str); 2] = [("default", "10.96.0.40"), ("other", "10.96.0.41")];

/// A control plane that knows the demo.
pub trait Cluster {
    /// Makes these servers the endpoints of their namespace's `spring-server`; rules are put beside them.
    fn publish(&self, servers: &[&SpringServer], rules: &str);

    /// Where the demo's programs find it.
    fn url(&self) -> &'static str;

    /// What it knows, for a person.
    fn dump(&self) -> String;
}

/// `ldmesh serve` over files.
pub struct Served<'pod>(ControlPlane<'pod>);

impl<'pod> Served<'pod> {
    pub fn start(pod: &'pod Pod) -> Self {
        Self(pod.serve(&Manifest::default().and(&services())))
    }
}

impl Cluster for Served<'_> {
    fn publish(&self, servers: &[&SpringServer], rules: &str) {
        let pods = servers.iter().map(|server| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod_name(server), "namespace": server.namespace, "labels": labels(server)},
                "status": {"phase": "Running", "podIP": server.address},
            })
        });
        let manifest = Manifest::default().and(&services()).and(&slices(servers));
        let manifest = pods.fold(manifest, |manifest, pod| manifest.and(&pod.to_string()));
        self.0.apply(&if rules.is_empty() { manifest } else { manifest.and(rules) });
    }

    fn url(&self) -> &'static str {
        CONTROL_PLANE_URL
    }

    fn dump(&self) -> String {
        format!("{:?}", self.0.stats())
    }
}

/// istiod over a real API server, by TLS and with a token.
pub struct Istio<'pod> {
    kubernetes: Kubernetes<'pod>,
    istiod: Istiod<'pod>,
    pods: RefCell<HashSet<Ipv4Addr>>,
}

impl<'pod> Istio<'pod> {
    pub fn start(pod: &'pod Pod) -> Self {
        let kubernetes = pod.kubernetes();
        let istiod = kubernetes.istiod("{}");
        kubernetes.run_pod("default", "app-0", POD_V4, &json!({"app": "spring-client"}));
        kubernetes.project_credentials();
        kubernetes.namespace("other");
        kubernetes.apply(&services());
        Self { kubernetes, istiod, pods: RefCell::default() }
    }
}

impl Cluster for Istio<'_> {
    fn publish(&self, servers: &[&SpringServer], rules: &str) {
        for server in servers {
            if self.pods.borrow_mut().insert(server.address) {
                let address = server.address.to_string();
                self.kubernetes.run_pod(&server.namespace, &pod_name(server), &address, &labels(server));
            }
        }
        self.kubernetes.apply(&format!("{}\n---\n{rules}", slices(servers)));
    }

    fn url(&self) -> &'static str {
        ISTIOD_TLS_URL
    }

    fn dump(&self) -> String {
        self.istiod.syncz().to_string()
    }
}

/// The files of the demo, in each namespace that has servers.
fn services() -> String {
    let servers = NAMESPACES.map(|(namespace, address)| {
        let fixed = format!("  type: ClusterIP\n  clusterIP: {address}\n");
        in_namespace(namespace, SERVER).replace("  type: ClusterIP\n", &fixed)
    });
    [&servers[0], &servers[1], &in_namespace("default", CLIENT)].map(String::as_str).join("\n---\n")
}

/// As `kubectl --namespace` would create the objects of a file.
fn in_namespace(namespace: &str, yaml: &str) -> String {
    yaml.replace("\nmetadata:\n", &format!("\nmetadata:\n  namespace: {namespace}\n"))
}

/// As the controller of EndpointSlices would write them.
fn slices(servers: &[&SpringServer]) -> String {
    let slice = |namespace: &str| {
        let here = servers.iter().filter(|server| server.namespace == namespace).map(|server| {
            json!({
                "addresses": [server.address], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod_name(server)},
            })
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "spring-server-1", "namespace": namespace,
                "labels": {"kubernetes.io/service-name": "spring-server"},
            },
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": here.collect::<Vec<_>>(),
        });
        slice.to_string()
    };
    NAMESPACES.map(|(namespace, _)| slice(namespace)).join("\n---\n")
}

fn pod_name(server: &SpringServer) -> String {
    format!("spring-server-{}-{}", server.version, server.address.octets()[3])
}

/// Those of its deployment, and what Istio's injection adds where there is a sidecar.
fn labels(server: &SpringServer) -> serde_json::Value {
    let mut labels = json!({"app": "spring-server", "version": server.version});
    if *server.listens.ip() != server.address {
        labels["security.istio.io/tlsMode"] = json!("istio");
    }
    labels
}
