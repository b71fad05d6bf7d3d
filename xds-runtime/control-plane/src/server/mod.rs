//! The ADS server: sessions (what a stream has and wants), the task that moves bytes, and the books.
//!
//! ```text
//!   Handle::set_snapshot --> watch --> stream task --+--> session (delta | SotW): requests in, responses out
//!                                                    +--> stats: what was pushed, acknowledged, refused
//! ```
//! Sessions are sans-io; a stream task serves one client and holds no lock while it waits.

mod delta;
mod listen;
mod session;
mod sotw;
mod stats;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
pub use listen::{Listener, ServeError};
pub use stats::{AckedType, Stats};
use tokio::sync::watch;

use crate::Snapshot;
use stats::Board;
use stream::Ads;

/// istiod pings its clients this often.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Makes control planes.
#[derive(Debug)]
pub struct Server;

/// Settings of a control plane that is about to serve.
#[derive(Debug, Default)]
pub struct Builder {
    snapshot: Snapshot,
    stats_file: Option<PathBuf>,
}

/// A running control plane; every clone is the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    address: String,
    done: watch::Receiver<bool>,
}

/// A configuration with its place in the order of configurations.
#[derive(Clone, Debug)]
struct Config {
    /// 1 for the first, one more for each that followed.
    generation: u64,
    snapshot: Arc<Snapshot>,
}

#[derive(Debug)]
struct Shared {
    config: watch::Sender<Config>,
    board: Board,
    stop: watch::Sender<bool>,
}

impl Server {
    /// A control plane with an empty configuration, to be completed.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// Serves this configuration first.
    #[must_use]
    pub fn snapshot(mut self, snapshot: Snapshot) -> Self {
        self.snapshot = snapshot;
        self
    }

    /// Keeps [`Stats`] as JSON in this file, replaced as a whole at each change.
    #[must_use]
    pub fn stats_file(mut self, path: Option<PathBuf>) -> Self {
        self.stats_file = path;
        self
    }

    /// Serves on `listener` in tasks of the current tokio runtime until [`Handle::shut_down`].
    pub fn serve(self, listener: Listener) -> Handle {
        let address = listener.address().to_owned();
        let (config, _) = watch::channel(Config { generation: 1, snapshot: Arc::new(self.snapshot) });
        let (stop, _) = watch::channel(false);
        let (finished, done) = watch::channel(false);
        let shared = Arc::new(Shared { config, board: Board::new(&address), stop });
        if let Some(path) = self.stats_file {
            tokio::spawn(stats::write_file(shared.clone(), path));
        }
        let router = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .add_service(AggregatedDiscoveryServiceServer::new(Ads::new(shared.clone())));
        let mut stopped = shared.stop.subscribe();
        tokio::spawn(async move {
            if let Err(error) = listener.run(router, stream::stopped(&mut stopped)).await {
                log::error!("control plane stopped: {error}");
            }
            finished.send_replace(true);
        });
        Handle { shared, address, done }
    }
}

impl Handle {
    /// Where it listens: `host:port`, or `unix:///path`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Replaces the configuration and returns the new generation. Every stream gets what changed for it.
    pub fn set_snapshot(&self, snapshot: Snapshot) -> u64 {
        let snapshot = Arc::new(snapshot);
        let mut generation = 0;
        self.shared.config.send_modify(|config| {
            generation = config.generation.saturating_add(1);
            *config = Config { generation, snapshot };
        });
        self.shared.board.set_generation(generation);
        generation
    }

    /// Fingerprint of the texts behind the configuration.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.shared.config.borrow().snapshot.fingerprint()
    }

    /// Notes that the input is broken; the configuration stays.
    pub fn set_config_error(&self, error: &str) {
        self.shared.board.set_config_error(error);
    }

    /// The books as they are now.
    pub fn stats(&self) -> Stats {
        self.shared.board.read()
    }

    /// Waits until the books satisfy `condition`; the caller sets the deadline.
    pub async fn wait_for(&self, mut condition: impl FnMut(&Stats) -> bool) -> Stats {
        let mut changed = self.shared.board.subscribe();
        loop {
            changed.borrow_and_update();
            let stats = self.stats();
            if condition(&stats) || changed.changed().await.is_err() {
                return stats;
            }
        }
    }

    /// Ends every stream and stops listening; returns when that is done.
    pub async fn shut_down(&self) {
        self.shared.stop.send_replace(true);
        let mut done = self.done.clone();
        // An error means that the task is gone, which is what we wait for.
        let _ = done.wait_for(|done| *done).await;
    }
}
