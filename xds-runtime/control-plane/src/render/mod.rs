//! A mesh to xDS resources, as istiod renders them for a sidecar.
//!
//! One file per resource type. What differs between clients is in [`Proxy`]; clients that do not differ share
//! one rendering.

mod cluster;
mod endpoint;
mod failover;
mod listener;
mod names;
mod proxy;
mod route;
mod target;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use envoy_types::pb::google::protobuf::Any;
pub use names::{NameInfo, NameTable};
use prost::Message;
pub use proxy::Proxy;

use crate::input::{Document, InputError, read_documents};
use crate::model::Mesh;

/// Type URLs of the rendered types.
pub mod type_url {
    /// LDS.
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// RDS.
    pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    /// CDS.
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// EDS.
    pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// NDS.
    pub const NAME_TABLE: &str = "type.googleapis.com/istio.networking.nds.v1.NameTable";
    /// The order in which types are pushed.
    pub const PUSH_ORDER: [&str; 5] = [CLUSTER, ENDPOINT, LISTENER, ROUTE, NAME_TABLE];
}

/// One configuration, and its renderings.
#[derive(Debug, Default)]
pub struct Snapshot {
    mesh: Mesh,
    /// Hash of the texts it was read from; 0 when it was not read from files.
    fingerprint: u64,
    rendered: Mutex<HashMap<Proxy, Arc<Resources>>>,
}

/// Every resource for one kind of client: type URL to name to resource.
pub type Resources = BTreeMap<String, BTreeMap<String, Entry>>;

/// A resource with the version of its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Hash of the bytes, in hex.
    pub version: String,
    /// The resource.
    pub resource: Any,
}

impl Snapshot {
    /// Parses Kubernetes and Istio YAML (several documents, `v1 List`s).
    ///
    /// # Errors
    /// The first document that is not what its kind demands, with line and field.
    pub fn from_yaml(text: &str) -> Result<Self, InputError> {
        Ok(Self::of_documents(read_documents("<text>", text)?, 0))
    }

    pub(crate) fn of_documents(documents: Vec<Document>, fingerprint: u64) -> Self {
        Self { mesh: Mesh::of_documents(documents), fingerprint, rendered: Mutex::default() }
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// What was ignored in the input and why, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.mesh.warnings
    }

    /// Number of services.
    pub fn service_count(&self) -> usize {
        self.mesh.services.len()
    }

    /// The resources for a client; rendered once for clients that do not differ.
    pub fn resources(&self, proxy: &Proxy) -> Arc<Resources> {
        let mut rendered = self.rendered.lock();
        if let Some(known) = rendered.get(proxy) {
            return known.clone();
        }
        let resources = Arc::new(render(&self.mesh, proxy));
        rendered.insert(proxy.clone(), resources.clone());
        resources
    }
}

fn render(mesh: &Mesh, proxy: &Proxy) -> Resources {
    let mut resources = Resources::new();
    for url in type_url::PUSH_ORDER {
        resources.insert(url.to_owned(), BTreeMap::new());
    }
    let mut add = |url: &str, name: String, value: Vec<u8>| {
        let version = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&value));
        let entry = Entry { version, resource: Any { type_url: url.to_owned(), value } };
        resources.entry(url.to_owned()).or_default().insert(name, entry);
    };
    for cluster in cluster::clusters(mesh, proxy) {
        add(type_url::CLUSTER, cluster.name.clone(), cluster.encode_to_vec());
    }
    for assignment in endpoint::assignments(mesh, proxy) {
        add(type_url::ENDPOINT, assignment.cluster_name.clone(), assignment.encode_to_vec());
    }
    for listener in listener::listeners(mesh, proxy) {
        add(type_url::LISTENER, listener.name.clone(), listener.encode_to_vec());
    }
    for routes in route::configurations(mesh, proxy) {
        add(type_url::ROUTE, routes.name.clone(), routes.encode_to_vec());
    }
    // istiod sends exactly one name table, without a name.
    add(type_url::NAME_TABLE, String::new(), names::name_table(mesh, proxy).encode_to_vec());
    for raw in &mesh.raw {
        add(&raw.type_url, raw.name.clone(), raw.base64.0.clone());
    }
    resources
}
