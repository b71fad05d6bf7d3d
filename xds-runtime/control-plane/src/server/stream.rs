//! The gRPC service: one task per stream, which moves messages between the client and its session.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::delta::Delta;
use super::session::{Session, Verdict, View};
use super::sotw::Sotw;
use super::{Shared, stats};
use crate::Proxy;

/// Responses that may wait for a slow client before its session waits too; later configurations then coalesce.
const QUEUE: usize = 16;

type Responses<T> = ReceiverStream<Result<T, Status>>;

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Ads {
    shared: Arc<Shared>,
}

impl Ads {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn start<S: Session>(&self, requests: Streaming<S::Request>) -> Response<Responses<S::Response>> {
        let (responses, queue) = mpsc::channel(QUEUE);
        let stream = Stream::<S> {
            books: self.shared.board.open_stream(),
            shared: self.shared.clone(),
            session: S::default(),
            proxy: None,
            responses,
        };
        tokio::spawn(stream.run(requests));
        Response::new(ReceiverStream::new(queue))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(self.start::<Sotw>(request.into_inner()))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(self.start::<Delta>(request.into_inner()))
    }
}

/// One client.
struct Stream<S: Session> {
    shared: Arc<Shared>,
    books: stats::StreamBooks,
    session: S,
    /// Known from the first request on.
    proxy: Option<Proxy>,
    responses: mpsc::Sender<Result<S::Response, Status>>,
}

/// Returns when the server is to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say so.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The stream ended, by the client or by us.
struct Ended;

impl<S: Session> Stream<S> {
    async fn run(mut self, mut requests: Streaming<S::Request>) {
        let mut config = self.shared.config.subscribe();
        let mut stop = self.shared.stop.subscribe();
        loop {
            let step = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.on_request(request).await,
                    Ok(None) | Err(_) => Err(Ended),
                },
                changed = config.changed() => match changed {
                    Ok(()) => self.on_change().await,
                    Err(_) => Err(Ended),
                },
                () = stopped(&mut stop) => Err(Ended),
            };
            if step.is_err() {
                return;
            }
        }
    }

    async fn on_request(&mut self, request: S::Request) -> Result<(), Ended> {
        if let Some(node) = S::node(&request) {
            let proxy = Proxy::of_node(node);
            if self.proxy.is_none() {
                log::info!(
                    "stream {}: node {} in namespace {}",
                    self.books.id(),
                    node.id.escape_debug(),
                    proxy.namespace()
                );
            }
            self.proxy.get_or_insert(proxy);
        }
        let config = self.shared.config.borrow().clone();
        let resources = config.snapshot.resources(self.proxy.get_or_insert_with(Proxy::default));
        let view = View { generation: config.generation, resources: &resources };
        let (responses, verdict) = self.session.request(request, &view);
        if let Some(verdict) = verdict {
            self.note(&verdict);
        }
        self.send(responses).await
    }

    async fn on_change(&mut self) -> Result<(), Ended> {
        // A client that said nothing yet has asked for nothing.
        let Some(proxy) = &self.proxy else {
            return Ok(());
        };
        let config = self.shared.config.borrow().clone();
        let resources = config.snapshot.resources(proxy);
        let responses = self.session.update(&View { generation: config.generation, resources: &resources });
        self.send(responses).await
    }

    fn note(&self, verdict: &Verdict) {
        if let Verdict::Nack { type_url, nonce, message } = verdict {
            log::warn!(
                "stream {}: {} refused with nonce {nonce}: {}",
                self.books.id(),
                stats::short_name(type_url),
                message.escape_debug()
            );
        }
        self.books.verdict(verdict);
    }

    async fn send(&mut self, responses: Vec<S::Response>) -> Result<(), Ended> {
        for response in &responses {
            self.books.pushed(S::type_url(response), response.encoded_len());
        }
        self.books.acked(self.session.acked());
        for response in responses {
            self.responses.send(Ok(response)).await.map_err(|_| Ended)?;
        }
        Ok(())
    }
}
