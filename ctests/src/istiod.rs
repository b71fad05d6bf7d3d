//! A real istiod in a pod, over the pod's [`Kubernetes`]: plaintext on 15010, TLS with its own CA on 15012.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::kubernetes::Kubernetes;
use crate::namespace::POD_V4;
use crate::run::Running;
use crate::wait::must;
use crate::{Finished, Pod};

/// istiod's port with TLS, under the name that its certificate carries. The `/etc/hosts` of a [`Pod::in_cluster`] has it.
pub const ISTIOD_TLS_URL: &str = "https://istiod.istio-system.svc:15012";
/// Its ports for people.
const HTTP: &str = "127.0.0.1:15080";
const READY: Duration = Duration::from_secs(60);

/// A running istiod; it is killed when this is dropped.
#[derive(Debug)]
pub struct Istiod<'pod> {
    pod: &'pod Pod,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
    running: Option<Running>,
}

impl Pod {
    /// The pod `app-0` of the namespace `default`, service account `app`: with the environment that Istio's injection
    /// gives, addresses for endpoints (10.244.1.0/24: the API refuses loopback ones), and names for istiod and for one
    /// endpoint (`backend.test`, 10.244.1.3).
    #[track_caller]
    pub fn in_cluster() -> Self {
        let pod = Self::builder()
            .hosts(&format!(
                "127.0.0.1 localhost istiod.istio-system.svc\n10.244.1.3 backend.test\n::1 localhost\n{POD_V4} app-0\n"
            ))
            .env("POD_NAME", "app-0")
            .env("POD_NAMESPACE", "default")
            .env("SERVICE_ACCOUNT", "app")
            .env("INSTANCE_IP", POD_V4)
            .build();
        pod.ip("route add local 10.244.1.0/24 dev lo");
        pod
    }
}

impl<'pod> Kubernetes<'pod> {
    /// Installs Istio's resource definitions and a mesh configuration (the YAML of `meshConfig`), starts istiod and
    /// waits until it is ready.
    #[track_caller]
    pub fn istiod(&self, mesh_config: &str) -> Istiod<'pod> {
        self.istiod_with(mesh_config, &[])
    }

    /// As [`Kubernetes::istiod`], with more in its environment.
    #[track_caller]
    pub fn istiod_with(&self, mesh_config: &str, environment: &[(&'static str, &'static str)]) -> Istiod<'pod> {
        self.namespace("istio-system");
        self.apply(&must(fs::read_to_string(self.binary("crds.yaml")).context("read crds.yaml")));
        self.mesh_config(mesh_config);
        let mut arguments = vec!["discovery".to_owned(), format!("--kubeconfig={}", self.config().display())];
        arguments.extend(
            [
                "--grpcAddr=:15010",
                "--secureGRPCAddr=:15012",
                "--httpsAddr=127.0.0.1:15017",
                "--monitoringAddr=127.0.0.1:15014",
                "--log_output_level=default:warn",
            ]
            .map(str::to_owned),
        );
        arguments.push(format!("--httpAddr={HTTP}"));
        let program = self.binary("pilot-discovery");
        let environment = environment.to_vec();
        let mut istiod = Istiod { pod: self.pod(), program, arguments, environment, running: None };
        istiod.start();
        istiod
    }

    /// Replaces the mesh configuration; istiod reads it again.
    #[track_caller]
    pub fn mesh_config(&self, yaml: &str) {
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": yaml},
        });
        self.apply(&object.to_string());
    }
}

impl Istiod<'_> {
    /// Starts it again after [`Istiod::kill`].
    #[track_caller]
    pub fn start(&mut self) {
        let mut command = self.pod.command(&self.program);
        command.args(&self.arguments).envs([
            ("POD_NAMESPACE", "istio-system"),
            ("POD_NAME", "istiod-0"),
            ("CLUSTER_ID", "Kubernetes"),
            ("PILOT_CERT_PROVIDER", "istiod"),
        ]);
        command.envs(self.environment.iter().copied());
        let is_ready = |_: &Running| self.get("/ready").is_ok();
        self.running = Some(self.pod.start_until("an istiod that is ready", READY, &mut command, is_ready));
    }

    /// Kills it with SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(Signal::KILL);
            running.finish();
        }
    }

    /// What `istioctl proxy-status` prints: a JSON array with one object a connected client.
    #[track_caller]
    pub fn syncz(&self) -> Value {
        must(self.get("/debug/syncz").and_then(|text| Ok(serde_json::from_str(&text)?)))
    }

    /// Whether a client (`NAME.NAMESPACE`) has acknowledged the last of everything it was sent: `SYNCED` for people.
    #[track_caller]
    pub fn is_synced(&self, client: &str) -> bool {
        let clients = self.syncz();
        let found = clients.as_array().into_iter().flatten().find(|one| one["proxy"] == client);
        let types = found.and_then(|found| found["resources"].as_object());
        types.is_some_and(|types| !types.is_empty() && types.values().all(|one| one["sent"] == one["acked"]))
    }

    /// A page of its debug server.
    fn get(&self, path: &str) -> Result<String> {
        let mut curl = self.pod.command("curl");
        let done = Finished::of(curl.args(["--silent", "--fail", "--max-time", "5", &format!("http://{HTTP}{path}")]));
        ensure!(done.status.success(), "{path}: {done}");
        Ok(done.stdout)
    }
}
