//! A pod's YAML as containers: what kubelet does, as far as the pods of tests need it. Whatever else a pod has is an
//! error that names it, so that no test runs less than it says.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{DEADLINE, Docker, bind};
use crate::artifacts;
use crate::run::{Finished, within};
use crate::wait::must;

/// What `ldmesh inject` makes of a pod; panics where it fails or has something to say.
#[track_caller]
pub fn injected(pod: &str, flags: &[&str]) -> String {
    let folder = must(tempfile::tempdir().map_err(Into::into));
    let file = folder.path().join("pod.yaml");
    must(fs::write(&file, pod).context("write the pod"));
    let mut inject = Command::new(&artifacts::artifacts().ldmesh);
    let done = Finished::of(inject.arg("inject").arg("-f").arg(&file).args(flags).stdin(Stdio::null()));
    assert_eq!(done.stderr, "", "{pod}");
    done.success().to_owned()
}

/// A pod that runs. Its containers end when this is dropped.
#[derive(Debug)]
pub struct ContainerPod<'docker> {
    docker: &'docker Docker,
    /// Of this pod alone: a prefix of its containers and volumes.
    id: String,
    pod: Value,
    folder: TempDir,
    address: String,
    mounts: BTreeMap<String, Mount>,
    containers: Vec<String>,
}

/// How a volume comes into a container.
#[derive(Debug)]
enum Mount {
    /// A folder of this machine.
    Folder(std::path::PathBuf),
    /// A volume of the engine's.
    Memory(String),
}

impl Docker {
    /// Starts a pod: its init containers, one after the other, and its containers.
    #[track_caller]
    pub fn pod(&self, yaml: &str) -> ContainerPod<'_> {
        must(self.try_pod(yaml))
    }

    fn try_pod(&self, yaml: &str) -> Result<ContainerPod<'_>> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mut pod = ContainerPod {
            docker: self,
            id: format!("pod{}", COUNT.fetch_add(1, Ordering::Relaxed)),
            pod: serde_norway::from_str(yaml).context("parse the pod")?,
            folder: tempfile::tempdir()?,
            address: String::new(),
            mounts: BTreeMap::new(),
            containers: Vec::new(),
        };
        fs::set_permissions(pod.folder.path(), Permissions::from_mode(0o755))?;
        for volume in list(&pod.pod["spec"], "volumes") {
            let mount = pod.volume(volume)?;
            pod.mounts.insert(text(&volume["name"])?.to_owned(), mount);
        }
        pod.sandbox()?;
        for container in list(&pod.pod["spec"], "initContainers").to_vec() {
            pod.start(&container, container["restartPolicy"] != "Always")?;
        }
        for container in list(&pod.pod["spec"], "containers").to_vec() {
            pod.start(&container, false)?;
        }
        Ok(pod)
    }
}

