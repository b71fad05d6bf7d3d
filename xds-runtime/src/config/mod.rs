//! Configuration: the environment of a process, and what the leader adds to it.
//!
//! ```text
//! environment --Settings::from_env--> Settings      every process, no file is touched, cheap
//!                                        |
//!                                        +-- Upstream::gather --> Upstream    the leader only: bootstrap JSON,
//!                                                                             pod files, identity, credentials
//! ```
//!
//! A process is in the mesh only when `LDMESH_XDS`, `GRPC_XDS_BOOTSTRAP` or `GRPC_XDS_BOOTSTRAP_CONFIG` says so.
//! `PROXY_CONFIG` alone leaves the library inert, even with a `discoveryAddress`: injected pods have it anyway, and
//! the first promise is that nothing happens without being asked for.
//!
//! A value that does not parse counts as absent and leaves a [`Problem`]; an empty value is absent without one.

mod bootstrap;
mod control_plane;
mod exe;
mod identity;
mod name_list;
mod pod;
pub(crate) mod read;
mod scope;
mod upstream;
mod value;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use bootstrap::{Bootstrap, BootstrapError};
pub use control_plane::{Authority, ControlPlane};
pub use exe::ExeGlobs;
pub use identity::{Locality, NodeIdentity};
pub use name_list::NameList;
pub use pod::Pod;
pub use scope::{AddressRule, Rules, Scope, is_automatic, is_never_mesh};
pub use upstream::{ConfigError, Roots, TlsFiles, Upstream};
pub use value::{FailMode, Lead, LogFile, MaxStale, Mode, Remedy, Resolve, parse_duration};

use crate::names::ResolverEnv;

