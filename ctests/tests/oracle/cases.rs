//! The cases as they are written in `ctests/oracle/*.yaml`.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

/// The cases of one of Istio's tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// File and function, below `pilot/pkg/networking/core` of Istio's repository.
    pub source: String,
    /// What every case has.
    #[serde(default)]
    pub given: Vec<Given>,
    pub cases: Vec<Case>,
}

/// Some configuration, and what calls get.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// The mesh configuration.
    #[serde(default = "no_settings")]
    pub mesh: Value,
    /// The namespace of the caller.
    #[serde(default = "default_namespace")]
    pub from: String,
    /// Each object is to be older than the next: creation times have whole seconds.
    #[serde(default)]
    pub in_order: bool,
    #[serde(default)]
    pub given: Vec<Given>,
    calls: Vec<Calls>,
}

/// An object, or one of the two kinds that most cases are about, in short.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Given {
    Rule { rule: Rule },
    Sidecar { sidecar: Sidecar },
    Object(Value),
}

/// A VirtualService with one HTTP route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    namespace: String,
    hosts: Vec<String>,
    to: String,
    /// The port of the destination.
    port: Option<u16>,
    /// The port that the rule matches.
    at: Option<u16>,
}

/// What callers of a namespace see.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    namespace: String,
    egress: Vec<String>,
}

/// Calls of one address that get the same.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Calls {
    /// An address, with a port where `ports` has none.
    to: String,
    #[serde(default)]
    ports: Vec<u16>,
    /// The name that the program resolved to the address, and asks for by TLS.
    server_name: Option<String>,
    /// What is spoken.
    #[serde(rename = "as")]
    protocols: OneOrMany,
    /// The cluster that Istio's simulation finds.
    istio: String,
    /// What ldmesh does instead, and why.
    ldmesh: Option<Instead>,
    why: Option<Why>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What ldmesh does where it is not what Istio's simulation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instead {
    Passes,
}

/// Why that is right, or what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Why {
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "dialled")]
    Dialled,
    #[serde(rename = "dns")]
    Dns,
    #[serde(rename = "no proxy")]
    NoProxy,
}

/// One call.
#[derive(Debug)]
pub struct Call<'case> {
    /// Address and port.
    pub to: String,
    pub protocol: &'case str,
    pub server_name: Option<&'case str>,
    pub istio: &'case str,
    pub instead: Option<(Instead, Why)>,
}

impl Source {
    /// All of them, in the order of the files' names.
    pub fn all() -> Vec<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("oracle");
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let read = |path: &PathBuf| {
            let text = fs::read_to_string(path).unwrap();
            serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        paths.iter().map(read).collect()
    }
}

impl Case {
    /// The outbound traffic policy of the mesh.
    pub fn mode(&self) -> &str {
        self.mesh["outboundTrafficPolicy"]["mode"].as_str().unwrap_or("ALLOW_ANY")
    }

    pub fn calls(&self) -> impl Iterator<Item = Call<'_>> {
        self.calls.iter().flat_map(|calls| {
            let protocols = match &calls.protocols {
                OneOrMany::One(one) => std::slice::from_ref(one),
                OneOrMany::Many(many) => many,
            };
            let places = match calls.ports.as_slice() {
                [] => vec![calls.to.clone()],
                ports => ports.iter().map(|port| format!("{}:{port}", calls.to)).collect(),
            };
            let instead = calls.ldmesh.map(|instead| (instead, calls.why.expect("what differs has a reason")));
            places.into_iter().flat_map(move |to| {
                protocols.iter().map(move |protocol| Call {
                    to: to.clone(),
                    protocol,
                    server_name: calls.server_name.as_deref(),
                    istio: &calls.istio,
                    instead,
                })
            })
        })
    }
}

impl Given {
    /// The object, for the API server.
    pub fn object(&self) -> Value {
        match self {
            Self::Object(object) => object.clone(),
            Self::Sidecar { sidecar } => json!({
                "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
                "metadata": {"name": "default", "namespace": sidecar.namespace},
                "spec": {"egress": [{"hosts": sidecar.egress}]},
            }),
            Self::Rule { rule } => {
                let mut destination = json!({"host": rule.to});
                if let Some(port) = rule.port {
                    destination["port"] = json!({"number": port});
                }
                let mut route = json!({"route": [{"destination": destination}]});
                if let Some(port) = rule.at {
                    route["match"] = json!([{"port": port}]);
                }
                // Two rules of one namespace may have the same hosts.
                let name = format!("{}.{}", rule.hosts.join(".").replace('*', "any"), rule.to);
                json!({
                    "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                    "metadata": {"name": name, "namespace": rule.namespace},
                    "spec": {"hosts": rule.hosts, "http": [route]},
                })
            }
        }
    }
}

fn no_settings() -> Value {
    json!({})
}

fn default_namespace() -> String {
    "default".to_owned()
}
