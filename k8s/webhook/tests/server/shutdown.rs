//! The end: not ready at once, what is in flight finishes, nothing waits for idle connections.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Connection, get, review, tls};
use super::{NAME, files, made, options, until};
use tempfile::TempDir;
use webhook::{Certificates, Webhook};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_finishes_and_an_idle_connection_does_not_hold_it_up() {
    let (folder, made) = (TempDir::new().unwrap(), made());
    files::write(folder.path(), &made);
    let mut options = options(Certificates::Folder(folder.path().to_owned()));
    options.drain = Duration::from_millis(500);
    let webhook = Webhook::start(options).await.unwrap();
    let (address, health) = (webhook.address(), webhook.health_address());
    let mut idle = Connection::open(address, &made.ca).await.unwrap();
    assert!(idle.inject().await.unwrap());

    // Half a request; the rest comes once nobody can connect any more.
    let body = review().to_string();
    let (half, rest) = body.split_at(body.len() / 2);
    let mut stream = tls(address, &made.ca).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST /inject/namespace-enabled HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(half.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();

    let start = Instant::now();
    let ending = tokio::spawn(webhook.shut_down());
    until("it is not ready", || async { get(health, "/readyz").await == (503, "it is shutting down\n".to_owned()) })
        .await;
    // Whoever does not know yet is still served.
    assert!(Connection::open(address, &made.ca).await.unwrap().inject().await.unwrap());
    until("nobody can connect", || async { TcpStream::connect(address).await.is_err() }).await;
    assert!(!ending.is_finished());
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("JSONPatch"), "{answer}");
    ending.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(idle.inject().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_comes_to_its_end_is_given_up() {
    let (webhook, made, _folder) = super::start().await;
    let mut stream = tls(webhook.address(), &made.ca).await.unwrap();
    stream.write_all(b"POST /inject HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{").await.unwrap();
    stream.flush().await.unwrap();
    let start = Instant::now();
    tokio::time::timeout(Duration::from_secs(10), webhook.shut_down()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
}
