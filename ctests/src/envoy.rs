//! A real Envoy in a pod, which gets its clusters from the same control plane: a TCP proxy for each under test.
//!
//! Its binary comes from `scripts/envoy.sh`. Its listeners are its own and not the control plane's, which are bound to
//! service addresses that nobody has in a pod.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::namespace::POD_V4;
use crate::run::Running;
use crate::wait::{must, wait_until};
use crate::{Pod, artifacts};

/// Where its listeners are.
pub const ENVOY: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 1);
const READY: Duration = Duration::from_secs(20);

/// A listener, and the clusters that it leads to.
#[derive(Debug, Clone)]
pub struct TcpProxy {
    /// Its port at [`ENVOY`].
    pub port: u16,
    /// Names and weights; a single one has all connections.
    pub clusters: Vec<(String, u32)>,
    /// Whether a consistent hash is of the client's address.
    pub hashes_source: bool,
    /// How many hosts one connection may try: `max_connect_attempts`.
    pub attempts: u32,
}

impl TcpProxy {
    /// All connections to one cluster, each with a single attempt.
    pub fn to(port: u16, cluster: &str) -> Self {
        Self { port, clusters: vec![(cluster.to_owned(), 1)], hashes_source: false, attempts: 1 }
    }

    fn listener(&self) -> Value {
        let mut config = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "proxy",
            "max_connect_attempts": self.attempts,
        });
        match self.clusters.as_slice() {
            [(only, _)] => config["cluster"] = json!(only),
            several => {
                let weighted = several.iter().map(|(name, weight)| json!({"name": name, "weight": weight}));
                config["weighted_clusters"] = json!({"clusters": weighted.collect::<Vec<_>>()});
            }
        }
        if self.hashes_source {
            config["hash_policy"] = json!([{"source_ip": {}}]);
        }
        json!({
            "name": self.port.to_string(),
            "address": address(self.port),
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": config}]}],
        })
    }
}

/// What Envoy knows of a host of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvoyHost {
    /// Its address.
    pub address: Ipv4Addr,
    /// Ejected by outlier detection.
    pub ejected: bool,
    /// What the control plane says of its health: `HEALTHY`, `UNHEALTHY`, `DEGRADED`, `DRAINING`.
    pub eds_health: String,
    /// Connections that failed.
    pub connect_failures: u64,
    /// Connections that are open.
    pub active: u64,
}

/// A running Envoy; it is killed when this is dropped.
#[derive(Debug)]
pub struct Envoy<'pod> {
    pod: &'pod Pod,
    admin: PathBuf,
    _running: Running,
}

impl Pod {
    /// Starts an Envoy with so many worker threads and waits until every cluster of its proxies has its endpoints.
    /// The control plane must be there.
    #[track_caller]
    pub fn envoy(&self, workers: usize, proxies: &[TcpProxy]) -> Envoy<'_> {
        let names: Vec<&String> = proxies.iter().flat_map(|proxy| &proxy.clusters).map(|(name, _)| name).collect();
        let settled = |admin: &Path| names.iter().all(|name| envoy_knows(admin, name));
        Envoy::start(self, "envoy", workers, |admin| bootstrap_of(admin, proxies), settled)
    }
}

impl<'pod> Envoy<'pod> {
    /// Starts one, whose files in the pod's folder are called `name`, and waits until it is `settled`; both closures
    /// get its admin socket.
    #[track_caller]
    pub(crate) fn start(
        pod: &'pod Pod,
        name: &str,
        workers: usize,
        bootstrap: impl FnOnce(&str) -> Value,
        settled: impl Fn(&Path) -> bool,
    ) -> Self {
        let file = pod.folder().join(name).with_extension("json");
        let admin = pod.folder().join(name).with_extension("sock");
        let config = bootstrap(&admin.display().to_string());
        must(std::fs::write(&file, config.to_string()).context("write Envoy's bootstrap"));
        let mut command = pod.command(binary());
        command.arg("-c").arg(&file).args(["--concurrency", &workers.to_string()]);
        // Without hot restart there is no shared memory that Envoys of several pods would meet in.
        command.args(["--disable-hot-restart", "--log-level", "error"]);
        let running = pod.start_until("an Envoy that is ready", READY, &mut command, |_| settled(&admin));
        Self { pod, admin, _running: running }
    }
}

