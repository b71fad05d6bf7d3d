//! From a pod to a pod of the mesh.

use std::fmt;

use serde_json::{Map, Value};

use crate::annotations::{self, Annotated, Problem};
use crate::container::{self, Plan};
use crate::decide::{self, ISTIO_CONTAINERS, Namespace, Reason, SIDECAR, metadata};
use crate::own;
use crate::settings::{Chosen, Leader, Settings};
use crate::shape::{self, Malformed, entries, object_mut, text_of};
use crate::volumes::Volumes;
use crate::workload;

/// Bytes of settings' values in all containers together: etcd takes no request of 1.5 MiB, and whoever may create pods
/// writes one value for many containers.
const SETTINGS_MOST: usize = 1 << 20;
/// Volumes with which cluster-autoscaler may evict a pod nevertheless, separated by commas.
const EVICTABLE: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// Bytes of local storage that a pod must be allowed: the library's files twice.
const STORAGE_LEAST: f64 = 32.0 * 1024.0 * 1024.0;

/// What became of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is one of the mesh.
    Injected {
        /// The whole pod; the same as before where it was one already.
        pod: Value,
        /// What could not be done as asked.
        warnings: Vec<Warning>,
    },
    /// It stays as it is.
    LeftAlone(Reason),
}

/// What somebody should know. One line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A label or an annotation that is not taken.
    Setting(Problem),
    /// Something in the pod that is left as it is.
    Left(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Setting(problem) => problem.fmt(f),
            Warning::Left(text) => f.write_str(text),
        }
    }
}

/// What is asked of a pod, beside the pod.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// The operator's settings.
    pub settings: &'a Settings,
    /// Injection was asked for without a label, as `ldmesh inject` does.
    pub asked: bool,
    /// The workload that the pod is of, where the pod itself does not tell.
    pub workload: Option<&'a str>,
}

/// Puts a pod into the mesh as an admission webhook does: where a label asks for it.
pub fn inject(pod: &Value, namespace: &Namespace, settings: &Settings) -> Outcome {
    inject_as(pod, &Request { namespace, settings, asked: false, workload: None })
}

/// Puts a pod, or a pod template, into the mesh.
pub fn inject_as(pod: &Value, request: &Request<'_>) -> Outcome {
    match try_inject(pod, request) {
        Ok((pod, warnings)) => Outcome::Injected { pod, warnings },
        Err(reason) => Outcome::LeftAlone(reason),
    }
}

/// The JSON patch (RFC 6902) from one pod to the other.
pub fn patch(from: &Value, to: &Value) -> json_patch::Patch {
    json_patch::diff(from, to)
}

fn try_inject(pod: &Value, request: &Request<'_>) -> Result<(Value, Vec<Warning>), Reason> {
    // Whoever did not ask is not told of mistakes.
    if let Some(pod) = pod.as_object() {
        decide::asked(pod, request)?;
    }
    shape::check(pod)?;
    let mut done = pod.clone();
    let Some(object) = done.as_object_mut() else {
        return Err(Reason::NotAsked);
    };
    let Annotated { settings, containers, problems, mut left } = annotations::read(object, request.settings);
    check_room(object, &settings)?;
    decide::beside_sidecar(object, &settings)?;
    let workload = workload::name(object, request.workload);
    let asked = |name: &str, is_init: bool| {
        let by_setting = match &settings.containers {
            Chosen::Named(names) => names.contains(name),
            Chosen::All => !is_init || settings.init_containers,
        };
        let own = containers.get(name).and_then(|own| own.inject).unwrap_or(by_setting);
        own && !ISTIO_CONTAINERS.contains(&name)
    };
    inject_spec(object, &settings, &containers, workload.as_deref(), &asked, &mut left)?;
    if !settings.mixed {
        let labels = object_mut(object_mut(object, "metadata"), "labels");
        labels.entry(SIDECAR).or_insert_with(|| "false".into());
    }
    let warnings = problems.into_iter().map(Warning::Setting).chain(left.into_iter().map(Warning::Left));
    Ok((done, warnings.collect()))
}

