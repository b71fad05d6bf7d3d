//! `ldmesh install DIR`

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::library::{self, LIBRARY};

/// Puts libldmesh.so and this binary into a folder, for an init container.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder; it is made where it is missing.
    dir: PathBuf,
}

/// Copies both files. Processes that use an older copy keep theirs: each is replaced by a rename.
pub fn run(args: &Args) -> Result<ExitCode> {
    let dir = &args.dir;
    let exe = std::env::current_exe().context("the path of this binary is not known")?;
    let library = library::find()?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (from, name) in [(library, LIBRARY), (exe, "ldmesh")] {
        put(&from, dir, name).with_context(|| format!("cannot put {name} into {}: make it writable", dir.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn put(from: &Path, dir: &Path, name: &str) -> io::Result<()> {
    let mut fresh = NamedTempFile::with_prefix_in(".ldmesh-", dir)?;
    io::copy(&mut File::open(from)?, fresh.as_file_mut())?;
    fresh.as_file().set_permissions(Permissions::from_mode(0o755))?;
    fresh.as_file().sync_all()?;
    fresh.persist(dir.join(name))?;
    Ok(())
}
