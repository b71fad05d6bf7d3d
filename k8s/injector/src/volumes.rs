//! The volumes of a pod in the mesh, and where a container mounts them.
//!
//! A name or a path that somebody else has already is never taken away. A volume of another kind under our name gets
//! us another name; one of the same kind is taken as ours, which is what makes injection idempotent and completes
//! pods that were put into the mesh by hand.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::container::preload_folder;
use crate::own::install_folder;
use crate::settings::{Install, Settings};
use crate::shape::{entries, list_mut, text_of};

/// Volumes in which nothing can be made: a mount below one of their mounts fails.
const SEALED: [&str; 5] = ["configMap", "secret", "projected", "downwardAPI", "image"];

/// What a volume is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Library and binary.
    Files,
    /// The run directory.
    Run,
    /// The token for istiod.
    Token,
    /// The certificate that istiod is checked with.
    RootCertificate,
    /// Labels and annotations.
    Info,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Role::Files => "ldmesh-files",
            Role::Run => "ldmesh-run",
            Role::Token => "ldmesh-token",
            Role::RootCertificate => "ldmesh-root-cert",
            Role::Info => "ldmesh-pod-info",
        }
    }

    /// Where the library looks.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Role::Files => "/ldmesh-files",
            Role::Run => "/run/ldmesh",
            Role::Token => "/var/run/secrets/tokens",
            Role::RootCertificate => "/var/run/secrets/istio",
            Role::Info => "/etc/istio/pod",
        }
    }

    /// Where it is put when that is taken; a variable or LD_PRELOAD says so.
    const fn second_path(self) -> Option<&'static str> {
        match self {
            Role::Files => Some("/ldmesh-library"),
            Role::Run => Some("/ldmesh-run"),
            Role::RootCertificate => Some("/ldmesh-root-cert"),
            Role::Token | Role::Info => None,
        }
    }

    const fn is_read_only(self) -> bool {
        !matches!(self, Role::Run)
    }
}

/// A volume that the pod has, or gets when a container mounts it.
#[derive(Debug)]
struct Wanted {
    role: Role,
    name: String,
    /// What is to be added; nothing where the pod has it.
    source: Option<Map<String, Value>>,
    used: bool,
}

/// The volumes of one pod.
#[derive(Debug)]
pub(crate) struct Volumes {
    wanted: Vec<Wanted>,
    /// The pod's own, by name.
    own: HashMap<String, Own>,
}

/// A volume that the pod has already.
#[derive(Debug)]
struct Own {
    /// The keys beside the name.
    kinds: Vec<String>,
    /// Nothing can be made in it, however it is mounted.
    is_sealed: bool,
    /// It is not made for the pod alone, or outlives it: what is made in it stays on a node or in a store.
    is_kept: bool,
}

impl Own {
    fn new(volume: &Map<String, Value>) -> Self {
        let kinds = || volume.keys().filter(|key| *key != "name");
        let is_read_only = |kind: &String| {
            volume.get(kind).and_then(|source| source.get("readOnly")).and_then(Value::as_bool) == Some(true)
        };
        Self {
            kinds: kinds().cloned().collect(),
            is_sealed: kinds().any(|kind| SEALED.contains(&kind.as_str()) || is_read_only(kind)),
            is_kept: !kinds().any(|kind| matches!(kind.as_str(), "emptyDir" | "ephemeral")),
        }
    }
}

/// Where a container has a volume.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mounted {
    /// There.
    At(String),
    /// The container has something of its own there; whether it is of our volume's kind.
    Own { same_kind: bool },
    /// Nowhere: this path of the container is in the way.
    Blocked(String),
}

impl Volumes {
    /// Finds a name for each.
    pub(crate) fn plan(spec: &Map<String, Value>, settings: &Settings) -> Volumes {
        let own =
            entries(spec, "volumes").filter_map(|volume| Some((text_of(volume, "name")?.to_owned(), Own::new(volume))));
        let mut volumes = Volumes { wanted: Vec::new(), own: own.collect() };
        let run = json!({"emptyDir": {"medium": "Memory", "sizeLimit": settings.run_size}});
        match installed(spec).or_else(|| preloaded(spec)).map(str::to_owned) {
            // However it came there: a pod is not given the library twice.
            Some(name) => volumes.wanted.push(Wanted { role: Role::Files, name, source: None, used: true }),
            None => volumes.want(Role::Files, files(settings)),
        }
        volumes.want(Role::Run, run);
        if settings.has_tls() {
            volumes.want(Role::Token, token());
            // Without the ConfigMap a pod would never start; this way `ldmesh status` tells that it is missing.
            volumes.want(Role::RootCertificate, json!({"configMap": {"name": "istio-ca-root-cert", "optional": true}}));
        }
        volumes.want(Role::Info, info());
        volumes
    }

