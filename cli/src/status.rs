//! `ldmesh status`: what the pod's processes and their leader know.
//!
//! ```text
//! CONTROL, STATE, IMAGE, status.json, journal --gather--> Report --> text, JSON (--json), or metrics
//! ```

mod client_config;
mod gather;
mod metrics;
mod text;

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;
use xds_runtime::config::Settings;
use xds_runtime::leader::status::Status;
use xds_runtime::pod::Pod;

/// Shows the leader, the state of each type, processes, clusters and endpoints.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the report; succeeds whether or not there is a leader.
pub fn run(args: &Args) -> Result<ExitCode> {
    let report = Watched::new()?.report()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", text::render(&report));
    }
    Ok(ExitCode::SUCCESS)
}

/// The pod, looked at now and then.
pub(crate) struct Watched {
    settings: &'static Settings,
    pod: Pod,
}

impl Watched {
    /// The pod of the programs that have the same environment.
    pub fn new() -> Result<Self> {
        let settings: &'static Settings = Box::leak(Box::new(Settings::from_env(std::env::vars_os())));
        if settings.source.is_none() {
            bail!(
                "no control plane is configured, so there is nothing to show: set LDMESH_XDS as the programs have it"
            );
        }
        Ok(Self { settings, pod: Pod::attach(settings)? })
    }

    fn report(&mut self) -> Result<Report> {
        // Somebody took its files away, and others made new ones.
        if self.pod.is_orphaned() {
            self.pod = Pod::attach(self.settings)?;
        }
        gather::gather(&self.pod)
    }

    /// The report as Prometheus text.
    pub fn metrics(&mut self) -> Result<String> {
        self.report().map(metrics::render)
    }
}

/// The report. Ages and remaining times are milliseconds.
#[derive(Debug, Serialize)]
struct Report {
    run_dir: String,
    switch: &'static str,
    left_behind: u64,
    leader: Leader,
    /// What the leader last said; absent before the first one.
    said: Option<Status>,
    image: Option<Image>,
    /// Absent before the first leader.
    state: Option<Tables>,
    processes: Vec<Process>,
    wanted: Vec<Wanted>,
    clusters: Vec<Cluster>,
    /// What the pod has of each resource, as CSDS tells it.
    client_config: client_config::ClientConfig,
}

#[derive(Debug, Serialize)]
struct Leader {
    alive: bool,
    epoch: u32,
    heartbeat_age: Option<u64>,
    /// Since the control plane was last heard; absent = never.
    contact_age: Option<u64>,
    stale: bool,
}

#[derive(Debug, Serialize)]
struct Image {
    term: u32,
    generation: u64,
    age: u64,
    names: u32,
    destinations: u32,
}

/// How full STATE is.
#[derive(Debug, Serialize)]
struct Tables {
    connections: usize,
    slots_used: usize,
    slots: usize,
}

#[derive(Debug, Serialize)]
struct Process {
    pid: u32,
    name: String,
    seen_age: u64,
}

#[derive(Debug, Serialize)]
struct Wanted {
    age: u64,
    answered: bool,
}

#[derive(Debug, Serialize)]
struct Cluster {
    name: String,
    policy: String,
    /// False: endpoints were not received yet.
    endpoints_known: bool,
    active: u64,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Serialize)]
struct Endpoint {
    address: String,
    priority: u32,
    locality: String,
    weight: u32,
    health: String,
    /// Its pod has Istio's sidecar: it takes plain text unless its PeerAuthentication is STRICT.
    takes_mtls: bool,
    picks: u64,
    active: u64,
    successes: u64,
    failures: u64,
    /// Since a success, an ejection or a detection.
    consecutive_failures: u32,
    /// How often it was ejected.
    ejections: u32,
    /// The last ejection was so many base times long; shrinks while it is back.
    ejection_multiplier: u32,
    /// Remaining; absent = not ejected.
    ejected_for: Option<u64>,
    /// The detector that ejected it; absent = not ejected.
    ejected_by: Option<String>,
}
