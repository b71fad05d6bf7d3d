//! What the hooks cost, in a pod with a leader and the greeter's three endpoints.
//!
//! Usage: `hooks`: times in nanoseconds, tab-separated: case, through the hook, libc alone, difference.
//!        `hooks --counted FILE`: runs under callgrind, whose dumps are FILE.1, FILE.2 and so on.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use ctests::{CONTROL_PLANE_URL, Finished, Manifest, Pod, Running, artifacts, c_program};

const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    counted: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let pod = Pod::new();
    let _control_plane = pod.serve(&Manifest::greeter(3));
    let _agent = Running::start(&mut pod.ldmesh(&["agent"]));
    let mode = if arguments.counted.is_some() { "count" } else { "time" };
    let mut command = match &arguments.counted {
        Some(file) => under_callgrind(&pod, file)?,
        None => pod.mesh(c_program("hook_costs")),
    };
    command.args([mode, "10.96.0.10", "greeter.default.svc.cluster.local", "192.0.2.7"]);
    let finished = Finished::of_within(command.env("LDMESH_LEAD", "never"), DEADLINE);
    let text = finished.success();
    if arguments.counted.is_none() {
        println!("case\thook ns\tlibc ns\tadded ns\n{text}");
    }
    Ok(())
}

/// The program in the pod under callgrind, which counts where it is told to.
fn under_callgrind(pod: &Pod, file: &std::path::Path) -> Result<Command> {
    let file = std::path::absolute(file).context("the dumps' path")?;
    let mut command = pod.command("valgrind");
    command.args(["--tool=callgrind", "--instr-atstart=no", "--compress-strings=no", "--compress-pos=no"]);
    command.arg(format!("--callgrind-out-file={}", file.display())).arg(c_program("hook_costs"));
    command.env("LD_PRELOAD", &artifacts().library).env("LDMESH_XDS", CONTROL_PLANE_URL);
    Ok(command)
}
