//! Containers of our own: the init container that lays the library out, and the leader as a native sidecar.
//!
//! Both run under restricted Pod Security, and neither changes the pod's class of service: they have a request or a
//! limit exactly of what all of the pod's containers have one.

use serde_json::{Map, Value, json};

use crate::settings::Settings;
use crate::shape::{CONTAINER_LISTS, entries, list_mut, object_mut, text_of};
use crate::volumes::{Role, free_name};

/// The user of our image; asked for only where the pod's own would be root.
const USER: u32 = 65532;

/// Adds the init container, first of all, unless it is there. Its place among the init containers.
pub(crate) fn add_install(spec: &mut Map<String, Value>, settings: &Settings, files: Option<&str>) -> usize {
    let into = |c: &Map<String, Value>| entries(c, "volumeMounts").any(|mount| text_of(mount, "name") == files);
    let (name, exists) = own_name(spec, "ldmesh-install", |c| runs(c, "install") && into(c));
    if !exists {
        let mut container = base(spec, settings, &name, "64Mi");
        container.insert("command".into(), json!(["/ldmesh", "install", Role::Files.path()]));
        let mount = json!({"name": files, "mountPath": Role::Files.path()});
        list_mut(&mut container, "volumeMounts").push(mount);
        list_mut(spec, "initContainers").insert(0, Value::Object(container));
    }
    position(spec, &name)
}

/// Adds the agent at `index` of the init containers, unless it is there. Its place; environment and mounts are the
/// caller's.
pub(crate) fn add_agent(
    spec: &mut Map<String, Value>,
    settings: &Settings,
    index: usize,
    user: Option<&Value>,
) -> usize {
    let (name, exists) = own_name(spec, "ldmesh-agent", |c| runs(c, "agent"));
    if !exists {
        let mut container = base(spec, settings, &name, "128Mi");
        container.insert("command".into(), json!(["/ldmesh", "agent", "--standby"]));
        container.insert("restartPolicy".into(), "Always".into());
        if let Some(user) = user {
            let security = object_mut(&mut container, "securityContext");
            security.insert("runAsUser".into(), user.clone());
            if user.as_i64() == Some(0) {
                security.insert("runAsNonRoot".into(), false.into());
            }
        }
        let list = list_mut(spec, "initContainers");
        list.insert(index.min(list.len()), Value::Object(container));
    }
    position(spec, &name)
}

/// Where a container installs the library, if that is what it does.
pub(crate) fn install_folder(container: &Map<String, Value>) -> Option<&str> {
    let folder = container.get("command")?.get(2)?.as_str();
    folder.filter(|_| runs(container, "install"))
}

/// Whether a container is one of ours, by its command.
pub(crate) fn is_own(container: &Map<String, Value>) -> bool {
    runs(container, "install") || runs(container, "agent")
}

fn runs(container: &Map<String, Value>, what: &str) -> bool {
    let command = container.get("command").and_then(Value::as_array);
    let part = |index: usize| command.and_then(|command| command.get(index)).and_then(Value::as_str);
    part(0) == Some("/ldmesh") && part(1) == Some(what)
}

fn own_name(spec: &Map<String, Value>, base: &str, is_it: impl Fn(&Map<String, Value>) -> bool) -> (String, bool) {
    // One that was added by hand does as well.
    if let Some(name) = entries(spec, "initContainers").find(|c| is_it(c)).and_then(|c| text_of(c, "name")) {
        return (name.to_owned(), true);
    }
    let names = || CONTAINER_LISTS.iter().flat_map(|list| entries(spec, list)).filter_map(|c| text_of(c, "name"));
    free_name(base, |name| names().any(|taken| taken == name).then_some(false))
}

fn position(spec: &Map<String, Value>, name: &str) -> usize {
    entries(spec, "initContainers").position(|c| text_of(c, "name") == Some(name)).unwrap_or(0)
}

fn base(spec: &Map<String, Value>, settings: &Settings, name: &str, memory: &str) -> Map<String, Value> {
    let mut container = Map::new();
    container.insert("name".into(), name.into());
    container.insert("image".into(), settings.image.as_str().into());
    if let Some(policy) = &settings.image_pull_policy {
        container.insert("imagePullPolicy".into(), policy.as_str().into());
    }
    if let Some(resources) = resources(spec, memory) {
        container.insert("resources".into(), resources);
    }
    let mut security = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let pod_user = spec.get("securityContext").and_then(|context| context.get("runAsUser")).and_then(Value::as_i64);
    if let (Some(0), Some(security)) = (pod_user, security.as_object_mut()) {
        security.insert("runAsUser".into(), USER.into());
    }
    container.insert("securityContext".into(), security);
    container
}

/// Requests and limits of what every container of the pod has one: a quota of the namespace is then met, and the
/// class of service stays.
fn resources(spec: &Map<String, Value>, memory: &str) -> Option<Value> {
    // The pod as a whole has them: then a container's would have to fit in.
    if spec.get("resources").is_some_and(|resources| !resources.is_null()) {
        return None;
    }
    let mut ours = Map::new();
    for list in ["limits", "requests"] {
        for (resource, amount) in [("cpu", "100m"), ("memory", memory), ("ephemeral-storage", "64Mi")] {
            let has = |container: &Map<String, Value>| {
                let value = container.get("resources").and_then(|resources| resources.get(list)?.get(resource));
                value.is_some_and(|value| !value.is_null())
            };
            if entries(spec, "containers").all(has) {
                object_mut(&mut ours, list).insert(resource.into(), amount.into());
            }
        }
    }
    (!ours.is_empty()).then_some(Value::Object(ours))
}

/// The user that all of these containers run as, where all of them say the same.
pub(crate) fn common_user(spec: &Map<String, Value>, chosen: impl Fn(&str) -> bool) -> Option<Value> {
    let user_of = |context: Option<&Value>| context.and_then(|context| context.get("runAsUser")).cloned();
    let of_pod = user_of(spec.get("securityContext"));
    let mut users = entries(spec, "containers")
        .filter(|container| text_of(container, "name").is_some_and(&chosen))
        .map(|container| user_of(container.get("securityContext")).or_else(|| of_pod.clone()));
    let first = users.next()??;
    users.all(|user| user.as_ref() == Some(&first)).then_some(first)
}