    fn want(&mut self, role: Role, source: Value) {
        let Value::Object(source) = source else { return };
        let (name, exists) = free_name(role.name(), |name| {
            let kinds = self.kinds(name)?;
            Some(kinds.iter().any(|kind| source.contains_key(kind)))
        });
        self.wanted.push(Wanted { role, name, source: (!exists).then_some(source), used: false });
    }

    /// A volume of the node's disk that is to be added.
    pub(crate) fn new_on_disk(&self) -> Option<&str> {
        let is_on_disk =
            |source: &Map<String, Value>| source.get("emptyDir").is_some_and(|volume| volume.get("medium").is_none());
        let new = self.wanted.iter().find(|wanted| wanted.source.as_ref().is_some_and(is_on_disk))?;
        Some(&new.name)
    }

    /// Adds what containers mount and the pod lacks.
    pub(crate) fn add(self, spec: &mut Map<String, Value>) {
        for Wanted { name, source, used, .. } in self.wanted {
            let Some(source) = source.filter(|_| used) else { continue };
            let mut volume = Map::from_iter([("name".to_owned(), Value::from(name))]);
            volume.extend(source);
            list_mut(spec, "volumes").push(Value::Object(volume));
        }
    }

    /// Whether somebody has to put the library into its volume.
    pub(crate) fn need_install(&self, spec: &Map<String, Value>, settings: &Settings) -> bool {
        let is_there = || preloaded(spec).is_some_and(|name| self.name(Role::Files) == Some(name));
        installed(spec).is_some() || (settings.install == Install::Init && !is_there())
    }

    fn name(&self, role: Role) -> Option<&str> {
        self.wanted.iter().find(|wanted| wanted.role == role).map(|wanted| wanted.name.as_str())
    }

    /// The volume with library and binary, which is used then.
    pub(crate) fn files(&mut self) -> Option<&str> {
        let files = self.wanted.iter_mut().find(|wanted| wanted.role == Role::Files)?;
        files.used = true;
        Some(&files.name)
    }

    /// Mounts a volume, unless the container has it. `None` where the pod needs none.
    pub(crate) fn mount(&mut self, container: &mut Map<String, Value>, role: Role) -> Option<Mounted> {
        let index = self.wanted.iter().position(|wanted| wanted.role == role)?;
        let name = self.wanted.get(index)?.name.clone();
        let mounts: Vec<&Map<String, Value>> = entries(container, "volumeMounts").collect();
        if let Some(mount) = mounts.iter().find(|mount| text_of(mount, "name") == Some(&name)) {
            return text_of(mount, "mountPath").map(|path| Mounted::At(path.to_owned()));
        }
        let mut path = role.path();
        if let Some((in_the_way, volume)) = self.obstacle(&mounts, path) {
            // What the library finds there is the user's business; not so the library's own files.
            if in_the_way == path && role != Role::Files {
                return Some(Mounted::Own { same_kind: self.is_like(index, &volume) });
            }
            match role.second_path().filter(|second| self.obstacle(&mounts, second).is_none()) {
                Some(second) => path = second,
                None => return Some(Mounted::Blocked(in_the_way)),
            }
        } else if self.would_leave(&mounts, path)
            && let Some(second) = role.second_path().filter(|second| self.obstacle(&mounts, second).is_none())
        {
            path = second;
        }
        let mut mount = Map::from_iter([("name".to_owned(), name.into()), ("mountPath".to_owned(), path.into())]);
        if role.is_read_only() {
            mount.insert("readOnly".into(), true.into());
        }
        list_mut(container, "volumeMounts").push(Value::Object(mount));
        if let Some(wanted) = self.wanted.get_mut(index) {
            wanted.used = true;
        }
        Some(Mounted::At(path.to_owned()))
    }

    fn kinds(&self, name: &str) -> Option<&[String]> {
        self.own.get(name).map(|own| own.kinds.as_slice())
    }

    fn is_like(&self, wanted: usize, own: &str) -> bool {
        let kinds = self.kinds(own).unwrap_or_default();
        self.wanted.get(wanted).is_some_and(|wanted| match &wanted.source {
            Some(source) => kinds.iter().any(|kind| source.contains_key(kind)),
            None => self.kinds(&wanted.name) == Some(kinds),
        })
    }

