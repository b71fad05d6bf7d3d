//! `ldmesh metrics`: what `ldmesh status` tells, for Prometheus.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::status::Watched;
use crate::{log_lines, signals};

/// Shows the pod's counts as Prometheus text (OpenMetrics).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Serves them at http://ADDR/metrics instead, until SIGINT or SIGTERM. Port 0 picks a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

/// Prints, or serves.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut watched = Watched::new()?;
    match args.listen {
        None => print!("{}", watched.metrics()?),
        Some(address) => serve(address, watched)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(address: SocketAddr, watched: Watched) -> Result<()> {
    log_lines::to_stderr("metrics");
    let watched = Arc::new(Mutex::new(watched));
    let router = Router::new().route("/metrics", get(async move || answer(watched.lock().metrics())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let stop = Arc::new(Notify::new());
        signals::notify_on_stop(Arc::clone(&stop))?;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; choose another address"))?;
        eprintln!("ldmesh: metrics on http://{}/metrics", listener.local_addr()?);
        let (stopping, stopped) = watch::channel(false);
        let serving = tokio::spawn(webhook::serve_http(listener, router, stopped));
        stop.notified().await;
        stopping.send_replace(true);
        serving.await.context("the server failed")
    })
}

fn answer(metrics: Result<String>) -> Response {
    match metrics {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response(),
    }
}
