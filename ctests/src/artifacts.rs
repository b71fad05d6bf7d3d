//! Finds what is under test: the release builds of the library and the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::wait::must;

/// The files under test. They stand side by side, so that the library finds its agent.
#[derive(Debug)]
pub struct Artifacts {
    /// `libldmesh.so`.
    pub library: PathBuf,
    /// `ldmesh`.
    pub ldmesh: PathBuf,
}

/// The release builds in `$LDMESH_TARGET_DIR`, else in `target/release`; panics with a remedy where
/// they are missing.
#[track_caller]
pub fn artifacts() -> &'static Artifacts {
    static FOUND: OnceLock<Artifacts> = OnceLock::new();
    FOUND.get_or_init(|| must(find()))
}

/// The release builds, or why they cannot be had.
pub(crate) fn find() -> Result<Artifacts> {
    let folder = match std::env::var_os("LDMESH_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => target_dir()?.join("release"),
    };
    let folder = folder.canonicalize().unwrap_or(folder);
    let found = Artifacts { library: folder.join("libldmesh.so"), ldmesh: folder.join("ldmesh") };
    for file in [&found.library, &found.ldmesh] {
        ensure!(file.is_file(), "{} is missing: scripts/test.sh builds it", file.display());
    }
    Ok(found)
}

/// Puts `dist/libldmesh-x86_64.so` into `folder` as it is shipped, beside the static `ldmesh`; panics with a
/// remedy where one is missing. Gives the path of the library there.
#[track_caller]
pub fn portable_library(folder: &Path) -> PathBuf {
    must(copy_portable(folder))
}

fn copy_portable(folder: &Path) -> Result<PathBuf> {
    let portable = workspace()?.join("dist/libldmesh-x86_64.so");
    ensure!(portable.is_file(), "{} is missing: scripts/build-portable.sh builds it", portable.display());
    let library = folder.join("libldmesh.so");
    std::fs::copy(portable, &library).context("copy the portable library")?;
    std::fs::copy(find()?.ldmesh, folder.join("ldmesh")).context("copy ldmesh")?;
    Ok(library)
}

/// The root of a Debian release (`bullseye`); unpacked where it is missing.
pub(crate) fn rootfs(suite: &str) -> Result<PathBuf> {
    made_by_script("rootfs.sh", &[suite])
}

/// A program of this crate, built beside the running one (or beside the tests' folder of it).
pub(crate) fn harness_binary(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("`{name}` is not built: cargo build -p ctests --bins"))
}

/// Cargo's target directory.
fn target_dir() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("CARGO_TARGET_DIR") {
        return Ok(PathBuf::from(folder));
    }
    Ok(workspace()?.join("target"))
}

/// Runs a script of the repository's and gives the last line that it printed, a path.
pub(crate) fn made_by_script(name: &str, arguments: &[&str]) -> Result<PathBuf> {
    path_of(&script(name, arguments)?).with_context(|| format!("{name} {arguments:?}"))
}

/// Runs a script of the repository's to its end.
pub(crate) fn script(name: &str, arguments: &[&str]) -> Result<Output> {
    let script = workspace()?.join("scripts").join(name);
    Command::new(&script).args(arguments).output().with_context(|| script.display().to_string())
}

/// The last line that a script printed, a path.
pub(crate) fn path_of(done: &Output) -> Result<PathBuf> {
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = str::from_utf8(&done.stdout)?;
    Ok(PathBuf::from(said.lines().last().context("the script names no path")?))
}

pub(crate) fn workspace() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace's folder")
}

/// A folder in the target directory for what the harness builds.
pub(crate) fn build_dir() -> Result<PathBuf> {
    let folder = target_dir()?.join("ctests");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
