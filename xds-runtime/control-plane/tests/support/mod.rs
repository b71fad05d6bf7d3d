//! What the tests share: YAML of a small mesh, and clients.
#![allow(dead_code, clippy::expect_used)]

use std::time::Duration;

use control_plane::{Handle, Listener, Server, Snapshot, Stats};
use tonic::transport::Channel;

/// A Service with a cluster IP and an HTTP port 80, and its endpoints on port 8080.
pub fn http_service(name: &str, vip: &str, endpoints: &[&str]) -> String {
    service(name, vip, "http", 80, endpoints)
}

/// A Service with one port, and its endpoints on port 8080.
pub fn service(name: &str, vip: &str, port_name: &str, port: u16, endpoints: &[&str]) -> String {
    let endpoints: String = endpoints.iter().map(|ip| format!("- addresses: [{ip}]\n")).collect();
    let endpoints = if endpoints.is_empty() { "null".to_owned() } else { format!("\n{endpoints}") };
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  clusterIP: {vip}
  ports: [{{name: '{port_name}', port: {port}, targetPort: 8080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: '{port_name}', port: 8080}}]
endpoints: {endpoints}
---
"
    )
}

/// A snapshot of YAML that is right.
#[track_caller]
pub fn snapshot(yaml: &str) -> Snapshot {
    Snapshot::from_yaml(yaml).expect("the test's YAML is right")
}

/// A control plane on a free port, and a connection to it.
pub async fn start(yaml: &str) -> (Handle, Channel) {
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port on loopback");
    let handle = Server::builder().snapshot(snapshot(yaml)).serve(listener);
    let endpoint = Channel::from_shared(format!("http://{}", handle.address())).expect("an address");
    (handle.clone(), endpoint.connect().await.expect("the control plane listens"))
}

/// Fails the test, with the books, when `future` takes more than ten seconds.
pub async fn in_time<T>(handle: &Handle, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(10), future).await {
        Ok(value) => value,
        Err(_) => panic!("nothing happened for 10 s; the books say {:#?}", handle.stats()),
    }
}

/// Waits until the books are as wanted.
pub async fn wait_for(handle: &Handle, condition: impl FnMut(&Stats) -> bool) -> Stats {
    in_time(handle, handle.wait_for(condition)).await
}
