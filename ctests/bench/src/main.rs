//! Times programs in the mesh beside what they would otherwise run, in namespaces of its own; makes a document of it.
//!
//! ```text
//! measure PART --> target/bench/PART.json --> report --> docs/performance.md, docs/performance/*.svg
//! ```
//! Every figure that is compared is a median of rounds, and every ratio the median of ratios within one round: the
//! speed of a machine drifts.

mod hooks;
mod names;
mod place;
mod programs;
mod report;
mod results;
mod scale;
mod side_by_side;
mod ways;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
struct Arguments {
    /// Where measurements are kept.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures a part and keeps what was seen.
    Measure {
        part: Part,
        /// Once, and briefly: shows that it works, not how fast it is.
        #[arg(long)]
        quick: bool,
        /// Of `side-by-side`, only works and ways whose names contain this; may be given several times.
        #[arg(long)]
        only: Vec<String>,
    },
    /// Makes the document of what was measured, with its plots in a folder beside it.
    Report {
        #[arg(long, default_value = "docs/performance.md")]
        document: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Hooks,
    SideBySide,
    Names,
    Programs,
    Scale,
}

/// How long is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Long enough to believe.
    Full,
    /// Long enough to run.
    Quick,
}

impl Effort {
    /// Of one measurement.
    pub fn time(self) -> Duration {
        match self {
            Effort::Full => Duration::from_millis(400),
            Effort::Quick => Duration::from_millis(30),
        }
    }

    /// In which all ways take turns.
    pub fn rounds(self) -> u32 {
        match self {
            Effort::Full => 11,
            Effort::Quick => 1,
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Measure { part, quick, only } => {
            let effort = if quick { Effort::Quick } else { Effort::Full };
            let mut results = match part {
                Part::Hooks => hooks::measure(effort),
                Part::SideBySide => side_by_side::measure(effort, &only),
                Part::Names => names::measure(effort),
                Part::Programs => programs::measure(effort),
                Part::Scale => scale::measure(effort),
            }?;
            results.date = today()?;
            results.versions = report::versions()?;
            let part = part.to_possible_value().context("a part without a name")?;
            results.write(&arguments.folder, part.get_name())
        }
        Command::Report { document } => report::write(&arguments.folder, &document),
    }
}

fn today() -> Result<String> {
    let done = std::process::Command::new("date").args(["--utc", "+%F"]).output().context("date")?;
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// The client program.
pub fn load() -> Result<PathBuf> {
    beside("load")
}

/// A program of this crate, built beside this one.
pub fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.is_file(), "{} is missing: cargo build -p bench --bins", path.display());
    Ok(path)
}
