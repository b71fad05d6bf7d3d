//! A control plane and endpoints as containers on the engine's bridge.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use super::{Docker, bind};
use crate::control_plane::Stats;
use crate::wait::{must, wait_for, wait_until};
use crate::{Manifest, Service, artifacts};

const READY: Duration = Duration::from_secs(20);

/// `ldmesh serve` from the image of ldmesh; of [`Docker::mesh`] over the service `greeter` (10.96.0.10, port 80 to 8080)
/// and the containers that are its endpoints. They end when this is dropped.
#[derive(Debug)]
pub struct ContainerMesh<'docker> {
    docker: &'docker Docker,
    folder: TempDir,
    containers: Vec<String>,
    url: String,
}

impl Docker {
    /// Starts a control plane over a manifest and waits until it serves.
    #[track_caller]
    pub fn serve(&self, manifest: &Manifest) -> ContainerMesh<'_> {
        let mut mesh = self.empty_mesh();
        mesh.serve(manifest);
        mesh
    }

    fn empty_mesh(&self) -> ContainerMesh<'_> {
        let folder = must(tempfile::tempdir().map_err(Into::into));
        ContainerMesh { docker: self, folder, containers: Vec::new(), url: String::new() }
    }

    /// Starts a mesh with `count` greeters, which answer HTTP with `greeter-N`, and waits until it serves.
    #[track_caller]
    pub fn mesh(&self, count: usize) -> ContainerMesh<'_> {
        let mut mesh = self.empty_mesh();
        let addresses: Vec<_> = (1..=count).map(|n| mesh.greeter(&format!("greeter-{n}"))).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        mesh.serve(&Manifest::of(&[Service::new("greeter", "default", &["10.96.0.10"], &addresses)]));
        mesh
    }
}

impl ContainerMesh<'_> {
    /// The control plane, as pods reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    #[track_caller]
    fn greeter(&mut self, name: &str) -> String {
        let backend = must(artifacts::harness_binary("backend"));
        let mount = bind(&backend, "/backend", true);
        let server = ["/backend", "--listen=0.0.0.0:8080", "--name", name];
        let container = self.docker.run(&[&["run", "--detach", &mount, Docker::DEBIAN], &server[..]].concat());
        let docker = self.docker;
        wait_until(
            "a greeter that listens",
            READY,
            || docker.logs(&container),
            || docker.logs(&container).contains("ready"),
        );
        let address = docker.address(&container);
        self.containers.push(container);
        address
    }

    #[track_caller]
    fn serve(&mut self, manifest: &Manifest) {
        let folder = self.folder.path();
        let write = || -> anyhow::Result<()> {
            fs::write(folder.join("mesh.yaml"), manifest.as_str())?;
            // The image's user is none of this machine's.
            Ok(fs::set_permissions(folder, Permissions::from_mode(0o777))?)
        };
        must(write());
        let server = ["serve", "/mesh/mesh.yaml", "--listen=0.0.0.0:15010", "--stats=/mesh/stats.json"];
        let mount = bind(folder, "/mesh", false);
        let container =
            self.docker.run(&[&["run", "--detach", "--read-only", &mount, self.docker.image()], &server[..]].concat());
        self.containers.push(container.clone());
        let logs = || self.docker.logs(&container);
        wait_until("a control plane that serves", READY, logs, || self.try_stats().is_some());
        self.url = format!("http://{}:15010", self.docker.address(&container));
    }

    fn try_stats(&self) -> Option<Stats> {
        Stats::parse(&fs::read_to_string(self.folder.path().join("stats.json")).ok()?).ok()
    }

    /// Waits until the control plane's counters are as `check` wants them.
    #[track_caller]
    pub fn wait_for_stats(&self, what: &str, check: impl Fn(&Stats) -> bool) -> Stats {
        wait_for(what, READY, || format!("{:?}", self.try_stats()), || self.try_stats().filter(&check))
    }
}

impl Drop for ContainerMesh<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for container in &self.containers {
                eprintln!("{container}:\n{}", self.docker.logs(container));
            }
        }
        self.docker.remove(&self.containers);
    }
}
