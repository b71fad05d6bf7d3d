//! A real CoreDNS, which `scripts/coredns.sh` builds.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Finished, Pod, Running, artifacts, wait_until};

/// A cluster's DNS server: it answers from memory, and says of all else in `cluster.local` that there is no such name.
pub struct CoreDns {
    _running: Running,
}

impl CoreDns {
    /// Its version, as it says.
    ///
    /// # Errors
    /// It cannot be built or run.
    pub fn version() -> Result<String> {
        let told = Command::new(binary()?).args(["-plugins=false", "-version"]).output()?;
        let told = String::from_utf8_lossy(&told.stdout);
        let version = told.lines().find_map(|line| line.strip_prefix("CoreDNS-"));
        Ok(version.context("CoreDNS tells no version")?.to_owned())
    }

    /// Starts it in a pod's network at an address, with these names and their IPv4 addresses.
    ///
    /// # Errors
    /// It cannot be built, or its files cannot be written.
    #[track_caller]
    pub fn start(pod: &Pod, at: &str, names: &[(&str, &str)]) -> Result<Self> {
        let (zone, settings) = (pod.folder().join("cluster.local"), pod.folder().join("Corefile"));
        let records: String = names.iter().map(|(name, address)| format!("{name}. 30 IN A {address}\n")).collect();
        let origin = "cluster.local. 30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 30\n";
        std::fs::write(&zone, format!("{origin}{records}")).context("the zone")?;
        let corefile = format!("cluster.local:53 {{\n  bind {at}\n  file {}\n}}\n", zone.display());
        std::fs::write(&settings, corefile).context("the Corefile")?;
        let mut command = pod.command(binary()?);
        let running = Running::start(command.arg("-conf").arg(&settings));
        let (first, _) = names.first().context("a name")?;
        let answers = || Finished::of(pod.command("getent").args(["ahostsv4", first])).status.success();
        wait_until("CoreDNS", Duration::from_secs(20), || pod.dump(), answers);
        Ok(Self { _running: running })
    }
}

fn binary() -> Result<PathBuf> {
    artifacts::made_by_script("coredns.sh", &[])
}
