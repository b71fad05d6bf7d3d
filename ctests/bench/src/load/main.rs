//! A client to be timed: does one kind of work for so long and prints what it saw, as one line of JSON.
//!
//! It is told an address or a name and knows nothing of meshes and proxies; it is linked to libc like any other.

mod exec;
mod http;
mod samples;

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::http::Connection;
use crate::samples::Samples;

/// Of a thread, in bytes: a storm has many.
const STACK: usize = 128 << 10;

#[derive(Parser)]
enum Work {
    /// Requests on one connection.
    KeepAlive(To),
    /// A connection for each request.
    Connect(To),
    /// Connections that are all opened in one moment, each with one request.
    Storm {
        #[command(flatten)]
        to: To,
        /// How many.
        #[arg(long, default_value_t = 200)]
        connections: usize,
    },
    /// Large answers on one connection.
    Bulk(To),
    /// Connections that are opened, asked once, and held until standard input ends.
    Idle {
        /// HOST:PORT.
        at: String,
        /// How many.
        #[arg(long, default_value_t = 1000)]
        connections: usize,
    },
    /// Look-ups of a name.
    Resolve {
        /// The name.
        name: String,
        /// Milliseconds.
        #[arg(long = "for")]
        time: u64,
    },
    /// Runs of a program.
    Exec(exec::Exec),
}

#[derive(clap::Args)]
struct To {
    /// HOST:PORT. A name is looked up for each connection.
    at: String,
    /// What is asked for.
    #[arg(long, default_value = "/")]
    path: String,
    /// Milliseconds.
    #[arg(long = "for")]
    time: u64,
    /// Microseconds after each answer in which nothing is done; they count as part of it.
    #[arg(long, default_value_t = 0)]
    pause: u64,
}

fn main() -> Result<()> {
    match Work::parse() {
        Work::KeepAlive(to) => keep_alive(&to),
        Work::Connect(to) => connect(&to),
        Work::Storm { to, connections } => storm(&to, connections),
        Work::Bulk(to) => keep_alive(&to),
        Work::Idle { at, connections } => idle(&at, connections),
        Work::Resolve { name, time } => resolve(&name, Duration::from_millis(time)),
        Work::Exec(exec) => exec.run(),
    }
}

impl To {
    fn time(&self) -> Duration {
        Duration::from_millis(self.time)
    }

    fn open(&self) -> Result<Connection> {
        Ok(Connection::new(open(&self.at)?, &self.path))
    }
}

/// A connection, as programs make them: each address in turn.
///
/// It will be reset at its end: tens of thousands a second to one server would run out of ports otherwise, those of a
/// client without a mesh first.
fn open(at: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(at).with_context(|| at.to_owned())?;
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(stream)
}

fn keep_alive(to: &To) -> Result<()> {
    let mut connection = to.open()?;
    connection.request()?;
    Samples::of(to.time(), || connection.request())?.print()
}

fn connect(to: &To) -> Result<()> {
    to.open()?.request()?;
    let one = || {
        let bytes = to.open()?.request()?;
        if to.pause > 0 {
            std::thread::sleep(Duration::from_micros(to.pause));
        }
        Ok(bytes)
    };
    Samples::of(to.time(), one)?.print()
}

/// Again and again until the time is over; each request is timed from the moment of all.
fn storm(to: &To, connections: usize) -> Result<()> {
    to.open()?.request()?;
    let mut samples = Samples::begin();
    let until = Instant::now() + to.time();
    while samples.is_empty() || Instant::now() < until {
        let together = Barrier::new(connections);
        let one = || -> Result<(Duration, usize)> {
            together.wait();
            let start = Instant::now();
            let bytes = to.open()?.request()?;
            Ok((start.elapsed(), bytes))
        };
        std::thread::scope(|scope| {
            let start = || std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, one);
            let threads = (0..connections).map(|_| start()).collect::<std::io::Result<Vec<_>>>()?;
            for thread in threads {
                let Ok(done) = thread.join() else { anyhow::bail!("a thread panicked") };
                let (took, bytes) = done?;
                samples.add(took, bytes);
            }
            Ok(())
        })?;
    }
    samples.end().print()
}

fn idle(at: &str, connections: usize) -> Result<()> {
    let mut held = Vec::with_capacity(connections);
    let mut samples = Samples::begin();
    for _ in 0..connections {
        let start = Instant::now();
        let mut connection = Connection::new(open(at)?, "/");
        let bytes = connection.request()?;
        samples.add(start.elapsed(), bytes);
        held.push(connection);
    }
    samples.end().print()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn resolve(name: &str, time: Duration) -> Result<()> {
    let one = || {
        let found: Vec<SocketAddr> = (name, 80).to_socket_addrs().with_context(|| name.to_owned())?.collect();
        ensure!(!found.is_empty(), "{name} has no address");
        Ok(0)
    };
    one()?;
    Samples::of(time, one)?.print()
}
