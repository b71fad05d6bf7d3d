//! Runs a program under strace and gives its system calls.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::run::{self, Finished};
use crate::wait::must;
use crate::{CONTROL_PLANE_URL, Pod, artifacts};

/// One system call as strace printed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syscall {
    /// The thread that made it.
    pub thread: u32,
    /// Its start, in microseconds since the epoch.
    pub at_micros: u64,
    /// Its name.
    pub name: String,
    /// Its arguments and result, as printed.
    pub rest: String,
}

/// A traced run.
#[derive(Debug)]
pub struct Trace {
    /// What the program left behind.
    pub finished: Finished,
    /// Its calls and those of its threads and children, in the order in which they began.
    pub calls: Vec<Syscall>,
}

impl Trace {
    /// Runs `program` with `arguments` under strace in the pod, preloaded when `mesh` is set, with
    /// `environment` for the program alone.
    #[track_caller]
    pub fn of(pod: &Pod, mesh: bool, environment: &[(&str, &str)], program: &[&str]) -> Self {
        must(Self::try_of(pod, mesh, environment, program))
    }

    fn try_of(pod: &Pod, mesh: bool, environment: &[(&str, &str)], program: &[&str]) -> Result<Self> {
        let log = tempfile::NamedTempFile::new_in(pod.folder())?;
        let mut strace = pod.command("strace");
        // Strace itself must not be preloaded, so what the program gets goes through -E.
        strace.args(["-f", "-qq", "-ttt", "-s", "200", "-o"]).arg(log.path());
        if mesh {
            let library = artifacts().library.to_str().context("path of the library")?;
            set(&mut strace, "LD_PRELOAD", library);
            set(&mut strace, "LDMESH_XDS", CONTROL_PLANE_URL);
        }
        for (name, value) in environment {
            set(&mut strace, name, value);
        }
        strace.arg("--").args(program);
        let finished = run::within(&mut strace, Duration::from_secs(60))?;
        let text = std::fs::read_to_string(log.path())?;
        let calls: Vec<_> = text.lines().filter_map(parse).collect();
        ensure!(!calls.is_empty(), "strace recorded nothing: {finished}");
        Ok(Self { finished, calls })
    }

    /// The calls of the given names.
    pub fn named<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a Syscall> {
        self.calls.iter().filter(move |call| names.contains(&call.name.as_str()))
    }

    /// The calls' names in order, from the first one for which `from` holds.
    pub fn names_from(&self, from: impl Fn(&Syscall) -> bool) -> Vec<&str> {
        self.calls.iter().skip_while(|call| !from(call)).map(|call| call.name.as_str()).collect()
    }
}

fn set(strace: &mut Command, name: &str, value: &str) {
    strace.arg("-E").arg(format!("{name}={value}"));
}

/// Parses `PID SECONDS.MICROS name(rest`. What resumes a call that was printed before, signals and
/// exits give nothing.
fn parse(line: &str) -> Option<Syscall> {
    let (thread, rest) = line.split_once(' ')?;
    let (at, call) = rest.trim_start().split_once(' ')?;
    let (seconds, micros) = at.split_once('.')?;
    let (name, rest) = call.split_once('(')?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    Some(Syscall {
        thread: thread.parse().ok()?,
        at_micros: seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?,
        name: name.to_owned(),
        rest: rest.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_parsed_and_what_is_no_call_is_left_out() {
        let call = parse("71  1700000000.000012 socket(AF_INET, SOCK_STREAM, 0) = 3").unwrap();
        assert_eq!((call.thread, call.name.as_str()), (71, "socket"));
        assert_eq!(call.at_micros, 1_700_000_000_000_012);
        assert_eq!(call.rest, "AF_INET, SOCK_STREAM, 0) = 3");
        for other in [
            "71 1700000000.000012 <... futex resumed>) = 0",
            "71 1700000000.000012 +++ exited with 0 +++",
            "71 1700000000.000012 --- SIGCHLD {si_signo=SIGCHLD} ---",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
