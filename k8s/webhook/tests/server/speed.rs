//! How fast it answers: this build in this process, or the program that LDMESH_WEBHOOK names, such as a released one.
//! The bounds are far from what is measured, since tests run on busy machines.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::client::{Connection, review};
use super::start;

const CONNECTIONS: usize = 4;
const PER_CONNECTION: usize = 1000;

struct Program(Child);

impl Program {
    fn start(program: &str, certificates: &Path) -> (Self, SocketAddr) {
        let mut command = Command::new(program);
        command.args(["webhook", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--certificates"]);
        let mut child = command.arg(certificates).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.starts_with("ldmesh: admission on ")).unwrap();
        // Somebody has to read what it logs.
        std::thread::spawn(move || lines.for_each(drop));
        let address = line.trim_start_matches("ldmesh: admission on ").split(',').next().unwrap();
        (Program(child), address.parse().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admissions_are_fast() {
    let (webhook, made, folder) = start().await;
    let (mut address, mut program) = (webhook.address(), None);
    if let Ok(name) = std::env::var("LDMESH_WEBHOOK") {
        let (started, its_address) = Program::start(&name, folder.path());
        (address, program) = (its_address, Some(started));
    }
    for (connections, what) in [(CONNECTIONS, "as fast as it can"), (1, "one after the other")] {
        let (rate, median, p99) = measure(address, &made.ca, connections).await;
        println!("{what}: {rate:.0} admissions/s over {connections} connections; median {median:?}, p99 {p99:?}");
        assert!(rate > 50.0, "{rate:.0} admissions/s");
        assert!(p99 < Duration::from_secs(1), "p99 {p99:?}");
    }
    drop(program);
    webhook.shut_down().await;
}

async fn measure(address: SocketAddr, ca: &str, connections: usize) -> (f64, Duration, Duration) {
    let body = review().to_string();
    let mut tasks = Vec::new();
    let start = Instant::now();
    for _ in 0..connections {
        let (mut connection, body) = (Connection::open(address, ca).await.unwrap(), body.clone());
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..PER_CONNECTION {
                let start = Instant::now();
                let answer = connection.post("/inject/namespace-enabled", "application/json", body.clone()).await;
                times.push(start.elapsed());
                let (status, text) = answer.unwrap();
                assert!(status == 200 && text.contains("JSONPatch"), "{text}");
            }
            times
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort();
    (rate, times[times.len() / 2], times[times.len() * 99 / 100])
}
