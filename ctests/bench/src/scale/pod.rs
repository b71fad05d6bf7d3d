//! A pod with a large mesh: its control plane and endpoints, its leader, and programs.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ctests::Pod;
use ctests::process::Process;
use serde_json::Value;

use super::SERVICE;
use super::image::{Image, now_ns};
use crate::{beside, load};

/// A first load of a large mesh on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A pod, and the `mesh` process in it.
pub struct Scene {
    pod: Pod,
    mesh: RefCell<Mesh>,
}

struct Mesh {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a program does while it is looked at.
#[derive(Clone, Copy)]
pub enum Lives {
    /// Nothing.
    Idle,
    /// It has a connection open.
    Connected,
}

/// A program that lives until this is dropped.
pub struct Program(Child);

impl Program {
    pub fn process(&self) -> Process {
        Process(self.0.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // That it has ended already is no matter.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Scene {
    /// A pod whose control plane serves so many services of so many endpoints.
    pub fn of(services: usize, endpoints: usize, everything: bool) -> Result<Self> {
        let pod = Pod::builder().run_dir_size("1g").build();
        // Every endpoint is here, at a listener of all addresses.
        pod.ip("route add local 10.128.0.0/9 dev lo\n");
        let mut command = pod.command(beside("mesh")?);
        command.args([services.to_string(), endpoints.to_string()]).args(everything.then_some("--everything"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("mesh")?;
        let commands = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        let mut mesh = Mesh { child, commands, answers };
        mesh.answer()?;
        Ok(Scene { pod, mesh: RefCell::new(mesh) })
    }

    /// A command of `mesh`, and what it says when it is done.
    pub fn ask(&self, command: &str) -> Result<Value> {
        let mut mesh = self.mesh.borrow_mut();
        writeln!(mesh.commands, "{command}")?;
        mesh.answer().with_context(|| command.to_owned())
    }

    /// Programs with an open connection each; the first of a pod starts its leader.
    pub fn programs(&self, count: usize) -> Result<Vec<Program>> {
        (0..count).map(|_| self.program(Lives::Connected, true)).collect()
    }

    /// A program that has got where it wants to be.
    pub fn program(&self, life: Lives, meshed: bool) -> Result<Program> {
        let mut command = if meshed { self.pod.mesh(load()?) } else { self.pod.command(load()?) };
        // An endpoint of the service, for who knows nothing of services.
        let at = if meshed { SERVICE } else { "10.128.0.1:8080" };
        let connections = if matches!(life, Lives::Connected) { "1" } else { "0" };
        command.args(["idle", at, "--connections", connections]);
        let mut program = Program(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        let mut line = String::new();
        BufReader::new(program.0.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "a program ended: {}", self.pod.dump());
        Ok(program)
    }

    /// A program that connects all the time, with pauses in which others get the processor.
    pub fn prober(&self) -> Result<Program> {
        let mut command = self.pod.mesh(load()?);
        command.args(["connect", SERVICE, "--for", "600000", "--pause", "100"]);
        Ok(Program(command.stdout(Stdio::null()).spawn()?))
    }

    /// A program that makes one connection and ends; with a number, it leads itself, in a run directory of its own.
    pub fn short_program(&self, own: Option<u32>) -> Result<()> {
        let mut command = self.pod.mesh(load()?);
        command.args(["connect", "service-0.team-0.svc.cluster.local:80", "--for", "0"]);
        if let Some(nth) = own {
            let folder = self.pod.folder().join(format!("run-{nth}"));
            std::fs::create_dir_all(&folder)?;
            command.env("LDMESH_LEAD", "thread").env("LDMESH_RUN_DIR", folder);
        }
        let done = command.output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// The pod's leader.
    pub fn leader(&self) -> Result<Process> {
        self.pod.agents().first().copied().with_context(|| format!("no leader: {}", self.pod.dump()))
    }

    /// Waits until the leader has had nothing to do but its heartbeat for 3.5 s: after 2.5 s it has given memory back.
    pub fn settle(&self) {
        let until = Instant::now() + DEADLINE;
        let used = || self.leader().map(Process::processor_nanoseconds).unwrap_or_default();
        let mut quiet = 0;
        while quiet < 7 && Instant::now() < until {
            let before = used();
            std::thread::sleep(Duration::from_millis(500));
            quiet = if used().saturating_sub(before) < 20_000_000 { quiet + 1 } else { 0 };
        }
    }

    /// The image that is current.
    pub fn image(&self) -> Result<Image> {
        Image::find(&self.pod.run_dir()).context("no image")
    }

    /// A thread that gives the time at which the first image was there.
    pub fn watch_first_publish(&mut self) -> JoinHandle<Option<u64>> {
        let folder = self.pod.run_dir();
        std::thread::spawn(move || {
            let until = Instant::now() + DEADLINE;
            while Instant::now() < until {
                if Image::find(&folder).is_some() {
                    return Some(now_ns());
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            None
        })
    }

    /// Bytes of all files in the run directory, which are memory too.
    pub fn run_dir_bytes(&self) -> u64 {
        super::image::files(&self.pod.run_dir()).iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum()
    }
}

impl Mesh {
    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("mesh said {line:?}"))
    }
}
