//! A real helm, which `scripts/helm.sh` builds, and the shell of who runs it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::kubernetes::{Kubernetes, has_istio};
use crate::skip::has;
use crate::wait::must;
use crate::{Finished, artifacts};

/// Two busy cores share it with other tests.
const DONE: Duration = Duration::from_secs(120);

/// Whether helm, kube-apiserver and kubectl can be had; where not, the calling test counts as skipped.
#[track_caller]
pub fn has_helm() -> bool {
    has_istio() && has("helm", &binary())
}

fn binary() -> Result<PathBuf> {
    artifacts::made_by_script("helm.sh", &[])
}

impl Kubernetes<'_> {
    /// helm as the administrator.
    #[track_caller]
    pub fn helm(&self, arguments: &[&str]) -> Finished {
        let mut helm = self.administrator(must(binary()));
        Finished::of_within(helm.args(arguments), DONE)
    }

    /// Runs a shell script as the administrator, in the repository's folder, with `helm`, `kubectl` and `ldmesh`. It
    /// ends at the first command that fails.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Finished {
        let parents = [must(binary()), self.binary("kubectl"), artifacts::artifacts().ldmesh.clone()];
        let folders = parents.iter().filter_map(|file| file.parent()).map(|folder| folder.display().to_string());
        let path = folders.collect::<Vec<_>>().join(":");
        let mut bash = self.administrator(PathBuf::from("bash"));
        bash.env("PATH", format!("{path}:/usr/local/bin:/usr/bin:/bin"))
            .env("REPOSITORY", must(artifacts::workspace()));
        let script = format!("set -euo pipefail\ncd \"$REPOSITORY\"\n{script}");
        Finished::of_within(bash.args(["-c", &script]), DONE)
    }

    /// A program inside the pod that is the administrator's.
    pub(crate) fn administrator(&self, program: PathBuf) -> Command {
        let mut command = self.pod().command(program);
        command.env("KUBECONFIG", self.config()).env("HOME", self.pod().folder());
        command
    }
}

/// helm without a cluster, in the chart's folder.
#[track_caller]
pub fn helm_without_cluster(arguments: &[&str]) -> Finished {
    let chart = must(artifacts::workspace()).join("k8s/chart");
    let home = must(tempfile::tempdir().context("a home for helm"));
    let mut helm = Command::new(must(binary()));
    helm.current_dir(chart).env("HOME", home.path()).env_remove("KUBECONFIG").args(arguments);
    Finished::of_within(&mut helm, DONE)
}
