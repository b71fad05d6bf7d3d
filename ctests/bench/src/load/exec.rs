//! Runs of a program, from its start until its end was seen.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::samples::Samples;

#[derive(clap::Args)]
pub(crate) struct Exec {
    /// Milliseconds.
    #[arg(long = "for")]
    time: u64,
    /// NAME=VALUE in the environment of the program.
    #[arg(long)]
    env: Vec<String>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    pub fn run(&self) -> Result<()> {
        let (program, arguments) = self.command.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(arguments).envs(self.env.iter().filter_map(|one| one.split_once('=')));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut one = || {
            let status = command.status().with_context(|| program.clone())?;
            ensure!(status.success(), "{program}: {status}");
            Ok(0)
        };
        one()?;
        Samples::of(Duration::from_millis(self.time), one)?.print()
    }
}
