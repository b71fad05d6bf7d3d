//! How fast the released `ldmesh webhook` is: an answer in less than 10 ms, 1,000 admissions a second.
//!
//! A file of its own with one test, so that cargo runs nothing beside it. Of several rounds the best one counts: what else a machine
//! does can make a round slower, never faster, so the best one is nearest to what the webhook itself takes; and a
//! webhook that is too slow is so in every round.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ctests::artifacts;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

const NAME: &str = "ldmesh-webhook.mesh.svc";
const REVIEW: &str = include_str!("../../k8s/webhook/tests/server/review.json");
const ROUNDS: usize = 10;
/// What an API server keeps open to a replica while many pods are created.
const CONNECTIONS: usize = 4;
const PER_CONNECTION: usize = 1000;
const ENOUGH: f64 = 1000.0;
const FAST: Duration = Duration::from_millis(10);

/// What one round measured.
struct Round {
    rate: f64,
    median: Duration,
    p99: Duration,
}

#[test]
fn an_admission_takes_less_than_ten_milliseconds_and_there_are_a_thousand_a_second() {
    let webhook = Webhook::start();
    check("one after the other", || webhook.round(1), |round| round.median < FAST && round.p99 < FAST);
    check("over 4 connections", || webhook.round(CONNECTIONS), |round| round.rate >= ENOUGH);
}

#[track_caller]
fn check(what: &str, measure: impl Fn() -> Round, is_fast: impl Fn(&Round) -> bool) {
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        let round = measure();
        seen.push(format!("{:.0} admissions/s, median {:?}, p99 {:?}", round.rate, round.median, round.p99));
        if is_fast(&round) {
            println!("{what}: {}", seen.join("\n"));
            return;
        }
    }
    panic!("{what}, no round of {ROUNDS} was fast enough:\n{}", seen.join("\n"));
}

struct Webhook {
    child: Child,
    address: String,
    client: Arc<ClientConfig>,
    _certificates: TempDir,
}

impl Webhook {
    fn start() -> Self {
        let certificates = TempDir::new().unwrap();
        let made = webhook::make(&[NAME.to_owned()], SystemTime::now(), Duration::from_secs(3600)).unwrap();
        std::fs::write(certificates.path().join("tls.crt"), made.certificate).unwrap();
        std::fs::write(certificates.path().join("tls.key"), made.key).unwrap();
        let mut command = Command::new(&artifacts().ldmesh);
        command.args(["webhook", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--certificates"]);
        let mut child = command.arg(certificates.path()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| Some(line.strip_prefix("ldmesh: admission on ")?.to_owned())).unwrap();
        let address = address.split(',').next().unwrap().to_owned();
        // It logs each admission, and somebody has to read that.
        std::thread::spawn(move || lines.for_each(drop));

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(made.ca.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        Webhook { child, address, client: Arc::new(builder.with_no_client_auth()), _certificates: certificates }
    }

    fn round(&self, connections: usize) -> Round {
        let mut open: Vec<_> = (0..connections).map(|_| self.connect()).collect();
        for connection in &mut open {
            connection.admit();
        }
        let start = Instant::now();
        let mut times: Vec<Duration> = std::thread::scope(|scope| {
            let admit = |mut connection: Connection| (0..PER_CONNECTION).map(move |_| connection.admit());
            let threads: Vec<_> =
                open.into_iter().map(|connection| scope.spawn(move || admit(connection).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        times.sort();
        Round { rate, median: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }

    fn connect(&self) -> Connection {
        let tls = ClientConnection::new(Arc::clone(&self.client), ServerName::try_from(NAME).unwrap()).unwrap();
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Connection(BufReader::new(StreamOwned::new(tls, stream)))
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Connection(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Connection {
    /// Sends a review; how long its patch took to come.
    fn admit(&mut self) -> Duration {
        let head = format!(
            "POST /inject/namespace-enabled?timeout=3s HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            REVIEW.len()
        );
        let start = Instant::now();
        self.0.get_mut().write_all(format!("{head}{REVIEW}").as_bytes()).unwrap();
        let (mut length, mut line) = (0, String::new());
        let mut status = String::new();
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            if status.is_empty() {
                status.clone_from(&line);
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        let took = start.elapsed();
        assert_eq!(status, "HTTP/1.1 200 OK\r\n");
        assert!(String::from_utf8_lossy(&body).contains("JSONPatch"), "{}", String::from_utf8_lossy(&body));
        took
    }
}
