//! A real Envoy as the sidecar of a server: it has the pod's address, and passes requests on to the server on loopback.
//!
//! Its configuration is what istiod's comes down to for inbound HTTP in permissive mode, without TLS.

use std::net::SocketAddrV4;

use serde_json::{Value, json};

use crate::{Envoy, Pod, envoy};

const CLUSTER: &str = "inbound";

/// A running sidecar; it is killed when this is dropped.
#[derive(Debug)]
pub struct Sidecar<'pod>(Envoy<'pod>);

impl Pod {
    /// Starts an Envoy that listens at `endpoint` and leads to `server`.
    #[track_caller]
    pub fn sidecar(&self, endpoint: SocketAddrV4, server: SocketAddrV4) -> Sidecar<'_> {
        let name = format!("sidecar-{}", endpoint.ip());
        Sidecar(Envoy::start(self, &name, 1, |admin| bootstrap(admin, endpoint, server), envoy::is_live))
    }
}

impl Sidecar<'_> {
    /// How many requests it has passed on.
    #[track_caller]
    pub fn requests(&self) -> u64 {
        self.0.stat(&format!("cluster.{CLUSTER}.upstream_rq_total"))
    }
}

fn bootstrap(admin: &str, endpoint: SocketAddrV4, server: SocketAddrV4) -> Value {
    let address = |at: SocketAddrV4| json!({"socket_address": {"address": at.ip(), "port_value": at.port()}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": CLUSTER,
        "route_config": {"virtual_hosts": [{
            "name": CLUSTER, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": CLUSTER}}],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    json!({
        "node": {"id": "sidecar", "cluster": "sidecar"},
        "admin": {"address": {"pipe": {"path": admin}}},
        "static_resources": {
            "listeners": [{
                "name": CLUSTER,
                "address": address(endpoint),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
                }]}],
            }],
            "clusters": [{
                "name": CLUSTER,
                "type": "STATIC",
                "connect_timeout": "5s",
                "load_assignment": {
                    "cluster_name": CLUSTER,
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(server)}}]}],
                },
            }],
        },
    })
}
