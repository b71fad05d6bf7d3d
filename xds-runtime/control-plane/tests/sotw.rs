//! The state-of-the-world protocol over a real connection.
#![allow(clippy::expect_used)]

mod support;

use control_plane::{Handle, type_url};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use prost::Message;
use support::{http_service, in_time, snapshot, start, wait_for};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

const GREETER: &str = "outbound|80||greeter.default.svc.cluster.local";
const SHOP: &str = "outbound|80||shop.default.svc.cluster.local";

struct Client {
    handle: Handle,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Client {
    async fn connect(handle: &Handle, channel: Channel) -> Self {
        let (requests, queue) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.stream_aggregated_resources(ReceiverStream::new(queue)).await.expect("a stream");
        Self { handle: handle.clone(), requests, responses: responses.into_inner() }
    }

    async fn ask(&self, url: &str, names: &[&str], nonce: &str) {
        let request = DiscoveryRequest {
            node: Some(Node { id: "sidecar~127.0.0.1~p.default~x".to_owned(), ..Node::default() }),
            type_url: url.to_owned(),
            resource_names: names.iter().map(ToString::to_string).collect(),
            response_nonce: nonce.to_owned(),
            ..Default::default()
        };
        self.requests.send(request).await.expect("an open stream");
    }

    async fn receive(&mut self) -> DiscoveryResponse {
        let message = in_time(&self.handle, self.responses.message()).await;
        message.expect("no error").expect("an open stream")
    }
}

#[track_caller]
fn endpoint_names(response: &DiscoveryResponse) -> Vec<String> {
    let decode = |value: &[u8]| ClusterLoadAssignment::decode(value).expect("an assignment").cluster_name;
    response.resources.iter().map(|any| decode(&any.value)).collect()
}

#[tokio::test]
async fn a_client_gets_the_names_it_lists_and_their_changes() {
    let shop = http_service("shop", "10.96.0.11", &["127.0.2.1"]);
    let (handle, channel) = start(&(http_service("greeter", "10.96.0.10", &["127.0.1.1"]) + &shop)).await;
    let mut client = Client::connect(&handle, channel).await;
    client.ask(type_url::ENDPOINT, &[GREETER], "").await;
    let first = client.receive().await;
    assert_eq!(endpoint_names(&first), [GREETER]);
    client.ask(type_url::ENDPOINT, &[GREETER], &first.nonce).await;
    client.ask(type_url::ENDPOINT, &[GREETER, SHOP], &first.nonce).await;
    let both = client.receive().await;
    assert_eq!(endpoint_names(&both), [GREETER, SHOP]);
    client.ask(type_url::ENDPOINT, &[GREETER, SHOP], &both.nonce).await;
    wait_for(&handle, |stats| stats.acks == 3).await;
    handle.set_snapshot(snapshot(&(http_service("greeter", "10.96.0.10", &["127.0.1.9"]) + &shop)));
    let changed = client.receive().await;
    assert_eq!(endpoint_names(&changed), [GREETER, SHOP]);
    assert_ne!(changed.version_info, both.version_info);
}

#[tokio::test]
async fn a_stale_nonce_changes_nothing_and_no_names_unsubscribe() {
    let (handle, channel) = start(&http_service("greeter", "10.96.0.10", &["127.0.1.1"])).await;
    let mut client = Client::connect(&handle, channel).await;
    client.ask(type_url::ENDPOINT, &[GREETER], "").await;
    let first = client.receive().await;
    client.ask(type_url::ENDPOINT, &[GREETER, SHOP], "stale").await;
    client.ask(type_url::ENDPOINT, &[], &first.nonce).await;
    wait_for(&handle, |stats| stats.acks == 1).await;
    handle.set_snapshot(snapshot(&http_service("greeter", "10.96.0.10", &["127.0.1.2"])));
    client.ask(type_url::NAME_TABLE, &[], "").await;
    let next = client.receive().await;
    assert_eq!(next.type_url, type_url::NAME_TABLE, "no endpoints were pushed before it");
}

#[tokio::test]
async fn a_removed_cluster_is_absent_from_the_next_full_set() {
    let shop = http_service("shop", "10.96.0.11", &[]);
    let (handle, channel) = start(&(http_service("greeter", "10.96.0.10", &[]) + &shop)).await;
    let mut client = Client::connect(&handle, channel).await;
    client.ask(type_url::CLUSTER, &[], "").await;
    let first = client.receive().await;
    handle.set_snapshot(snapshot(&shop));
    let second = client.receive().await;
    assert_eq!(second.resources.len() + 1, first.resources.len());
}
