//! The task and the transport against a control plane on loopback.

use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf;
use tonic::Status;

use super::server::{ControlPlane, Seen};
use super::*;
use crate::ads::transport::{self, Node, TlsConfig};
use crate::ads::{AdsClient, Command, Handle, Update};

/// Nothing here takes longer unless it is broken.
const DEADLINE: Duration = Duration::from_secs(20);

fn at(uri: String) -> transport::Endpoint {
    let metadata = serde_json::json!({"NAMESPACE": "default", "LABELS": {"app": "a"}});
    let node = Node { id: "sidecar~127.0.0.1~a.default~x".to_owned(), metadata, ..Default::default() };
    transport::Endpoint { uri, node, ..Default::default() }
}

fn start(endpoint: transport::Endpoint) -> Handle {
    let session = Session::new((&endpoint.node).into());
    let (client, handle) = AdsClient::new(endpoint, session, || 0);
    tokio::spawn(client.run());
    handle
}

async fn within<T>(what: &str, work: impl Future<Output = Option<T>>) -> T {
    let done = tokio::time::timeout(DEADLINE, work).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}")).unwrap_or_else(|| panic!("{what}: over"))
}

async fn update(handle: &mut Handle) -> Update {
    within("update", handle.updates.recv()).await
}

/// Why there is no stream.
async fn refusal(handle: &mut Handle) -> String {
    match update(handle).await {
        Update::Disconnected { reason, .. } => reason,
        other => panic!("connected: {other:?}"),
    }
}

async fn delta_request(
    server: &mut ControlPlane,
    wanted: fn(&discovery::DeltaDiscoveryRequest) -> bool,
) -> discovery::DeltaDiscoveryRequest {
    within("request", async {
        loop {
            if let Seen::Delta(request) = server.seen.recv().await?
                && wanted(&request)
            {
                return Some(request);
            }
        }
    })
    .await
}

fn answer(nonce: &str, clusters: Vec<Bytes>) -> discovery::DeltaDiscoveryResponse {
    let one = |(i, bytes): (usize, Bytes)| discovery::Resource {
        name: format!("c{i}"),
        version: nonce.to_owned(),
        resource: Some(proto_any(bytes)),
        ..Default::default()
    };
    discovery::DeltaDiscoveryResponse {
        type_url: Cluster.type_url().to_owned(),
        nonce: nonce.to_owned(),
        resources: clusters.into_iter().enumerate().map(one).collect(),
        ..Default::default()
    }
}

fn proto_any(bytes: Bytes) -> protobuf::Any {
    protobuf::Any { type_url: Cluster.type_url().to_owned(), value: bytes.to_vec() }
}