impl ContainerPod<'_> {
    /// The container that holds the pod's network and volumes, as the pause container does.
    fn sandbox(&mut self) -> Result<()> {
        let name = format!("{}-sandbox", self.id);
        let mut run = vec!["run".to_owned(), "--detach".to_owned(), "--ipc=shareable".to_owned()];
        // A cluster's resolv.conf, whose server does not answer.
        run.push("--dns=10.96.0.53".to_owned());
        run.extend(["ndots:5", "timeout:1", "attempts:1"].map(|option| format!("--dns-opt={option}")));
        let domains = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"];
        run.extend(domains.map(|domain| format!("--dns-search={domain}")));
        run.extend([format!("--name={name}"), format!("--hostname={}", text(&self.pod["metadata"]["name"])?)]);
        // A tmpfs is there as long as a container has it.
        for (volume, mount) in &self.mounts {
            run.push(mount.flag(&format!("/volumes/{volume}"), false));
        }
        run.extend([Docker::DEBIAN, "sleep", "infinity"].map(str::to_owned));
        self.containers.push(name.clone());
        self.docker_run(&run)?;
        self.address = self.docker.address(&name);
        Ok(())
    }

    fn docker_run(&self, arguments: &[String]) -> Result<String> {
        self.docker.try_run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a container; waits for its good end where it `ends`.
    fn start(&mut self, container: &Value, ends: bool) -> Result<()> {
        let name = self.name(text(&container["name"])?);
        let mut run = vec!["run".to_owned(), format!("--name={name}")];
        if !ends {
            run.push("--detach".to_owned());
        }
        let sandbox = format!("container:{}-sandbox", self.id);
        run.extend([format!("--network={sandbox}"), format!("--ipc={sandbox}")]);
        run.extend(self.security(container)?);
        for variable in list(container, "env") {
            run.push(format!("--env={}={}", text(&variable["name"])?, self.value(variable)?));
        }
        for mount in list(container, "volumeMounts") {
            let volume = self.mounts.get(text(&mount["name"])?).context("a mount without a volume")?;
            run.push(volume.flag(text(&mount["mountPath"])?, mount["readOnly"] == true));
        }
        let mut words = list(container, "command").iter().chain(list(container, "args"));
        if !list(container, "command").is_empty() {
            run.push(format!("--entrypoint={}", text(words.next().unwrap_or(&Value::Null))?));
        }
        run.push(text(&container["image"])?.to_owned());
        for word in words {
            run.push(text(word)?.to_owned());
        }
        self.containers.push(name);
        self.docker_run(&run).map(|_| ())
    }

    /// The flags of a container's security context; what it does not say, the pod's does.
    fn security(&self, container: &Value) -> Result<Vec<String>> {
        let (own, pod) = (&container["securityContext"], &self.pod["spec"]["securityContext"]);
        let either = |field: &str| if own[field].is_null() { &pod[field] } else { &own[field] };
        let mut flags = Vec::new();
        if let Some(user) = either("runAsUser").as_u64() {
            flags.push(format!("--user={user}:{}", either("runAsGroup").as_u64().unwrap_or(0)));
        }
        if let Some(group) = pod["fsGroup"].as_u64() {
            flags.push(format!("--group-add={group}"));
        }
        if own["readOnlyRootFilesystem"] == true {
            flags.push("--read-only".to_owned());
        }
        for capability in list(&own["capabilities"], "drop") {
            flags.push(format!("--cap-drop={}", text(capability)?));
        }
        if own["allowPrivilegeEscalation"] == false {
            flags.push("--security-opt=no-new-privileges".to_owned());
        }
        // What the engine does unless it is told otherwise.
        let profile = either("seccompProfile");
        ensure!(profile.is_null() || profile["type"] == "RuntimeDefault", "seccompProfile {profile}");
        Ok(flags)
    }

    fn value(&self, variable: &Value) -> Result<String> {
        match variable.get("valueFrom") {
            None => Ok(variable["value"].as_str().unwrap_or_default().to_owned()),
            Some(from) => self.field(text(&from["fieldRef"]["fieldPath"])?),
        }
    }

    /// A field by the downward API.
    fn field(&self, path: &str) -> Result<String> {
        let (metadata, spec) = (&self.pod["metadata"], &self.pod["spec"]);
        Ok(match path {
            "metadata.name" => text(&metadata["name"])?.to_owned(),
            "metadata.namespace" => metadata["namespace"].as_str().unwrap_or("default").to_owned(),
            "spec.serviceAccountName" => spec["serviceAccountName"].as_str().unwrap_or("default").to_owned(),
            "status.podIP" => self.address.clone(),
            "metadata.labels" | "metadata.annotations" => {
                let map = metadata[path.trim_start_matches("metadata.")].as_object();
                let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
                lines.collect::<Vec<_>>().join("\n")
            }
            _ => bail!("the downward API's {path}"),
        })
    }

    fn volume(&self, volume: &Value) -> Result<Mount> {
        let name = text(&volume["name"])?;
        if volume["emptyDir"]["medium"] == "Memory" {
            let size = text(&volume["emptyDir"]["sizeLimit"])?.trim_end_matches('i').to_lowercase();
            let id = format!("{}-{name}", self.id);
            let options = format!("--opt=o=mode=0777,size={size}");
            self.docker.try_run(&["volume", "create", "--opt=type=tmpfs", "--opt=device=tmpfs", &options, &id])?;
            return Ok(Mount::Memory(id));
        }
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder)?;
        if volume["emptyDir"].is_object() {
            // As kubelet makes one: open to all users, not sticky.
            fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
        } else {
            ensure!(volume["downwardAPI"].is_object(), "the volume {volume}");
            for item in list(&volume["downwardAPI"], "items") {
                fs::write(folder.join(text(&item["path"])?), self.field(text(&item["fieldRef"]["fieldPath"])?)?)?;
            }
            fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
        }
        Ok(Mount::Folder(folder))
    }

    /// The pod's address on the bridge.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A container's name to the engine.
    pub fn name(&self, container: &str) -> String {
        format!("{}-{container}", self.id)
    }

    /// Runs a program in a container, with the container's user and environment.
    #[track_caller]
    pub fn exec(&self, container: &str, words: &[&str]) -> Finished {
        let name = self.name(container);
        must(within(&mut self.docker.command(&[&["exec", &name], words].concat()), DEADLINE))
    }

    /// Ends a container and starts it again, as kubelet does one that has died.
    #[track_caller]
    pub fn restart(&self, container: &str) {
        self.docker.run(&["restart", "--time=0", &self.name(container)]);
    }

    /// Waits for the end of a container: its exit status, and all that it wrote.
    #[track_caller]
    pub fn ended(&self, container: &str) -> (String, String) {
        let name = self.name(container);
        (self.docker.run(&["wait", &name]), self.docker.logs(&name))
    }

    /// The command lines of a container's processes.
    #[track_caller]
    pub fn processes(&self, container: &str) -> Vec<String> {
        let said = self.docker.run(&["top", &self.name(container), "-eo", "pid,args"]);
        let line = |line: &str| Some(line.trim().split_once(' ')?.1.trim().to_owned());
        said.lines().skip(1).filter_map(line).collect()
    }
}

impl Mount {
    fn flag(&self, at: &str, read_only: bool) -> String {
        match self {
            Self::Folder(folder) => bind(folder, at, read_only),
            Self::Memory(id) => {
                let suffix = if read_only { ",readonly" } else { "" };
                format!("--mount=type=volume,src={id},dst={at},volume-nocopy{suffix}")
            }
        }
    }
}

impl Drop for ContainerPod<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for container in &self.containers {
                eprintln!("{container}:\n{}", self.docker.logs(container));
            }
        }
        self.docker.remove(&self.containers);
        for mount in self.mounts.values() {
            if let Mount::Memory(id) = mount {
                let _ = within(&mut self.docker.command(&["volume", "rm", id]), DEADLINE);
            }
        }
    }
}

/// A list of an object; none is an empty one.
fn list<'a>(of: &'a Value, field: &str) -> &'a [Value] {
    of[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}
