//! Requests over TLS: what is answered, what is refused, and that the next one works.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Connection, get, review, tls};
use super::{metric, start, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_answered_and_counted() {
    let (webhook, made, _folder) = start().await;
    let mut connection = Connection::open(webhook.address(), &made.ca).await.unwrap();
    assert!(connection.inject().await.unwrap());
    let (status, _) = connection.post("/inject", "application/json", review().to_string()).await.unwrap();
    assert_eq!(status, 200);
    for line in [
        "ldmesh_webhook_admissions_total{result=\"injected\",reason=\"\"} 1",
        "ldmesh_webhook_admissions_total{result=\"left_alone\",reason=\"not_asked\"} 1",
        "ldmesh_webhook_admission_duration_seconds_count 2",
        "ldmesh_webhook_reload_failed{what=\"certificates\"} 0",
    ] {
        assert!(metric(&webhook, line).await, "{line}");
    }
    let (_, text) = get(webhook.health_address(), "/metrics").await;
    let expiry = text.lines().find_map(|line| line.strip_prefix("ldmesh_webhook_certificate_expiry_seconds "));
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now + 86_000..=now + 86_400).contains(&expiry.unwrap().parse().unwrap()), "{text}");
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_review_is_refused_and_the_connection_goes_on() {
    let (webhook, made, _folder) = start().await;
    let mut connection = Connection::open(webhook.address(), &made.ca).await.unwrap();
    let json = "application/json";
    let cases = [
        ("/inject", json, "{", 400, "EOF while parsing an object at line 1 column 1; send an AdmissionReview"),
        ("/inject", json, "", 400, "EOF while parsing a value"),
        ("/inject", "text/plain", "{}", 415, "Content-Type: use application/json"),
        ("/inject/namespace-on", json, "{}", 404, "there is nothing here"),
        ("/other", json, "{}", 404, "there is nothing here"),
        ("/healthz", json, "{}", 404, "there is nothing here"),
    ];
    for (path, kind, body, expected, start) in cases {
        let (status, text) = connection.post(path, kind, body).await.unwrap();
        assert_eq!(status, expected, "{path}: {text}");
        assert!(text.starts_with(start) && text.lines().count() == 1, "{text}");
    }
    assert!(connection.inject().await.unwrap());
    assert!(metric(&webhook, "ldmesh_webhook_admissions_total{result=\"malformed\",reason=\"\"} 3").await);
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_of_more_than_four_mebibytes_is_refused_and_one_below_is_not() {
    let (webhook, made, _folder) = start().await;
    let mut large = review();
    large["request"]["object"]["metadata"]["annotations"] = serde_json::json!({"x": "x".repeat(3 << 20)});
    let mut connection = Connection::open(webhook.address(), &made.ca).await.unwrap();
    let (status, _) = connection.post("/inject", "application/json", large.to_string()).await.unwrap();
    assert_eq!(status, 200);
    large["request"]["object"]["metadata"]["annotations"] = serde_json::json!({"x": "x".repeat(4 << 20)});
    // The connection may end while the rest of the body is on its way; by hyper's promise the answer comes first.
    let answer = connection.post("/inject", "application/json", large.to_string()).await;
    if let Ok((status, text)) = answer {
        assert_eq!((status, text.as_str()), (413, "the review has more than 4 MiB; send one of a pod\n"));
    }
    until("it is counted", || metric(&webhook, "ldmesh_webhook_admissions_total{result=\"malformed\",reason=\"\"} 1"))
        .await;
    let mut connection = Connection::open(webhook.address(), &made.ca).await.unwrap();
    assert!(connection.inject().await.unwrap());
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_no_tls_is_dropped_and_counted() {
    let (webhook, made, _folder) = start().await;
    for hello in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 64], b"\x16\x03\x01\xff\xff"] {
        let mut stream = TcpStream::connect(webhook.address()).await.unwrap();
        stream.write_all(hello).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.unwrap();
        assert!(read.is_err() || !rest.starts_with(b"HTTP"));
    }
    until("they are counted", || metric(&webhook, "ldmesh_webhook_tls_handshake_errors_total 3")).await;
    // Nor does HTTP that is none harm anybody.
    let mut stream = tls(webhook.address(), &made.ca).await.unwrap();
    stream.write_all(b"\x00\xff nonsense\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.unwrap();
    assert!(Connection::open(webhook.address(), &made.ca).await.unwrap().inject().await.unwrap());
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_served_without_tls() {
    let (webhook, _made, _folder) = start().await;
    let ask = async |path: &str| get(webhook.health_address(), path).await;
    assert_eq!(ask("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(ask("/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(ask("/inject").await.0, 404);
    let (status, text) = ask("/metrics").await;
    assert!(status == 200 && text.ends_with("# EOF\n"), "{text}");
    webhook.shut_down().await;
}
