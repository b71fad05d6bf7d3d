//! Kubernetes' API inside a pod: a real kube-apiserver over a real etcd, and kubectl.
//!
//! There is no kubelet and no controller: a test writes Pods with their addresses and EndpointSlices itself, as they
//! would. Nothing here leads to an endpoint; the addresses of Services are the API server's business alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::namespace::POD_V4;
use crate::run::Running;
use crate::skip::has;
use crate::wait::{must, wait_for};
use crate::{Finished, Pod, artifacts};

/// Where it serves.
const API_SERVER: &str = "127.0.0.1:6443";
const ETCD: &str = "127.0.0.1:2379";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The audience of tokens for istiod.
pub const ISTIO_CA: &str = "istio-ca";
/// Where a pod has its token for istiod, below `/run/secrets`.
pub const TOKEN_FILE: &str = "tokens/istio-token";
/// Where a pod has istiod's root certificate, below `/run/secrets`.
pub const ROOT_FILE: &str = "istio/root-cert.pem";
/// Two busy cores share it with other tests.
const READY: Duration = Duration::from_secs(90);

/// Whether a real Istio can be had; where not (no Go, or one that is too old), the calling test counts as skipped.
#[track_caller]
pub fn has_istio() -> bool {
    has("Istio", &binaries())
}

/// The folder that `scripts/istiod.sh` makes.
fn binaries() -> Result<PathBuf> {
    artifacts::made_by_script("istiod.sh", &[])
}

/// A cluster's API; it ends when this is dropped.
#[derive(Debug)]
pub struct Kubernetes<'pod> {
    admin: Kubectl<'pod>,
    binaries: PathBuf,
    folder: PathBuf,
    _etcd: Running,
    _api_server: Running,
}

impl Pod {
    /// Starts etcd and kube-apiserver and waits until the API answers.
    #[track_caller]
    pub fn kubernetes(&self) -> Kubernetes<'_> {
        // The controller of service accounts is not here, and pods are objects only.
        must(Kubernetes::start(self, &["--disable-admission-plugins=ServiceAccount"]))
    }

    /// As [`Pod::kubernetes`], with all that the API server does to a new pod. A namespace needs its service account.
    #[track_caller]
    pub fn kubernetes_with_accounts(&self) -> Kubernetes<'_> {
        must(Kubernetes::start(self, &[]))
    }

    /// As [`Pod::kubernetes_with_accounts`], and admission webhooks are called at the addresses of their Service's
    /// EndpointSlices, as there is no kube-proxy.
    #[track_caller]
    pub fn kubernetes_with_webhooks(&self) -> Kubernetes<'_> {
        must(Kubernetes::start(self, &["--enable-aggregator-routing=true"]))
    }

    /// Puts a file below `/run/secrets` as kubelet projects one: the new text is there at once.
    #[track_caller]
    pub fn project(&self, name: &str, text: &str) {
        let source = self.folder().join("projected");
        must(fs::write(&source, text).context("write a file to project"));
        let mut install = self.command("install");
        install.args(["-D", "--mode=644"]).arg(source).arg(format!("/run/secrets/{name}.new"));
        Finished::of(&mut install).success();
        let paths = [format!("/run/secrets/{name}.new"), format!("/run/secrets/{name}")];
        Finished::of(self.command("mv").args(paths)).success();
    }
}

