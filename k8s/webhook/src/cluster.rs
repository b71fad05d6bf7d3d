//! The API server, for the three objects' worth of calls that an own certificate needs.
//!
//! No client library: `kube` turns tokio's signal driver on, which libldmesh.so, built with the same features, must
//! not have (see cli/src/signals.rs). A call is a connection; files of tokens and certificates are read for each,
//! since Kubernetes renews them.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_resolver::TokioResolver;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const TIMEOUT: Duration = Duration::from_secs(10);
/// A MutatingWebhookConfiguration and a Secret have at most 1.5 MiB in etcd.
const ANSWER_LIMIT: usize = 4 << 20;
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why a call did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClusterError {
    /// The API server says no: its status and message.
    #[error("the API server says {0}: {1}")]
    Refused(u16, String),
    /// It cannot be talked to.
    #[error("cannot reach the API server: {0}")]
    Unreachable(String),
    /// Where it is cannot be told.
    #[error("{0}")]
    Unknown(String),
}

impl ClusterError {
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            ClusterError::Refused(status, _) => Some(*status),
            _ => None,
        }
    }
}

fn unreachable(error: impl fmt::Display) -> ClusterError {
    ClusterError::Unreachable(error.to_string())
}

fn unknown(text: impl Into<String>) -> ClusterError {
    ClusterError::Unknown(text.into())
}

/// Text of a file or of a configuration.
#[derive(Clone)]
enum Text {
    File(PathBuf),
    Here(Vec<u8>),
}

impl Text {
    fn read(&self) -> Result<Vec<u8>, ClusterError> {
        match self {
            Text::Here(text) => Ok(text.clone()),
            Text::File(path) => fs::read(path).map_err(|error| unknown(format!("{}: {error}", path.display()))),
        }
    }
}

/// How the API server is reached.
#[derive(Clone)]
pub struct Cluster {
    host: String,
    port: u16,
    /// Without TLS there is none (`kubectl proxy`).
    authority: Option<Text>,
    token: Option<Text>,
    client: Option<(Text, Text)>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({}:{})", self.host, self.port)
    }
}

