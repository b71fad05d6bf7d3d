//! A cluster with pods of each kind, which serve and call: two of each, since a pod that calls itself is a case apart.

use std::net::{Ipv4Addr, SocketAddrV4};

use ctests::namespace::POD_V4;
use ctests::{
    Backend, Finished, ISTIO_CA, IstioProxy, Istiod, Kubernetes, Pod, ROOT_FILE, STOCK_ENVOY, TOKEN_FILE,
    can_map_users, has_istio, skipped,
};
use serde_json::{Value, json};

/// What a pod has between its program and the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// Istio's sidecar.
    Sidecar,
    /// ldmesh.
    Ldmesh,
}

pub const KINDS: [Kind; 3] = [Kind::Plain, Kind::Sidecar, Kind::Ldmesh];
/// The service that has an endpoint of each kind.
pub const ALL: &str = "all";
const PORT: u16 = 80;
const TARGET_PORT: u16 = 8080;

impl Kind {
    /// The name of its service, which one pod of the kind serves.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Sidecar => "sidecar",
            Self::Ldmesh => "ldmesh",
        }
    }

    /// The address of the pod that serves.
    pub fn server(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, 2, 10 + self as u8)
    }

    fn caller(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, 2, 20 + self as u8)
    }

    /// Istio's injection and its controllers know a sidecar by this.
    fn labels(self) -> Value {
        match self {
            Self::Sidecar => json!({"app": self.name(), "security.istio.io/tlsMode": "istio"}),
            Self::Plain | Self::Ldmesh => json!({"app": self.name()}),
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// This server answered, and its sidecar knows the caller's identity or does not.
    Answered(&'static str, Option<String>),
    /// curl's error.
    Failed(String),
}

/// The node, with Kubernetes and istiod. `None`, and the test counts as skipped, where the machine lacks something.
pub fn node() -> Option<Pod> {
    if !has_istio() {
        return None;
    }
    if !can_map_users() {
        skipped("Istio's rules tell its sidecar by the user that it runs as: run the tests as root");
        return None;
    }
    Some(Pod::in_cluster())
}

pub fn control_plane(node: &Pod) -> (Kubernetes<'_>, Istiod<'_>) {
    let kubernetes = node.kubernetes();
    let istiod = kubernetes.istiod_with("{}", &STOCK_ENVOY);
    kubernetes.run_pod("default", "app-0", POD_V4, &json!({"app": "app"}));
    (kubernetes, istiod)
}

/// The services: of each kind, and of all.
fn services() -> Vec<(&'static str, Ipv4Addr, Vec<Kind>)> {
    let of_one = KINDS.map(|kind| (kind.name(), Ipv4Addr::new(10, 96, 2, 10 + kind as u8), vec![kind]));
    of_one.into_iter().chain([(ALL, Ipv4Addr::new(10, 96, 2, 20), KINDS.to_vec())]).collect()
}

/// Makes a pod, and its object with what Istio's injection and kubelet give it. With ldmesh it has names from the mesh,
/// else from what stands for the cluster's DNS.
pub fn pod(kubernetes: &Kubernetes<'_>, name: &str, address: Ipv4Addr, labels: &Value, has_ldmesh: bool) -> Pod {
    let mut services: Vec<_> = services().iter().map(|(name, vip, _)| (*name, *vip)).collect();
    services.retain(|_| !has_ldmesh);
    let pod = kubernetes.pod().beside(name, address, &services);
    kubernetes.run_pod("default", name, &address.to_string(), labels);
    let account = name.split('-').next().unwrap_or_default();
    pod.project(TOKEN_FILE, &kubernetes.token("default", account, ISTIO_CA));
    pod.project(ROOT_FILE, &kubernetes.istio_root());
    pod
}

/// The pods of each kind.
pub struct Pods {
    servers: [Pod; 3],
    callers: [Pod; 3],
}

/// Their programs.
pub struct Programs<'pods> {
    _sidecars: [IstioProxy<'pods>; 2],
    _servers: [Backend; 3],
}

impl Pods {
    /// Makes the pods and their services. Endpoints of a service of several take turns.
    pub fn new(kubernetes: &Kubernetes<'_>) -> Self {
        let of = |kind: Kind, number, address| {
            pod(kubernetes, &format!("{}-{number}", kind.name()), address, &kind.labels(), kind == Kind::Ldmesh)
        };
        let pods = Self {
            servers: KINDS.map(|kind| of(kind, 0, kind.server())),
            callers: KINDS.map(|kind| of(kind, 1, kind.caller())),
        };
        for (name, vip, kinds) in services() {
            kubernetes.apply(&service(name, vip, &kinds));
            let endpoints: Vec<_> = kinds.iter().map(|kind| SocketAddrV4::new(kind.server(), TARGET_PORT)).collect();
            kubernetes.pod().kube_proxy(SocketAddrV4::new(vip, PORT), &endpoints);
        }
        kubernetes.apply(&destination_rule(&json!({"loadBalancer": {"simple": "ROUND_ROBIN"}})));
        pods
    }

    /// Starts the servers and the sidecars.
    pub fn start(&self, kubernetes: &Kubernetes<'_>) -> Programs<'_> {
        let at = format!("0.0.0.0:{TARGET_PORT}");
        let servers = KINDS.map(|kind| match kind {
            Kind::Ldmesh => self.server(kind).backend_in_mesh(&at, kind.name()),
            Kind::Plain | Kind::Sidecar => self.server(kind).backend(&at, kind.name()),
        });
        let sidecars = [self.server(Kind::Sidecar), self.caller(Kind::Sidecar)];
        Programs { _sidecars: sidecars.map(|pod| pod.istio_proxy(kubernetes, true)), _servers: servers }
    }

    fn server(&self, kind: Kind) -> &Pod {
        &self.servers[kind as usize]
    }

    /// The pod of a kind that calls.
    pub fn caller(&self, kind: Kind) -> &Pod {
        &self.callers[kind as usize]
    }

    /// Calls a service from the pod of a kind.
    pub fn call(&self, caller: Kind, service: &str) -> End {
        let pod = self.caller(caller);
        call(if caller == Kind::Ldmesh { pod.mesh("curl") } else { pod.command("curl") }, service)
    }
}

/// Runs this `curl` with a service's URL.
pub fn call(mut curl: std::process::Command, service: &str) -> End {
    let done = Finished::of(curl.args(["-sSf", "--max-time", "10", &format!("http://{service}/")]));
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    let Some(kind) = KINDS.iter().find(|kind| words.first() == Some(&kind.name())) else {
        return End::Failed(format!("{}{}", done.stdout, done.stderr));
    };
    let certificate = words.get(3).and_then(|certificate| certificate.rsplit(";uri=").next());
    let account = certificate.and_then(|uri| uri.rsplit('/').next()).map(str::to_owned);
    End::Answered(kind.name(), account)
}

/// A Service, and the EndpointSlice that its controller would write.
fn service(name: &str, vip: Ipv4Addr, kinds: &[Kind]) -> String {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": vip, "ports": [{"name": "http", "port": PORT, "targetPort": TARGET_PORT}]},
    });
    let endpoints = kinds.iter().map(|kind| {
        json!({
            "addresses": [kind.server()], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("{}-0", kind.name())},
        })
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": "http", "port": TARGET_PORT}],
        "endpoints": endpoints.collect::<Vec<_>>(),
    });
    format!("{service}\n---\n{slice}")
}

/// A DestinationRule for all services of the namespace.
pub fn destination_rule(policy: &Value) -> String {
    let rule = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"host": "*.default.svc.cluster.local", "trafficPolicy": policy},
    });
    rule.to_string()
}

/// The PeerAuthentication of the namespace.
pub fn peer_authentication(mode: &str) -> String {
    let object = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "default"}, "spec": {"mtls": {"mode": mode}},
    });
    object.to_string()
}
