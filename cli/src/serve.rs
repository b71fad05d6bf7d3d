//! `ldmesh serve PATH...`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use control_plane::{Listener, Server, Source, watch};
use tokio::sync::Notify;

use crate::{log_lines, signals};

/// Serves Kubernetes and Istio YAML as a control plane, and reloads it on change.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and folders (*.yaml, *.yml, *.json in them).
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Where to listen: host:port or unix:///path. Port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:15010")]
    listen: String,
    /// Keeps counters as JSON in this file: streams, pushes, and what clients accepted.
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
}

/// Serves until SIGINT or SIGTERM.
pub fn run(args: &Args) -> Result<ExitCode> {
    log_lines::to_stderr("control_plane");
    let source = Source::new(args.paths.clone());
    let snapshot = source.load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads: is the limit of processes reached?")?;
    runtime.block_on(async {
        let stop = Arc::new(Notify::new());
        signals::notify_on_stop(Arc::clone(&stop))?;
        let listener = Listener::bind(&args.listen).await?;
        for warning in snapshot.warnings() {
            log::warn!("{warning}");
        }
        eprintln!("ldmesh: serving {} services on {}", snapshot.service_count(), listener.address());
        let handle = Server::builder().snapshot(snapshot).stats_file(args.stats.clone()).serve(listener);
        let watching = tokio::spawn(watch(source, handle.clone()));
        stop.notified().await;
        watching.abort();
        handle.shut_down().await;
        Ok(ExitCode::SUCCESS)
    })
}
