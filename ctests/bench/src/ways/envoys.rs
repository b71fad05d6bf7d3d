//! Envoy beside the client, and for mutual TLS another one beside the servers.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use ctests::Envoy;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use super::{Way, beside};
use crate::place::Place;

const TCP: u16 = 9001;
const HTTP: u16 = 9002;
const TCP_TLS: u16 = 9003;
const HTTP_TLS: u16 = 9004;
/// Istio's default for a sidecar.
const WORKERS: usize = 2;

/// Both Envoys of a place.
#[derive(Debug)]
pub struct Envoys<'place> {
    place: &'place Place<'place>,
    client: Envoy<'place>,
    server: Envoy<'place>,
}

/// Starts them.
#[track_caller]
pub fn envoys<'a>(place: &'a Place<'a>) -> Envoys<'a> {
    let folder = place.pod.folder();
    certificates(folder).unwrap_or_else(|error| panic!("certificates: {error:#}"));
    // Where the servers are: on loopback it needs an address of its own.
    let server_host =
        if place.servers[0].is_loopback() { "127.0.9.2".to_owned() } else { place.servers[0].to_string() };
    let plain: Vec<Value> = place.endpoints().iter().map(|at| address(&at.ip().to_string(), at.port())).collect();
    let server = bootstrap(
        vec![
            listener("tcp", &server_host, TCP_TLS, tcp_proxy("plain"), Some(tls(folder, Side::Server))),
            listener("http", &server_host, HTTP_TLS, http_proxy("plain"), Some(tls(folder, Side::Server))),
        ],
        vec![cluster("plain", &plain, None)],
    );
    let client = bootstrap(
        vec![
            listener("tcp", "127.0.9.1", TCP, tcp_proxy("plain"), None),
            listener("http", "127.0.9.1", HTTP, http_proxy("plain"), None),
            listener("tcp-tls", "127.0.9.1", TCP_TLS, tcp_proxy("tcp-tls"), None),
            listener("http-tls", "127.0.9.1", HTTP_TLS, http_proxy("http-tls"), None),
        ],
        vec![
            cluster("plain", &plain, None),
            cluster("tcp-tls", &[address(&server_host, TCP_TLS)], Some(tls(folder, Side::Client))),
            cluster("http-tls", &[address(&server_host, HTTP_TLS)], Some(tls(folder, Side::Client))),
        ],
    );
    let start = |name: &str, on_servers_side: bool, mut config: Value| {
        let command = |binary: &Path| if on_servers_side { place.command(binary) } else { place.pod.command(binary) };
        Envoy::from_bootstrap(place.pod, name, WORKERS, command, |admin| {
            config["admin"] = json!({"address": {"pipe": {"path": admin}}});
            config
        })
    };
    let server = start("envoy-server", true, server);
    Envoys { place, client: start("envoy-client", false, client), server }
}

/// Envoy's version, as its file says it.
pub fn version() -> Result<String> {
    let done = Command::new(Envoy::binary()).arg("--version").output().context("Envoy")?;
    let said = String::from_utf8_lossy(&done.stdout);
    Ok(said
        .split_once("version: ")
        .and_then(|(_, version)| version.split('/').nth(1))
        .context("Envoy does not say its version")?
        .to_owned())
}

impl<'place> Envoys<'place> {
    /// The ways through them.
    pub fn ways<'a>(&'a self) -> Vec<Way<'a>>
    where
        'place: 'a,
    {
        let way = |name, port| Way::new(name, self.place, beside(1, port)).helped_by(self.client.process());
        let with_tls = |name, port| way(name, port).helped_by(self.server.process());
        vec![
            way("Envoy, TCP", TCP),
            way("Envoy, HTTP", HTTP),
            with_tls("two Envoys, TCP with mTLS", TCP_TLS),
            with_tls("two Envoys, HTTP with mTLS", HTTP_TLS),
        ]
    }
}

/// A CA, and one certificate for both ends, valid for a while only since nothing outlives the measurement.
fn certificates(folder: &Path) -> Result<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    // Other than the certificate's, or that would count as its own issuer.
    authority.distinguished_name.push(DnType::CommonName, "authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["greeter".to_owned()])?.signed_by(&key, &authority)?;
    let files = [("ca.pem", authority.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())];
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

enum Side {
    Client,
    Server,
}

fn tls(folder: &Path, side: Side) -> Value {
    let file = |name: &str| json!({"filename": folder.join(name)});
    let mut context = json!({"common_tls_context": {
        "tls_certificates": [{"certificate_chain": file("cert.pem"), "private_key": file("key.pem")}],
        "validation_context": {"trusted_ca": file("ca.pem")},
    }});
    let kind = match side {
        Side::Client => "UpstreamTlsContext",
        Side::Server => {
            context["require_client_certificate"] = json!(true);
            "DownstreamTlsContext"
        }
    };
    context["@type"] = json!(format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"));
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

fn tcp_proxy(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": cluster,
            "cluster": cluster,
        },
    })
}

fn http_proxy(cluster: &str) -> Value {
    let manager =
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": manager,
            "stat_prefix": cluster,
            "route_config": {"virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}],
            }]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
        },
    })
}

fn listener(name: &str, host: &str, port: u16, filter: Value, transport_socket: Option<Value>) -> Value {
    let mut chain = json!({"filters": [filter]});
    if let Some(socket) = transport_socket {
        chain["transport_socket"] = socket;
    }
    json!({
        "name": name,
        "address": address(host, port),
        "tcp_backlog_size": 4096,
        "filter_chains": [chain],
    })
}

fn cluster(name: &str, endpoints: &[Value], transport_socket: Option<Value>) -> Value {
    let members: Vec<Value> = endpoints.iter().map(|address| json!({"endpoint": {"address": address}})).collect();
    let threshold = json!({"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000});
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        // Envoy's default of 1,024 would be what a storm meets.
        "circuit_breakers": {"thresholds": [threshold]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": members}]},
    });
    if let Some(socket) = transport_socket {
        cluster["transport_socket"] = socket;
    }
    cluster
}

fn bootstrap(listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}
