//! What a cluster does for a Deployment, as far as it can be had without nodes: the pod object, its volumes, its service
//! account's token, its environment, its process, and the endpoints of its Service.
//!
//! All replicas share the network and the root of the test's [`Pod`], so that a listener at `0.0.0.0` gets the
//! replica's own address, and a volume is a folder of the test's: `args` that name its mount point name that. The
//! container's entry point is `ldmesh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kubernetes::Kubernetes;
use crate::run::Running;
use crate::wait::must;
use crate::{Finished, Pod, artifacts, can_map_users};

const READY: Duration = Duration::from_secs(60);
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A running replica; it is killed when this is dropped.
#[derive(Debug)]
pub struct Replica<'pod> {
    pod: &'pod Pod,
    /// The name of its pod.
    pub name: String,
    /// Its own address.
    pub address: String,
    /// Where its readiness probe asks.
    health: u16,
    volumes: PathBuf,
    running: Running,
}

impl<'pod> Kubernetes<'pod> {
    /// Makes a pod of a Deployment's template, runs it at an address of its own, and waits for its probes.
    #[track_caller]
    pub fn replica(&self, namespace: &str, deployment: &str, address: &str) -> Replica<'pod> {
        let found = self.get(&["deployment", deployment, "--namespace", namespace]);
        let template = &found["spec"]["template"];
        let container = &template["spec"]["containers"][0];
        let replica = must(self.start_replica(namespace, deployment, template, address));
        let dump =
            || format!("{}\n{}", self.pod().dump(), replica.get("/metrics").unwrap_or_else(|why| why.to_string()));
        for probe in ["readinessProbe", "livenessProbe"] {
            let probe = &container[probe]["httpGet"];
            let port = must(port(container, &probe["port"]));
            let path = must(probe["path"].as_str().context("a probe's path"));
            let what = format!("{} answers at {port}{path}", replica.name);
            crate::wait_until(&what, READY, dump, || replica.get_from(port, path).is_ok());
        }
        replica
    }

    #[track_caller]
    fn start_replica(
        &self,
        namespace: &str,
        deployment: &str,
        template: &Value,
        address: &str,
    ) -> Result<Replica<'pod>> {
        let name = format!("{deployment}-{}", address.replace('.', "-"));
        let mut object =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!(namespace);
        self.kubectl_with(&["replace", "--force", "--grace-period=0"], &object.to_string()).success();

        let spec = &template["spec"];
        let volumes = self.pod().folder().join(&name);
        let replica_volumes = self.mount(namespace, spec, &volumes)?;
        if spec["automountServiceAccountToken"] != json!(false) {
            let account = spec["serviceAccountName"].as_str().unwrap_or("default");
            let token = self.token(namespace, account, ISSUER);
            for (file, text) in
                [("token", &token), ("ca.crt", &self.certificate()?), ("namespace", &namespace.to_owned())]
            {
                self.pod().project(&format!("kubernetes.io/serviceaccount/{file}"), text);
            }
        }

        let container = &spec["containers"][0];
        let health = port(container, &container["readinessProbe"]["httpGet"]["port"])?;
        let program = &artifacts::artifacts().ldmesh;
        let user = spec["securityContext"]["runAsUser"].as_u64().and_then(|user| u32::try_from(user).ok());
        let mut command = match user.filter(|_| can_map_users()) {
            Some(user) => self.pod().command_as(user, program),
            None => self.pod().command(program),
        };
        for argument in container["args"].as_array().context("no args")? {
            let argument = argument.as_str().context("an argument")?;
            let argument = replica_volumes.iter().fold(argument.to_owned(), |argument, (mount, folder)| {
                argument.replace(&format!("={mount}"), &format!("={}", folder.display()))
            });
            command.arg(argument.replace("=0.0.0.0:", &format!("={address}:")));
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().context("a variable")?;
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.namespace") => namespace,
                Some(other) => anyhow::bail!("{name}: no {other} here"),
                None => variable["value"].as_str().unwrap_or_default(),
            };
            command.env(name, value);
        }
        command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", "6443");
        let running = Running::start(&mut command);
        Ok(Replica { pod: self.pod(), name, address: address.to_owned(), health, volumes, running })
    }

    /// Writes the volumes of a pod; gives their mount points in the first container.
    fn mount(&self, namespace: &str, spec: &Value, at: &Path) -> Result<Vec<(String, PathBuf)>> {
        let mut mounts = Vec::new();
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            let name = volume["name"].as_str().context("a volume's name")?;
            let folder = at.join(name);
            fs::create_dir_all(&folder)?;
            if let Some(map) = volume["configMap"]["name"].as_str() {
                let map = self.get(&["configmap", map, "--namespace", namespace]);
                for (file, text) in map["data"].as_object().into_iter().flatten() {
                    // As kubelet does it: the new text is there at once.
                    let new = folder.join(format!(".{file}.new"));
                    fs::write(&new, text.as_str().context("text")?)?;
                    fs::rename(&new, folder.join(file))?;
                }
            } else if let Some(secret) = volume["secret"]["secretName"].as_str() {
                for file in ["tls.crt", "tls.key"] {
                    let path = format!("go-template={{{{index .data \"{file}\" | base64decode}}}}");
                    let done = self.kubectl(&["get", "secret", secret, "--namespace", namespace, "-o", &path]);
                    fs::write(folder.join(file), done.success())?;
                }
            }
            let mounted = spec["containers"][0]["volumeMounts"].as_array().into_iter().flatten();
            let places = mounted.filter(|mount| mount["name"] == name).filter_map(|mount| mount["mountPath"].as_str());
            mounts.extend(places.map(|place| (place.to_owned(), folder.clone())));
        }
        Ok(mounts)
    }

    /// Brings the volumes of a replica up to what its Deployment and their sources are now, as kubelet does after a
    /// while.
    #[track_caller]
    pub fn refresh(&self, namespace: &str, deployment: &str, replica: &Replica<'_>) {
        let found = self.get(&["deployment", deployment, "--namespace", namespace]);
        must(self.mount(namespace, &found["spec"]["template"]["spec"], &replica.volumes));
    }

    /// What the endpoints controller writes for a Service of one port, whose pods there are: the addresses that are
    /// ready.
    #[track_caller]
    pub fn endpoints(&self, namespace: &str, service: &str, addresses: &[&str]) {
        let found = self.get(&["service", service, "--namespace", namespace]);
        let of_service = &found["spec"]["ports"][0];
        let selector = must(found["spec"]["selector"].as_object().context("no selector"));
        let selector: Vec<_> =
            selector.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        let pods = self.get(&["pods", "--namespace", namespace, "--selector", &selector.join(",")]);
        let port = must(port(&pods["items"][0]["spec"]["containers"][0], &of_service["targetPort"]));
        let endpoints: Vec<_> =
            addresses.iter().map(|address| json!({"addresses": [address], "conditions": {"ready": true}})).collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": service, "namespace": namespace, "labels": {"kubernetes.io/service-name": service},
            },
            "ports": [{"name": of_service["name"], "port": port, "protocol": "TCP"}], "endpoints": endpoints,
        });
        self.apply(&slice.to_string());
    }
}

