//! Istio's sidecar in a pod, as its injection has it: the rules that `istio-init` writes, and `pilot-agent` with a real
//! Envoy, which has its listeners, its clusters and its certificate from istiod.
//!
//! Envoy is Envoy's own build and not Istio's, so that istiod must leave out the filters that only Istio's has
//! ([`STOCK_ENVOY`]): metadata exchange and ALPN, which serve telemetry and the choice between HTTP/1.1 and HTTP/2.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::run::Running;
use crate::wait::must;
use crate::{Envoy, Finished, ISTIOD_TLS_URL, Kubernetes, Pod};

/// What istiod is told (its environment) so that Envoy's own build takes its listeners.
pub const STOCK_ENVOY: [(&str, &str); 2] =
    [("PILOT_ENABLE_METADATA_EXCHANGE", "false"), ("PILOT_ENABLE_ALPN_FILTER", "false")];
/// The user that Istio's injection gives the sidecar; its own connections are not led back to it.
const USER: u32 = 1337;
const READY: Duration = Duration::from_secs(60);

/// A running sidecar; it is killed when this is dropped.
#[derive(Debug)]
pub struct IstioProxy<'pod> {
    pod: &'pod Pod,
    _running: Running,
}

impl Pod {
    /// Starts Istio's sidecar and waits until it is ready. The pod has what kubelet projects. Envoy gets the connections
    /// that the pod's programs take, and with `captures_outbound` those that they make, too; without is what Istio has as
    /// `traffic.sidecar.istio.io/includeOutboundIPRanges: ""`.
    #[track_caller]
    pub fn istio_proxy(&self, kubernetes: &Kubernetes<'_>, captures_outbound: bool) -> IstioProxy<'_> {
        let agent = kubernetes.binary("pilot-agent");
        let ranges = if captures_outbound { "*" } else { "" };
        let mut init = self.command(&agent);
        init.args(["istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT"]);
        init.args(["-i", ranges, "-x", "", "-b", "*", "-d", "15090,15021,15020", "--log_output_level=default:warn"]);
        Finished::of(&mut init).success();

        // What is `/` in its container: the paths in its configuration are relative.
        let root = self.folder().join("istio-proxy");
        let secrets = root.join("var/run/secrets");
        let done = self.command_as(USER, "mkdir").arg("-p").arg(&secrets).arg(root.join("etc/istio/proxy")).output();
        must(done.context("make the sidecar's folders"));
        for projected in ["tokens", "istio"] {
            let mut link = self.command_as(USER, "ln");
            link.arg("-s").arg(format!("/run/secrets/{projected}")).arg(&secrets);
            Finished::of(&mut link).success();
        }
        let config = json!({
            "discoveryAddress": ISTIOD_TLS_URL.trim_start_matches("https://"),
            "binaryPath": Envoy::binary(),
            "concurrency": 1,
            // Istio keeps few statistics; a test looks at others.
            "proxyStatsMatcher": {"inclusionRegexps": [".*"]},
        });
        let mut proxy = self.command_as(USER, "env");
        proxy.arg("--chdir").arg(&root).arg(&agent);
        proxy.args(["proxy", "sidecar", "--domain", "default.svc.cluster.local", "--log_output_level=default:warn"]);
        proxy.args(["--proxyLogLevel=warning", "--templateFile"]).arg(kubernetes.binary("envoy_bootstrap.json"));
        proxy.env("PROXY_CONFIG", config.to_string()).env("ISTIO_META_CLUSTER_ID", "Kubernetes");
        let is_ready = |_: &Running| get(self, "15020/healthz/ready").is_ok();
        let running = self.start_until("a sidecar that is ready", READY, &mut proxy, is_ready);
        IstioProxy { pod: self, _running: running }
    }
}

impl IstioProxy<'_> {
    /// How many connections Envoy has led to a cluster (Envoy's name, such as `PassthroughCluster`).
    #[track_caller]
    pub fn connections(&self, cluster: &str) -> u64 {
        let text = must(get(self.pod, "15000/stats?filter=upstream_cx_total$"));
        // Istio ends the part that is the cluster's name with a semicolon.
        let names = [format!("cluster.{cluster}."), format!("cluster.{cluster};.")];
        let found = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        found.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

fn get(pod: &Pod, page: &str) -> Result<String> {
    let mut curl = pod.command_as(USER, "curl");
    let done = Finished::of(curl.args(["-sSf", "--max-time", "5", &format!("http://127.0.0.1:{page}")]));
    ensure!(done.status.success(), "{page}: {done}");
    Ok(done.stdout)
}
