//! Endpoints by the dozen: one process (`ctests/c/greeters.c`) that plays them all, and refuses for some when told.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};

use crate::wait::must;
use crate::{Pod, c_program};

/// The process; it is killed when this is dropped.
#[derive(Debug)]
pub struct Greeters {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Pod {
    /// Starts it, with no endpoint yet.
    #[track_caller]
    pub fn many_greeters(&self) -> Greeters {
        let start = || -> Result<Greeters> {
            let mut command = self.command(c_program("greeters"));
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start greeters")?;
            let commands = child.stdin.take().context("no stdin")?;
            let answers = BufReader::new(child.stdout.take().context("no stdout")?);
            Ok(Greeters { child, commands, answers })
        };
        must(start())
    }
}

impl Greeters {
    /// An endpoint that accepts from now on, and greets with its name.
    #[track_caller]
    pub fn listen(&mut self, name: &str, address: Ipv4Addr, port: u16) {
        must(self.obey(&format!("listen {name} {address} {port}")));
    }

    /// An endpoint that refuses from now on.
    #[track_caller]
    pub fn refuse(&mut self, name: &str) {
        must(self.obey(&format!("refuse {name}")));
    }

    fn obey(&mut self, command: &str) -> Result<()> {
        writeln!(self.commands, "{command}").with_context(|| format!("tell the greeters to {command}"))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(answer.trim() == "ok", "{command}: {answer:?}");
        Ok(())
    }
}

impl Drop for Greeters {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
