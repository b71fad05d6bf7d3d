//! Programs under another libc than this machine's glibc, with the library as it is shipped.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use crate::program::Compiler;
use crate::run::Finished;
use crate::wait::must;
use crate::{Cell, Pod, portable_library};

/// A libc that a test runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Libc {
    /// Whether it is musl; else it is glibc.
    pub is_musl: bool,
    /// The Debian release it is from; `None` is this machine's.
    pub suite: Option<&'static str>,
}

/// A pod whose programs run with a [`Libc`], preloaded with the portable file.
#[derive(Debug)]
pub struct LibcPod {
    /// The pod; its own commands run in this machine's root.
    pub pod: Pod,
    /// Its libc.
    pub libc: Libc,
    library: PathBuf,
}

impl Libc {
    /// A pod of which `/etc/resolv.conf` names no server that answers.
    #[track_caller]
    pub fn pod(self) -> LibcPod {
        // On a busy machine the first configuration takes longer than programs wait by themselves.
        let mut builder = Pod::builder();
        if let Some(suite) = self.suite {
            let programs = must(self.compiler().folder());
            builder = builder.other_root(&must(crate::artifacts::rootfs(suite)), &[&programs]);
        }
        let pod = builder.build();
        let library = portable_library(pod.folder());
        LibcPod { pod, libc: self, library }
    }

    fn compiler(self) -> Compiler {
        if self.is_musl { Compiler::MuslGcc } else { Compiler::Zig }
    }
}

impl LibcPod {
    /// A command with this libc, not preloaded.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.pod.command(program);
        if self.libc.suite.is_some() {
            // No package has compiled a locale there.
            self.pod.enter_other_root(&mut command).env("LANG", "C");
        }
        command
    }

    /// A command with this libc, preloaded and pointed at the pod's control plane.
    pub fn mesh(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command(program);
        command.env("LD_PRELOAD", &self.library).env("LDMESH_XDS", crate::CONTROL_PLANE_URL);
        command
    }

    /// The program `ctests/c/NAME.c`, compiled for this libc.
    #[track_caller]
    pub fn c_program(&self, name: &str) -> PathBuf {
        must(self.libc.compiler().program(name))
    }

    /// Runs a C program in the mesh.
    #[track_caller]
    pub fn run(&self, name: &str, arguments: &[&str]) -> Finished {
        Finished::of(self.mesh(self.c_program(name)).args(arguments))
    }

    /// Runs a C program outside the mesh.
    #[track_caller]
    pub fn run_without(&self, name: &str, arguments: &[&str]) -> Finished {
        Finished::of(self.command(self.c_program(name)).args(arguments))
    }

    /// The libc as it names itself, and its Debian release: `glibc 2.31 (bullseye)`.
    #[track_caller]
    pub fn name(&self) -> String {
        let said = self.run_without("libc_version", &[]);
        let version =
            said.stdout.lines().find_map(|line| line.strip_prefix("Version ").or(line.strip_prefix("glibc ")));
        let version = version.unwrap_or_else(|| panic!("no version: {said}"));
        let family = if self.libc.is_musl { "musl" } else { "glibc" };
        match self.libc.suite {
            Some(suite) => format!("{family} {version} ({suite})"),
            None => format!("{family} {version}"),
        }
    }

    /// The cell of a test under this libc.
    #[track_caller]
    pub fn cell(&self, test: &str) -> Cell {
        Cell::libc(&self.name(), test)
    }
}
