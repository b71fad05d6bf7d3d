//! What can be asked of an injection: one table, for flags, settings files, annotations and the documentation.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use xds_runtime::config;

use crate::yaml;

/// Where a setting may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For the whole pod: `ldmesh.io/NAME`.
    Pod,
    /// For the pod, or for one container: `ldmesh.io/NAME.CONTAINER`.
    Any,
    /// For one container only.
    Container,
}

/// A row of the table.
#[derive(Debug)]
pub struct Setting {
    /// Its name: a flag `--NAME`, a key of a settings file, an annotation `ldmesh.io/NAME`.
    pub name: &'static str,
    /// What may be written, for people.
    pub values: &'static str,
    /// Without it, for people.
    pub default: &'static str,
    /// Where it may stand.
    pub scope: Scope,
    /// What it does, for people.
    pub meaning: &'static str,
    /// The variable that it becomes; the library's own parser then says what is allowed.
    pub variable: Option<&'static str>,
}

const fn row(
    name: &'static str,
    values: &'static str,
    default: &'static str,
    scope: Scope,
    meaning: &'static str,
    variable: Option<&'static str>,
) -> Setting {
    Setting { name, values, default, scope, meaning, variable }
}

/// Every setting.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    row("inject", "`true`, `false`", "as `containers` says", Scope::Container, "whether this container is in the mesh", None),
    row("containers", "names, or `*`", "`*`", Scope::Pod, "which containers are in the mesh; naming an init container includes it", None),
    row("init-containers", "`true`, `false`", "`false`", Scope::Pod, "init containers that run to their end, too, where they start after the library is there", None),
    row("mode", "`on`, `off`, `shadow`", "`on`", Scope::Any, "`shadow` decides and records, and changes nothing", Some("LDMESH_MODE")),
    row("xds", "`https://..`, `http://..`, `unix://..`", "`https://istiod.istio-system.svc:15012`", Scope::Pod, "the control plane; token and root certificate are mounted for `https`", Some("LDMESH_XDS")),
    row("leader", "`auto`, `agent`, `thread`, `sidecar`", "`auto`", Scope::Pod, "who holds the stream; `sidecar` is a native sidecar (Kubernetes 1.29) that runs `ldmesh agent`", None),
    row("log", "`off`, `error`, `warn`, `info`, `debug`, `trace`", "`off`", Scope::Any, "how much the library logs", Some("LDMESH_LOG")),
    row("log-file", "a path", "stderr", Scope::Any, "where it logs; `%p` is the pid", Some("LDMESH_LOG_FILE")),
    row("exclude", "names, CIDRs, `CIDR:port`, `:port`", "", Scope::Any, "what stays out of the mesh", Some("LDMESH_EXCLUDE")),
    row("include", "as `exclude`", "", Scope::Any, "only this is in the mesh", Some("LDMESH_INCLUDE")),
    row("exclude-exe", "globs", "", Scope::Any, "executables that stay out", Some("LDMESH_EXCLUDE_EXE")),
    row("exact-http", "names", "", Scope::Any, "services whose HTTP rules hold for each request, or not at all", Some("LDMESH_EXACT_HTTP")),
    row("resolve", "`vip`, `endpoint`", "`vip`", Scope::Any, "what a service name resolves to", Some("LDMESH_RESOLVE")),
    row("connect-grace", "a duration", "`1ms`", Scope::Any, "how long a non-blocking connect is watched for a refusal", Some("LDMESH_CONNECT_GRACE")),
    row("fail", "`open`, `closed`", "`open`", Scope::Any, "what happens without any configuration", Some("LDMESH_FAIL")),
    row("ready-timeout", "a duration", "`500ms`", Scope::Pod, "how long the pod waits for its first configuration", Some("LDMESH_READY_TIMEOUT")),
    row("max-stale", "a duration, `inf`", "`5m`", Scope::Pod, "how long the last good configuration holds", Some("LDMESH_MAX_STALE")),
    row("preload", "paths, as in LD_PRELOAD", "", Scope::Any, "what is preloaded before the library; for an LD_PRELOAD of the image or of `envFrom`, which a pod does not show", None),
    row("install", "`init`, `image-volume`", "`init`", Scope::Pod, "how the library comes into the pod; `image-volume` needs a cluster that has them", None),
    row("image", "an image reference", "`ldmesh`", Scope::Pod, "the image with the library and the binary", None),
    row("image-pull-policy", "`Always`, `IfNotPresent`, `Never`", "Kubernetes' own", Scope::Pod, "of that image", None),
    row("image-pull-secrets", "names of Secrets", "", Scope::Pod, "of that image: added to the pod's, and to be in its namespace", None),
    row("run-size", "a quantity", "`64Mi`", Scope::Pod, "the size limit of the run directory", None),
    row("mixed", "`true`, `false`", "`false`", Scope::Pod, "the pod may have Istio's sidecar, too", None),
    row("cluster-id", "text", "`Kubernetes`", Scope::Pod, "the cluster as istiod names it (`ISTIO_META_CLUSTER_ID`)", None),
    row("network", "text", "", Scope::Pod, "the pod's network (`ISTIO_META_NETWORK`)", None),
    row("trust-domain", "text", "`cluster.local`", Scope::Pod, "the mesh's trust domain (`TRUST_DOMAIN`)", None),
];

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leader {
    /// The library chooses: the agent, else a thread.
    #[default]
    Auto,
    /// The agent, spawned by the first process that needs it.
    Agent,
    /// A thread of a process.
    Thread,
    /// A native sidecar.
    Sidecar,
}

