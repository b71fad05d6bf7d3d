//! A control plane in the test's own process, built on envoy-types: its messages are the reference for ours.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use discovery::aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer};
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use futures_util::Stream;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream, UnixListenerStream};
use tonic::transport::server::Router;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// What the server saw.
#[derive(Debug)]
pub(super) enum Seen {
    /// A delta stream began, with this `authorization`.
    Stream(Option<String>),
    Delta(discovery::DeltaDiscoveryRequest),
    Sotw(discovery::DiscoveryRequest),
}

type Script<T> = Arc<Mutex<VecDeque<UnboundedReceiver<Result<T, Status>>>>>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The test's end of a control plane.
pub(super) struct ControlPlane {
    pub seen: UnboundedReceiver<Seen>,
    delta: Script<discovery::DeltaDiscoveryResponse>,
    sotw: Script<discovery::DiscoveryResponse>,
    service: Option<Service>,
}

struct Service {
    seen: UnboundedSender<Seen>,
    delta: Script<discovery::DeltaDiscoveryResponse>,
    sotw: Script<discovery::DiscoveryResponse>,
}

impl ControlPlane {
    pub(super) fn new() -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        let (delta, sotw) = (Script::default(), Script::default());
        let service = Some(Service { seen: sender, delta: Arc::clone(&delta), sotw: Arc::clone(&sotw) });
        Self { seen, delta, sotw, service }
    }

    /// Lets one more delta stream be opened. Without, delta is unimplemented.
    pub(super) fn expect_delta(&self) -> UnboundedSender<Result<discovery::DeltaDiscoveryResponse, Status>> {
        expect(&self.delta)
    }

    /// Lets one more SotW stream be opened.
    pub(super) fn expect_sotw(&self) -> UnboundedSender<Result<discovery::DiscoveryResponse, Status>> {
        expect(&self.sotw)
    }

    fn router(&mut self, server: Server) -> Router {
        let service = self.service.take().expect("a control plane listens once");
        let mut server = server;
        server.add_service(AggregatedDiscoveryServiceServer::new(service))
    }

    /// Serves plain text on a free port; returns the port.
    pub(super) async fn listen(&mut self) -> u16 {
        let router = self.router(Server::builder());
        Self::serve_tcp(router).await
    }

    /// Serves TLS on a free port; returns the port.
    pub(super) async fn listen_tls(&mut self, certificate: &str, key: &str) -> u16 {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        let router = self.router(Server::builder().tls_config(tls).expect("a usable certificate"));
        Self::serve_tcp(router).await
    }

    /// As [`ControlPlane::listen_tls`], for clients with a certificate of `clients` only.
    pub(super) async fn listen_mutual_tls(&mut self, certificate: &str, key: &str, clients: &str) -> u16 {
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(tonic::transport::Certificate::from_pem(clients));
        let router = self.router(Server::builder().tls_config(tls).expect("usable certificates"));
        Self::serve_tcp(router).await
    }

    async fn serve_tcp(router: Router) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        port
    }

    /// Serves on a Unix socket.
    pub(super) fn listen_unix(&mut self, path: &std::path::Path) {
        let listener = UnixListener::bind(path).expect("a free path");
        let router = self.router(Server::builder());
        tokio::spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
    }
}

fn expect<T>(script: &Script<T>) -> UnboundedSender<Result<T, Status>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    script.lock().unwrap_or_else(PoisonError::into_inner).push_back(receiver);
    sender
}

fn next<T: Send + 'static>(script: &Script<T>) -> Result<Response<Answers<T>>, Status> {
    let answers = script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let answers = answers.ok_or_else(|| Status::unimplemented("not in the script"))?;
    Ok(Response::new(Box::pin(UnboundedReceiverStream::new(answers))))
}

fn watch<T: Send + 'static>(mut requests: Streaming<T>, seen: UnboundedSender<Seen>, wrap: fn(T) -> Seen) {
    tokio::spawn(async move {
        while let Ok(Some(request)) = requests.message().await {
            let _ = seen.send(wrap(request));
        }
    });
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Answers<discovery::DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<discovery::DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<discovery::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let response = next(&self.sotw)?;
        watch(request.into_inner(), self.seen.clone(), Seen::Sotw);
        Ok(response)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<discovery::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let response = next(&self.delta)?;
        let authorization = request.metadata().get("authorization").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let _ = self.seen.send(Seen::Stream(authorization));
        watch(request.into_inner(), self.seen.clone(), Seen::Delta);
        Ok(response)
    }
}
