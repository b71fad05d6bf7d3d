//! The delta protocol over a real connection.
#![allow(clippy::expect_used)]

mod support;

use control_plane::{Handle, type_url};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc::Status;
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
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    async fn connect(handle: &Handle, channel: Channel) -> Self {
        let (requests, queue) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(queue)).await.expect("a stream");
        Self { handle: handle.clone(), requests, responses: responses.into_inner() }
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        let node = Some(Node { id: "sidecar~127.0.0.1~p.default~x".to_owned(), ..Node::default() });
        self.requests.send(DeltaDiscoveryRequest { node, ..request }).await.expect("an open stream");
    }

    async fn subscribe(&self, url: &str, names: &[&str]) {
        let names = names.iter().map(ToString::to_string).collect();
        let url = url.to_owned();
        self.send(DeltaDiscoveryRequest { type_url: url, resource_names_subscribe: names, ..Default::default() }).await;
    }

    async fn unsubscribe(&self, url: &str, names: &[&str]) {
        let names = names.iter().map(ToString::to_string).collect();
        let url = url.to_owned();
        self.send(DeltaDiscoveryRequest { type_url: url, resource_names_unsubscribe: names, ..Default::default() })
            .await;
    }

    async fn receive(&mut self) -> DeltaDiscoveryResponse {
        let message = in_time(&self.handle, self.responses.message()).await;
        message.expect("no error").expect("an open stream")
    }

    async fn receive_and_ack(&mut self) -> DeltaDiscoveryResponse {
        let response = self.receive().await;
        self.reply(&response, None).await;
        response
    }

    async fn reply(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        let error_detail = error.map(|message| Status { code: 3, message: message.to_owned(), details: Vec::new() });
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..Default::default()
        })
        .await;
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

