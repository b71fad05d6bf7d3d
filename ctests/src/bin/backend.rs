//! `backend --listen ADDR --name NAME --mode MODE`: a server for tests and the demo.
//!
//! Says `ready` when it is, and `accepted PEER OPEN` for each connection, with the number that is open by then.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

#[derive(Parser)]
struct Cli {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// What it calls itself in its answers.
    #[arg(long)]
    name: String,
    /// How it treats connections.
    #[arg(long, value_enum, default_value = "http")]
    mode: Mode,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Http,
    Echo,
    Refuse,
    Hang,
    Reset,
    Slow,
    Hold,
}

/// Connections that it has open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.mode {
        Mode::Http => serve(&cli, http),
        Mode::Echo => serve(&cli, echo),
        Mode::Reset => serve(&cli, reset),
        Mode::Slow => serve(&cli, slow),
        Mode::Hold => serve(&cli, hold),
        Mode::Refuse => {
            let _bound = bound(cli.listen)?;
            say("ready")?;
            park()
        }
        Mode::Hang => {
            let _full = full_queue(cli.listen)?;
            say("ready")?;
            park()
        }
    }
}

fn park() -> ! {
    loop {
        std::thread::park();
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn serve(cli: &Cli, answer: fn(TcpStream, &str) -> Result<()>) -> Result<()> {
    let listener = TcpListener::bind(cli.listen).with_context(|| format!("listen at {}", cli.listen))?;
    say("ready")?;
    for stream in listener.incoming() {
        let stream = stream?;
        let peer = stream.peer_addr()?;
        let open = OPEN.fetch_add(1, Ordering::SeqCst) + 1;
        say(&format!("accepted {peer} {open}"))?;
        let name = cli.name.clone();
        // It is counted until it is about to be closed: whoever sees it closed was not counted longer.
        let last = stream.try_clone()?;
        std::thread::spawn(move || {
            // A client that goes away early is no fault of the backend.
            let _ = answer(stream, &name);
            OPEN.fetch_sub(1, Ordering::SeqCst);
            drop(last);
        });
    }
    Ok(())
}

fn http(mut stream: TcpStream, name: &str) -> Result<()> {
    let peer = stream.peer_addr()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut close = false;
        let mut host = String::from("-");
        let mut client = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("host:") {
                value.trim().clone_into(&mut host);
            }
            if let Some(value) = lower.strip_prefix("x-forwarded-client-cert:") {
                client = format!(" {}", value.trim());
            }
            close |= lower.trim() == "connection: close" || lower.contains(" http/1.0");
        }
        let body = format!("{name} {peer} {host}{client}\n");
        let connection = if close { "close" } else { "keep-alive" };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: {connection}\r\n\r\n{body}",
            body.len()
        )?;
        if close {
            return Ok(());
        }
    }
}

fn echo(mut stream: TcpStream, name: &str) -> Result<()> {
    writeln!(stream, "{name}")?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "quit\n" {
        stream.write_all(line.as_bytes())?;
        line.clear();
    }
    Ok(())
}

/// Closing drops what is there and sends a RST.
fn reset(stream: TcpStream, _: &str) -> Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?)
}

/// Never reads, and never closes.
fn hold(_stream: TcpStream, _: &str) -> Result<()> {
    park()
}

fn slow(stream: TcpStream, name: &str) -> Result<()> {
    std::thread::sleep(Duration::from_millis(300));
    echo(stream, name)
}

fn bound(address: SocketAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address).with_context(|| format!("bind {address}"))?;
    Ok(socket)
}

/// A listener whose queue is full: the kernel drops further SYNs.
fn full_queue(address: SocketAddr) -> Result<(OwnedFd, Vec<TcpStream>)> {
    let listener = bound(address)?;
    rustix::net::listen(&listener, 0)?;
    let mut waiting = Vec::new();
    while waiting.len() < 64 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(stream) => waiting.push(stream),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                return Ok((listener, waiting));
            }
            Err(error) => return Err(error).context("fill the queue"),
        }
    }
    bail!("the queue of {address} does not fill")
}
