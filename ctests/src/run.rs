//! Running a program to its end within a deadline, or beside the test.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::process::Process;
use crate::wait::must;

const DEADLINE: Duration = Duration::from_secs(30);

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All it wrote to standard output.
    pub stdout: String,
    /// All it wrote to standard error.
    pub stderr: String,
    /// From its start until it ended.
    pub took: Duration,
}

impl Finished {
    /// Runs a command to its end. Panics when it, or whoever else holds its output open, is not
    /// done within 30 s.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        must(within(command, DEADLINE))
    }

    /// Like [`Finished::of`], with another deadline.
    #[track_caller]
    pub fn of_within(command: &mut Command, deadline: Duration) -> Self {
        must(within(command, deadline))
    }

    /// Panics unless the program exited with 0; gives what it wrote, trimmed.
    #[track_caller]
    pub fn success(&self) -> &str {
        assert!(self.status.success(), "{self}");
        self.stdout.trim()
    }

    /// The value after `key=` on the first line of output that has it.
    pub fn field(&self, key: &str) -> Option<&str> {
        self.stdout.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match self.status.signal() {
            Some(signal) => format!("killed by signal {signal}"),
            None => self.status.to_string(),
        };
        write!(f, "{how} after {:?}\nstdout: {}\nstderr: {}", self.took, self.stdout, self.stderr)
    }
}

/// A program that runs beside the test; it is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: Option<(Reader, Reader)>,
    started: Instant,
}

type Reader = JoinHandle<String>;

impl Running {
    /// Starts a command with its output collected.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        must(Self::try_start(command))
    }

    fn try_start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self::of(child))
    }

    /// A program that was started just now. What is left of its output is collected.
    pub fn of(mut child: Child) -> Self {
        let output = (read_all(child.stdout.take()), read_all(child.stderr.take()));
        Self { child, output: Some(output), started: Instant::now() }
    }

    /// The program as a process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Its standard input, when the command asked for a pipe.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        must(self.process().signal(signal));
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for its end; panics when it is not done within 30 s.
    #[track_caller]
    pub fn finish(self) -> Finished {
        must(self.finish_within(DEADLINE))
    }

    fn finish_within(mut self, deadline: Duration) -> Result<Finished> {
        let until = Instant::now() + deadline;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > until {
                self.child.kill()?;
                self.child.wait()?;
                let (stdout, stderr) = self.collected(until + Duration::from_secs(1))?;
                bail!("did not end within {deadline:?}\nstdout: {stdout}\nstderr: {stderr}");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let took = self.started.elapsed();
        let (stdout, stderr) = self.collected(until)?;
        Ok(Finished { status, stdout, stderr, took })
    }

    fn collected(&mut self, until: Instant) -> Result<(String, String)> {
        let Some((stdout, stderr)) = self.output.take() else { bail!("output already taken") };
        while !(stdout.is_finished() && stderr.is_finished()) {
            if Instant::now() > until {
                bail!("the program ended, but another process still holds its output open");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end within a deadline.
pub(crate) fn within(command: &mut Command, deadline: Duration) -> Result<Finished> {
    Running::try_start(command)?.finish_within(deadline).with_context(|| format!("run {:?}", command.get_program()))
}

fn read_all(from: Option<impl Read + Send + 'static>) -> Reader {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What came before an error is still of use.
            let _ = from.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