#[track_caller]
fn addresses(response: &DeltaDiscoveryResponse) -> Vec<String> {
    let any = response.resources.first().and_then(|r| r.resource.as_ref()).expect("a resource");
    let assignment = ClusterLoadAssignment::decode(any.value.as_slice()).expect("an assignment");
    let text = format!("{assignment:?}");
    text.split("address: \"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_client_gets_every_cluster_and_only_the_endpoints_it_names() {
    let yaml = http_service("greeter", "10.96.0.10", &["127.0.1.1"]) + &http_service("shop", "10.96.0.11", &[]);
    let (handle, channel) = start(&yaml).await;
    let mut client = Client::connect(&handle, channel).await;
    client.subscribe(type_url::CLUSTER, &[]).await;
    let clusters = client.receive_and_ack().await;
    for name in [GREETER, SHOP, "PassthroughCluster", "BlackHoleCluster"] {
        assert!(names(&clusters).contains(&name), "{name} is missing in {:?}", names(&clusters));
    }
    client.subscribe(type_url::ENDPOINT, &[GREETER]).await;
    let endpoints = client.receive_and_ack().await;
    assert_eq!(names(&endpoints), [GREETER]);
    assert_eq!(addresses(&endpoints), ["127.0.1.1"]);
    let stats = wait_for(&handle, |stats| stats.acks == 2).await;
    assert_eq!(stats.types.get("EDS").map(|eds| eds.acked), Some(1));
}

#[tokio::test]
async fn a_change_of_endpoints_pushes_those_endpoints_and_nothing_else() {
    let shop = http_service("shop", "10.96.0.11", &["127.0.2.1"]);
    let (handle, channel) = start(&(http_service("greeter", "10.96.0.10", &["127.0.1.1"]) + &shop)).await;
    let mut client = Client::connect(&handle, channel).await;
    client.subscribe(type_url::CLUSTER, &[]).await;
    client.receive_and_ack().await;
    client.subscribe(type_url::NAME_TABLE, &[]).await;
    client.receive_and_ack().await;
    client.subscribe(type_url::ENDPOINT, &[GREETER, SHOP]).await;
    client.receive_and_ack().await;
    // An acknowledgement that crosses the next push is stale.
    wait_for(&handle, |stats| stats.acks == 3).await;
    handle.set_snapshot(snapshot(&(http_service("greeter", "10.96.0.10", &["127.0.1.1", "127.0.1.2"]) + &shop)));
    let update = client.receive_and_ack().await;
    assert_eq!((update.type_url.as_str(), names(&update)), (type_url::ENDPOINT, vec![GREETER]));
    assert_eq!(addresses(&update), ["127.0.1.1", "127.0.1.2"]);
    let stats = wait_for(&handle, |stats| stats.acks == 4).await;
    assert_eq!(stats.pushes, 4, "{stats:#?}");
    for acked in ["CDS", "EDS", "NDS"] {
        assert_eq!(stats.types.get(acked).map(|acked| acked.acked), Some(2), "{acked}");
    }
}

#[tokio::test]
async fn a_removed_service_is_removed_from_every_type_that_named_it() {
    let shop = http_service("shop", "10.96.0.11", &["127.0.2.1"]);
    let (handle, channel) = start(&(http_service("greeter", "10.96.0.10", &["127.0.1.1"]) + &shop)).await;
    let mut client = Client::connect(&handle, channel).await;
    client.subscribe(type_url::CLUSTER, &[]).await;
    client.receive_and_ack().await;
    client.subscribe(type_url::ENDPOINT, &[GREETER]).await;
    client.receive_and_ack().await;
    handle.set_snapshot(snapshot(&shop));
    let clusters = client.receive_and_ack().await;
    assert_eq!(clusters.removed_resources, [GREETER]);
    assert!(clusters.resources.is_empty());
    let endpoints = client.receive_and_ack().await;
    assert_eq!(endpoints.removed_resources, [GREETER]);
}

#[tokio::test]
async fn what_was_unsubscribed_is_not_pushed_and_what_is_subscribed_again_is_sent_again() {
    let shop = http_service("shop", "10.96.0.11", &["127.0.2.1"]);
    let (handle, channel) = start(&(http_service("greeter", "10.96.0.10", &["127.0.1.1"]) + &shop)).await;
    let mut client = Client::connect(&handle, channel).await;
    client.subscribe(type_url::ENDPOINT, &[GREETER, SHOP]).await;
    client.receive_and_ack().await;
    client.unsubscribe(type_url::ENDPOINT, &[GREETER]).await;
    // Its answer shows that the requests before it were handled.
    client.subscribe(type_url::ENDPOINT, &[SHOP]).await;
    assert_eq!(names(&client.receive_and_ack().await), [SHOP]);
    let other_shop = http_service("shop", "10.96.0.11", &["127.0.2.9"]);
    handle.set_snapshot(snapshot(&(http_service("greeter", "10.96.0.10", &["127.0.1.7"]) + &other_shop)));
    assert_eq!(names(&client.receive_and_ack().await), [SHOP]);
    client.subscribe(type_url::ENDPOINT, &[GREETER]).await;
    let again = client.receive_and_ack().await;
    assert_eq!((names(&again), addresses(&again)), (vec![GREETER], vec!["127.0.1.7".to_owned()]));
}

#[tokio::test]
async fn a_name_that_is_not_there_is_answered_as_removed_and_sent_when_it_comes() {
    let (handle, channel) = start("").await;
    let mut client = Client::connect(&handle, channel).await;
    client.subscribe(type_url::ENDPOINT, &[GREETER]).await;
    assert_eq!(client.receive_and_ack().await.removed_resources, [GREETER]);
    handle.set_snapshot(snapshot(&http_service("greeter", "10.96.0.10", &["127.0.1.1"])));
    assert_eq!(names(&client.receive_and_ack().await), [GREETER]);
}

#[tokio::test]
async fn a_reconnecting_client_learns_what_was_removed_meanwhile_and_gets_the_rest_again() {
    let (handle, channel) = start(&http_service("greeter", "10.96.0.10", &[])).await;
    let mut client = Client::connect(&handle, channel).await;
    let had = [(GREETER.to_owned(), "whatever".to_owned()), (SHOP.to_owned(), "1".to_owned())];
    let request = DeltaDiscoveryRequest { initial_resource_versions: had.into(), ..Default::default() };
    client.send(DeltaDiscoveryRequest { type_url: type_url::CLUSTER.to_owned(), ..request }).await;
    let clusters = client.receive_and_ack().await;
    assert_eq!(clusters.removed_resources, [SHOP]);
    assert!(names(&clusters).contains(&GREETER));
}

#[tokio::test]
async fn a_refused_response_is_counted_with_its_message_and_not_sent_again() {
    let (handle, channel) = start(&http_service("greeter", "10.96.0.10", &["127.0.1.1"])).await;
    let mut client = Client::connect(&handle, channel).await;
    client.subscribe(type_url::ENDPOINT, &[GREETER]).await;
    let refused = client.receive().await;
    client.reply(&refused, Some("greeter: no such thing")).await;
    let stats = wait_for(&handle, |stats| !stats.nacks.is_empty()).await;
    let endpoints = stats.types.get("EDS").expect("EDS was pushed");
    assert_eq!(endpoints.last_nack.as_deref(), Some("greeter: no such thing"));
    assert_eq!(endpoints.acked, 0, "a refused generation is not accepted");
    handle.set_snapshot(snapshot(&http_service("greeter", "10.96.0.10", &["127.0.1.2"])));
    let next = client.receive_and_ack().await;
    assert_eq!(addresses(&next), ["127.0.1.2"]);
    let stats = wait_for(&handle, |stats| stats.acks == 1).await;
    assert_eq!((stats.pushes, stats.types.get("EDS").map(|eds| eds.acked)), (2, Some(2)));
}

#[tokio::test]
async fn an_answer_for_clusters_is_followed_by_the_endpoints_being_watched() {
    let (handle, channel) = start(&http_service("greeter", "10.96.0.10", &["127.0.1.1"])).await;
    let mut client = Client::connect(&handle, channel).await;
    client.subscribe(type_url::ENDPOINT, &[GREETER]).await;
    client.receive_and_ack().await;
    client.subscribe(type_url::CLUSTER, &[]).await;
    assert_eq!(client.receive_and_ack().await.type_url, type_url::CLUSTER);
    assert_eq!(names(&client.receive_and_ack().await), [GREETER]);
}

#[tokio::test]
async fn a_change_of_one_listener_sends_the_full_set_as_istiod_does() {
    let tcp = |vip: &str| support::service("db", vip, "tcp", 5432, &[]);
    let greeter = http_service("greeter", "10.96.0.10", &[]);
    let (handle, channel) = start(&(tcp("10.96.0.30") + &greeter)).await;
    let mut client = Client::connect(&handle, channel).await;
    client.subscribe(type_url::LISTENER, &[]).await;
    client.receive_and_ack().await;
    handle.set_snapshot(snapshot(&(tcp("10.96.0.31") + &greeter)));
    let update = client.receive_and_ack().await;
    assert_eq!(update.removed_resources, ["10.96.0.30_5432"]);
    assert_eq!(names(&update), ["0.0.0.0_80", "10.96.0.31_5432", "virtualInbound", "virtualOutbound"]);
}

#[tokio::test]
async fn streams_are_counted_and_end_when_the_server_is_shut_down() {
    let (handle, channel) = start("").await;
    let first = Client::connect(&handle, channel.clone()).await;
    let mut second = Client::connect(&handle, channel).await;
    wait_for(&handle, |stats| stats.streams_open == 2).await;
    drop(first);
    let stats = wait_for(&handle, |stats| stats.streams_open == 1).await;
    assert_eq!((stats.streams_peak, stats.streams_total), (2, 2));
    in_time(&handle, handle.shut_down()).await;
    let end = in_time(&handle, second.responses.message()).await;
    assert!(!matches!(end, Ok(Some(_))), "the stream ended with {end:?}");
}
