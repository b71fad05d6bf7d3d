//! The volumes of a pod in the mesh, and where a container mounts them.
//!
//! A name or a path that somebody else has already is never taken away. A volume of another kind under our name gets
//! us another name; one of the same kind is taken as ours, which is what makes injection idempotent and completes
//! pods that were put into the mesh by hand.

use serde_json::{Map, Value, json};

use crate::settings::{Install, Settings};
use crate::shape::{entries, list_mut, text_of};

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

/// The volumes of one pod.
#[derive(Debug)]
pub(crate) struct Volumes {
    names: Vec<(Role, String)>,
    /// Volumes in which nothing can be made: a mount below one of their mounts fails.
    read_only: Vec<String>,
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
    /// Adds what the pod lacks.
    pub(crate) fn add(spec: &mut Map<String, Value>, settings: &Settings) -> Volumes {
        let mut wanted = vec![(Role::Files, files(settings))];
        wanted.push((Role::Run, json!({"emptyDir": {"medium": "Memory", "sizeLimit": settings.run_size}})));
        if settings.has_tls() {
            wanted.push((Role::Token, token()));
            // Without the ConfigMap a pod would never start; this way `ldmesh status` tells that it is missing.
            let root = json!({"configMap": {"name": "istio-ca-root-cert", "optional": true}});
            wanted.push((Role::RootCertificate, root));
        }
        wanted.push((Role::Info, info()));
        let mut names = Vec::new();
        for (role, source) in wanted {
            let kind = kind_of(&source);
            let (name, exists) = free_name(role.name(), |name| {
                let found = entries(spec, "volumes").find(|volume| text_of(volume, "name") == Some(name));
                found.map(|volume| kind.is_some_and(|kind| volume.contains_key(kind)))
            });
            if !exists {
                let mut volume = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
                volume.extend(source.as_object().cloned().unwrap_or_default());
                list_mut(spec, "volumes").push(Value::Object(volume));
            }
            names.push((role, name));
        }
        let sealed = |volume: &&Map<String, Value>| {
            ["configMap", "secret", "projected", "downwardAPI", "image"].iter().any(|kind| volume.contains_key(*kind))
        };
        let read_only = entries(spec, "volumes").filter(sealed).filter_map(|volume| text_of(volume, "name"));
        let read_only = read_only.map(str::to_owned).collect();
        Volumes { names, read_only }
    }

    /// The volume's name, where the pod has one for this.
    pub(crate) fn name(&self, role: Role) -> Option<&str> {
        self.names.iter().find(|(known, _)| *known == role).map(|(_, name)| name.as_str())
    }

    /// Mounts a volume, unless the container has it.
    pub(crate) fn mount(
        &self,
        container: &mut Map<String, Value>,
        role: Role,
        spec_volumes: &Kinds,
    ) -> Option<Mounted> {
        let name = self.name(role)?;
        let mounts: Vec<&Map<String, Value>> = entries(container, "volumeMounts").collect();
        if let Some(path) = mounts.iter().find(|mount| text_of(mount, "name") == Some(name)) {
            return text_of(path, "mountPath").map(|path| Mounted::At(path.to_owned()));
        }
        let mut obstacle = self.obstacle(&mounts, role.path());
        let mut path = Some(role.path());
        if let Some((in_the_way, volume)) = &obstacle {
            // What the library finds there is the user's business; not so the library's own files.
            if *in_the_way == role.path() && role != Role::Files {
                return Some(Mounted::Own { same_kind: spec_volumes.are_alike(volume, name) });
            }
            path = role.second_path();
            let first = in_the_way.clone();
            obstacle = path.and_then(|path| self.obstacle(&mounts, path));
            if path.is_none() || obstacle.is_some() {
                return Some(Mounted::Blocked(first));
            }
        }
        let path = path?;
        let mut mount = Map::from_iter([("name".to_owned(), name.into()), ("mountPath".to_owned(), path.into())]);
        if role.is_read_only() {
            mount.insert("readOnly".into(), true.into());
        }
        list_mut(container, "volumeMounts").push(Value::Object(mount));
        Some(Mounted::At(path.to_owned()))
    }

    /// A mount that does not allow one at `path`: the same path, one below it, or a read-only one above it.
    fn obstacle(&self, mounts: &[&Map<String, Value>], path: &str) -> Option<(String, String)> {
        mounts.iter().find_map(|mount| {
            let (at, volume) = (text_of(mount, "mountPath")?, text_of(mount, "name")?);
            // /var/run is a link to /run in most images.
            let (at, path) = (canonical(at), canonical(path));
            let read_only = mount.get("readOnly").and_then(Value::as_bool) == Some(true)
                || self.read_only.iter().any(|name| name == volume);
            let in_the_way = at == path || is_below(&at, &path) || (read_only && is_below(&path, &at));
            let shown = if at == path { uncanonical(&at, &path) } else { at };
            in_the_way.then(|| (shown, volume.to_owned()))
        })
    }
}

/// Which kind each volume of a pod is of.
#[derive(Debug)]
pub(crate) struct Kinds(Vec<(String, Vec<String>)>);

impl Kinds {
    pub(crate) fn of(spec: &Map<String, Value>) -> Self {
        let kinds = |volume: &Map<String, Value>| volume.keys().filter(|key| *key != "name").cloned().collect();
        Kinds(
            entries(spec, "volumes")
                .filter_map(|volume| Some((text_of(volume, "name")?.to_owned(), kinds(volume))))
                .collect(),
        )
    }

    fn are_alike(&self, one: &str, other: &str) -> bool {
        let kinds = |name: &str| self.0.iter().find(|(known, _)| known == name).map(|(_, kinds)| kinds);
        kinds(one).is_some_and(|one| Some(one) == kinds(other))
    }
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

fn kind_of(source: &Value) -> Option<&str> {
    source.as_object()?.keys().next().map(String::as_str)
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