/// How the library comes into the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Install {
    #[default]
    Init,
    ImageVolume,
}

/// Which containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Chosen {
    #[default]
    All,
    Named(BTreeSet<String>),
}

/// Settings of a pod: those of the operator, and then those of its annotations.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) containers: Chosen,
    pub(crate) init_containers: bool,
    pub(crate) leader: Leader,
    pub(crate) install: Install,
    pub(crate) image: String,
    pub(crate) image_pull_policy: Option<String>,
    pub(crate) image_pull_secrets: Vec<String>,
    pub(crate) preload: Option<String>,
    pub(crate) run_size: String,
    pub(crate) mixed: bool,
    /// Variables of every container, by name.
    pub(crate) variables: BTreeMap<&'static str, String>,
}

/// Settings of one container.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfContainer {
    pub inject: Option<bool>,
    pub preload: Option<String>,
    pub variables: BTreeMap<&'static str, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            containers: Chosen::All,
            init_containers: false,
            leader: Leader::Auto,
            install: Install::Init,
            image: "ldmesh".into(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            preload: None,
            run_size: "64Mi".into(),
            mixed: false,
            variables: BTreeMap::from([("LDMESH_XDS", "https://istiod.istio-system.svc:15012".into())]),
        }
    }
}

/// A setting that cannot be taken; its text is what is wrong and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadValue(pub String);

fn bad<T>(text: impl Into<String>) -> Result<T, BadValue> {
    Err(BadValue(text.into()))
}

impl Settings {
    /// Sets one by its name; the old value stays where the new one is not allowed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadValue> {
        let setting = find(name)?;
        if setting.scope == Scope::Container {
            return bad(format!("{name} is for one container: ldmesh.io/{name}.CONTAINER"));
        }
        let value = value.trim();
        match name {
            "containers" => self.containers = chosen(value)?,
            "init-containers" => self.init_containers = boolean(value)?,
            "leader" => self.leader = leader(value)?,
            "install" => {
                self.install = match value {
                    "init" => Install::Init,
                    "image-volume" => Install::ImageVolume,
                    _ => return bad("use init or image-volume"),
                }
            }
            "image" => self.image = image(value)?,
            "image-pull-policy" => match value {
                "Always" | "IfNotPresent" | "Never" => self.image_pull_policy = Some(value.to_owned()),
                _ => return bad("use Always, IfNotPresent or Never"),
            },
            "image-pull-secrets" => self.image_pull_secrets = secrets(value)?,
            "preload" => self.preload = Some(preload(value)?),
            "run-size" => self.run_size = quantity(value)?,
            "mixed" => self.mixed = boolean(value)?,
            "cluster-id" => set_text(&mut self.variables, "ISTIO_META_CLUSTER_ID", value)?,
            "network" => set_text(&mut self.variables, "ISTIO_META_NETWORK", value)?,
            "trust-domain" => set_text(&mut self.variables, "TRUST_DOMAIN", value)?,
            _ => set_variable(&mut self.variables, setting, value)?,
        }
        Ok(())
    }

    /// Bytes of the values that each container gets.
    pub(crate) fn bytes(&self) -> usize {
        self.variables.values().chain(&self.preload).map(String::len).sum()
    }

    /// Whether the control plane wants a token and has a certificate.
    pub(crate) fn has_tls(&self) -> bool {
        self.variables.get("LDMESH_XDS").is_some_and(|xds| xds.starts_with("https://"))
    }
}

impl OfContainer {
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), BadValue> {
        let setting = find(name)?;
        match (name, setting.scope) {
            ("inject", _) => self.inject = Some(boolean(value)?),
            ("preload", _) => self.preload = Some(preload(value.trim())?),
            (_, Scope::Pod) => return bad(format!("{name} is for the whole pod: ldmesh.io/{name}")),
            _ => set_variable(&mut self.variables, setting, value.trim())?,
        }
        Ok(())
    }
}

