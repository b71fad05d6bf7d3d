//! `ldmesh check BINARY...`

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;

use crate::library;
use crate::preloadable::{self, Libc};

/// Says of each program whether it can be preloaded, and why not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Programs, by path or as found in PATH.
    #[arg(required = true)]
    binary: Vec<OsString>,
}

/// One line a program; fails when any cannot be preloaded.
pub fn run(args: &Args) -> Result<ExitCode> {
    let library = library::find().ok();
    let mut out = std::io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    for binary in &args.binary {
        let name = binary.display();
        match preloadable::inspect(binary, library.as_deref()) {
            Ok(Libc::Glibc) => writeln!(out, "{name}: ok")?,
            Ok(Libc::Musl) => writeln!(out, "{name}: ok (musl)")?,
            Err(obstacle) => {
                writeln!(out, "{name}: {obstacle}")?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
