//! What the API server, kubelet and Prometheus do, as far as tests need it.

use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::NAME;

pub async fn tls(address: SocketAddr, authorities: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    connector.connect(ServerName::try_from(NAME).unwrap(), stream).await
}

pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    pub async fn open(address: SocketAddr, authorities: &str) -> std::io::Result<Self> {
        let stream = tls(address, authorities).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    pub async fn post(&mut self, path: &str, kind: &str, body: impl Into<Bytes>) -> hyper::Result<(u16, String)> {
        let request = Request::post(path).header("Host", NAME).header("Content-Type", kind);
        send(&mut self.0, request.body(Full::new(body.into())).unwrap()).await
    }

    /// Sends a review; whether the answer has a patch.
    pub async fn inject(&mut self) -> hyper::Result<bool> {
        let path = "/inject/namespace-enabled?timeout=10s";
        let (status, answer) = self.post(path, "application/json", review().to_string()).await?;
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        Ok(answer["response"]["patch"].is_string())
    }
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> hyper::Result<(u16, String)> {
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}

/// A request without TLS.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(Method::GET).uri(path).header("Host", "pod").header("Connection", "close");
    send(&mut sender, request.body(Full::default()).unwrap()).await.unwrap()
}

/// A pod as a Deployment makes it, three containers of the usual size.
pub fn review() -> Value {
    serde_json::from_str(include_str!("review.json")).unwrap()
}