/// Everything the environment says, typed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to learn about the control plane; `None` leaves the library inert.
    pub source: Option<Source>,
    /// What the hooks do with a decision.
    pub mode: Mode,
    /// How this process may host the leader.
    pub lead: Lead,
    /// Pod-wide wait for the first configuration; zero waits never.
    pub ready_timeout: Duration,
    /// When services with a ClusterIP pass to the kernel's own path.
    pub max_stale: MaxStale,
    /// What happens without any configuration.
    pub fail: FailMode,
    /// Which address a name resolves to.
    pub resolve: Resolve,
    /// How long a non-blocking connect may be watched for a refusal.
    pub connect_grace: Duration,
    /// `LDMESH_EXCLUDE` and `LDMESH_INCLUDE`.
    pub scope: Scope,
    /// Executables that stay out.
    pub exclude_exe: ExeGlobs,
    /// `LDMESH_EXACT_HTTP`: services whose HTTP rules must hold for each request, or nothing does.
    pub exact_http: NameList,
    /// How much is logged.
    pub log: log::LevelFilter,
    /// Where it is logged; stderr when absent.
    pub log_file: Option<LogFile>,
    /// `LDMESH_RUN_DIR`: the base of the run directory; absolute.
    pub run_dir: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`; absolute.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// Who the pod says it is.
    pub identity: IdentityVars,
    /// What libc's resolver reads from the environment.
    pub resolver: ResolverEnv,
    /// What did not parse; to be reported once.
    pub problems: Vec<Problem>,
}

/// Where the control plane's address comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `LDMESH_XDS`.
    Address(ControlPlane),
    /// `GRPC_XDS_BOOTSTRAP`: a file, not read yet.
    BootstrapFile(PathBuf),
    /// `GRPC_XDS_BOOTSTRAP_CONFIG`: its text, not parsed yet.
    BootstrapText(String),
}

/// The variables Istio's sidecar takes its identity and trust from, as they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityVars {
    /// `POD_NAME`.
    pub pod_name: Option<String>,
    /// `POD_NAMESPACE`.
    pub pod_namespace: Option<String>,
    /// `INSTANCE_IP`.
    pub instance_ip: Option<IpAddr>,
    /// `SERVICE_ACCOUNT`.
    pub service_account: Option<String>,
    /// `TRUST_DOMAIN`.
    pub trust_domain: Option<String>,
    /// `XDS_ROOT_CA`: a file, or `SYSTEM`.
    pub xds_root_ca: Option<String>,
    /// `ISTIOD_SAN`: the server name to verify.
    pub istiod_san: Option<String>,
    /// `PROXY_CONFIG`: JSON, not parsed yet.
    pub proxy_config: Option<String>,
    /// `ISTIO_META_X` as (`X`, value), in the environment's order.
    pub istio_meta: Vec<(String, String)>,
}

/// A value that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The variable (or file) it stands in.
    pub variable: String,
    /// The value, cut to what fits a line.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

impl Problem {
    pub(crate) fn new(variable: impl Into<String>, value: &str, remedy: impl fmt::Display) -> Self {
        let mut short: String = value.chars().take(60).collect();
        if short.len() < value.len() {
            short.push_str("...");
        }
        Problem { variable: variable.into(), value: short, remedy: remedy.to_string() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?} is ignored: {}", self.variable, self.value, self.remedy)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            source: None,
            mode: Mode::default(),
            lead: Lead::default(),
            ready_timeout: Duration::from_millis(500),
            max_stale: MaxStale::default(),
            fail: FailMode::default(),
            resolve: Resolve::default(),
            connect_grace: Duration::from_millis(1),
            scope: Scope::default(),
            exclude_exe: ExeGlobs::default(),
            exact_http: NameList::default(),
            log: log::LevelFilter::Off,
            log_file: None,
            run_dir: None,
            xdg_runtime_dir: None,
            identity: IdentityVars::default(),
            resolver: ResolverEnv::default(),
            problems: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads a snapshot of the environment; where a variable stands twice the first counts, as for getenv(3).
    /// Touches no file.
    pub fn from_env<K, V>(variables: impl IntoIterator<Item = (K, V)>) -> Settings
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let mut seen = Seen::default();
        for (key, value) in variables {
            seen.add(key.as_ref(), value.as_ref());
        }
        seen.into_settings()
    }

    /// Whether the library shall do anything at all in this process.
    pub fn is_inert(&self) -> bool {
        self.source.is_none() || self.mode == Mode::Off
    }

    /// Names the pod's mesh below the run directory: processes that agree on control plane, node, network and
    /// clock ([`namespaces`](crate::leader::run_dir::namespaces)) share it. From the raw strings, without parsing; 32 hexadecimal digits.
    pub fn instance(&self, namespaces: u64) -> String {
        let source = match &self.source {
            None => ("none", OsString::new()),
            Some(Source::Address(address)) => ("address", address.to_string().into()),
            Some(Source::BootstrapFile(path)) => ("file", path.clone().into()),
            Some(Source::BootstrapText(text)) => ("text", text.into()),
        };
        let identity = &self.identity;
        let ip = identity.instance_ip.map(|ip| ip.to_string());
        let parts = [
            source.0.as_bytes(),
            source.1.as_encoded_bytes(),
            identity.pod_name.as_deref().unwrap_or_default().as_bytes(),
            identity.pod_namespace.as_deref().unwrap_or_default().as_bytes(),
            ip.as_deref().unwrap_or_default().as_bytes(),
            &namespaces.to_le_bytes(),
        ];
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        format!("{:032x}", hash.digest128())
    }
}

/// The variables met so far, by name, as they stand.
#[derive(Default)]
struct Seen {
    known: Vec<(&'static str, OsString)>,
    istio_meta: Vec<(String, String)>,
    problems: Vec<Problem>,
}

const KNOWN: [&str; 29] = [
    "LDMESH_XDS",
    "GRPC_XDS_BOOTSTRAP",
    "GRPC_XDS_BOOTSTRAP_CONFIG",
    "LDMESH_MODE",
    "LDMESH_LEAD",
    "LDMESH_READY_TIMEOUT",
    "LDMESH_MAX_STALE",
    "LDMESH_FAIL",
    "LDMESH_RESOLVE",
    "LDMESH_CONNECT_GRACE",
    "LDMESH_EXCLUDE",
    "LDMESH_INCLUDE",
    "LDMESH_EXCLUDE_EXE",
    "LDMESH_EXACT_HTTP",
    "LDMESH_LOG",
    "LDMESH_LOG_FILE",
    "LDMESH_RUN_DIR",
    "XDG_RUNTIME_DIR",
    "PROXY_CONFIG",
    "POD_NAME",
    "POD_NAMESPACE",
    "INSTANCE_IP",
    "SERVICE_ACCOUNT",
    "XDS_ROOT_CA",
    "ISTIOD_SAN",
    "TRUST_DOMAIN",
    "LOCALDOMAIN",
    "RES_OPTIONS",
    "HOSTALIASES",
];

impl Seen {
    fn add(&mut self, key: &OsStr, value: &OsStr) {
        // glibc takes an empty LOCALDOMAIN as "no search list"; everywhere else empty is absent.
        if value.is_empty() && key != "LOCALDOMAIN" {
            return;
        }
        let Some(key) = key.to_str() else { return };
        if let Some(name) = key.strip_prefix("ISTIO_META_").filter(|name| !name.is_empty()) {
            match value.to_str() {
                Some(_) if self.istio_meta.iter().any(|(known, _)| known == name) => {}
                Some(text) => self.istio_meta.push((name.to_owned(), text.to_owned())),
                None => self.problems.push(not_utf8(key, value)),
            }
        } else if let Some(known) = KNOWN.iter().find(|known| **known == key)
            && !self.known.iter().any(|(seen, _)| seen == known)
        {
            self.known.push((known, value.to_owned()));
        }
    }

    fn take_os(&mut self, name: &'static str) -> Option<OsString> {
        debug_assert!(KNOWN.contains(&name), "{name} is not in KNOWN");
        let at = self.known.iter().position(|(known, _)| *known == name)?;
        Some(self.known.swap_remove(at).1)
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        let value = self.take_os(name)?;
        value.into_string().map_err(|value| self.problems.push(not_utf8(name, &value))).ok()
    }

    fn parsed<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Result<T, Remedy>) -> Option<T> {
        let text = self.text(name)?;
        parse(text.trim()).map_err(|remedy| self.problems.push(Problem::new(name, &text, remedy))).ok()
    }

    fn value<T: FromStr<Err = Remedy>>(&mut self, name: &'static str) -> Option<T> {
        self.parsed(name, T::from_str)
    }

    fn rules(&mut self, name: &'static str) -> Rules {
        let Some(text) = self.text(name) else {
            return Rules::default();
        };
        let (rules, bad) = Rules::parse(&text);
        self.problems.extend(bad.into_iter().map(|(entry, remedy)| Problem::new(name, &entry, remedy)));
        rules
    }

    fn names(&mut self, name: &'static str) -> NameList {
        let (list, bad) = self.text(name).map(|text| NameList::parse(&text)).unwrap_or_default();
        self.problems.extend(bad.into_iter().map(|(entry, remedy)| Problem::new(name, &entry, remedy)));
        list
    }

    fn folder(&mut self, name: &'static str) -> Option<PathBuf> {
        let path = PathBuf::from(self.take_os(name)?);
        if path.is_absolute() {
            return Some(path);
        }
        self.problems.push(Problem::new(name, &path.to_string_lossy(), "use an absolute path"));
        None
    }

    fn source(&mut self) -> Option<Source> {
        if let Some(address) = self.value("LDMESH_XDS") {
            return Some(Source::Address(address));
        }
        if let Some(path) = self.take_os("GRPC_XDS_BOOTSTRAP") {
            return Some(Source::BootstrapFile(path.into()));
        }
        self.text("GRPC_XDS_BOOTSTRAP_CONFIG").map(Source::BootstrapText)
    }

    fn into_settings(mut self) -> Settings {
        let default = Settings::default();
        let instance_ip = |text: &str| text.parse().map_err(|_| Remedy::new("use the pod's IP address"));
        let log_level =
            |text: &str| text.parse().map_err(|_| Remedy::new("use off, error, warn, info, debug or trace"));
        Settings {
            source: self.source(),
            mode: self.value("LDMESH_MODE").unwrap_or_default(),
            lead: self.value("LDMESH_LEAD").unwrap_or_default(),
            ready_timeout: self.parsed("LDMESH_READY_TIMEOUT", parse_duration).unwrap_or(default.ready_timeout),
            max_stale: self.value("LDMESH_MAX_STALE").unwrap_or_default(),
            fail: self.value("LDMESH_FAIL").unwrap_or_default(),
            resolve: self.value("LDMESH_RESOLVE").unwrap_or_default(),
            connect_grace: self.parsed("LDMESH_CONNECT_GRACE", parse_duration).unwrap_or(default.connect_grace),
            scope: Scope { exclude: self.rules("LDMESH_EXCLUDE"), include: self.rules("LDMESH_INCLUDE") },
            exclude_exe: self.value("LDMESH_EXCLUDE_EXE").unwrap_or_default(),
            exact_http: self.names("LDMESH_EXACT_HTTP"),
            log: self.parsed("LDMESH_LOG", log_level).unwrap_or(default.log),
            log_file: self.value("LDMESH_LOG_FILE"),
            run_dir: self.folder("LDMESH_RUN_DIR"),
            xdg_runtime_dir: self.folder("XDG_RUNTIME_DIR"),
            identity: IdentityVars {
                pod_name: self.text("POD_NAME"),
                pod_namespace: self.text("POD_NAMESPACE"),
                instance_ip: self.parsed("INSTANCE_IP", instance_ip),
                service_account: self.text("SERVICE_ACCOUNT"),
                trust_domain: self.text("TRUST_DOMAIN"),
                xds_root_ca: self.text("XDS_ROOT_CA"),
                istiod_san: self.text("ISTIOD_SAN"),
                proxy_config: self.text("PROXY_CONFIG"),
                istio_meta: std::mem::take(&mut self.istio_meta),
            },
            resolver: ResolverEnv {
                local_domain: self.text("LOCALDOMAIN"),
                res_options: self.text("RES_OPTIONS"),
                host_aliases: self.take_os("HOSTALIASES").is_some(),
            },
            problems: self.problems,
        }
    }
}

fn not_utf8(name: &str, value: &OsStr) -> Problem {
    Problem::new(name, &value.to_string_lossy(), "use plain text in UTF-8")
}

#[cfg(test)]
mod tests;
