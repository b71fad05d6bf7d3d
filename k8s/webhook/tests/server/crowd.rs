//! Clients that take what they can get, and give nothing: the API server is answered all the same.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use webhook::{Made, Webhook};

use super::client::{Connection, get, review, tls};
use super::{NAME, start, until};

/// What the chart lets the API server wait.
const IN_TIME: Duration = Duration::from_secs(3);

/// A request that announces so many bytes and sends fewer.
async fn unfinished(webhook: &Webhook, made: &Made, announced: usize, sent: usize) -> TlsStream<TcpStream> {
    let mut stream = tls(webhook.address(), &made.ca).await.unwrap();
    let head = format!(
        "POST /inject HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: application/json\r\nContent-Length: {announced}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; sent]).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// Admits on a new connection.
async fn check_admits(webhook: &Webhook, made: &Made) {
    let start = Instant::now();
    let admitted = async { Connection::open(webhook.address(), &made.ca).await.unwrap().inject().await.unwrap() };
    assert!(tokio::time::timeout(IN_TIME, admitted).await.expect("no answer in time"), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_slow_senders_hold_nobody_up() {
    let (webhook, made, _folder) = start().await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        slow.push(unfinished(&webhook, &made, 4 << 20, 100).await);
    }
    for _ in 0..10 {
        check_admits(&webhook, &made).await;
    }
    // They are given up, with a reason.
    let mut answer = String::new();
    let read = slow[0].read_to_string(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(15), read).await.expect("it is waited for");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("send it at once\n"), "{answer}");
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_that_do_not_end_keep_only_large_ones_out() {
    let (webhook, made, _folder) = start().await;
    let mut large = review();
    large["request"]["object"]["metadata"]["annotations"] = serde_json::json!({"x": "x".repeat(3 << 20)});
    let send = async || {
        let mut connection = Connection::open(webhook.address(), &made.ca).await.unwrap();
        let answer = connection.post("/inject", "application/json", large.to_string());
        tokio::time::timeout(IN_TIME, answer).await.expect("no answer in time")
    };
    let mut slow = Vec::new();
    while let Ok((200, _)) = send().await {
        assert!(slow.len() < 8, "all of them are in memory");
        slow.push(unfinished(&webhook, &made, 4 << 20, 3 << 20).await);
    }
    let (_, metrics) = get(webhook.health_address(), "/metrics").await;
    assert!(metrics.contains("ldmesh_webhook_admissions_total{result=\"busy\",reason=\"\"} "), "{metrics}");
    // The connection may end while the rest of the body is on its way.
    if let Ok((status, text)) = send().await {
        assert_eq!((status, text.as_str()), (503, "there are too many reviews at a time; send it again\n"));
    }
    check_admits(&webhook, &made).await;
    drop(slow);
    until("there is room again", || async { matches!(send().await, Ok((200, _))) }).await;
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eleven_hundred_idle_connections_keep_nobody_out() {
    let (webhook, made, _folder) = start().await;
    let mut own = Connection::open(webhook.address(), &made.ca).await.unwrap();
    assert!(own.inject().await.unwrap());
    let mut idle = Vec::new();
    for _ in 0..1100 {
        idle.push(tls(webhook.address(), &made.ca).await.unwrap());
    }
    // Whoever asked once is not the one to go.
    assert!(own.inject().await.unwrap());
    check_admits(&webhook, &made).await;
    // Health has connections of its own.
    assert_eq!(get(webhook.health_address(), "/readyz").await.0, 200);
    let oldest = tokio::time::timeout(IN_TIME, idle[0].read(&mut [0])).await;
    assert!(matches!(oldest, Ok(Ok(0) | Err(_))), "the oldest is open still: {oldest:?}");
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_ten_seconds_for_its_first_request_and_more_for_the_next() {
    let (webhook, made, _folder) = start().await;
    let mut idle = Connection::open(webhook.address(), &made.ca).await.unwrap();
    assert!(idle.inject().await.unwrap());
    let silent = tls(webhook.address(), &made.ca).await.unwrap();
    let mut slow = tls(webhook.address(), &made.ca).await.unwrap();
    slow.write_all(b"POST /inject HTTP/1.1\r\nHost: x").await.unwrap();
    slow.flush().await.unwrap();
    let no_tls = TcpStream::connect(webhook.address()).await.unwrap();
    let begin = Instant::now();
    tokio::join!(ends(silent), ends(slow), ends(no_tls));
    assert!(begin.elapsed() > Duration::from_secs(8), "{:?}", begin.elapsed());
    assert!(idle.inject().await.unwrap(), "the API server's own connection");
    webhook.shut_down().await;
}

async fn ends(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut rest));
    let _ = read.await.expect("it is open still");
    assert_eq!(rest, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn tiny_values_by_the_million_are_refused_before_they_are_parsed() {
    let (webhook, made, _folder) = start().await;
    let mut many = review();
    for value in ["{\"\":0}", "[]", "0"] {
        let values = format!("[{}]", vec![value; (4 << 20) / (value.len() + 1) - 4096].join(","));
        many["request"]["object"]["spec"]["x"] = "HERE".into();
        let text = many.to_string().replace("\"HERE\"", &values);
        let mut connection = Connection::open(webhook.address(), &made.ca).await.unwrap();
        let (status, text) = connection.post("/inject", "application/json", text).await.unwrap();
        assert_eq!((status, text.as_str()), (413, "the review has too many values to be parsed; send one of a pod\n"));
        assert!(connection.inject().await.unwrap(), "the same connection goes on");
    }
    webhook.shut_down().await;
}
