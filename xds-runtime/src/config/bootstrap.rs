//! gRPC's bootstrap JSON (gRFC A27, A65): where the control plane is, how to trust it, and the node.
//!
//! Only the first server is used. Certificate provider plugins, authorities and listener templates belong to gRPC's
//! own clients and are ignored.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::control_plane::{Authority, ControlPlane, parse_socket_path};
use super::identity::Locality;

/// Why a bootstrap cannot be used.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// Not the JSON it should be.
    #[error("the bootstrap is not valid: {0}; see gRPC's bootstrap format (gRFC A27)")]
    Json(#[from] serde_json::Error),
    /// `xds_servers` is empty.
    #[error("the bootstrap names no server; add one to xds_servers")]
    NoServer,
    /// The first server's address.
    #[error("xds_servers[0].server_uri {uri:?} is not usable; {remedy}")]
    ServerUri {
        /// As it stands.
        uri: String,
        /// What to write instead.
        remedy: String,
    },
    /// None of the first server's credentials.
    #[error("xds_servers[0].channel_creds offers {offered}; add {{\"type\": \"insecure\"}} or {{\"type\": \"tls\"}}")]
    Credentials {
        /// The types it lists.
        offered: String,
    },
    /// Only one half of a client certificate.
    #[error("the tls credentials need certificate_file and private_key_file, or neither")]
    HalfCertificate,
    /// TLS over a unix socket has no name to verify.
    #[error("tls credentials do not work over a unix socket; use insecure ones")]
    TlsOverUnix,
}

/// What a bootstrap says, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// The first server.
    pub control_plane: ControlPlane,
    /// The files of its TLS credentials.
    pub tls: BootstrapTls,
    /// Its `server_features`, as they stand.
    pub server_features: Vec<String>,
    /// The node.
    pub node: BootstrapNode,
}

/// Files of the `tls` channel credentials; all absent for insecure ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootstrapTls {
    /// Roots to trust; the system's when absent.
    pub ca_certificate_file: Option<PathBuf>,
    /// Client certificate chain and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The `node` of a bootstrap. An empty `id` means that none is given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct BootstrapNode {
    /// Node id.
    pub id: String,
    /// Node cluster.
    pub cluster: String,
    /// Node metadata.
    pub metadata: Map<String, Value>,
    /// Node locality.
    pub locality: Locality,
}

#[derive(Deserialize)]
struct RawBootstrap {
    #[serde(default)]
    xds_servers: Vec<RawServer>,
    #[serde(default)]
    node: BootstrapNode,
}

#[derive(Deserialize)]
struct RawServer {
    server_uri: String,
    #[serde(default)]
    channel_creds: Vec<RawCredentials>,
    #[serde(default)]
    server_features: Vec<Value>,
}

