//! Compares what callgrind counted with what is committed; `scripts/instructions.sh` runs it.
//!
//! Usage: `instructions FOLDER BASELINE [--update]`. Exit status 1: a case differs too much.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ctests::Counts;

/// Our own files, by the beginning of their names: the benchmarks of xds-runtime, and the library.
const OURS: [&str; 2] = ["runtime-", "libldmesh.so"];

#[derive(Parser)]
struct Arguments {
    folder: PathBuf,
    baseline: PathBuf,
    #[arg(long)]
    update: bool,
}

fn main() -> Result<ExitCode> {
    let Arguments { folder, baseline, update } = Arguments::parse();
    let now = Counts::read(&folder, &OURS)?;
    let compiler = compiler()?;
    if update {
        let text = format!(
            "# Instructions of one run of each case, in our own code (libc's are left out), x86_64.\n\
             # Made by scripts/instructions.sh --update with {compiler}.\n{}",
            now.text()
        );
        std::fs::write(&baseline, text).with_context(|| baseline.display().to_string())?;
        println!("{} is as it is now", baseline.display());
        return Ok(ExitCode::SUCCESS);
    }
    let committed = std::fs::read_to_string(&baseline).with_context(|| baseline.display().to_string())?;
    let difference = now.since(&Counts::parse(&committed)?);
    println!("{:<52}{:>12}{:>12}{:>8}", "case", "committed", "now", "%");
    print!("{}", difference.table);
    if difference.failures == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!("\n{} cases differ by more than 5 % from {}.", difference.failures, baseline.display());
    if !committed.contains(&compiler) {
        println!("It was made with another compiler than {compiler}.");
    }
    println!("Where that is meant: scripts/instructions.sh --update, and commit what changed with the reason.");
    Ok(ExitCode::FAILURE)
}

/// `rustc 1.95.0`.
fn compiler() -> Result<String> {
    let said = Command::new("rustc").arg("--version").output().context("start rustc")?;
    ensure!(said.status.success(), "rustc --version failed");
    let version: Vec<&str> = str::from_utf8(&said.stdout)?.split_whitespace().take(2).collect();
    Ok(version.join(" "))
}
