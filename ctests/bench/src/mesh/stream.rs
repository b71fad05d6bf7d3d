//! Delta ADS: what is asked for in one response, and pushes of changed endpoints.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use control_plane::{Synthetic, type_url};
use envoy_types::pb::envoy::config::core::v3::{address, socket_address};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use parking_lot::RwLock;
use prost::Message;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::wire::Books;

/// Pushes that a stream may be behind.
const PUSHES: usize = 1024;
/// Where endpoints are that moved: twice as far as the mesh's own, so that a moved one can move back.
const ELSEWHERE: u32 = 1 << 20;

/// Resources of a type by name, as they are sent.
type Named = BTreeMap<String, Vec<u8>>;

/// What is served.
#[derive(Debug)]
pub struct Content {
    whole: HashMap<&'static str, Named>,
    assignments: RwLock<HashMap<String, Vec<u8>>>,
    pushes: broadcast::Sender<Arc<Vec<usize>>>,
}

impl Content {
    pub fn of(resources: &BTreeMap<&'static str, Named>) -> Result<Self> {
        let mut whole: HashMap<&'static str, Named> =
            resources.iter().map(|(url, named)| (*url, named.clone())).collect();
        let assignments = whole.remove(type_url::ENDPOINT).context("no endpoints")?;
        let assignments = RwLock::new(assignments.into_iter().collect());
        Ok(Content { whole, assignments, pushes: broadcast::channel(PUSHES).0 })
    }

    pub fn services(&self) -> usize {
        self.assignments.read().len()
    }

    /// Gives the first endpoint of a service another address; gives that.
    pub fn replace_first(&self, service: usize) -> Result<Ipv4Addr> {
        let mut assignments = self.assignments.write();
        let bytes = assignments.get_mut(&Synthetic::cluster(service)).context("no such service")?;
        let mut assignment = ClusterLoadAssignment::decode(bytes.as_slice())?;
        let mut endpoints = assignment.endpoints.iter_mut().flat_map(|locality| &mut locality.lb_endpoints);
        let Some(HostIdentifier::Endpoint(endpoint)) = endpoints.next().and_then(|one| one.host_identifier.as_mut())
        else {
            anyhow::bail!("a service without endpoints");
        };
        let Some(address::Address::SocketAddress(socket)) =
            endpoint.address.as_mut().and_then(|address| address.address.as_mut())
        else {
            anyhow::bail!("an endpoint without address");
        };
        let moved = Ipv4Addr::from(u32::from(socket.address.parse::<Ipv4Addr>()?) ^ ELSEWHERE);
        socket.address = moved.to_string();
        debug_assert!(matches!(socket.port_specifier, Some(socket_address::PortSpecifier::PortValue(_))));
        *bytes = assignment.encode_to_vec();
        Ok(moved)
    }

    /// Every stream that subscribed to these services' endpoints gets them.
    pub fn push(&self, services: Vec<usize>) {
        // Without a stream nobody hears it.
        let _ = self.pushes.send(Arc::new(services));
    }

    fn endpoints<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<Resource> {
        let assignments = self.assignments.read();
        let found = names.filter_map(|name| assignments.get_key_value(name));
        found.map(|(name, bytes)| resource(type_url::ENDPOINT, name, bytes)).collect()
    }
}

fn resource(url: &str, name: &str, bytes: &[u8]) -> Resource {
    let any = Any { type_url: url.to_owned(), value: bytes.to_vec() };
    Resource { name: name.to_owned(), version: "1".to_owned(), resource: Some(any), ..Default::default() }
}

/// The service.
pub struct Ads {
    content: Arc<Content>,
    books: Arc<Books>,
}

impl Ads {
    pub fn new(content: Arc<Content>, books: Arc<Books>) -> Self {
        Ads { content, books }
    }
}

type Responses<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.books.streams.fetch_add(1, Ordering::Relaxed);
        let (responses, queue) = mpsc::channel(16);
        let stream = Stream {
            content: Arc::clone(&self.content),
            books: Arc::clone(&self.books),
            asked: HashSet::new(),
            names: HashSet::new(),
            nonce: 0,
            responses,
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

/// One client.
struct Stream {
    content: Arc<Content>,
    books: Arc<Books>,
    /// Types that were answered.
    asked: HashSet<String>,
    /// Endpoints that are subscribed.
    names: HashSet<String>,
    nonce: u64,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

impl Stream {
    async fn run(mut self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        let mut pushes = self.content.pushes.subscribe();
        loop {
            let sent = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.on_request(request).await,
                    Ok(None) | Err(_) => None,
                },
                push = pushes.recv() => match push {
                    Ok(services) => {
                        let names = services.iter().map(|service| Synthetic::cluster(*service));
                        let names: Vec<String> = names.filter(|name| self.names.contains(name)).collect();
                        let changed = self.content.endpoints(names.iter());
                        if changed.is_empty() { Some(()) } else { self.send(type_url::ENDPOINT, changed).await }
                    }
                    Err(_) => None,
                },
            };
            if sent.is_none() {
                return;
            }
        }
    }

    /// `None`: the stream is over.
    async fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Option<()> {
        let url = request.type_url;
        let first = self.asked.insert(url.clone());
        if url == type_url::ENDPOINT {
            for name in &request.resource_names_unsubscribe {
                self.names.remove(name);
            }
            if request.resource_names_subscribe.is_empty() {
                return Some(());
            }
            let wanted = self.content.endpoints(request.resource_names_subscribe.iter());
            self.names.extend(request.resource_names_subscribe);
            return self.send(&url, wanted).await;
        }
        if !first {
            return Some(());
        }
        let named = self.content.whole.get(url.as_str()).into_iter().flatten();
        let all = named.map(|(name, bytes)| resource(&url, name, bytes)).collect();
        self.send(&url, all).await
    }

    async fn send(&mut self, url: &str, resources: Vec<Resource>) -> Option<()> {
        self.nonce += 1;
        let response = DeltaDiscoveryResponse {
            type_url: url.to_owned(),
            resources,
            nonce: self.nonce.to_string(),
            ..Default::default()
        };
        self.books.messages.fetch_add(1, Ordering::Relaxed);
        self.books.largest.fetch_max(response.encoded_len() as u64, Ordering::Relaxed);
        self.responses.send(Ok(response)).await.ok()
    }
}
