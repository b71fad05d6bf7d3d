//! Containers of our own: the init container that lays the library out, and the leader as a native sidecar.
//!
//! Both run under restricted Pod Security. kubelet gives projected tokens to the one user whom all containers name, so
//! that both run as that one, root too, if there is one. Neither changes the pod's class of service: they have a request or a
//! limit exactly of what all of the pod's containers have one. The init container has one container's own: what a
//! LimitRange says of a container holds for it, too, and what the pod as a whole asks for does not grow.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::settings::Settings;
use crate::shape::{CONTAINER_LISTS, entries, list_mut, object_mut, text_of};
use crate::volumes::{Role, free_name};

/// The user of our image; asked for only where the pod's own would be root, and some containers are not.
const USER: u32 = 65532;

/// Adds the init container, first of all, unless it is there. Its place among the init containers.
pub(crate) fn add_install(spec: &mut Map<String, Value>, settings: &Settings, files: Option<&str>) -> usize {
    let into = |c: &Map<String, Value>| entries(c, "volumeMounts").any(|mount| text_of(mount, "name") == files);
    let (name, exists) = own_name(spec, "ldmesh-install", |c| runs(c, "install") && into(c));
    if !exists {
        let mut container = base(spec, settings, &name, resources(spec, Amounts::OfAContainer));
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
        let mut container = base(spec, settings, &name, resources(spec, Amounts::OfTheAgent));
        container.insert("command".into(), json!(["/ldmesh", "agent", "--standby"]));
        container.insert("restartPolicy".into(), "Always".into());
        if let Some(user) = user {
            run_as(object_mut(&mut container, "securityContext"), user.clone());
        }
        let list = list_mut(spec, "initContainers");
        list.insert(index.min(list.len()), Value::Object(container));
    }
    position(spec, &name)
}

/// Adds the Secrets for our image that the pod lacks.
pub(crate) fn add_pull_secrets(spec: &mut Map<String, Value>, settings: &Settings) {
    for name in &settings.image_pull_secrets {
        if entries(spec, "imagePullSecrets").all(|secret| text_of(secret, "name") != Some(name)) {
            list_mut(spec, "imagePullSecrets").push(json!({ "name": name }));
        }
    }
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
    let containers = CONTAINER_LISTS.iter().flat_map(|list| entries(spec, list));
    let names: HashSet<&str> = containers.filter_map(|c| text_of(c, "name")).collect();
    free_name(base, |name| names.contains(name).then_some(false))
}

fn position(spec: &Map<String, Value>, name: &str) -> usize {
    entries(spec, "initContainers").position(|c| text_of(c, "name") == Some(name)).unwrap_or(0)
}

fn base(spec: &Map<String, Value>, settings: &Settings, name: &str, resources: Option<Value>) -> Map<String, Value> {
    let mut container = Map::new();
    container.insert("name".into(), name.into());
    container.insert("image".into(), settings.image.as_str().into());
    if let Some(policy) = &settings.image_pull_policy {
        container.insert("imagePullPolicy".into(), policy.as_str().into());
    }
    if let Some(resources) = resources {
        container.insert("resources".into(), resources);
    }
    let security = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    container.insert("securityContext".into(), security);
    let security = object_mut(&mut container, "securityContext");
    let of_pod = user_of(spec);
    match user_of_all(spec) {
        Some(user) if of_pod != Some(&user) || is_root(&user) => run_as(security, user),
        None if of_pod.is_some_and(is_root) => run_as(security, USER.into()),
        _ => {}
    }
    container
}

fn run_as(security: &mut Map<String, Value>, user: Value) {
    if is_root(&user) {
        security.insert("runAsNonRoot".into(), false.into());
    }
    security.insert("runAsUser".into(), user);
}

fn is_root(user: &Value) -> bool {
    user.as_i64() == Some(0)
}

/// How much a container of our own asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Amounts {
    /// As much as one of the pod's containers. It runs before they do, so that the pod asks for no more than it did.
    OfAContainer,
    /// What an agent needs: it runs beside them, and the pod asks for so much more.
    OfTheAgent,
}