impl<'pod> Kubernetes<'pod> {
    #[track_caller]
    fn start(pod: &'pod Pod, flags: &[&str]) -> Result<Self> {
        let binaries = binaries()?;
        let folder = pod.folder().join("kubernetes");
        fs::create_dir(&folder)?;
        write_credentials(&folder)?;

        let mut etcd = pod.command("etcd");
        etcd.args(["--log-level", "error", "--data-dir"]).arg(folder.join("etcd"));
        etcd.args([format!("--listen-client-urls=http://{ETCD}"), format!("--advertise-client-urls=http://{ETCD}")]);
        etcd.args(["--listen-peer-urls=http://127.0.0.1:2380"]);
        let etcd = pod.server(&mut etcd, ETCD);

        let mut api_server = pod.command(binaries.join("kube-apiserver"));
        let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
        api_server.args([
            &format!("--etcd-servers=http://{ETCD}"),
            "--bind-address=127.0.0.1",
            // There is no default route that would tell.
            &format!("--advertise-address={POD_V4}"),
            "--secure-port=6443",
            &file("cert-dir", "certificates"),
            &file("token-auth-file", "tokens.csv"),
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            &format!("--service-account-issuer={ISSUER}"),
            &file("service-account-key-file", "accounts.pem"),
            &file("service-account-signing-key-file", "accounts.pem"),
        ]);
        api_server.args(flags);
        let admin = Kubectl { pod, program: binaries.join("kubectl"), config: folder.join("admin.json") };
        let is_ready = |_: &Running| admin.run(&["get", "--raw", "/readyz"]).status.success();
        let api_server = pod.start_until("an API server that is ready", READY, &mut api_server, is_ready);
        Ok(Self { admin, binaries, folder, _etcd: etcd, _api_server: api_server })
    }

    /// Creates or replaces what the YAML documents describe; panics with kubectl's words where they are refused.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        self.with_file(&["apply", "--server-side", "--force-conflicts"], yaml);
    }

    /// Deletes what the YAML documents describe.
    #[track_caller]
    pub fn delete(&self, yaml: &str) {
        self.with_file(&["delete", "--ignore-not-found", "--wait=false"], yaml);
    }

    /// What the API server says against objects that it is asked to create, without creating them: a line each. The
    /// objects of kinds that it does not know, and those that are there already, are left out.
    #[track_caller]
    pub fn refusals(&self, yaml: &str) -> Vec<String> {
        let done = self.kubectl_with(&["create", "--dry-run=server"], yaml);
        let is_other = |line: &&str| !line.contains("AlreadyExists") && !line.contains("no matches for kind");
        let lines: Vec<String> = done.stderr.lines().filter(is_other).map(str::to_owned).collect();
        assert!(!lines.is_empty() || !done.stdout.is_empty(), "nothing was asked for: {done}");
        lines
    }

    /// What kubectl does, as the administrator.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> Finished {
        self.admin.run(arguments)
    }

    /// What kubectl does with YAML documents in a file.
    #[track_caller]
    pub fn kubectl_with(&self, verb: &[&str], yaml: &str) -> Finished {
        let file = self.folder.join("objects.yaml");
        must(fs::write(&file, yaml).context("write objects.yaml"));
        self.admin.run(&[verb, &["--filename", &file.display().to_string()]].concat())
    }

    /// An object as it is now.
    #[track_caller]
    pub fn get(&self, what: &[&str]) -> Value {
        let found = self.admin.run(&[&["get", "-o", "json"], what].concat());
        must(serde_json::from_str(found.success()).context("kubectl's JSON"))
    }

    /// A running Pod as a StatefulSet makes it (`NAME-N`, of the service NAME), its namespace and its service account,
    /// NAME.
    #[track_caller]
    pub fn run_pod(&self, namespace: &str, name: &str, address: &str, labels: &Value) {
        let of = account_of(name);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                "serviceAccountName": of, "hostname": name, "subdomain": of,
                "containers": [{"name": "app", "image": "app"}],
            },
        });
        self.namespace(namespace);
        self.apply(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {of}, namespace: {namespace}}}}}\n---\n{pod}"
        ));
        let status = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
            "status": {
                "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        self.with_file(&["apply", "--server-side", "--force-conflicts", "--subresource=status"], &status.to_string());
    }

    /// Makes sure of a namespace.
    #[track_caller]
    pub fn namespace(&self, name: &str) {
        self.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"));
    }

    /// A token of a service account for an audience, as kubelet projects it.
    #[track_caller]
    pub fn token(&self, namespace: &str, account: &str, audience: &str) -> String {
        let audience = format!("--audience={audience}");
        let made = self.admin.run(&["create", "token", account, "--namespace", namespace, &audience]);
        made.success().to_owned()
    }

    /// A token as [`Kubernetes::token`] gives one for [`ISTIO_CA`], but so many seconds over its time.
    #[track_caller]
    pub fn expired_token(&self, namespace: &str, account: &str, seconds: u64) -> String {
        let uid = self.wait_for(&["serviceaccount", account, "--namespace", namespace], |found| {
            found["metadata"]["uid"].as_str().map(str::to_owned)
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let claims = json!({
            "aud": [ISTIO_CA], "iss": ISSUER, "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "iat": now - 2 * seconds, "nbf": now - 2 * seconds, "exp": now - seconds,
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": uid}},
        });
        must(self.sign(&claims))
    }

    /// A JWT (RFC 7515), signed as the API server signs.
    fn sign(&self, claims: &Value) -> Result<String> {
        let header = json!({"alg": "RS256", "typ": "JWT"});
        let text = [&header, claims].map(|part| base64url(part.to_string().as_bytes())).join(".");
        let file = self.folder.join("to-sign");
        fs::write(&file, &text)?;
        let mut openssl = Command::new("openssl");
        openssl.args(["dgst", "-sha256", "-sign"]).arg(self.folder.join("accounts.pem")).arg(&file);
        Ok(format!("{text}.{}", base64url(&openssl.output()?.stdout)))
    }

    /// Puts what a pod of Istio's injection has where kubelet would mount it: a token of `app` of `default`, and the
    /// root certificate that istiod gives to each namespace.
    #[track_caller]
    pub fn project_credentials(&self) {
        self.pod().project(TOKEN_FILE, &self.token("default", "app", ISTIO_CA));
        self.pod().project(ROOT_FILE, &self.istio_root());
    }

    /// The root certificate of Istio's CA, PEM.
    #[track_caller]
    pub fn istio_root(&self) -> String {
        self.wait_for(&["configmap", "istio-ca-root-cert", "--namespace", "default"], |found| {
            found["data"]["root-cert.pem"].as_str().map(str::to_owned)
        })
    }

    /// An object, once it is there and `check` finds something in it.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &[&str], check: impl Fn(&Value) -> Option<T>) -> T {
        let get = || -> Option<Value> {
            let found = self.admin.run(&[&["get", "-o", "json"], what].concat());
            serde_json::from_str(&found.stdout).ok()
        };
        wait_for(&what.join(" "), READY, || format!("{:?}", get()), || check(&get()?))
    }

    /// A file of `scripts/istiod.sh`.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// The API server's certificate.
    pub(crate) fn certificate(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("certificates/apiserver.crt"))?)
    }

    /// The administrator's credentials.
    pub(crate) fn config(&self) -> &Path {
        &self.admin.config
    }

    /// The pod that all runs in.
    pub fn pod(&self) -> &'pod Pod {
        self.admin.pod
    }

    #[track_caller]
    fn with_file(&self, verb: &[&str], yaml: &str) {
        let done = self.kubectl_with(verb, yaml);
        assert!(done.status.success(), "{verb:?}: {done}\n{yaml}");
    }
}

