//! What to do about a control plane that is not there: the variable or file to look at.
//!
//! A control plane says little about a token that it does not accept (istiod: "authentication failure"), so the token
//! is looked at here, too. Nothing is decided by it, and nothing of it is told but its audience, its subject and its
//! end.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::Endpoint;
use super::reason::{TlsFault, TransportError};

/// The audience of istiod's tokens.
const ISTIO_CA: &str = "istio-ca";
/// A larger file is no token.
const TOKEN_MOST: u64 = 64 << 10;

impl TransportError {
    /// The reason with its remedy, one line. `heard`: this connection had brought a message, so its address is right.
    pub fn explained(&self, endpoint: &Endpoint, heard: bool) -> String {
        match self.remedy(endpoint).filter(|_| !(heard && matches!(self, Self::Unreachable(_)))) {
            Some(remedy) => format!("{self}; {remedy}"),
            None => self.to_string(),
        }
    }

    fn remedy(&self, endpoint: &Endpoint) -> Option<String> {
        match self {
            Self::Tls(fault, _) => of_tls(*fault, endpoint),
            Self::Unauthenticated(_) => Some(of_token(endpoint)),
            Self::PermissionDenied(_) => Some(of_subject(endpoint)),
            Self::InvalidNode(_) => Some("look at POD_NAME, POD_NAMESPACE and INSTANCE_IP".to_owned()),
            Self::NameNotFound(..) => Some("look at LDMESH_XDS and this pod's resolv.conf".to_owned()),
            Self::Unreachable(text) if endpoint.uri.starts_with("http://") && is_protocol_error(text) => {
                Some("is it a port with TLS? then write https://".to_owned())
            }
            _ => None,
        }
    }
}

/// What h2 says when the peer's bytes are not HTTP/2: an alert of TLS, for one.
fn is_protocol_error(text: &str) -> bool {
    ["http2 error", "broken pipe", "Broken pipe", "connection reset", "reset by peer", "FRAME_SIZE", "PROTOCOL_ERROR"]
        .iter()
        .any(|sign| text.contains(sign))
}

fn of_tls(fault: TlsFault, endpoint: &Endpoint) -> Option<String> {
    let roots = match &endpoint.tls.root_file {
        Some(file) => file.display().to_string(),
        None => "the system's roots".to_owned(),
    };
    let name = endpoint.tls.server_name.as_deref().unwrap_or("the host of LDMESH_XDS");
    match fault {
        TlsFault::UnknownIssuer => {
            Some(format!("trusted is {roots}: XDS_ROOT_CA names the file with the control plane's root certificate"))
        }
        TlsFault::OtherName => Some(format!("expected is {name}: ISTIOD_SAN names another")),
        TlsFault::Expired => Some("renew the control plane's certificate, or set this machine's clock".to_owned()),
        TlsFault::NotValidYet => Some("set this machine's clock, or the control plane's".to_owned()),
        TlsFault::ClientCertificate => Some(match &endpoint.tls.identity {
            Some((certificate, _)) => format!("{} is not what it accepts", certificate.display()),
            None => {
                "it wants one: a gRPC bootstrap's tls credentials name certificate_file and private_key_file".to_owned()
            }
        }),
        TlsFault::NotTls => Some("is it a port without TLS? then write http://".to_owned()),
        TlsFault::OwnFile | TlsFault::Other => None,
    }
}

/// The claims of a JWT that matter here (RFC 7519).
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Audience,
    exp: Option<u64>,
    #[serde(default)]
    sub: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Audience {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::One(name) => vec![name],
            Self::Several(names) => names.iter().map(String::as_str).collect(),
        }
    }
}

/// Why a token may not be accepted.
fn of_token(endpoint: &Endpoint) -> String {
    let Some(path) = &endpoint.token_file else {
        return if endpoint.uri.starts_with("https://") {
            "no token is sent to the server of a gRPC bootstrap: name the control plane by LDMESH_XDS".to_owned()
        } else {
            "no token is sent without TLS: write https://".to_owned()
        };
    };
    let name = path.display();
    if !path.exists() {
        return format!(
            "no token was sent: {name} is not there (a projected service account token, audience {ISTIO_CA})"
        );
    }
    let Some(claims) = claims(path) else { return format!("{name} holds no service account token") };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let audiences = claims.aud.names();
    if let Some(over) = claims.exp.and_then(|end| now.checked_sub(end)) {
        return format!("the token in {name} expired {over} s ago");
    }
    if !audiences.contains(&ISTIO_CA) {
        return format!("the token in {name} is for {}, istiod wants audience {ISTIO_CA}", audiences.join(", "));
    }
    let cluster = endpoint.metadata.iter().find(|(key, _)| key == "clusterid").map_or("", |(_, value)| value);
    format!("the token in {name} is of {}, sent for cluster {cluster:?} (ISTIO_META_CLUSTER_ID)", claims.sub)
}

/// Whose the token is, and whose the node says that it is.
fn of_subject(endpoint: &Endpoint) -> String {
    let node = |key| endpoint.node.metadata_text(key).unwrap_or("none");
    let (namespace, account) = (node("NAMESPACE"), node("SERVICE_ACCOUNT"));
    let subject = endpoint.token_file.as_deref().and_then(claims).map_or("unknown".to_owned(), |claims| claims.sub);
    format!(
        "the token is of {subject}, this node says namespace {namespace}, service account {account}: look at \
         POD_NAMESPACE and SERVICE_ACCOUNT"
    )
}

/// The claims of the token in a file, unverified.
fn claims(path: &Path) -> Option<Claims> {
    if std::fs::metadata(path).ok()?.len() > TOKEN_MOST {
        return None;
    }
    let token = std::fs::read_to_string(path).ok()?;
    let payload = token.trim().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a token with these claims.
    fn said(claims: &str) -> String {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        // {"alg":"none"} and no signature.
        std::fs::write(&file, format!("e30.{}.x\n", URL_SAFE_NO_PAD.encode(claims))).expect("written");
        of_token(&Endpoint { token_file: Some(file), uri: "https://a:1".to_owned(), ..Endpoint::default() })
    }

    #[test]
    fn a_token_that_is_not_accepted_is_looked_at() {
        assert!(said(r#"{"aud":["istio-ca"],"exp":1,"sub":"s"}"#).contains(" expired "));
        assert!(
            said(r#"{"aud":"api","exp":99999999999,"sub":"s"}"#)
                .ends_with("is for api, istiod wants audience istio-ca")
        );
        assert!(said(r#"{"aud":["istio-ca"],"exp":99999999999,"sub":"me"}"#).contains("is of me, sent for cluster"));
        // Without an end it is never over.
        assert!(said(r#"{"aud":["istio-ca"],"sub":"me"}"#).contains("is of me, sent for cluster"));
        assert!(said("not JSON").ends_with("holds no service account token"));
    }

    #[test]
    fn a_token_that_is_not_there_is_told() {
        let endpoint = Endpoint { token_file: Some("/nowhere/token".into()), ..Endpoint::default() };
        assert!(of_token(&endpoint).starts_with("no token was sent: /nowhere/token is not there"));
        let without = |uri: &str| of_token(&Endpoint { uri: uri.to_owned(), ..Endpoint::default() });
        assert!(without("http://a:1").ends_with("write https://"));
        assert!(without("https://a:1").ends_with("name the control plane by LDMESH_XDS"));
    }
}
