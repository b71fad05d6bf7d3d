//! Whether a pod is to be one of the mesh, and why not.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::inject::Request;
use crate::settings::Settings;
use crate::shape::{Malformed, entries, text_of};

/// The label of a pod that asks for injection (`"true"`) or forbids it (`"false"`).
pub(crate) const POD_LABEL: &str = "ldmesh.io/inject";
const NAMESPACE_LABEL: &str = "ldmesh.io/injection";
pub(crate) const SIDECAR: &str = "sidecar.istio.io/inject";
const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "istio-system"];
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Istio's own containers, which are never touched.
pub(crate) const ISTIO_CONTAINERS: [&str; 3] = ["istio-proxy", "istio-init", "istio-validation"];

/// The namespace of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels; empty where they are not known.
    pub labels: BTreeMap<String, String>,
}

impl Namespace {
    /// A namespace without labels.
    pub fn new(name: impl Into<String>) -> Self {
        Namespace { name: name.into(), labels: BTreeMap::new() }
    }

    fn asks(&self) -> bool {
        self.labels.get(NAMESPACE_LABEL).is_some_and(|value| value == "enabled")
    }
}

/// Why a pod stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// Nobody asked.
    #[error("nobody asked: neither the pod's label ldmesh.io/inject nor the namespace's ldmesh.io/injection")]
    NotAsked,
    /// The pod's label says no.
    #[error("its label ldmesh.io/inject is \"false\"")]
    OptedOut,
    /// A namespace of the system.
    #[error("namespace {0} is the system's")]
    SystemNamespace(String),
    /// The node's network is not a pod's.
    #[error("it uses its node's network (hostNetwork)")]
    HostNetwork,
    /// No LD_PRELOAD there.
    #[error("it is for Windows")]
    Windows,
    /// kubelet's picture of a static pod.
    #[error("it mirrors a static pod")]
    Mirror,
    /// A sidecar does the work.
    #[error("it has Istio's sidecar (container istio-proxy); ldmesh.io/mixed allows both")]
    Sidecar,
    /// A sidecar was asked for.
    #[error("it asks for Istio's sidecar (sidecar.istio.io/inject: \"true\"); ldmesh.io/mixed allows both")]
    SidecarAsked,
    /// Every container is left out by settings.
    #[error("its settings choose none of its containers")]
    NoContainer,
    /// The library does not fit.
    #[error(
        "its limits of ephemeral-storage are below 32Mi, and the library takes 16 MB of it; \
         ldmesh.io/install: image-volume takes none"
    )]
    Storage,
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What can be said before the settings are known: whether somebody asked and the pod can be in the mesh at all.
pub(crate) fn asked(pod: &Map<String, Value>, request: &Request<'_>) -> Result<(), Reason> {
    let label = metadata(pod, "labels", POD_LABEL);
    if label == Some("false") {
        return Err(Reason::OptedOut);
    }
    if label != Some("true") && !request.asked && !request.namespace.asks() {
        return Err(Reason::NotAsked);
    }
    let namespace = &request.namespace.name;
    if SYSTEM.contains(&namespace.as_str()) {
        return Err(Reason::SystemNamespace(namespace.clone()));
    }
    let Some(spec) = pod.get("spec").and_then(Value::as_object) else {
        return Ok(());
    };
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        return Err(Reason::HostNetwork);
    }
    if is_windows(spec) {
        return Err(Reason::Windows);
    }
    if metadata(pod, "annotations", MIRROR).is_some() {
        return Err(Reason::Mirror);
    }
    Ok(())
}

/// Whether a sidecar stands in the way.
pub(crate) fn beside_sidecar(pod: &Map<String, Value>, settings: &Settings) -> Result<(), Reason> {
    sidecar(pod).filter(|_| !settings.mixed).map_or(Ok(()), Err)
}

/// The sidecar that a pod has or asks for. One that its namespace asks for is seen by whoever comes after Istio's webhook
/// only.
pub(crate) fn sidecar(pod: &Map<String, Value>) -> Option<Reason> {
    let spec = pod.get("spec").and_then(Value::as_object);
    let mut containers =
        spec.into_iter().flat_map(|spec| entries(spec, "containers").chain(entries(spec, "initContainers")));
    if containers.any(|container| text_of(container, "name") == Some("istio-proxy")) {
        return Some(Reason::Sidecar);
    }
    // As for Istio, the label wins over the annotation of old.
    let asked = metadata(pod, "labels", SIDECAR).or_else(|| metadata(pod, "annotations", SIDECAR));
    (asked == Some("true")).then_some(Reason::SidecarAsked)
}

/// A label or an annotation.
pub(crate) fn metadata<'a>(pod: &'a Map<String, Value>, list: &str, key: &str) -> Option<&'a str> {
    pod.get("metadata")?.get(list)?.get(key)?.as_str()
}

fn is_windows(spec: &Map<String, Value>) -> bool {
    let os = spec.get("os").and_then(|os| os.get("name")).and_then(Value::as_str);
    let selector = spec.get("nodeSelector").and_then(Value::as_object);
    let is_selected = |key: &&str| selector.and_then(|selector| text_of(selector, key)) == Some("windows");
    let containers = entries(spec, "initContainers").chain(entries(spec, "containers"));
    os == Some("windows")
        || OS_LABELS.iter().any(is_selected)
        || keeps_off_linux(spec)
        || std::iter::once(spec).chain(containers).any(has_windows_options)
}

const OS_LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

/// Whether every node that its affinity allows has another system.
fn keeps_off_linux(spec: &Map<String, Value>) -> bool {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = spec
        .get("affinity")
        .and_then(|affinity| affinity.get("nodeAffinity")?.get(REQUIRED)?.get("nodeSelectorTerms")?.as_array());
    // One of the terms is enough, all expressions of a term hold.
    let is_other = |term: &Value| {
        let mut expressions = term.as_object().into_iter().flat_map(|term| entries(term, "matchExpressions"));
        expressions.any(|expression| {
            let is_os = text_of(expression, "key").is_some_and(|key| OS_LABELS.contains(&key));
            let values = expression.get("values").and_then(Value::as_array);
            let names_linux = values.is_some_and(|values| values.iter().any(|value| value == "linux"));
            is_os
                && match text_of(expression, "operator") {
                    Some("In") => !names_linux,
                    Some("NotIn") => names_linux,
                    _ => false,
                }
        })
    };
    terms.is_some_and(|terms| !terms.is_empty() && terms.iter().all(is_other))
}

/// Of a pod or a container.
fn has_windows_options(of: &Map<String, Value>) -> bool {
    let options = of.get("securityContext").and_then(|security| security.get("windowsOptions")?.as_object());
    options.is_some_and(|options| !options.is_empty())
}
