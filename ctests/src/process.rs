//! Looks at processes through `/proc`: who runs in a pod, their threads, descriptors and memory.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A process, by its id as the test sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process(pub u32);

impl Process {
    /// The calling process.
    pub fn current() -> Self {
        Self(std::process::id())
    }

    fn path(self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.0))
    }

    /// The identity of the network namespace it runs in; `None` once it has gone.
    pub fn network(self) -> Option<PathBuf> {
        fs::read_link(self.path("ns/net")).ok()
    }

    /// Its command line, joined by blanks; empty for a zombie.
    pub fn command_line(self) -> String {
        let raw = fs::read(self.path("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&raw).replace('\0', " ").trim().to_owned()
    }

    /// A field of `/proc/PID/status`, such as `State`, `Threads`, `PPid`, `Uid`.
    pub fn status(self, field: &str) -> Option<String> {
        let text = fs::read_to_string(self.path("status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }

    /// Whether it runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        self.status("State").is_some_and(|state| !state.starts_with(['Z', 'X']))
    }

    /// The names of its threads, sorted.
    pub fn threads(self) -> Vec<String> {
        let tasks = fs::read_dir(self.path("task")).into_iter().flatten().flatten();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        let mut names: Vec<_> = tasks.filter_map(name).map(|name| name.trim().to_owned()).collect();
        names.sort();
        names
    }

    /// What its descriptors lead to, in the order of their numbers.
    pub fn descriptors(self) -> Vec<(u32, PathBuf)> {
        let entries = fs::read_dir(self.path("fd")).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let number = entry.file_name().to_str()?.parse().ok()?;
                Some((number, fs::read_link(entry.path()).ok()?))
            })
            .collect();
        found.sort();
        found
    }

    /// Its proportional share of memory in KiB, as `smaps_rollup` counts it.
    pub fn proportional_kib(self) -> Option<u64> {
        self.rollup("Pss:")
    }

    /// Its share of shared (tmpfs) memory in KiB.
    pub fn proportional_shared_kib(self) -> Option<u64> {
        self.rollup("Pss_Shmem:").or_else(|| self.rollup("Pss_File:"))
    }

    /// What no other process has of its memory in KiB: pages that would be free without it.
    pub fn private_kib(self) -> Option<u64> {
        Some(self.rollup("Private_Clean:")? + self.rollup("Private_Dirty:")?)
    }

    /// What its threads that are there now have used of processors, in nanoseconds: `/proc/PID/task/TID/schedstat`.
    pub fn processor_nanoseconds(self) -> u64 {
        let tasks = fs::read_dir(self.path("task")).into_iter().flatten().flatten();
        let used = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        tasks.filter_map(used).sum()
    }

    fn rollup(self, field: &str) -> Option<u64> {
        let text = fs::read_to_string(self.path("smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// What it has in memory, shared pages included, in KiB.
    pub fn resident_kib(self) -> Option<u64> {
        self.status("VmRSS")?.split_whitespace().next()?.parse().ok()
    }

    /// How many mappings it has.
    pub fn mapping_count(self) -> usize {
        fs::read_to_string(self.path("maps")).unwrap_or_default().lines().count()
    }

    /// The files it has mapped, as `/proc/PID/maps` names them.
    pub fn mapped_files(self) -> Vec<String> {
        let text = fs::read_to_string(self.path("maps")).unwrap_or_default();
        let mut files: Vec<String> = text
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5))
            .filter(|name| name.starts_with('/'))
            .map(str::to_owned)
            .collect();
        files.dedup();
        files
    }

    /// Sends a signal. That it has already gone is no error.
    pub fn signal(self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.0).ok().and_then(Pid::from_raw).context("no process id")?;
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signal process {}", self.0)),
        }
    }
}

/// Every process of this machine that may be looked at.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<_> =
        entries.filter_map(|entry| Some(Process(entry.file_name().to_str()?.parse().ok()?))).collect();
    found.sort();
    found
}

/// Ends every other process in the caller's network namespace and waits until they are gone.
///
/// The namespace is one that the caller made for itself; what runs in it was started for the pod.
pub fn end_all_others_here(deadline: Duration) -> Result<()> {
    let me = Process::current();
    let here = me.network().context("read the own network namespace")?;
    let until = Instant::now() + deadline;
    loop {
        let others: Vec<_> = all()
            .into_iter()
            .filter(|&other| other != me && other.is_alive())
            .filter(|other| other.network().as_ref() == Some(&here))
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("processes {others:?} did not end");
        }
        for other in others {
            other.signal(Signal::KILL)?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
