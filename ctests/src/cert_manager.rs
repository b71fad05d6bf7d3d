//! A real cert-manager, which `scripts/cert-manager.sh` builds, over a pod's [`Kubernetes`].

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::artifacts;
use crate::helm::has_helm;
use crate::kubernetes::Kubernetes;
use crate::run::Running;
use crate::skip::has;
use crate::wait::must;

/// Whether cert-manager, and what [`has_helm`] asks for, can be had; where not, the calling test counts as skipped.
#[track_caller]
pub fn has_cert_manager() -> bool {
    has_helm() && has("cert-manager", &folder())
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
        Running::start(&mut self.administrator(folder.join("cert-manager")))
    }
}
