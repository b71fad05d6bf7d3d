//! The webhook as a whole: started, running, shut down.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::certificate::{Certificate, Served, now};
use crate::listen;
use crate::metrics::{CERTIFICATES, Metrics, SETTINGS};
use crate::reload::Reload;
use crate::rotation::{Rotating, Rotation};
use crate::routes::{self, App};

/// Where certificates come from.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// A folder with tls.crt and tls.key.
    Folder(PathBuf),
    /// The webhook's own CA.
    Own(Box<Rotation>),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// For the API server, HTTPS.
    pub listen: SocketAddr,
    /// For kubelet and Prometheus, HTTP.
    pub health_listen: SocketAddr,
    /// A file of the injector's settings.
    pub settings: Option<PathBuf>,
    /// Certificates.
    pub certificates: Certificates,
    /// How often files, or Secret and caBundle, are looked at.
    pub every: Duration,
    /// How long new requests are taken after the end was asked for: until no endpoint names this replica.
    pub drain: Duration,
}

/// Why it does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address is taken, or not ours.
    #[error("cannot listen on {0}: {1}; choose another address")]
    Listen(SocketAddr, io::Error),
    /// The settings are not good.
    #[error("{0}")]
    File(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A running webhook.
#[derive(Debug)]
pub struct Webhook {
    app: Arc<App>,
    address: SocketAddr,
    health_address: SocketAddr,
    drain: Duration,
    admission: (watch::Sender<bool>, JoinHandle<()>),
    health: (watch::Sender<bool>, JoinHandle<()>),
    pollers: Vec<AbortHandle>,
}

impl Webhook {
    /// Listens and serves; files must be good at the start.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::default());
        let served = Arc::new(Served::default());
        let trusted = matches!(options.certificates, Certificates::Folder(_));
        let app = Arc::new(App::new(Arc::clone(&served), Arc::clone(&metrics), trusted));
        let mut reloads = Vec::new();
        if let Some(file) = options.settings {
            let app = Arc::clone(&app);
            let take = move |files: &[Vec<u8>]| app.settings.take(files.first().map_or(&[], Vec::as_slice));
            reloads.push(Reload::new(SETTINGS, file.clone(), vec![file], Arc::clone(&metrics), Box::new(take)));
        }
        let mut rotating = None;
        match options.certificates {
            Certificates::Folder(folder) => reloads.push(of_folder(folder, &served, &metrics)),
            Certificates::Own(rotation) => rotating = Some(Rotating::new(*rotation)),
        }
        for reload in &mut reloads {
            reload.check().map_err(StartError::File)?;
        }
        let (listener, address) = bind(options.listen).await?;
        let (health_listener, health_address) = bind(options.health_listen).await?;
        let every = options.every;
        let mut pollers: Vec<AbortHandle> =
            reloads.into_iter().map(|reload| tokio::spawn(reload.run(every)).abort_handle()).collect();
        if let Some(rotating) = rotating {
            let app = Arc::clone(&app);
            pollers.push(tokio::spawn(async move { rotating.run(&app, every).await }).abort_handle());
        }
        let tls = listen::acceptor(served)?;
        let (stop_admission, stopped) = watch::channel(false);
        let router = routes::admission(Arc::clone(&app));
        let admission = tokio::spawn(listen::serve(listener, Some(tls), router, Arc::clone(&metrics), stopped));
        let (stop_health, stopped) = watch::channel(false);
        let router = routes::health(Arc::clone(&app));
        let health = tokio::spawn(listen::serve(health_listener, None, router, metrics, stopped));
        Ok(Webhook {
            app,
            address,
            health_address,
            drain: options.drain,
            admission: (stop_admission, admission),
            health: (stop_health, health),
            pollers,
        })
    }

    /// Where admission is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are served.
    pub fn health_address(&self) -> SocketAddr {
        self.health_address
    }

    /// Is no longer ready, takes requests for a while, finishes those in flight, and ends.
    pub async fn shut_down(self) {
        self.app.stopping.store(true, Ordering::Relaxed);
        tokio::time::sleep(self.drain).await;
        for poller in self.pollers {
            poller.abort();
        }
        for (stop, task) in [self.admission, self.health] {
            stop.send_replace(true);
            let _ = task.await;
        }
    }
}

fn of_folder(folder: PathBuf, served: &Arc<Served>, metrics: &Arc<Metrics>) -> Reload {
    let files = ["tls.crt", "tls.key"].map(|name| folder.join(name)).into();
    let (served, counted) = (Arc::clone(served), Arc::clone(metrics));
    let take = move |files: &[Vec<u8>]| {
        let [chain, key] = files else { return Err("has no tls.crt and tls.key".to_owned()) };
        let certificate = Certificate::parse(chain, key).map_err(|error| error.to_string())?;
        if certificate.is_over(now()) {
            return Err("tls.crt: is over; put a new certificate there".to_owned());
        }
        served.replace(certificate, &counted);
        Ok(())
    };
    Reload::new(CERTIFICATES, folder, files, Arc::clone(metrics), Box::new(take))
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
