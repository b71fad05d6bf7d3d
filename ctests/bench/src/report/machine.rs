//! What was measured on, and with what.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use ctests::CoreDns;

/// This machine in a line: processors, memory, kernel, system.
pub fn description() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory: u64 = memory.split_whitespace().nth(1).context("MemTotal")?.parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let system = fs::read_to_string("/etc/os-release")?;
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Ok(format!(
        "{count} processors ({}), {} GiB, Linux {}, {}",
        model.map_or("unknown", |(_, model)| model),
        memory >> 20,
        kernel.trim(),
        system.unwrap_or("unknown").trim_matches('"')
    ))
}

/// The versions of what is measured, by the packages' names.
pub fn versions() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    found.insert("ldmesh".to_owned(), output("git", &["rev-parse", "--short", "HEAD"])?);
    let envoy = crate::ways::envoy_version()?;
    found.insert("Envoy".to_owned(), envoy);
    found.insert("CoreDNS".to_owned(), CoreDns::version()?);
    let packages = ["curl", "haproxy", "iptables", "libsocket-wrapper", "nginx-common", "proxychains4"];
    for package in packages {
        let version = output("dpkg-query", &["--show", "--showformat=${Version}", package]);
        // Elsewhere than in Debian nobody knows.
        found.insert(package.to_owned(), version.unwrap_or_else(|_| "of this system".to_owned()));
    }
    Ok(found)
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let done = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    anyhow::ensure!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
