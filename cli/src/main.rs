//! The `ldmesh` command. One module a subcommand; each says what it does in its help.
//!
//! Exit status: 0 done, 1 failed, 2 wrong usage. An error is one line on standard error that names
//! the thing and the remedy.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod agent;
mod check;
mod explain;
mod inject;
mod install;
mod library;
mod log_lines;
mod metrics;
mod preloadable;
mod run;
mod serve;
mod signals;
mod status;
mod switch;
mod webhook;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Puts unmodified programs into an xDS service mesh.
#[derive(Debug, Parser)]
#[command(name = "ldmesh", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(agent::Args),
    Run(run::Args),
    Serve(serve::Args),
    Check(check::Args),
    Explain(explain::Args),
    Inject(inject::Args),
    Install(install::Args),
    Metrics(metrics::Args),
    Off(switch::OffArgs),
    On(switch::OnArgs),
    Status(status::Args),
    Webhook(webhook::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Agent(args) => agent::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Inject(args) => inject::run(&args),
        Command::Install(args) => install::run(&args),
        Command::Metrics(args) => metrics::run(&args),
        Command::Off(args) => switch::off(&args),
        Command::On(args) => switch::on(&args),
        Command::Status(args) => status::run(&args),
        Command::Webhook(args) => webhook::run(args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("ldmesh: {error:#}");
        ExitCode::FAILURE
    })
}
