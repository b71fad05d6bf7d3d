//! How fast it answers. The bounds are far from what an idle machine shows, since tests run on busy ones.

use std::time::{Duration, Instant};

use super::client::Connection;
use super::start;

const CONNECTIONS: usize = 4;
const PER_CONNECTION: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admissions_are_fast() {
    let (webhook, made, _folder) = start().await;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(webhook.address(), &made.ca).await.unwrap();
        assert!(connection.inject().await.unwrap());
        connections.push(connection);
    }
    let start = Instant::now();
    let mut tasks = Vec::new();
    for mut connection in connections {
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..PER_CONNECTION {
                let start = Instant::now();
                assert!(connection.inject().await.unwrap());
                times.push(start.elapsed());
            }
            times
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let rate = (CONNECTIONS * PER_CONNECTION) as f64 / start.elapsed().as_secs_f64();
    times.sort();
    let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{rate:.0} admissions/s over {CONNECTIONS} connections; median {median:?}, p99 {p99:?}");
    assert!(rate > 100.0, "{rate:.0} admissions/s");
    assert!(p99 < Duration::from_millis(500), "p99 {p99:?}");
    webhook.shut_down().await;
}
