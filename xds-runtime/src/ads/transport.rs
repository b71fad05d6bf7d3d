//! Bytes to and from the control plane: where it is, how it is reached, and why it is not.
//!
//! The host name never goes through libc's getaddrinfo (our own hook, and no static binary could have it):
//! `/etc/hosts` and `/etc/resolv.conf` are read by hickory-resolver, anew for each connection.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::Stream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::machine::Protocol;

mod dial;
mod node;
mod reason;
mod remedy;

pub use node::Node;
pub use reason::{TlsFault, TransportError};

/// The largest message that is received (as ztunnel).
pub const MESSAGE_MOST: usize = 200 << 20;
/// Between HTTP/2 pings: istiod refuses more than one in 15 s.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long a ping may stay without an answer.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// For name, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the control plane is and who we are to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoint {
    /// `http://host:port`, `https://host:port` or `unix:///path`.
    pub uri: String,
    /// For `https`.
    pub tls: TlsConfig,
    /// File with a bearer token, read again for every stream. Sent over `https` and `unix` only.
    pub token_file: Option<PathBuf>,
    /// gRPC metadata of every stream, e.g. `clusterid`.
    pub metadata: Vec<(String, String)>,
    /// Sent in the first request of every stream.
    pub node: Node,
}

/// How the control plane proves itself, and we to it. There is no way to trust any certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file with root certificates; `None` = the system's.
    pub root_file: Option<PathBuf>,
    /// The name to verify; `None` = the host of the URI.
    pub server_name: Option<String>,
    /// PEM files of a client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Connects; the address is where, unless by a Unix socket. The channel serves one connection: when it is lost, connect
/// again.
pub async fn connect(endpoint: &Endpoint) -> Result<(Channel, Option<IpAddr>), TransportError> {
    let bad_uri = || TransportError::Uri(endpoint.uri.clone());
    let (uri, target) = dial::Target::parse(&endpoint.uri).ok_or_else(bad_uri)?;
    let mut builder = Channel::builder(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    if target.is_tls() {
        let tls = tls_config(&endpoint.tls)?;
        builder = builder.tls_config(tls).map_err(|e| TransportError::Tls(TlsFault::OwnFile, reason::chain(&e)))?;
    }
    let reached = Arc::new(OnceLock::new());
    let connecting = builder.connect_with_connector(dial::connector(target, Arc::clone(&reached)));
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(channel)) => Ok((channel, reached.get().copied())),
        Ok(Err(e)) => Err(TransportError::from_connect(&e)),
        Err(_) => Err(TransportError::Unreachable(format!("{}: no connection in {CONNECT_TIMEOUT:?}", endpoint.uri))),
    }
}

/// Opens a stream of variant `P`. Its future is done when the server has sent its headers, which many do only
/// with the first message: poll it while sending.
pub async fn open<P: Protocol>(
    channel: Channel,
    endpoint: Endpoint,
    requests: impl Stream<Item = P::Request> + Send + 'static,
) -> Result<Streaming<P::Response>, Failure> {
    let mut request = Request::new(requests);
    *request.metadata_mut() = metadata(&endpoint)?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MESSAGE_MOST);
    grpc.ready().await.map_err(|e| TransportError::from_connect(&e))?;
    let codec: ProstCodec<P::Request, P::Response> = ProstCodec::default();
    let response = grpc.streaming(request, PathAndQuery::from_static(P::METHOD), codec).await?;
    Ok(response.into_inner())
}

/// Why a stream did not open, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server does not have this method.
    #[error("the control plane does not implement this variant of ADS")]
    Unimplemented,
    /// Anything else.
    #[error(transparent)]
    Other(#[from] TransportError),
}

impl Failure {
    /// The reason with its remedy, one line. `heard`: this connection had brought a message, so its address is right.
    pub fn explained(&self, endpoint: &Endpoint, heard: bool) -> String {
        match self {
            Self::Unimplemented => self.to_string(),
            Self::Other(error) => error.explained(endpoint, heard),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match status.code() {
            tonic::Code::Unimplemented => Self::Unimplemented,
            _ => Self::Other(TransportError::from_status(&status)),
        }
    }
}

fn tls_config(tls: &TlsConfig) -> Result<ClientTlsConfig, TransportError> {
    let mut config = ClientTlsConfig::new();
    config = match &tls.root_file {
        Some(path) => {
            let pem = read(path)?;
            if !pem.contains("-----BEGIN CERTIFICATE-----") {
                let problem = format!("{}: no certificate in it", path.display());
                return Err(TransportError::Tls(TlsFault::OwnFile, problem));
            }
            config.ca_certificate(Certificate::from_pem(pem))
        }
        None => config.with_native_roots(),
    };
    if let Some(name) = &tls.server_name {
        config = config.domain_name(name);
    }
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(config)
}

fn metadata(endpoint: &Endpoint) -> Result<MetadataMap, TransportError> {
    let mut map = MetadataMap::new();
    for (name, value) in &endpoint.metadata {
        let entry = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).ok().zip(value.parse().ok());
        let (name, value) = entry.ok_or_else(|| TransportError::Metadata(name.clone()))?;
        map.insert(name, value);
    }
    // A bearer token in plain text is anybody's.
    let token_file = endpoint.token_file.as_ref().filter(|_| !endpoint.uri.starts_with("http://"));
    // A control plane that wants one says so.
    if let Some(path) = token_file.filter(|path| path.exists()) {
        let token = read(path)?;
        let value: Result<MetadataValue<_>, _> = format!("Bearer {}", token.trim()).parse();
        let mut value = value.map_err(|_| TransportError::Metadata(path.display().to_string()))?;
        value.set_sensitive(true);
        map.insert("authorization", value);
    }
    Ok(map)
}

/// Small local files: read in place, as a blocking pool would be one more thread in the host.
fn read(path: &Path) -> Result<String, TransportError> {
    std::fs::read_to_string(path).map_err(|e| TransportError::File(path.to_owned(), e.to_string()))
}