#[derive(Deserialize)]
struct RawCredentials {
    r#type: String,
    #[serde(default)]
    config: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawTls {
    ca_certificate_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    private_key_file: Option<PathBuf>,
}

impl Bootstrap {
    /// Parses and checks a bootstrap.
    pub fn parse(json: &[u8]) -> Result<Bootstrap, BootstrapError> {
        let raw: RawBootstrap = serde_json::from_slice(json)?;
        let server = raw.xds_servers.into_iter().next().ok_or(BootstrapError::NoServer)?;
        let tls = credentials(&server.channel_creds)?;
        let control_plane = match (address(&server.server_uri)?, &tls) {
            (Address::Unix(_), Some(_)) => return Err(BootstrapError::TlsOverUnix),
            (Address::Unix(path), None) => ControlPlane::Unix(path),
            (Address::Tcp(authority), Some(_)) => ControlPlane::Https(authority),
            (Address::Tcp(authority), None) => ControlPlane::Http(authority),
        };
        let features = server.server_features.into_iter();
        Ok(Bootstrap {
            control_plane,
            tls: tls.unwrap_or_default(),
            server_features: features.filter_map(|f| f.as_str().map(str::to_owned)).collect(),
            node: raw.node,
        })
    }
}

/// The first supported entry counts (gRFC A27); `None` is plaintext.
fn credentials(offered: &[RawCredentials]) -> Result<Option<BootstrapTls>, BootstrapError> {
    for credentials in offered {
        match credentials.r#type.as_str() {
            "insecure" => return Ok(None),
            "tls" => {
                let raw = match &credentials.config {
                    Value::Null => RawTls::default(),
                    config => RawTls::deserialize(config)?,
                };
                let client = match (raw.certificate_file, raw.private_key_file) {
                    (Some(certificate), Some(key)) => Some((certificate, key)),
                    (None, None) => None,
                    _ => return Err(BootstrapError::HalfCertificate),
                };
                return Ok(Some(BootstrapTls { ca_certificate_file: raw.ca_certificate_file, client }));
            }
            _ => {}
        }
    }
    let types: Vec<&str> = offered.iter().map(|c| c.r#type.as_str()).collect();
    let offered = if types.is_empty() { "nothing".to_owned() } else { types.join(", ") };
    Err(BootstrapError::Credentials { offered })
}

enum Address {
    Tcp(Authority),
    Unix(PathBuf),
}

/// gRPC's naming (doc/naming.md): a bare target or one of the schemes dns, ipv4, ipv6, unix. Port 443 by default.
fn address(uri: &str) -> Result<Address, BootstrapError> {
    let refuse = |remedy: &str| BootstrapError::ServerUri { uri: uri.to_owned(), remedy: remedy.to_owned() };
    if let Some(path) = uri.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return parse_socket_path(path).map(Address::Unix).map_err(|r| refuse(&r.0));
    }
    let target = match uri.split_once(':') {
        // dns://authority/host:port: the authority is a DNS server, which we do not choose.
        Some(("dns", rest)) => match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').map_or("", |(_, target)| target),
            None => rest,
        },
        Some(("ipv4" | "ipv6", rest)) => rest.split(',').next().unwrap_or(rest),
        _ if uri.contains("://") => {
            return Err(refuse("use host:port, dns:///host:port or unix:///path"));
        }
        _ => uri,
    };
    Authority::parse(target, Some(443)).map(Address::Tcp).map_err(|r| refuse(&r.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_uri(uri: &str, credentials: &str) -> Result<Bootstrap, BootstrapError> {
        let json = format!(
            r#"{{"xds_servers": [{{"server_uri": {}, "channel_creds": {credentials}}}]}}"#,
            serde_json::to_string(uri).unwrap()
        );
        Bootstrap::parse(json.as_bytes())
    }

    #[track_caller]
    fn check_uri(uri: &str, expected: &str) {
        let found = with_uri(uri, r#"[{"type": "insecure"}]"#).unwrap();
        assert_eq!(found.control_plane.to_string(), expected);
    }

    #[test]
    fn a_full_bootstrap_is_read() {
        let bootstrap = Bootstrap::parse(
            br#"{
              "xds_servers": [
                {"server_uri": "istiod.istio-system.svc:15012",
                 "channel_creds": [{"type": "google_default"},
                   {"type": "tls", "config": {"ca_certificate_file": "/ca", "certificate_file": "/crt",
                     "private_key_file": "/key", "refresh_interval": "10s"}}],
                 "server_features": ["xds_v3", {"odd": 1}]},
                {"server_uri": "second:1", "channel_creds": []}],
              "node": {"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local", "cluster": "c", "metadata": {"K": {"x": 1}},
                "locality": {"region": "r", "zone": "z", "sub_zone": "s"}},
              "certificate_providers": {"default": {"plugin_name": "file_watcher"}}
            }"#,
        )
        .unwrap();
        assert_eq!(bootstrap.control_plane.to_string(), "https://istiod.istio-system.svc:15012");
        assert_eq!(bootstrap.tls.ca_certificate_file, Some("/ca".into()));
        assert_eq!(bootstrap.tls.client, Some(("/crt".into(), "/key".into())));
        assert_eq!(bootstrap.server_features, ["xds_v3"]);
        assert_eq!(bootstrap.node.id, "sidecar~10.0.0.1~a.b~b.svc.cluster.local");
        assert_eq!(bootstrap.node.metadata.get("K"), Some(&serde_json::json!({"x": 1})));
        assert_eq!(bootstrap.node.locality.sub_zone, "s");
    }

    #[test]
    fn grpcs_names_for_an_address_are_understood() {
        check_uri("host:1", "http://host:1");
        check_uri("host", "http://host:443");
        check_uri("dns:///host:1", "http://host:1");
        check_uri("dns://8.8.8.8/host:1", "http://host:1");
        check_uri("dns:host:1", "http://host:1");
        check_uri("ipv4:10.0.0.1:80", "http://10.0.0.1:80");
        check_uri("ipv6:[fd00::1]:80", "http://[fd00::1]:80");
        check_uri("unix:///etc/istio/proxy/XDS", "unix:///etc/istio/proxy/XDS");
        check_uri("unix:/x", "unix:///x");
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let insecure = r#"[{"type": "insecure"}]"#;
        for uri in ["", "xds:///host", "dns://host", "unix:x", "a:b:c", "http://host:1"] {
            assert!(matches!(with_uri(uri, insecure), Err(BootstrapError::ServerUri { .. })), "{uri}");
        }
        let offered = with_uri("a:1", r#"[{"type": "google_default"}, {"type": "alts"}]"#).unwrap_err();
        assert!(offered.to_string().contains("google_default, alts"), "{offered}");
        assert!(matches!(with_uri("unix:/x", r#"[{"type": "tls"}]"#), Err(BootstrapError::TlsOverUnix)));
        let half = r#"[{"type": "tls", "config": {"certificate_file": "/c"}}]"#;
        assert!(matches!(with_uri("a:1", half), Err(BootstrapError::HalfCertificate)));
        assert!(matches!(Bootstrap::parse(b"{}"), Err(BootstrapError::NoServer)));
        assert!(matches!(Bootstrap::parse(b"[1"), Err(BootstrapError::Json(_))));
        assert!(matches!(Bootstrap::parse(&b"[".repeat(10_000)), Err(BootstrapError::Json(_))));
    }

    proptest! {
        #[test]
        fn no_address_makes_the_parser_panic(uri in "(unix|dns|ipv[46])?:?/{0,3}[\\[\\]a-z0-9:.,/é]{0,20}") {
            let _ = with_uri(&uri, r#"[{"type": "insecure"}]"#);
        }
    }
}