fn accepted(update: Update) -> Vec<String> {
    let Update::Events(events) = update else { panic!("no events: {update:?}") };
    events
        .into_iter()
        .filter_map(|e| match e {
            Event::Accepted { name, .. } => Some(name),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_server_on_localhost_is_resolved_told_the_node_and_acknowledged() {
    let mut server = ControlPlane::new();
    let answers = server.expect_delta();
    let port = server.listen().await;
    let mut handle = start(at(format!("http://localhost:{port}")));
    let first = delta_request(&mut server, |_| true).await;
    let node = first.node.expect("the node");
    assert_eq!((node.id.as_str(), node.user_agent_name.as_str()), ("sidecar~127.0.0.1~a.default~x", "ldmesh"));
    assert_eq!(node.metadata.map(|m| m.fields.len()), Some(2));

    answers.send(Ok(answer("n1", vec![cluster_bytes("c0", 1)]))).expect("a stream");
    let address = Some("127.0.0.1".parse().expect("an address"));
    assert_eq!(update(&mut handle).await, Update::Connected { protocol: "delta", address });
    assert_eq!(accepted(update(&mut handle).await), ["c0"]);
    let ack = delta_request(&mut server, |r| !r.response_nonce.is_empty()).await;
    assert_eq!((ack.response_nonce.as_str(), ack.error_detail), ("n1", None));
}

#[tokio::test]
async fn names_that_the_owner_sets_are_subscribed() {
    let mut server = ControlPlane::new();
    let _answers = server.expect_delta();
    let port = server.listen().await;
    let handle = start(at(format!("http://127.0.0.1:{port}")));
    handle.commands.send(Command::SetNames(Endpoint, names(&["a", "b"]).into_iter().collect())).expect("alive");
    let request = delta_request(&mut server, |r| r.type_url == Endpoint.type_url()).await;
    assert_eq!(request.resource_names_subscribe, names(&["a", "b"]));
}

#[tokio::test]
async fn a_server_without_delta_is_spoken_to_in_sotw() {
    let mut server = ControlPlane::new();
    let answers = server.expect_sotw();
    let port = server.listen().await;
    let mut handle = start(at(format!("http://127.0.0.1:{port}")));
    let response = discovery::DiscoveryResponse {
        version_info: "v1".to_owned(),
        nonce: "n1".to_owned(),
        type_url: Cluster.type_url().to_owned(),
        resources: vec![proto_any(cluster_bytes("c0", 1))],
        ..Default::default()
    };
    answers.send(Ok(response)).expect("open");
    assert!(matches!(update(&mut handle).await, Update::Connected { protocol: "sotw", .. }));
    assert_eq!(accepted(update(&mut handle).await), ["c0"]);
    let ack = within("ACK", async {
        loop {
            if let Seen::Sotw(request) = server.seen.recv().await?
                && !request.response_nonce.is_empty()
            {
                return Some(request);
            }
        }
    })
    .await;
    assert_eq!((ack.response_nonce.as_str(), ack.version_info.as_str()), ("n1", "v1"));
}

#[tokio::test]
async fn a_message_of_50_mb_is_received() {
    let mut server = ControlPlane::new();
    let answers = server.expect_delta();
    let port = server.listen().await;
    let mut handle = start(at(format!("http://127.0.0.1:{port}")));
    let padding = "x".repeat(10_000);
    let clusters: Vec<Bytes> = (0..5_000)
        .map(|i| {
            let cluster =
                cluster::Cluster { name: format!("c{i}"), alt_stat_name: padding.clone(), ..Default::default() };
            Bytes::from(cluster.encode_to_vec())
        })
        .collect();
    let message = answer("n1", clusters);
    assert!(message.encoded_len() > 50_000_000);
    answers.send(Ok(message)).expect("open");
    assert!(matches!(update(&mut handle).await, Update::Connected { protocol: "delta", .. }));
    assert_eq!(accepted(update(&mut handle).await).len(), 5_000);
}

#[tokio::test]
async fn the_token_is_read_again_for_every_stream() {
    let dir = tempfile::tempdir().expect("a folder");
    let (socket, token) = (dir.path().join("xds.sock"), dir.path().join("token"));
    let mut server = ControlPlane::new();
    let first = server.expect_delta();
    let _second = server.expect_delta();
    server.listen_unix(&socket);
    std::fs::write(&token, "one\n").expect("written");
    let mut handle =
        start(transport::Endpoint { token_file: Some(token.clone()), ..at(format!("unix://{}", socket.display())) });

    let mut seen = Vec::new();
    for next in ["two\n", ""] {
        let bearer = within("stream", async {
            loop {
                if let Seen::Stream(bearer) = server.seen.recv().await? {
                    return Some(bearer);
                }
            }
        });
        seen.push(bearer.await);
        std::fs::write(&token, next).expect("written");
        let _ = first.send(Err(Status::unauthenticated("expired\nindeed")));
    }
    assert_eq!(seen, [Some("Bearer one".to_owned()), Some("Bearer two".to_owned())]);
    let reason = refusal(&mut handle).await;
    assert!(reason.starts_with("unauthenticated: expired indeed; "), "{reason}");
}

#[tokio::test]
async fn a_token_is_never_sent_in_plain_text() {
    let dir = tempfile::tempdir().expect("a folder");
    let token = dir.path().join("token");
    std::fs::write(&token, "secret").expect("written");
    let mut server = ControlPlane::new();
    let _answers = server.expect_delta();
    let port = server.listen().await;
    let _handle = start(transport::Endpoint { token_file: Some(token), ..at(format!("http://127.0.0.1:{port}")) });
    let seen = within("stream", server.seen.recv()).await;
    assert!(matches!(seen, Seen::Stream(None)), "{seen:?}");
}

/// A certificate for `name`, valid for itself: certificate and key.
fn self_signed(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test]
async fn a_certificate_counts_only_with_its_root_and_its_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let (certificate, key) = self_signed("istiod.istio-system.svc");
    let (other, _) = self_signed("istiod.istio-system.svc");
    let (roots, strange) = (dir.path().join("root.pem"), dir.path().join("other.pem"));
    std::fs::write(&roots, &certificate).expect("written");
    std::fs::write(&strange, other).expect("written");
    let mut server = ControlPlane::new();
    let answers = server.expect_delta();
    let port = server.listen_tls(&certificate, &key).await;
    let name = Some("istiod.istio-system.svc".to_owned());
    let connect = |root_file, server_name| {
        let tls = TlsConfig { root_file, server_name, identity: None };
        start(transport::Endpoint { tls, ..at(format!("https://127.0.0.1:{port}")) })
    };

    for (root_file, server_name, expected) in [
        (Some(strange), name.clone(), "certificate of an unknown issuer: "),
        (None, name.clone(), "certificate of an unknown issuer: "),
        (Some(roots.clone()), None, "certificate of another name: "),
    ] {
        let reason = refusal(&mut connect(root_file, server_name)).await;
        assert!(reason.starts_with(expected), "{reason}");
    }
    answers.send(Ok(answer("n1", vec![]))).expect("open");
    let mut handle = connect(Some(roots), name);
    assert!(matches!(update(&mut handle).await, Update::Connected { protocol: "delta", .. }));
}

/// A certificate for `istiod` that holds between two years: certificate and key.
fn valid_between(from: i32, to: i32) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(["istiod".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_certificate_that_is_over_or_not_valid_yet_is_told_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    for (from, to, expected) in [(2000, 2001, "certificate expired: "), (2200, 2201, "certificate not valid yet: ")] {
        let (certificate, key) = valid_between(from, to);
        let root = dir.path().join("root.pem");
        std::fs::write(&root, &certificate).expect("written");
        let port = ControlPlane::new().listen_tls(&certificate, &key).await;
        let tls = TlsConfig { root_file: Some(root), server_name: Some("istiod".to_owned()), identity: None };
        let reason = refusal(&mut start(transport::Endpoint { tls, ..at(format!("https://127.0.0.1:{port}")) })).await;
        assert!(reason.starts_with(expected) && reason.contains("clock"), "{reason}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_there_is_one_and_read_again_for_each_connection() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let (certificate, key) = self_signed("istiod");
    let (ours, our_key) = self_signed("client");
    let (strange, strange_key) = self_signed("client");
    std::fs::write(path("root.pem"), &certificate).expect("written");
    let mut server = ControlPlane::new();
    let answers = server.expect_delta();
    let port = server.listen_mutual_tls(&certificate, &key, &ours).await;
    let connect = |identity| {
        let tls = TlsConfig { root_file: Some(path("root.pem")), server_name: Some("istiod".to_owned()), identity };
        start(transport::Endpoint { tls, ..at(format!("https://127.0.0.1:{port}")) })
    };
    let reason = refusal(&mut connect(None)).await;
    assert!(reason.starts_with("client certificate refused: ") && reason.contains("certificate_file"), "{reason}");

    let write = |certificate: &str, key: &str| {
        std::fs::write(path("client.pem"), certificate).expect("written");
        std::fs::write(path("key.pem"), key).expect("written");
    };
    write(&strange, &strange_key);
    let mut handle = connect(Some((path("client.pem"), path("key.pem"))));
    let reason = refusal(&mut handle).await;
    assert!(reason.starts_with("client certificate refused: ") && reason.contains("client.pem"), "{reason}");

    // The key of another certificate is found here, before anybody is asked.
    write(&ours, &strange_key);
    let reason = refusal(&mut connect(Some((path("client.pem"), path("key.pem"))))).await;
    assert!(reason.starts_with("certificate file: "), "{reason}");

    // The one that was refused goes on trying, and has the new files in time.
    write(&ours, &our_key);
    answers.send(Ok(answer("n1", vec![]))).expect("open");
    let connected = async {
        loop {
            if matches!(handle.updates.recv().await?, Update::Connected { .. }) {
                return Some(());
            }
        }
    };
    within("a stream", connected).await;
}

#[tokio::test]
async fn a_closed_port_a_bad_uri_and_a_missing_file_are_told_by_name() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let reason = refusal(&mut start(at(format!("http://127.0.0.1:{closed}")))).await;
    assert!(reason.starts_with(&format!("unreachable: 127.0.0.1 port {closed}: Connection refused")), "{reason}");
    let reason = refusal(&mut start(at("istiod:15010".to_owned()))).await;
    assert!(reason.contains("\"istiod:15010\" is no control plane address"), "{reason}");
    let tls = TlsConfig { root_file: Some("/nonexistent/root.pem".into()), ..Default::default() };
    let reason = refusal(&mut start(transport::Endpoint { tls, ..at("https://127.0.0.1:1".to_owned()) })).await;
    assert!(reason.starts_with("/nonexistent/root.pem: "), "{reason}");
}

#[tokio::test]
async fn the_client_ends_on_shutdown_while_it_waits() {
    let endpoint = at("nonsense".to_owned());
    let (client, mut handle) = AdsClient::new(endpoint, session(), || u64::MAX);
    let task = tokio::spawn(client.run());
    refusal(&mut handle).await;
    handle.commands.send(Command::Shutdown).expect("alive");
    within("end", async { task.await.ok() }).await;
}
