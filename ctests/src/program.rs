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

/// What a program is compiled by, and so for which libc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Compiler {
    /// For this machine's glibc and newer ones.
    Gcc,
    /// For every glibc since 2.17: zig, as `scripts/build-portable.sh` has it.
    Zig,
    /// For musl.
    MuslGcc,
}

/// The compiled program `ctests/c/NAME.c`; panics with the compiler's words where it fails.
#[track_caller]
pub fn c_program(name: &str) -> PathBuf {
    must(Compiler::Gcc.program(name))
}

impl Compiler {
    /// The compiled program `ctests/c/NAME.c`.
    pub(crate) fn program(self, name: &str) -> Result<PathBuf> {
        static BUILT: Mutex<Option<HashMap<(Compiler, String), PathBuf>>> = Mutex::new(None);
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        let built = built.get_or_insert_default();
        let key = (self, name.to_owned());
        if let Some(program) = built.get(&key) {
            return Ok(program.clone());
        }
        let program = self.compile(name)?;
        built.insert(key, program.clone());
        Ok(program)
    }

    /// The folder of its programs.
    pub(crate) fn folder(self) -> Result<PathBuf> {
        let folder = artifacts::build_dir()?.join(match self {
            Self::Gcc => "",
            Self::Zig => "glibc-2.17",
            Self::MuslGcc => "musl",
        });
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn command(self) -> Result<Command> {
        Ok(match self {
            Self::Gcc => Command::new("gcc"),
            Self::Zig => {
                let mut zig = Command::new(artifacts::made_by_script("portable-tools.sh", &[])?.join("python-zig"));
                // Unlike gcc, zig makes programs check themselves unless told.
                zig.args(["cc", "-target", "x86_64-linux-gnu.2.17", "-fno-sanitize=all"]);
                zig
            }
            Self::MuslGcc => Command::new("musl-gcc"),
        })
    }

    fn compile(self, name: &str) -> Result<PathBuf> {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("c").join(name).with_extension("c");
        let program = self.folder()?.join(name);
        // Test binaries run side by side: each compiles to a name of its own and renames.
        let fresh = program.with_extension(std::process::id().to_string());
        let done = self
            .command()?
            .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
            .arg(&fresh)
            .arg(&source)
            .output()
            .with_context(|| format!("start the compiler {self:?}: scripts/test.sh installs it"))?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        std::fs::rename(&fresh, &program)?;
        Ok(program)
    }
}
