//! A control plane of any size, and the endpoints that it describes: one process, so that the time from a push to the
//! first connection it leads to is taken from one clock.
//!
//! ```text
//! command                          answer, one line of JSON
//! move SERVICE                     first_use_ns: from the push to the first connection at the new endpoint
//! churn CHANGES PUSHES MILLIS      pushes: so many a second with so many changed endpoints each are over
//! books                            streams, bytes, messages; when the last bytes of a response were written
//! ```
//! It speaks delta ADS as istiod does, as far as the leader asks for it: what is asked for is sent in one response.

mod dressed;
mod endpoints;
mod stream;
mod wire;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use control_plane::Synthetic;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::endpoints::Endpoints;
use crate::stream::{Ads, Content};
use crate::wire::{Books, incoming, now_ns};

/// How long a new endpoint may stay without a connection.
const FIRST_USE: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Arguments {
    /// How many.
    services: usize,
    /// Of each.
    endpoints: usize,
    /// One more listener leads to all of them, so that the endpoints of all are subscribed.
    #[arg(long)]
    everything: bool,
    /// Where the control plane listens.
    #[arg(long, default_value = "127.0.0.1:15010")]
    listen: String,
}

struct Mesh {
    content: Arc<Content>,
    books: Arc<Books>,
    endpoints: Endpoints,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mesh = Synthetic::new(arguments.services, arguments.endpoints);
    let content = Arc::new(Content::of(&dressed::resources(&mesh, arguments.everything)?)?);
    let books = Arc::new(Books::default());
    let endpoints = Endpoints::listen(Synthetic::TARGET_PORT).await?;
    let listener = TcpListener::bind(&arguments.listen).await.with_context(|| arguments.listen.clone())?;
    let service = AggregatedDiscoveryServiceServer::new(Ads::new(Arc::clone(&content), Arc::clone(&books)));
    let served = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(incoming(listener, Arc::clone(&books)));
    tokio::spawn(served);
    answer(&json!({ "ready": true }))?;

    let mesh = Mesh { content, books, endpoints };
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = commands.next_line().await? {
        answer(&mesh.obey(&line).await.with_context(|| line.clone())?)?;
    }
    Ok(())
}

fn answer(line: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

impl Mesh {
    async fn obey(&self, line: &str) -> Result<Value> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["move", service] => self.first_use(service.parse()?).await,
            ["churn", changes, pushes, millis] => {
                self.churn(changes.parse()?, pushes.parse()?, Duration::from_millis(millis.parse()?)).await
            }
            ["books"] => Ok(self.books.to_json()),
            _ => bail!("no such command"),
        }
    }

    /// The first endpoint of a service is replaced, and waited for.
    async fn first_use(&self, service: usize) -> Result<Value> {
        let address = self.content.replace_first(service)?;
        let used = self.endpoints.first_connection(address);
        let pushed = now_ns();
        self.content.push(vec![service]);
        let used = timeout(FIRST_USE, used).await.with_context(|| format!("nobody connected to {address}"))??;
        Ok(json!({ "first_use_ns": used.saturating_sub(pushed) }))
    }

    /// Replaces endpoints of one service after the other.
    async fn churn(&self, changes: usize, pushes: u32, time: Duration) -> Result<Value> {
        let (mut ticks, until) = (interval(Duration::from_secs(1) / pushes), Instant::now() + time);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        // The first service is the one that the measurement connects to.
        let mut services = (1..self.content.services()).cycle();
        let mut pushed = 0;
        while Instant::now() < until {
            ticks.tick().await;
            let changed: Vec<usize> = services.by_ref().take(changes.min(self.content.services() - 1)).collect();
            for service in &changed {
                self.content.replace_first(*service)?;
            }
            self.content.push(changed);
            pushed += 1;
        }
        Ok(json!({ "pushes": pushed, "changes": pushed * changes }))
    }
}
