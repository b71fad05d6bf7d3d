//! Real server applications inside a pod: started in the foreground, ready when they listen.

use std::fs;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Pod;
use crate::process::Process;
use crate::run::Running;
use crate::wait::{must, wait_until};

const READY: Duration = Duration::from_secs(20);

impl Pod {
    /// Starts a server and waits until somebody in the pod listens at `address`. Panics with what it wrote when it
    /// ends instead.
    #[track_caller]
    pub fn server(&self, command: &mut Command, address: &str) -> Running {
        let place: SocketAddrV4 = must(address.parse().with_context(|| address.to_owned()));
        let listens = |running: &Running| is_listened_at(running.process(), place);
        self.start_until(&format!("a server at {address}"), READY, command, listens)
    }

    /// Starts a program and waits until it is ready. Panics with what it wrote when it ends instead.
    #[track_caller]
    pub(crate) fn start_until(
        &self,
        what: &str,
        deadline: Duration,
        command: &mut Command,
        is_ready: impl Fn(&Running) -> bool,
    ) -> Running {
        let mut running = Running::start(command);
        let settled = || running.has_ended() || is_ready(&running);
        wait_until(what, deadline, || self.dump(), settled);
        if running.has_ended() {
            panic!("not {what}: {}", running.finish());
        }
        running
    }

    /// Writes an application's configuration into the pod's folder: `ctests/apps/NAME`, with `@FOLDER@` and the
    /// other words replaced.
    #[track_caller]
    pub fn config(&self, name: &str, words: &[(&str, &str)]) -> PathBuf {
        must(self.try_config(name, words))
    }

    fn try_config(&self, name: &str, words: &[(&str, &str)]) -> Result<PathBuf> {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("apps").join(name);
        let mut text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
        let folder = self.folder().to_str().context("the pod's folder")?;
        for (word, value) in words.iter().chain(&[("@FOLDER@", folder)]) {
            text = text.replace(word, value);
        }
        ensure!(!text.contains('@'), "{name} has a word that nobody replaced");
        let path = self.folder().join(source.file_name().context("no name")?);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Whether anybody listens at an IPv4 address of the network that `process` is in, on a socket of either family.
pub(crate) fn is_listened_at(process: Process, address: SocketAddrV4) -> bool {
    let v4 = format!("{:08X}", u32::from_le_bytes(address.ip().octets()));
    let port = address.port();
    let locals = [("tcp", format!("{v4}:{port:04X}")), ("tcp6", format!("0000000000000000FFFF0000{v4}:{port:04X}"))];
    locals.iter().any(|(table, local)| {
        let table = fs::read_to_string(format!("/proc/{}/net/{table}", process.0)).unwrap_or_default();
        table.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            // 0A is TCP_LISTEN.
            (words.next(), words.nth(1)) == (Some(local.as_str()), Some("0A"))
        })
    })
}
