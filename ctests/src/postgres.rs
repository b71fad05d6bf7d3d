//! PostgreSQL clusters in a pod's folder, owned by a user who is not root (the server refuses root).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::run::{Finished, Running};
use crate::wait::must;
use crate::{Pod, process};

/// Debian's www-data, which is there whoever installed PostgreSQL: initdb wants a user with a name.
const USER: u32 = 33;

/// A cluster: a folder of data, and whether its programs are preloaded.
#[derive(Debug)]
pub struct Postgres<'pod> {
    pod: &'pod Pod,
    bin: PathBuf,
    data: PathBuf,
    mesh: bool,
}

impl<'pod> Postgres<'pod> {
    /// Names a cluster, which [`Postgres::init`] makes.
    #[track_caller]
    pub fn new(pod: &'pod Pod, name: &str, mesh: bool) -> Self {
        Self { pod, bin: must(bin()), data: pod.folder().join(name), mesh }
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        if self.mesh { self.pod.mesh_as(USER, program) } else { self.pod.command_as(USER, program) }
    }

    /// initdb: a minute's patience, because it is many processes.
    #[track_caller]
    pub fn init(&self) -> Finished {
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--no-instructions", "--auth=trust", "--username=postgres", "--locale=C"]);
        Finished::of_within(initdb.arg("--pgdata").arg(&self.data), Duration::from_secs(60))
    }

    /// Starts the server at an address, with further settings.
    #[track_caller]
    pub fn start(&self, address: &str, settings: &[&str]) -> Running {
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(&self.data).args(["-h", address, "-k", "", "-c", "fsync=off"]);
        for setting in settings {
            postgres.args(["-c", setting]);
        }
        self.pod.server(&mut postgres, &format!("{address}:5432"))
    }

    /// The processes of the server: the postmaster and its children.
    pub fn processes(&self, server: &Running) -> Vec<process::Process> {
        let parent = server.process().0.to_string();
        let mut all = self.pod.processes();
        all.retain(|one| *one == server.process() || one.status("PPid").as_ref() == Some(&parent));
        all
    }
}

/// The programs of the newest PostgreSQL that Debian's packages brought.
fn bin() -> Result<PathBuf> {
    let versions = Path::new("/usr/lib/postgresql");
    let mut found: Vec<_> = std::fs::read_dir(versions).into_iter().flatten().flatten().map(|one| one.path()).collect();
    found.sort();
    found.pop().map(|newest| newest.join("bin")).context("no PostgreSQL: scripts/test.sh installs it")
}
