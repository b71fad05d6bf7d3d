//! Connections: accepted, with or without TLS, until told to stop; then what is in flight finishes.
//!
//! HTTP/1.1 only: the API server speaks nothing else to webhooks, so that its requests spread over replicas.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::certificate::Served;
use crate::connections::{Connections, Seat};
use crate::metrics::Metrics;

/// An API server has as many as admissions at a time, 200 changes by its default. Those of both listeners fit into the
/// 1,024 descriptors that a container has at the least.
const CONNECTIONS: usize = 448;
/// For the TLS handshake, and then for the first request.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// More than the 90 s after which the API server drops an idle connection: who drops first does not lose a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// What of a request is read ahead, for each connection.
const READ_AHEAD: usize = 64 << 10;
/// How long requests in flight may take at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves a router over TLS until `stop` is true or its sender is gone.
pub async fn serve_tls(listener: TcpListener, served: Arc<Served>, router: Router, stop: watch::Receiver<bool>) {
    if let Ok(tls) = acceptor(served) {
        serve(listener, Some(tls), router, Arc::default(), stop).await;
    }
}

/// The same without TLS.
pub async fn serve_http(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    serve(listener, None, router, Arc::default(), stop).await;
}

pub(crate) fn acceptor(served: Arc<Served>) -> Result<TlsAcceptor, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_cert_resolver(served);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A session of a certificate that was replaced is not taken up again.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let connections = Connections::new(CONNECTIONS);
    loop {
        let accept = async {
            let accepted = listener.accept().await;
            (accepted, connections.seat().await)
        };
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept => accepted,
        };
        let (stream, seat) = match accepted {
            (Ok((stream, _)), Some(seat)) => (stream, seat),
            (Ok(_), None) => continue,
            (Err(error), _) => {
                log::warn!("cannot accept a connection: {error}");
                // Most often there is no descriptor left.
                connections.close_oldest();
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, router, metrics, watcher) = (tls.clone(), router.clone(), Arc::clone(&metrics), graceful.watcher());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, tls, router, &metrics, watcher, &seat) => {}
                () = seat.closed() => {}
            }
        });
    }
    drop(listener);
    if timeout(PATIENCE, graceful.shutdown()).await.is_err() {
        log::warn!("some requests did not finish in time");
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    metrics: &Metrics,
    watcher: Watcher,
    seat: &Seat,
) {
    // An answer is one write; nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return speak(stream, router, watcher, seat).await };
    match timeout(START_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => speak(stream, router, watcher, seat).await,
        Ok(Err(error)) => {
            metrics.handshake_failed();
            log::warn!("a TLS handshake failed: {error}");
        }
        Err(_) => metrics.handshake_failed(),
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, router: Router, watcher: Watcher, seat: &Seat) {
    let (router, started) = (TowerToHyperService::new(router), Notify::new());
    let service = service_fn(|request: Request<Incoming>| {
        seat.asked();
        started.notify_one();
        router.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT).max_buf_size(READ_AHEAD);
    let speaking = watcher.watch(http.serve_connection(TokioIo::new(stream), service));
    tokio::pin!(speaking);
    // A client that goes away is no matter.
    tokio::select! {
        _ = &mut speaking => return,
        () = started.notified() => {}
        () = sleep(START_TIMEOUT) => return,
    }
    let _ = speaking.await;
}
