//! The sources of `ctests/c` compiled in other ways: as a library to be preloaded, or instrumented.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::artifacts;
use crate::wait::must;

/// `ctests/c/NAME.c` as a shared library, to be preloaded.
#[track_caller]
pub fn c_library(name: &str) -> PathBuf {
    must(compile(name, &format!("lib{name}.so"), &["-shared", "-fPIC", "-lc", "-ldl"]))
}

/// `ctests/c/NAME.c` compiled with `-fsanitize=SANITIZER`.
#[track_caller]
pub fn sanitized_program(name: &str, sanitizer: &str) -> PathBuf {
    let flag = format!("-fsanitize={sanitizer}");
    must(compile(name, &format!("{name}-{sanitizer}"), &[&flag, "-fno-omit-frame-pointer"]))
}

fn compile(name: &str, output: &str, flags: &[&str]) -> Result<PathBuf> {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("c").join(name).with_extension("c");
    let built = artifacts::build_dir()?.join(output);
    // Tests run side by side: each compiles to a name of its own and renames.
    let fresh = tempfile::Builder::new().tempfile_in(artifacts::build_dir()?)?.into_temp_path();
    let done = Command::new("gcc")
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&fresh)
        .arg(&source)
        .args(flags)
        .output()
        .context("start gcc: scripts/test.sh installs it")?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fresh.persist(&built)?;
    Ok(built)
}
