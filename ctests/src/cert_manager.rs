//! A real cert-manager, which `scripts/cert-manager.sh` builds, over a pod's [`Kubernetes`].

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::helm::has_helm;
use crate::kubernetes::Kubernetes;
use crate::run::Running;
use crate::wait::must;
use crate::{artifacts, skipped};

/// Whether cert-manager, and what [`has_helm`] asks for, can be had; where not, the calling test counts as skipped.
#[track_caller]
pub fn has_cert_manager() -> bool {
    if !has_helm() {
        return false;
    }
    let folder = folder();
    if let Err(why) = &folder {
        skipped(&format!("no cert-manager: {}", format!("{why:#}").lines().last().unwrap_or_default()));
    }
    folder.is_ok()
}

fn folder() -> Result<PathBuf> {
    artifacts::made_by_script("cert-manager.sh", &[])
}

impl Kubernetes<'_> {
    /// Installs cert-manager's resource definitions, and starts its controllers and its cainjector.
    #[track_caller]
    pub fn cert_manager(&self) -> Running {
        let folder = must(folder());
        self.apply(&must(fs::read_to_string(folder.join("crds.yaml")).context("read crds.yaml")));
        let kinds = ["certificates", "certificaterequests", "issuers", "clusterissuers"];
        let kinds = kinds.map(|kind| format!("crd/{kind}.cert-manager.io"));
        let kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
        self.kubectl(&[&["wait", "--for=condition=established", "--timeout=60s"], &kinds[..]].concat()).success();
        let mut program = self.pod().command(folder.join("cert-manager"));
        Running::start(program.env("KUBECONFIG", self.config()).env("HOME", self.pod().folder()))
    }
}