/// The number of a container's port, which others call by its name or its number.
fn port(container: &Value, called: &Value) -> Result<u16> {
    let mut ports = container["ports"].as_array().into_iter().flatten();
    let number = match called.as_str() {
        Some(name) => {
            &ports.find(|port| port["name"] == name).with_context(|| format!("no port {name}"))?["containerPort"]
        }
        None => called,
    };
    let number = number.as_u64().and_then(|number| u16::try_from(number).ok());
    number.with_context(|| format!("no port is {called}"))
}

impl Replica<'_> {
    /// A page of the port that its readiness probe asks.
    pub fn get(&self, path: &str) -> Result<String> {
        self.get_from(self.health, path)
    }

    fn get_from(&self, port: u16, path: &str) -> Result<String> {
        let url = format!("http://{}:{port}{path}", self.address);
        let mut curl = self.pod.command("curl");
        let done = Finished::of(curl.args(["--silent", "--fail", "--max-time", "5", &url]));
        anyhow::ensure!(done.status.success(), "{url}: {done}");
        Ok(done.stdout)
    }

    /// Ends it as kubelet does, with SIGTERM; panics when it takes longer than 30 s.
    #[track_caller]
    pub fn terminate(self) -> Finished {
        self.running.signal(Signal::TERM);
        self.running.finish()
    }
}