impl Envoy<'_> {
    /// The hosts of a cluster, by address.
    #[track_caller]
    pub fn hosts(&self, cluster: &str) -> Vec<EnvoyHost> {
        must(hosts(&self.admin, cluster))
    }

    /// The addresses of the hosts that are ejected now.
    #[track_caller]
    pub fn ejected(&self, cluster: &str) -> Vec<Ipv4Addr> {
        self.hosts(cluster).into_iter().filter(|host| host.ejected).map(|host| host.address).collect()
    }

    /// A counter or gauge by its full name.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let text = must(get(&self.admin, "/stats?format=text"));
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok());
        found.unwrap_or_else(|| panic!("Envoy has no statistic {name}:\n{text}"))
    }

    /// Waits until its hosts are as `check` wants them.
    #[track_caller]
    pub fn wait_for_hosts(&self, cluster: &str, what: &str, deadline: Duration, check: impl Fn(&[EnvoyHost]) -> bool) {
        let dump = || format!("{:?}\n{}", hosts(&self.admin, cluster), self.pod.dump());
        wait_until(what, deadline, dump, || check(&self.hosts(cluster)));
    }
}

/// The binary, installed where it is missing.
#[track_caller]
pub(crate) fn binary() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| must(artifacts::made_by_script("envoy.sh", &[]))).clone()
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": ENVOY, "port_value": port}})
}

fn bootstrap_of(admin: &str, proxies: &[TcpProxy]) -> Value {
    let http2 = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    });
    let (host, port) = crate::control_plane::LISTEN.split_once(':').unwrap_or_default();
    let server = json!({"socket_address": {"address": host, "port_value": port.parse::<u16>().unwrap_or(0)}});
    let xds = json!({
        "name": "xds",
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": http2,
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": server}}]}],
        },
    });
    json!({
        "node": {
            "id": format!("sidecar~{POD_V4}~app-0.default~default.svc.cluster.local"),
            "cluster": "app.default",
            "metadata": {"NAMESPACE": "default", "INSTANCE_IPS": POD_V4, "CLUSTER_ID": "Kubernetes"},
        },
        "admin": {"address": {"pipe": {"path": admin}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {
            "clusters": [xds],
            "listeners": proxies.iter().map(TcpProxy::listener).collect::<Vec<_>>(),
        },
    })
}

/// It listens once the clusters that it was sent are warm.
pub(crate) fn is_live(admin: &Path) -> bool {
    get(admin, "/ready").is_ok_and(|answer| answer.trim() == "LIVE")
}

fn envoy_knows(admin: &Path, cluster: &str) -> bool {
    is_live(admin) && hosts(admin, cluster).is_ok_and(|hosts| !hosts.is_empty())
}

fn hosts(admin: &Path, cluster: &str) -> Result<Vec<EnvoyHost>> {
    let answer: Value = serde_json::from_str(&get(admin, "/clusters?format=json")?)?;
    let clusters = answer["cluster_statuses"].as_array().context("no clusters")?;
    let found = clusters.iter().find(|one| one["name"] == cluster).with_context(|| format!("no cluster {cluster}"))?;
    let mut hosts = Vec::new();
    for host in found["host_statuses"].as_array().into_iter().flatten() {
        let address = host["address"]["socket_address"]["address"].as_str().context("no address")?;
        let stats = host["stats"].as_array().context("no statistics")?;
        // 64-bit numbers are text in protobuf's JSON; 0 is left out.
        let stat = |name: &str| -> Result<u64> {
            let found = stats.iter().find(|stat| stat["name"] == name);
            Ok(found.and_then(|stat| stat["value"].as_str()).unwrap_or("0").parse()?)
        };
        hosts.push(EnvoyHost {
            address: address.parse()?,
            ejected: host["health_status"]["failed_outlier_check"] == true,
            eds_health: host["health_status"]["eds_health_status"].as_str().unwrap_or_default().to_owned(),
            connect_failures: stat("cx_connect_fail")?,
            active: stat("cx_active")?,
        });
    }
    hosts.sort_by_key(|host| host.address);
    Ok(hosts)
}

/// A page of the admin interface. It speaks HTTP/1.1 only.
fn get(admin: &Path, path: &str) -> Result<String> {
    let mut stream = UnixStream::connect(admin).context("connect to Envoy's admin interface")?;
    stream.set_read_timeout(Some(READY))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    if head.contains("transfer-encoding: chunked") { joined(body) } else { Ok(body.to_owned()) }
}

/// A body that was sent in chunks (RFC 9112, section 7.1).
fn joined(mut chunks: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n").context("a chunk without a length")?;
        let length = usize::from_str_radix(length, 16)?;
        if length == 0 {
            return Ok(body);
        }
        body.push_str(rest.get(..length).context("a chunk is cut off")?);
        chunks = rest.get(length + 2..).context("a chunk is cut off")?;
    }
}
