//! The running webhook over real TLS on loopback, with real files, and a stand-in for the API server's objects.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod client;
mod cluster;
mod crowd;
mod files;
mod own;
mod repair;
mod shutdown;

use std::time::Duration;

use tempfile::TempDir;
use webhook::{Certificates, Made, Options, Webhook, make};

const NAME: &str = "ldmesh-webhook.mesh.svc";
const DAY: Duration = Duration::from_secs(86_400);

fn made() -> Made {
    make(&[NAME.to_owned()], std::time::SystemTime::now(), DAY).unwrap()
}

fn options(certificates: Certificates) -> Options {
    Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        health_listen: "127.0.0.1:0".parse().unwrap(),
        settings: None,
        certificates,
        every: Duration::from_millis(20),
        drain: Duration::ZERO,
    }
}

/// A webhook with a certificate of a folder.
async fn start() -> (Webhook, Made, TempDir) {
    let (folder, made) = (TempDir::new().unwrap(), made());
    files::write(folder.path(), &made);
    let webhook = Webhook::start(options(Certificates::Folder(folder.path().to_owned()))).await.unwrap();
    (webhook, made, folder)
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "in 20 s, not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn metric(webhook: &Webhook, line: &str) -> bool {
    let (status, text) = client::get(webhook.health_address(), "/metrics").await;
    assert_eq!(status, 200);
    text.lines().any(|found| found == line)
}
