//! A cluster of a pod of each kind, each of which serves and calls.

use std::net::{Ipv4Addr, SocketAddrV4};

use ctests::namespace::POD_V4;
use ctests::{
    Backend, Finished, ISTIO_CA, ISTIOD_TLS_URL, IstioProxy, Istiod, Kubernetes, Pod, ROOT_FILE, STOCK_ENVOY, TOKEN_FILE,
};
use serde_json::json;

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
/// Where all services listen, and their pods.
pub const SERVICE_PORT: u16 = 80;
const TARGET_PORT: u16 = 8080;
/// The service of all three.
pub const ALL: &str = "all";

impl Kind {
    /// The name of its pods and of its service.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Sidecar => "sidecar",
            Self::Ldmesh => "ldmesh",
        }
    }

    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, 2, 1 + self as u8)
    }

    /// Of its service.
    pub fn vip(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96, 2, 1 + self as u8)
    }
}

/// The node, with Kubernetes and istiod.
pub fn node() -> Pod {
    Pod::in_cluster()
}

pub fn control_plane<'node>(node: &'node Pod, mesh_config: &str) -> (Kubernetes<'node>, Istiod<'node>) {
    let kubernetes = node.kubernetes();
    let istiod = kubernetes.istiod_with(mesh_config, &STOCK_ENVOY);
    kubernetes.run_pod("default", "app-0", POD_V4, &json!({"app": "app"}));
    (kubernetes, istiod)
}

/// The services, each of one kind of pods, and that of all.
pub fn services() -> Vec<(&'static str, Ipv4Addr, Vec<Kind>)> {
    let of_one = KINDS.map(|kind| (kind.name(), kind.vip(), vec![kind]));
    of_one.into_iter().chain([(ALL, Ipv4Addr::new(10, 96, 2, 9), KINDS.to_vec())]).collect()
}

/// A pod, known to the API server, with credentials.
pub fn pod(kubernetes: &Kubernetes<'_>, name: &str, address: Ipv4Addr, labels: &serde_json::Value) -> Pod {
    let names: Vec<_> = services().iter().map(|(name, vip, _)| (*name, *vip)).collect();
    let names = if labels["ldmesh"] == "yes" { vec![] } else { names };
    let pod = kubernetes.pod().beside(name, address, &names);
    kubernetes.run_pod("default", &format!("{name}-0"), &address.to_string(), labels);
    pod.project(TOKEN_FILE, &kubernetes.token("default", name, ISTIO_CA));
    pod.project(ROOT_FILE, &kubernetes.istio_root());
    pod
}

/// Applies the services, and leads plain programs to them.
pub fn publish(kubernetes: &Kubernetes<'_>) {
    for (name, vip, kinds) in services() {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "clusterIP": vip,
                "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": TARGET_PORT}],
            },
        });
        let endpoints = kinds.iter().map(|kind| json!({
            "addresses": [kind.address()], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("{}-0", kind.name())},
        }));
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "http", "port": TARGET_PORT}],
            "endpoints": endpoints.collect::<Vec<_>>(),
        });
        kubernetes.apply(&format!("{service}\n---\n{slice}"));
        let endpoints: Vec<_> = kinds.iter().map(|kind| SocketAddrV4::new(kind.address(), TARGET_PORT)).collect();
        kubernetes.pod().kube_proxy(SocketAddrV4::new(vip, SERVICE_PORT), &endpoints);
    }
}

pub fn labels(kind: Kind) -> serde_json::Value {
    match kind {
        Kind::Plain => json!({"app": "plain"}),
        Kind::Sidecar => json!({"app": "sidecar", "security.istio.io/tlsMode": "istio"}),
        Kind::Ldmesh => json!({"app": "ldmesh", "ldmesh": "yes"}),
    }
}