/// Requests and limits of what every container of the pod has one: a quota of the namespace is then met, and the
/// class of service stays.
fn resources(spec: &Map<String, Value>, amounts: Amounts) -> Option<Value> {
    // The pod as a whole has them: then a container's would have to fit in.
    if spec.get("resources").is_some_and(|resources| !resources.is_null()) {
        return None;
    }
    let mut ours = Map::new();
    for (resource, of_the_agent) in [("cpu", "100m"), ("memory", "128Mi"), ("ephemeral-storage", "64Mi")] {
        let has =
            LISTS.map(|list| entries(spec, "containers").all(|container| amount(container, list, resource).is_some()));
        // Both of one container, so that a limit is above its request, and the ratio is one that the pod has already. One
        // that lacks what we shall lack gets the same default from a LimitRange.
        let alike = entries(spec, "containers")
            .filter(|container| LISTS.map(|list| amount(container, list, resource).is_some()) == has)
            .max_by(|a, b| quantity(a, resource).total_cmp(&quantity(b, resource)));
        for (list, _) in LISTS.into_iter().zip(has).filter(|(_, has)| *has) {
            let amount = match amounts {
                Amounts::OfAContainer => alike.and_then(|container| amount(container, list, resource)).cloned(),
                Amounts::OfTheAgent => Some(of_the_agent.into()),
            };
            object_mut(&mut ours, list).extend(amount.map(|amount| (resource.to_owned(), amount)));
        }
    }
    (!ours.is_empty()).then_some(Value::Object(ours))
}

const LISTS: [&str; 2] = ["requests", "limits"];

fn amount<'a>(container: &'a Map<String, Value>, list: &str, resource: &str) -> Option<&'a Value> {
    container.get("resources")?.get(list)?.get(resource).filter(|amount| !amount.is_null())
}

/// What a container asks for.
fn quantity(container: &Map<String, Value>, resource: &str) -> f64 {
    LISTS.iter().find_map(|list| amount(container, list, resource)).map_or(0.0, parsed)
}

/// A quantity of Kubernetes as a number; 0 where it is none.
fn parsed(amount: &Value) -> f64 {
    const SUFFIXES: [(&str, f64); 16] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("", 1.0),
    ];
    let text = amount.as_str().map_or_else(|| amount.to_string(), |text| text.trim().to_owned());
    let number = SUFFIXES.iter().find_map(|(suffix, factor)| {
        let number: f64 = text.strip_suffix(suffix)?.parse().ok()?;
        Some(number * factor)
    });
    number.unwrap_or(0.0)
}

/// Bytes of local storage above which kubelet evicts the pod, its volumes on disk included; `None` where it has no limit.
pub(crate) fn storage_limit(spec: &Map<String, Value>) -> Option<f64> {
    let limit = |container| amount(container, "limits", "ephemeral-storage").map(parsed);
    let (sidecars, inits): (Vec<_>, Vec<_>) = entries(spec, "initContainers").partition(|init| is_native_sidecar(init));
    let beside = entries(spec, "containers").chain(sidecars).filter_map(limit).reduce(|sum, one| sum + one);
    inits.into_iter().filter_map(limit).chain(beside).reduce(f64::max)
}

/// Whether an init container runs beside the pod's containers.
pub(crate) fn is_native_sidecar(container: &Map<String, Value>) -> bool {
    text_of(container, "restartPolicy") == Some("Always")
}

/// The user that all chosen containers run as, where all of them say the same.
pub(crate) fn common_user(spec: &Map<String, Value>, chosen: impl Fn(&str) -> bool) -> Option<Value> {
    same_user(spec, entries(spec, "containers").filter(|container| text_of(container, "name").is_some_and(&chosen)))
}

/// The user that kubelet gives projected tokens to (its `FsUserFrom`).
fn user_of_all(spec: &Map<String, Value>) -> Option<Value> {
    same_user(spec, entries(spec, "initContainers").chain(entries(spec, "containers")))
}

fn same_user<'a>(spec: &Map<String, Value>, containers: impl Iterator<Item = &'a Map<String, Value>>) -> Option<Value> {
    let mut users = containers.map(|container| user_of(container).or_else(|| user_of(spec)).cloned());
    let first = users.next()??;
    users.all(|user| user.as_ref() == Some(&first)).then_some(first)
}

/// Whom a container, or a pod for all of them, names.
fn user_of(of: &Map<String, Value>) -> Option<&Value> {
    of.get("securityContext")?.get("runAsUser").filter(|user| !user.is_null())
}
