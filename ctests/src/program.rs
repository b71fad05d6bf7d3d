//! The programs of this crate: `ctests/c`, compiled, one per behaviour; `ctests/apps`, by language.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::artifacts;
use crate::wait::must;

/// The source `ctests/apps/NAME` of a program of some language.
pub fn app(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("apps").join(name)
}

/// A folder that the command which `compiler` makes for it has filled, once in a run of this process.
/// Panics with the compiler's words where it fails.
#[track_caller]
pub fn compiled(name: &str, compiler: impl FnOnce(&Path) -> Command) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(folder) = built.get(name) {
        return folder.clone();
    }
    let folder = must(fill(name, compiler));
    built.insert(name.to_owned(), folder.clone());
    folder
}

fn fill(name: &str, compiler: impl FnOnce(&Path) -> Command) -> Result<PathBuf> {
    let folder = artifacts::build_dir()?.join(name);
    std::fs::create_dir_all(&folder)?;
    let mut compiler = compiler(&folder);
    let done = compiler.output().with_context(|| format!("start {compiler:?}: scripts/test.sh installs it"))?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(folder)
}

/// The compiled program `ctests/c/NAME.c`; panics with the compiler's words where it fails.
#[track_caller]
pub fn c_program(name: &str) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(program) = built.get(name) {
        return program.clone();
    }
    let program = must(compile(name));
    built.insert(name.to_owned(), program.clone());
    program
}

fn compile(name: &str) -> Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("c");
    let source = folder.join(name).with_extension("c");
    let program = artifacts::build_dir()?.join(name);
    // Test binaries run side by side: each compiles to a name of its own and renames.
    let fresh = program.with_extension(std::process::id().to_string());
    let done = Command::new("gcc")
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&fresh)
        .arg(&source)
        .output()
        .context("start gcc: scripts/test.sh installs it")?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::rename(&fresh, &program)?;
    Ok(program)
}
