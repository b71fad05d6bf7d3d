//! One container: its environment, LD_PRELOAD and mounts.
//!
//! A variable that the container defines itself stays; ours come behind its own. Only LD_PRELOAD is added to.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::settings::{Leader, OfContainer, Settings};
use crate::shape::{entries, list_mut, text_of};
use crate::volumes::{Mounted, Role, Volumes};

const LIBRARY: &str = "libldmesh.so";
const PRELOAD: &str = "LD_PRELOAD";
/// Who the pod is, by the downward API.
const IDENTITY: [(&str, &str); 4] = [
    ("POD_NAME", "metadata.name"),
    ("POD_NAMESPACE", "metadata.namespace"),
    ("INSTANCE_IP", "status.podIP"),
    ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
];

/// What all containers of a pod have in common.
pub(crate) struct Plan<'a> {
    pub settings: &'a Settings,
    pub volumes: &'a mut Volumes,
    /// The workload that the pod belongs to.
    pub workload: Option<&'a str>,
}

/// Puts one container of the user's into the mesh.
pub(crate) fn complete(
    container: &mut Map<String, Value>,
    plan: &mut Plan<'_>,
    own: Option<&OfContainer>,
    warnings: &mut Vec<String>,
) {
    let Some(files) = mount(container, plan, Role::Files, warnings) else {
        return;
    };
    let before = own.and_then(|own| own.preload.as_deref()).or(plan.settings.preload.as_deref());
    preload(container, &files, before, warnings);
    if let Some(own) = own {
        for (name, value) in &own.variables {
            set_absent(container, name, value);
        }
    }
    match plan.settings.leader {
        Leader::Agent => set_absent(container, "LDMESH_LEAD", "agent"),
        Leader::Thread => set_absent(container, "LDMESH_LEAD", "thread"),
        // Beside a sidecar, programs of other users lead for themselves.
        Leader::Auto | Leader::Sidecar => {}
    }
    connect(container, plan, warnings);
}

/// Gives a container what the leader needs: variables, identity, run directory, credentials.
pub(crate) fn connect(container: &mut Map<String, Value>, plan: &mut Plan<'_>, warnings: &mut Vec<String>) {
    for (name, value) in &plan.settings.variables {
        set_absent(container, name, value);
    }
    identify(container, warnings);
    if let Some(workload) = plan.workload {
        set_absent(container, "ISTIO_META_WORKLOAD_NAME", workload);
    }
    for role in [Role::Run, Role::Token, Role::RootCertificate, Role::Info] {
        let Some(path) = mount(container, plan, role, warnings) else { continue };
        if path == role.path() {
            continue;
        }
        match role {
            Role::Run => set_absent(container, "LDMESH_RUN_DIR", &path),
            Role::RootCertificate => set_absent(container, "XDS_ROOT_CA", &format!("{path}/root-cert.pem")),
            Role::Files => {}
            Role::Token | Role::Info => {
                let (name, wanted) = (name_of(container), role.path());
                warnings
                    .push(format!("container {name}: its mount at {path} is not at {wanted}, where the library looks"));
            }
        }
    }
}

/// Where the volume is then.
fn mount(
    container: &mut Map<String, Value>,
    plan: &mut Plan<'_>,
    role: Role,
    warnings: &mut Vec<String>,
) -> Option<String> {
    let name = name_of(container);
    match plan.volumes.mount(container, role)? {
        Mounted::At(path) => Some(path),
        Mounted::Own { same_kind } => {
            if !same_kind {
                warnings.push(format!("container {name}: its own mount at {} is left as it is", role.path()));
            }
            None
        }
        Mounted::Blocked(path) => {
            let without = if role == Role::Files { "it is left alone" } else { "it goes without" };
            let wanted = role.path();
            warnings
                .push(format!("container {name}: nothing can be mounted at {wanted}, {path} is in the way; {without}"));
            None
        }
    }
}

fn name_of(container: &Map<String, Value>) -> String {
    text_of(container, "name").unwrap_or_default().to_owned()
}

/// Appends the library, `before` in front of it. The last of several entries of a name counts.
fn preload(container: &mut Map<String, Value>, folder: &str, before: Option<&str>, warnings: &mut Vec<String>) {
    let library = format!("{folder}/{LIBRARY}");
    let name = name_of(container);
    let has_more = entries(container, "envFrom").next().is_some();
    let ours = before.map_or_else(|| library.clone(), |before| format!("{}:{library}", unexpanded(before)));
    let list = list_mut(container, "env");
    let last = list.iter_mut().filter_map(Value::as_object_mut).rfind(|entry| text_of(entry, "name") == Some(PRELOAD));
    let Some(entry) = last else {
        list.push(json!({"name": PRELOAD, "value": ours}));
        if has_more && before.is_none() {
            warnings.push(format!(
                "container {name}: what its envFrom brings is not seen, and our variables win over it; an LD_PRELOAD \
                 of it belongs into annotation ldmesh.io/preload"
            ));
        }
        return;
    };
    if entry.get("valueFrom").is_some_and(|from| !from.is_null()) {
        warnings.push(format!(
            "container {name}: LD_PRELOAD has a valueFrom and is left alone; add {library} to what it names"
        ));
        return;
    }
    let value = text_of(entry, "value").unwrap_or_default();
    let has = value.split(separates).any(|path| path.rsplit('/').next() == Some(LIBRARY));
    if !has {
        let joined = if value.trim_matches(separates).is_empty() { ours } else { format!("{value}:{ours}") };
        entry.insert("value".into(), joined.into());
    }
}

/// The folder from which a container preloads the library, where its value tells.
pub(crate) fn preload_folder(container: &Map<String, Value>) -> Option<&str> {
    let entry = entries(container, "env").filter(|entry| text_of(entry, "name") == Some(PRELOAD)).last()?;
    let paths = text_of(entry, "value")?.split(separates);
    paths.filter_map(|path| path.rsplit_once('/')).find(|(_, name)| *name == LIBRARY).map(|(folder, _)| folder)
}

/// Between the paths of LD_PRELOAD (ld.so(8)).
fn separates(c: char) -> bool {
    c == ':' || c.is_ascii_whitespace()
}

fn identify(container: &mut Map<String, Value>, warnings: &mut Vec<String>) {
    for (name, field) in IDENTITY {
        let own = entries(container, "env").filter(|entry| text_of(entry, "name") == Some(name)).last();
        let Some(own) = own else {
            let from = json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}});
            list_mut(container, "env").push(from);
            continue;
        };
        let source = own.get("valueFrom").and_then(|from| from.get("fieldRef")?.get("fieldPath")?.as_str());
        if source != Some(field) {
            let name_of = name_of(container);
            warnings.push(format!(
                "container {name_of}: its own {name} is left as it is; the mesh takes it for the pod's {field}"
            ));
        }
    }
}

fn set_absent(container: &mut Map<String, Value>, name: &str, value: &str) {
    if entries(container, "env").all(|entry| text_of(entry, "name") != Some(name)) {
        list_mut(container, "env").push(json!({"name": name, "value": unexpanded(value)}));
    }
}

/// A value that Kubernetes, which expands $(NAME), leaves as it is.
fn unexpanded(value: &str) -> String {
    value.replace("$(", "$$(")
}

/// Settings of containers, by name.
pub(crate) type OfContainers = BTreeMap<String, OfContainer>;