impl Cluster {
    /// By KUBECONFIG where it is set, else as a pod of the cluster.
    pub fn find() -> Result<Self, ClusterError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(file) = variable("KUBECONFIG") {
            let path = Path::new(&file);
            let text = fs::read_to_string(path)
                .map_err(|error| unknown(format!("KUBECONFIG: {file}: {error}; name one file that can be read")))?;
            let base = path.parent().unwrap_or(Path::new("."));
            return Self::from_kubeconfig(&text, base).map_err(|error| unknown(format!("KUBECONFIG: {file}: {error}")));
        }
        let host = variable("KUBERNETES_SERVICE_HOST").ok_or_else(|| {
            unknown("KUBERNETES_SERVICE_HOST is not set; run it in a pod, or set KUBECONFIG to a file")
        })?;
        let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".into());
        let port = port.parse().map_err(|_| unknown(format!("KUBERNETES_SERVICE_PORT: {port:?} is no port")))?;
        let file = |name: &str| Some(Text::File(Path::new(SERVICE_ACCOUNT).join(name)));
        Ok(Cluster { host, port, authority: file("ca.crt"), token: file("token"), client: None })
    }

    /// Reads the current context of a kubeconfig file; its paths are relative to `base`. Programs that make
    /// credentials (`exec`) are not run.
    pub fn from_kubeconfig(text: &str, base: &Path) -> Result<Self, ClusterError> {
        let documents = injector::stream::documents(text).map_err(|error| unknown(error.to_string()))?;
        let config = documents.first().cloned().unwrap_or_default();
        let named = |list: &str, name: &Value, part: &str| -> Result<Value, ClusterError> {
            let entries = config.get(list).and_then(Value::as_array).into_iter().flatten();
            let mut found = entries.filter(|entry| entry.get("name") == Some(name));
            let found = found.next().and_then(|entry| entry.get(part));
            found.cloned().ok_or_else(|| unknown(format!("{list}: there is no {name}; use current-context")))
        };
        let of = |value: &Value, key: &str| value.get(key).cloned().unwrap_or_default();
        let context = named("contexts", &of(&config, "current-context"), "context")?;
        let cluster = named("clusters", &of(&context, "cluster"), "cluster")?;
        let user = named("users", &of(&context, "user"), "user")?;
        let text = |value: &Value, file: &str, data: &str| -> Result<Option<Text>, ClusterError> {
            if let Some(data_text) = value.get(data).and_then(Value::as_str) {
                let decoded = STANDARD.decode(data_text).map_err(|error| unknown(format!("{data}: {error}")))?;
                return Ok(Some(Text::Here(decoded)));
            }
            Ok(value.get(file).and_then(Value::as_str).map(|path| Text::File(base.join(path))))
        };
        let server: Uri = cluster
            .get("server")
            .and_then(Value::as_str)
            .and_then(|server| server.parse().ok())
            .ok_or_else(|| unknown("server: is no URL; write https://HOST:PORT"))?;
        let tls = match server.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(unknown("server: is no URL; write https://HOST:PORT")),
        };
        let host = server.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = server.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let authority = match text(&cluster, "certificate-authority", "certificate-authority-data")? {
            found if !tls || found.is_some() => found.filter(|_| tls),
            _ => return Err(unknown("certificate-authority: is missing; name the cluster's CA")),
        };
        let token = user.get("token").and_then(Value::as_str).map(|token| Text::Here(token.into()));
        let token = token.or_else(|| user.get("tokenFile")?.as_str().map(|file| Text::File(base.join(file))));
        let certificate = text(&user, "client-certificate", "client-certificate-data")?;
        let client = certificate.zip(text(&user, "client-key", "client-key-data")?);
        Ok(Cluster { host, port, authority, token, client })
    }

    /// Makes one call; the object that comes back.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, ClusterError> {
        timeout(TIMEOUT, self.try_call(method, path, body)).await.map_err(|_| unreachable("it does not answer"))?
    }

    async fn try_call(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Value, ClusterError> {
        let authority = if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        };
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, authority).header(header::ACCEPT, "application/json");
        request = request.header(header::USER_AGENT, concat!("ldmesh-webhook/", env!("CARGO_PKG_VERSION")));
        request = request.header(header::CONNECTION, "close");
        if let Some(token) = &self.token {
            let token = token.read()?;
            let token = format!("Bearer {}", String::from_utf8_lossy(&token).trim());
            request = request.header(header::AUTHORIZATION, token);
        }
        let mut content = Vec::new();
        if let Some((kind, body)) = body {
            request = request.header(header::CONTENT_TYPE, kind);
            content = serde_json::to_vec(body).map_err(unreachable)?;
        }
        let request = request.body(Full::new(Bytes::from(content))).map_err(unreachable)?;
        let stream = self.connect().await?;
        let answer = match self.tls()? {
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(unreachable)?;
                exchange(TlsConnector::from(Arc::new(tls)).connect(name, stream).await.map_err(unreachable)?, request)
                    .await?
            }
            None => exchange(stream, request).await?,
        };
        let (status, answer) = answer;
        let value: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if status < 300 {
            return Ok(value);
        }
        let message = value.get("message").and_then(Value::as_str).unwrap_or("it gives no reason");
        Err(ClusterError::Refused(status, message.escape_debug().to_string()))
    }

    async fn connect(&self) -> Result<TcpStream, ClusterError> {
        let addresses: Vec<IpAddr> = match self.host.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let resolver =
                    TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(unreachable)?;
                resolver.lookup_ip(self.host.as_str()).await.map_err(unreachable)?.iter().collect()
            }
        };
        let mut failure = unreachable(format!("{} has no address", self.host));
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, self.port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = unreachable(format!("{address} port {}: {error}", self.port)),
            }
        }
        Err(failure)
    }

    fn tls(&self) -> Result<Option<ClientConfig>, ClusterError> {
        let Some(authority) = &self.authority else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&authority.read()?) {
            roots.add(certificate.map_err(unreachable)?).map_err(unreachable)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(unreachable)?;
        let builder = builder.with_root_certificates(roots);
        let Some((certificate, key)) = &self.client else { return Ok(Some(builder.with_no_client_auth())) };
        let chain =
            CertificateDer::pem_slice_iter(&certificate.read()?).collect::<Result<_, _>>().map_err(unreachable)?;
        let key = PrivateKeyDer::from_pem_slice(&key.read()?).map_err(unreachable)?;
        builder.with_client_auth_cert(chain, key).map(Some).map_err(unreachable)
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(u16, Bytes), ClusterError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
    // It ends with the answer: the connection is closed after it.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(unreachable)?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await.map_err(unreachable)?;
    Ok((status, body.to_bytes()))
}