fn check_room(pod: &Map<String, Value>, settings: &Settings) -> Result<(), Malformed> {
    let spec = pod.get("spec").and_then(Value::as_object);
    let count = |spec: &Map<String, Value>| {
        entries(spec, "initContainers").count().saturating_add(entries(spec, "containers").count())
    };
    let (bytes, containers) = (settings.bytes(), spec.map_or(0, count));
    if bytes.saturating_mul(containers) <= SETTINGS_MOST {
        return Ok(());
    }
    let problem =
        format!("settings of {bytes} bytes in {containers} containers are more than a pod holds; shorten them");
    Err(Malformed { path: "metadata.annotations".into(), problem })
}

fn inject_spec(
    pod: &mut Map<String, Value>,
    settings: &Settings,
    containers: &container::OfContainers,
    workload: Option<&str>,
    asked: &dyn Fn(&str, bool) -> bool,
    left: &mut Vec<String>,
) -> Result<(), Reason> {
    debug_assert!(metadata(pod, "labels", decide::POD_LABEL) != Some("false"));
    let spec = object_mut(pod, "spec");
    if !chooses_any(spec, asked) {
        return Err(Reason::NoContainer);
    }
    let mut volumes = Volumes::plan(spec, settings);
    let on_disk = volumes.new_on_disk().map(str::to_owned);
    if on_disk.is_some() && own::storage_limit(spec).is_some_and(|limit| limit < STORAGE_LEAST) {
        return Err(Reason::Storage);
    }
    // The first init container that finds the library.
    let first = if volumes.need_install(spec, settings) {
        own::add_install(spec, settings, volumes.files()).saturating_add(1)
    } else {
        0
    };
    let mut plan = Plan { settings, volumes: &mut volumes, workload };
    if settings.leader == Leader::Sidecar {
        let user = own::common_user(spec, |name| asked(name, false));
        if user.is_none() {
            let why = "the containers do not all name one runAsUser";
            left.push(format!("the agent serves programs of its own user only, and {why}: others lead for themselves"));
        }
        let index = own::add_agent(spec, settings, first, user.as_ref());
        let agent = spec.get_mut("initContainers").and_then(|list| list.get_mut(index));
        if let Some(agent) = agent.and_then(Value::as_object_mut) {
            container::connect(agent, &mut plan, left);
        }
    }
    for (list, is_init) in [("initContainers", true), ("containers", false)] {
        let list = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (index, container) in list.enumerate() {
            let Some(container) = container.as_object_mut() else { continue };
            let name = text_of(container, "name").unwrap_or_default().to_owned();
            if own::is_own(container) || !asked(&name, is_init && !own::is_native_sidecar(container)) {
                continue;
            }
            if is_init && index < first {
                left.push(format!("container {name}: it starts before the library is there and is left alone"));
                continue;
            }
            container::complete(container, &mut plan, containers.get(&name), left);
        }
    }
    volumes.add(spec);
    own::add_pull_secrets(spec, settings);
    if let Some(name) = on_disk {
        allow_eviction(pod, &name);
    }
    Ok(())
}

/// Nothing is lost with a volume of ours, so that it does not keep a node from being scaled down.
fn allow_eviction(pod: &mut Map<String, Value>, volume: &str) {
    let annotations = object_mut(object_mut(pod, "metadata"), "annotations");
    let list = text_of(annotations, EVICTABLE).filter(|list| !list.trim().is_empty());
    let list = list.map_or_else(|| volume.to_owned(), |list| format!("{list},{volume}"));
    annotations.insert(EVICTABLE.into(), list.into());
}

fn chooses_any(spec: &Map<String, Value>, asked: &dyn Fn(&str, bool) -> bool) -> bool {
    let any = |list: &str, is_init: bool| {
        entries(spec, list).any(|container| {
            let is_init = is_init && !own::is_native_sidecar(container);
            !own::is_own(container) && text_of(container, "name").is_some_and(|name| asked(name, is_init))
        })
    };
    any("containers", false) || any("initContainers", true)
}