/// Reads a settings file: a YAML mapping of names to values.
pub fn parse_settings(text: &str, settings: &mut Settings) -> Result<(), BadValue> {
    let documents = yaml::load(text).map_err(|error| BadValue(error.to_string()))?;
    for document in documents {
        let value = document.value.map_or(serde_json::Value::Null, |node| node.value);
        let Some(mapping) = value.as_object() else {
            if value.is_null() {
                continue;
            }
            return bad("is no mapping; write NAME: VALUE");
        };
        for (name, value) in mapping {
            let value = match value {
                serde_json::Value::String(text) => text.clone(),
                // YAML takes `on` for true.
                serde_json::Value::Bool(on) if name == "mode" || name == "log" => {
                    (if *on { "on" } else { "off" }).to_owned()
                }
                serde_json::Value::Bool(_) | serde_json::Value::Number(_) => value.to_string(),
                _ => return bad(format!("{name}: write one value")),
            };
            settings.set(name, &value).map_err(|BadValue(why)| BadValue(format!("{name}: {value:?}: {why}")))?;
        }
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Setting, BadValue> {
    let found = SETTINGS.iter().find(|setting| setting.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        BadValue(format!("there is no such setting; there are {}", names.join(", ")))
    })
}

/// The library's parser decides what is allowed.
fn set_variable(
    variables: &mut BTreeMap<&'static str, String>,
    setting: &'static Setting,
    value: &str,
) -> Result<(), BadValue> {
    let Some(name) = setting.variable else {
        return bad("it cannot be set here");
    };
    if value.is_empty() {
        return bad("it is empty: leave it out instead");
    }
    let read = config::Settings::from_env([(name, value)]);
    if let Some(problem) = read.problems.first() {
        return Err(BadValue(problem.remedy.clone()));
    }
    variables.insert(name, value.to_owned());
    Ok(())
}

fn set_text(variables: &mut BTreeMap<&'static str, String>, name: &'static str, value: &str) -> Result<(), BadValue> {
    if value.is_empty() || value.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return bad("use a name without blanks");
    }
    variables.insert(name, value.to_owned());
    Ok(())
}

fn boolean(value: &str) -> Result<bool, BadValue> {
    match value.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => bad("use true or false"),
    }
}

fn leader(value: &str) -> Result<Leader, BadValue> {
    match value {
        "auto" => Ok(Leader::Auto),
        "agent" => Ok(Leader::Agent),
        "thread" => Ok(Leader::Thread),
        "sidecar" => Ok(Leader::Sidecar),
        _ => bad("use auto, agent, thread or sidecar"),
    }
}

fn chosen(value: &str) -> Result<Chosen, BadValue> {
    if value == "*" {
        return Ok(Chosen::All);
    }
    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    if names.is_empty() || names.iter().any(|name| name.len() > 63 || !name.chars().all(is_label)) {
        return bad("use names of containers, separated by commas, or *");
    }
    Ok(Chosen::Named(names))
}

fn image(value: &str) -> Result<String, BadValue> {
    let is_reference = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if value.is_empty() || value.len() > 1024 || !value.chars().all(is_reference) {
        return bad("use an image reference such as registry.example/ldmesh:1.0");
    }
    Ok(value.to_owned())
}

/// Each is looked for among the pod's own.
const SECRETS_MOST: usize = 32;

/// Names as Kubernetes has them for a Secret (RFC 1123).
fn secrets(value: &str) -> Result<Vec<String>, BadValue> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
    if names.len() > SECRETS_MOST
        || names.iter().any(|name| name.is_empty() || name.len() > 253 || !name.chars().all(is_name))
    {
        return bad(format!("use at most {SECRETS_MOST} names of Secrets, separated by commas"));
    }
    Ok(names)
}

/// ld.so(8) takes colons and blanks between them.
fn preload(value: &str) -> Result<String, BadValue> {
    if value.is_empty() || value.contains(char::is_control) {
        return bad("use paths as in LD_PRELOAD, separated by colons");
    }
    Ok(value.to_owned())
}

/// What of Kubernetes' quantities makes sense for a size.
fn quantity(value: &str) -> Result<String, BadValue> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = value.get(digits.len()..).unwrap_or_default();
    let good_unit = ["", "k", "M", "G", "Ki", "Mi", "Gi"].contains(&unit);
    if !good_unit
        || digits.len() > 12
        || !digits.bytes().all(|b| b.is_ascii_digit())
        || digits.trim_matches('0').is_empty()
    {
        return bad("use a size such as 64Mi");
    }
    Ok(value.to_owned())
}