/// kubectl as a user of the cluster.
#[derive(Debug)]
struct Kubectl<'pod> {
    pod: &'pod Pod,
    program: PathBuf,
    config: PathBuf,
}

impl Kubectl<'_> {
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = self.pod.command(&self.program);
        command.env("KUBECONFIG", &self.config).env("HOME", self.pod.folder()).args(arguments);
        Finished::of_within(&mut command, READY)
    }
}

/// The service account of a pod `ACCOUNT-N`.
pub(crate) fn account_of(pod: &str) -> &str {
    pod.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-')
}

/// The key that signs tokens of service accounts, an administrator's token, and the file that names it.
fn write_credentials(folder: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args(["genrsa", "-traditional", "-out"]).arg(folder.join("accounts.pem")).arg("2048");
    Finished::of(&mut openssl).success();
    fs::write(folder.join("tokens.csv"), "administrator,administrator,administrator,system:masters\n")?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
        "clusters": [{"name": "cluster", "cluster": {
            "server": format!("https://{API_SERVER}"),
            "certificate-authority": folder.join("certificates/apiserver.crt"),
        }}],
        "users": [{"name": "administrator", "user": {"token": "administrator"}}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "administrator"}}],
    });
    Ok(fs::write(folder.join("admin.json"), config.to_string())?)
}

/// RFC 4648, section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    crate::manifest::base64(bytes).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}
