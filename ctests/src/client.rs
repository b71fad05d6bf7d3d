//! A long-lived program of the mesh that connects when told.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Process;
use crate::wait::must;
use crate::{Pod, program::c_program};

/// An answer takes no longer, whatever fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// `c/holds_mesh.c` as a client of the greeter; it is killed when this is dropped.
#[derive(Debug)]
pub struct Client {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Client {
    /// Starts it, preloaded; it has connected once when this returns.
    #[track_caller]
    pub fn start(pod: &Pod) -> Self {
        must(Self::try_start(pod))
    }

    fn try_start(pod: &Pod) -> Result<Self> {
        let mut command = pod.mesh(c_program("holds_mesh"));
        command.args(["greeter", "80"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start a client")?;
        let (input, output) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        let (told, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        let client = Self { child, input, lines };
        let (first, ready) = (client.line()?, client.line()?);
        ensure!(first.starts_with("backend=greeter-") && ready == "ready", "the client says {first:?}, {ready:?}");
        Ok(client)
    }

    /// The program as a process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Tells it to connect once more.
    #[track_caller]
    pub fn ask(&mut self) {
        must(writeln!(self.input, "again").context("tell the client"));
    }

    /// `backend=NAME` that the connect it was told of reached, or `connect=ERRNO`.
    #[track_caller]
    pub fn answer(&self) -> String {
        must(self.line())
    }

    /// Tells it to connect once more, and what that came to.
    #[track_caller]
    pub fn connect(&mut self) -> String {
        self.ask();
        self.answer()
    }

    fn line(&self) -> Result<String> {
        self.lines.recv_timeout(DEADLINE).context("the client does not answer")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
