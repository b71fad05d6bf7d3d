//! Servers inside a pod that play the endpoints of services.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::wait::must;
use crate::{Pod, artifacts};

/// How a backend treats its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Answers each HTTP request with `NAME PEER HOST`: the client's address, and the Host that it asked for; then
    /// whom a sidecar says that the client is, where it says it (`X-Forwarded-Client-Cert`).
    Http,
    /// Writes `NAME` on a line, then sends back each line it gets, and closes at `quit`.
    Echo,
    /// Refuses: the port is bound, so that no one else takes it, and nobody listens.
    Refuse,
    /// Never answers a SYN: the queue of the listener is full.
    Hang,
    /// Accepts, and resets the connection at once.
    Reset,
    /// As [`Mode::Echo`], but says its name after 300 ms only.
    Slow,
    /// Accepts, says nothing and never closes, whatever its clients do.
    Hold,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Echo => "echo",
            Self::Refuse => "refuse",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Slow => "slow",
            Self::Hold => "hold",
        }
    }
}

/// A running backend; it is killed when this is dropped.
#[derive(Debug)]
pub struct Backend {
    child: Child,
    accepted: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
}

impl Pod {
    /// Starts an HTTP backend at `address` (`127.0.1.1:8080`) that calls itself `name`.
    #[track_caller]
    pub fn backend(&self, address: &str, name: &str) -> Backend {
        self.backend_of(Mode::Http, address, name)
    }

    /// Starts `greeter-1` to `greeter-COUNT` at 127.0.1.1 to .COUNT, port 8080, as
    /// [`crate::Manifest::greeter`] names them.
    #[track_caller]
    pub fn greeters(&self, mode: Mode, count: u8) -> Vec<Backend> {
        (1..=count).map(|n| self.backend_of(mode, &format!("127.0.1.{n}:8080"), &format!("greeter-{n}"))).collect()
    }

    /// Starts a backend of another kind and waits until it is ready.
    #[track_caller]
    pub fn backend_of(&self, mode: Mode, address: &str, name: &str) -> Backend {
        must(Backend::start(self.command(must(artifacts::harness_binary("backend"))), mode, address, name))
    }

    /// As [`Pod::backend`], with the library.
    #[track_caller]
    pub fn backend_in_mesh(&self, address: &str, name: &str) -> Backend {
        must(Backend::start(self.mesh(must(artifacts::harness_binary("backend"))), Mode::Http, address, name))
    }
}

impl Backend {
    fn start(mut command: Command, mode: Mode, address: &str, name: &str) -> Result<Self> {
        let mut child = command
            .args(["--mode", mode.as_str(), "--listen", address, "--name", name])
            .stdout(Stdio::piped())
            .spawn()
            .context("start a backend")?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let first = lines.next().with_context(|| format!("no backend at {address}"))??;
        anyhow::ensure!(first == "ready", "the backend at {address} said {first}");
        let accepted = Arc::new(AtomicUsize::new(0));
        let peak = Arc::new(AtomicUsize::new(0));
        let (counter, most) = (Arc::clone(&accepted), Arc::clone(&peak));
        // Ends with the backend, whose end closes the pipe.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok).filter(|line| line.starts_with("accepted")) {
                let open = line.rsplit(' ').next().and_then(|open| open.parse().ok());
                most.fetch_max(open.unwrap_or(0), Ordering::SeqCst);
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(Self { child, accepted, peak })
    }

    /// How many connections it has accepted and said so.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The most connections that it had open at one time.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }

    /// The backend as a process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Kills it and waits until its port refuses.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
