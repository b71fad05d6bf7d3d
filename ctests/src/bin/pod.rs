//! `pod -- CMD`: runs CMD in a pod-like network of its own, for scripts; and, for the harness, the
//! process that holds a pod's namespaces open.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use ctests::namespace::{self, Shape};
use ctests::{Pod, process};

/// Runs a command in a user, network and mount namespace that looks like a pod's and has no route
/// out. Everything the command leaves behind ends with it.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    internal: Option<Internal>,
    #[command(flatten)]
    shape: ShapeArgs,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Subcommand)]
enum Internal {
    /// Makes a pod, says `ready`, and keeps it until standard input ends.
    #[command(hide = true)]
    Hold(ShapeArgs),
    /// Maps the ids of a process when standard input ends.
    #[command(hide = true)]
    Map { pid: u32 },
}

#[derive(Args)]
struct ShapeArgs {
    /// The pod's host name.
    #[arg(long, default_value = "app-0")]
    hostname: String,
    /// A file to put in the place of /etc/resolv.conf [default: a cluster's].
    #[arg(long)]
    resolv_conf: Option<PathBuf>,
    /// A file to put in the place of /etc/hosts [default: the pod's own name only].
    #[arg(long)]
    hosts: Option<PathBuf>,
    /// The size of the tmpfs at /run/ldmesh.
    #[arg(long, default_value = "256m")]
    run_dir_size: String,
    /// The root of another system, to be had below /run/other-root.
    #[arg(long)]
    other_root: Option<PathBuf>,
    /// A folder that is seen from the other root, too.
    #[arg(long)]
    shared: Vec<PathBuf>,
    /// No network but lo.
    #[arg(long, hide = true)]
    without_eth0: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.internal {
        Some(Internal::Hold(shape)) => hold(shape).map(|()| ExitCode::SUCCESS),
        Some(Internal::Map { pid }) => namespace::map_ids_when_told(pid).map(|()| ExitCode::SUCCESS),
        None => run(cli.shape, &cli.command),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("pod: {error:#}");
        ExitCode::from(125)
    })
}

fn hold(args: ShapeArgs) -> Result<()> {
    let mut helper = Command::new(std::env::current_exe()?);
    helper.arg("map").arg(std::process::id().to_string());
    let shape = Shape {
        hostname: args.hostname,
        resolv_conf: args.resolv_conf,
        hosts: args.hosts,
        run_dir_size: args.run_dir_size,
        other_root: args.other_root,
        shared: args.shared,
        without_eth0: args.without_eth0,
    };
    namespace::enter_new(&shape, helper)?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    process::end_all_others_here(Duration::from_secs(10))
}

/// The holder is another process: when this one dies in any way, the holder sees the end of its
/// standard input and takes everything down.
fn run(args: ShapeArgs, command: &[String]) -> Result<ExitCode> {
    let mut builder = Pod::builder().hostname(&args.hostname).run_dir_size(&args.run_dir_size);
    if let Some(file) = &args.resolv_conf {
        builder = builder.resolv_conf(&std::fs::read_to_string(file)?);
    }
    if let Some(file) = &args.hosts {
        builder = builder.hosts(&std::fs::read_to_string(file)?);
    }
    let pod = builder.try_build()?;
    let (program, rest) = command.split_first().context("no command")?;
    let status = pod.enter(Command::new(program).args(rest)).status().with_context(|| format!("start {program}"))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}
