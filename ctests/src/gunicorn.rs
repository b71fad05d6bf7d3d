//! gunicorn under a Python that warns of forks beside threads: 3.12 or newer.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::artifacts;
use crate::wait::must;

/// The last whose master has no thread of its own.
const VERSION: &str = "23.0.0";

/// gunicorn in a virtual environment of its own; `None` where there is no such Python.
#[track_caller]
pub fn gunicorn() -> Option<PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    MADE.get_or_init(|| python().map(|python| must(install(&python)))).clone()
}

/// The newest Python on the PATH, or of those that pyenv keeps.
fn python() -> Option<PathBuf> {
    let mut candidates: Vec<_> = ["python3.14", "python3.13", "python3.12", "python3"].map(PathBuf::from).into();
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = pyenv.and_then(|pyenv| std::fs::read_dir(pyenv.join("versions")).ok());
    candidates.extend(versions.into_iter().flatten().flatten().map(|version| version.path().join("bin/python3")));
    candidates.into_iter().find(|python| {
        let new = "import sys, ensurepip; sys.exit(sys.version_info < (3, 12))";
        Command::new(python).args(["-c", new]).output().is_ok_and(|done| done.status.success())
    })
}

fn install(python: &PathBuf) -> Result<PathBuf> {
    let folder = artifacts::build_dir()?.join(format!("gunicorn-{VERSION}"));
    let program = folder.join("bin/gunicorn");
    if !program.is_file() {
        run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&folder))?;
        let mut pip = Command::new(folder.join("bin/pip"));
        run(pip.args(["install", "--quiet", "--disable-pip-version-check", &format!("gunicorn=={VERSION}")]))?;
    }
    Ok(program)
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
