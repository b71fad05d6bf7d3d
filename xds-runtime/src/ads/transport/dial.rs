//! From a URI to a connected socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::Uri;
use tower::{Service, service_fn};

use super::reason::TransportError;

/// For one of several addresses.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl Target {
    /// The URI for HTTP/2's own headers, and the target.
    pub(super) fn parse(text: &str) -> Option<(Uri, Self)> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return path.starts_with('/').then(|| (Uri::from_static("http://localhost"), Self::Unix(path.into())));
        }
        let uri: Uri = text.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = uri.host()?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned();
        if host.is_empty() {
            return None;
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some((uri, Self::Tcp { host, port, tls }))
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }
}

/// A connector for tonic that always connects to `target`, and says at which address it did.
pub(super) fn connector(
    target: Target,
    reached: Arc<OnceLock<IpAddr>>,
) -> impl Service<Uri, Response = TokioIo<Socket>, Error = TransportError, Future: Send> + Send + 'static {
    service_fn(move |_: Uri| {
        let (target, reached) = (target.clone(), Arc::clone(&reached));
        async move {
            let socket = dial(&target).await?;
            if let Socket::Tcp(stream) = &socket
                && let Ok(peer) = stream.peer_addr()
            {
                let _ = reached.set(peer.ip().to_canonical());
            }
            Ok(TokioIo::new(socket))
        }
    })
}

async fn dial(target: &Target) -> Result<Socket, TransportError> {
    match target {
        Target::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => Ok(Socket::Unix(stream)),
            Err(e) => Err(TransportError::Unreachable(format!("{}: {e}", path.display()))),
        },
        Target::Tcp { host, port, .. } => {
            let mut failure = TransportError::NameNotFound(host.clone(), "it has no addresses".to_owned());
            for address in resolve(host).await? {
                match connect(SocketAddr::new(address, *port)).await {
                    Ok(stream) => return Ok(Socket::Tcp(stream)),
                    Err(e) => failure = TransportError::Unreachable(format!("{address} port {port}: {e}")),
                }
            }
            Err(failure)
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect(address);
    let stream = tokio::time::timeout(ADDRESS_TIMEOUT, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn resolve(host: &str) -> Result<Vec<IpAddr>, TransportError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    // As libc has it: the hosts file knows the name as it stands, whatever a search list would make of it.
    let known = in_hosts_file(host);
    if !known.is_empty() {
        return Ok(known);
    }
    let failed = |e: &dyn std::fmt::Display| TransportError::NameNotFound(host.to_owned(), e.to_string());
    let mut builder = TokioResolver::builder_tokio().map_err(|e| failed(&e))?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let resolver = builder.build().map_err(|e| failed(&e))?;
    let found = resolver.lookup_ip(host).await.map_err(|e| failed(&e))?;
    let mut addresses: Vec<IpAddr> = found.iter().collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(addresses)
}

fn in_hosts_file(host: &str) -> Vec<IpAddr> {
    let (Ok(hosts), Ok(name)) = (Hosts::from_system(), Name::from_ascii(host)) else { return Vec::new() };
    let look_up = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(look_up);
    found.flat_map(|lookup| lookup.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<_>>()).collect()
}

/// A connected socket of either family.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_tcp(text: &str, host: &str, port: u16, tls: bool) {
        let target = Target::parse(text).map(|(_, target)| target);
        assert_eq!(target, Some(Target::Tcp { host: host.to_owned(), port, tls }));
    }

    #[test]
    fn uris_of_three_kinds_are_understood() {
        check_tcp("http://istiod.istio-system:15010", "istiod.istio-system", 15010, false);
        check_tcp("https://istiod.istio-system.svc:15012", "istiod.istio-system.svc", 15012, true);
        check_tcp("http://[::1]:15010", "::1", 15010, false);
        check_tcp("https://xds.example", "xds.example", 443, true);
        let unix = Target::parse("unix:///run/xds.sock").map(|(_, target)| target);
        assert_eq!(unix, Some(Target::Unix("/run/xds.sock".into())));
    }

    #[test]
    fn other_uris_are_refused() {
        for text in ["", "istiod:15010", "dns:///istiod", "unix:relative", "http://", "ftp://istiod:21"] {
            assert_eq!(Target::parse(text), None, "{text}");
        }
    }
}