    /// Whether a mount at `path` would leave a folder behind in what is not the pod's alone, or may fail there: a node's
    /// own folder, a store whose server may be read-only.
    fn would_leave(&self, mounts: &[&Map<String, Value>], path: &str) -> bool {
        mounts.iter().any(|mount| {
            let is_above = text_of(mount, "mountPath").is_some_and(|at| is_below(&canonical(path), &canonical(at)));
            is_above && text_of(mount, "name").and_then(|name| self.own.get(name)).is_some_and(|own| own.is_kept)
        })
    }

    /// A mount that does not allow one at `path`: the same path, one below it, or a read-only one above it.
    fn obstacle(&self, mounts: &[&Map<String, Value>], path: &str) -> Option<(String, String)> {
        mounts.iter().find_map(|mount| {
            let (at, volume) = (text_of(mount, "mountPath")?, text_of(mount, "name")?);
            // /var/run is a link to /run in most images.
            let (at, path) = (canonical(at), canonical(path));
            let read_only = mount.get("readOnly").and_then(Value::as_bool) == Some(true)
                || self.own.get(volume).is_some_and(|own| own.is_sealed);
            let in_the_way = at == path || is_below(&at, &path) || (read_only && is_below(&path, &at));
            let shown = if at == path { uncanonical(&at, &path) } else { at };
            in_the_way.then(|| (shown, volume.to_owned()))
        })
    }
}

/// The volume into which an init container of the pod installs the library already.
fn installed(spec: &Map<String, Value>) -> Option<&str> {
    entries(spec, "initContainers").find_map(|container| {
        let folder = install_folder(container)?;
        let mut mounts = entries(container, "volumeMounts");
        text_of(mounts.find(|mount| text_of(mount, "mountPath") == Some(folder))?, "name")
    })
}

/// The volume from which a container preloads the library already.
fn preloaded(spec: &Map<String, Value>) -> Option<&str> {
    let containers = entries(spec, "containers").chain(entries(spec, "initContainers"));
    containers.filter_map(|container| Some((container, preload_folder(container)?))).find_map(|(container, folder)| {
        let at =
            |mount: &&Map<String, Value>| text_of(mount, "mountPath") == Some(folder) && !mount.contains_key("subPath");
        text_of(entries(container, "volumeMounts").find(at)?, "name")
    })
}

/// `base`, `base-2`, ...: the first that is free or ours. `taken` says of a name that exists whether it is ours.
pub(crate) fn free_name(base: &str, taken: impl Fn(&str) -> Option<bool>) -> (String, bool) {
    let mut name = base.to_owned();
    let mut number = 1_usize;
    loop {
        match taken(&name) {
            None => return (name, false),
            Some(true) => return (name, true),
            Some(false) => {
                number = number.saturating_add(1);
                name = format!("{base}-{number}");
            }
        }
    }
}

fn canonical(path: &str) -> String {
    let path = path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let path = format!("/{}", parts.join("/"));
    match path.strip_prefix("/var/run") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/run{rest}"),
        _ => path,
    }
}

/// The path as we write it, where it is the same.
fn uncanonical(at: &str, path: &str) -> String {
    [Role::Files, Role::Run, Role::Token, Role::RootCertificate, Role::Info]
        .map(Role::path)
        .into_iter()
        .find(|ours| canonical(ours) == path)
        .unwrap_or(at)
        .to_owned()
}

fn is_below(path: &str, above: &str) -> bool {
    above == "/" || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

fn files(settings: &Settings) -> Value {
    if settings.install == Install::Init {
        return json!({"emptyDir": {}});
    }
    let mut image = Map::from_iter([("reference".to_owned(), Value::from(settings.image.as_str()))]);
    if let Some(policy) = &settings.image_pull_policy {
        image.insert("pullPolicy".into(), policy.as_str().into());
    }
    json!({"image": image})
}

fn token() -> Value {
    json!({"projected": {"sources": [{"serviceAccountToken": {
        "path": "istio-token", "audience": "istio-ca", "expirationSeconds": 43200}}]}})
}

fn info() -> Value {
    json!({"downwardAPI": {"items": [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_as_the_kernel_sees_them() {
        assert_eq!(canonical("/var/run/secrets/"), "/run/secrets");
        assert_eq!(canonical("/var/runner"), "/var/runner");
        assert_eq!(canonical("//a/./b"), "/a/b");
        assert!(is_below("/a/b", "/a") && is_below("/a", "/") && !is_below("/ab", "/a") && !is_below("/a", "/a"));
    }

    #[test]
    fn a_name_of_something_else_gets_the_next_number() {
        let taken = |name: &str| (name == "v" || name == "v-2").then_some(false);
        assert_eq!(free_name("v", taken), ("v-3".to_owned(), false));
        assert_eq!(free_name("v", |name| (name == "v").then_some(true)), ("v".to_owned(), true));
    }
}
