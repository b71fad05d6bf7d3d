//! Why the control plane is not there, in one line that names the thing.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError};
use tonic::{Code, Status};

/// A failure of the transport.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The URI is not one of the three kinds.
    #[error("{0:?} is no control plane address: use http://host:port, https://host:port or unix:///path")]
    Uri(String),
    /// A file that the configuration names cannot be read.
    #[error("{path}: {1}", path = .0.display())]
    File(PathBuf, String),
    /// Metadata or token that cannot be sent.
    #[error("{0}: not usable as gRPC metadata")]
    Metadata(String),
    /// The host name does not resolve.
    #[error("name not found: {0}: {1}")]
    NameNotFound(String, String),
    /// No connection.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// TLS did not come about.
    #[error("{0}: {1}")]
    Tls(TlsFault, String),
    /// The token is missing, expired or for another audience.
    #[error("unauthenticated: {0}")]
    Unauthenticated(String),
    /// The token is not this node's.
    #[error("permission denied: {0}")]
    PermissionDenied(String),
    /// The node is not what the control plane takes.
    #[error("invalid node: {0}")]
    InvalidNode(String),
    /// The control plane has no room for the stream now.
    #[error("the control plane is overloaded: {0}")]
    Overloaded(String),
    /// The server ended the stream without an error.
    #[error("the control plane closed the stream")]
    Closed,
    /// Any other status.
    #[error("{0}")]
    Other(String),
}

/// What is wrong with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// No root that is trusted issued the server's certificate.
    #[error("certificate of an unknown issuer")]
    UnknownIssuer,
    /// The server's certificate is over.
    #[error("certificate expired")]
    Expired,
    /// The server's certificate is not valid yet, or this machine's clock is wrong.
    #[error("certificate not valid yet")]
    NotValidYet,
    /// The server's certificate is for other names.
    #[error("certificate of another name")]
    OtherName,
    /// The server wants a certificate of ours, or another one.
    #[error("client certificate refused")]
    ClientCertificate,
    /// The server does not speak TLS.
    #[error("no TLS at this port")]
    NotTls,
    /// A file of ours is not what it should be.
    #[error("certificate file")]
    OwnFile,
    /// Anything else.
    #[error("TLS")]
    Other,
}

impl From<&rustls::Error> for TlsFault {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                // The issuer has a trusted one's name and another key.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotValidYet,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
                _ => Self::Other,
            },
            rustls::Error::AlertReceived(alert) if CLIENT_CERTIFICATE_ALERTS.contains(alert) => Self::ClientCertificate,
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Other,
        }
    }
}

impl TransportError {
    /// What a failed connection means.
    pub(super) fn from_connect(error: &tonic::transport::Error) -> Self {
        Self::from_chain(error)
    }

    /// What a stream's status means.
    pub(super) fn from_status(status: &Status) -> Self {
        let message = one_line(status.message());
        match status.code() {
            Code::Unauthenticated => Self::Unauthenticated(message),
            Code::PermissionDenied => Self::PermissionDenied(message),
            Code::InvalidArgument => Self::InvalidNode(message),
            Code::ResourceExhausted => Self::Overloaded(message),
            code => match status.source() {
                Some(source) => Self::from_chain(source),
                None => Self::Other(format!("{code:?}: {message}")),
            },
        }
    }

    fn from_chain(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(own) = error.downcast_ref::<Self>() {
                return own.clone();
            }
            if let Some(fault) = tls_error(error) {
                return Self::Tls(fault.into(), one_line(&fault.to_string()));
            }
            next = error.source();
        }
        let text = chain(error);
        // With TLS 1.3 a certificate of ours is refused behind the handshake, where h2 keeps an error's words only.
        let alert = text.split_once("received fatal alert: ").map(|(_, alert)| alert);
        match alert {
            Some(alert) if CLIENT_CERTIFICATE_ALERTS.iter().any(|ours| alert.starts_with(&format!("{ours:?}"))) => {
                Self::Tls(TlsFault::ClientCertificate, text)
            }
            _ => Self::Unreachable(text),
        }
    }
}

/// What a server says to a client whose certificate is missing or not accepted (RFC 8446, section 6.2).
const CLIENT_CERTIFICATE_ALERTS: [AlertDescription; 7] = [
    AlertDescription::CertificateRequired,
    AlertDescription::BadCertificate,
    AlertDescription::UnknownCA,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::DecryptError,
];

/// rustls' error, which an [`io::Error`] holds but does not give as its source.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let held = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
    held.and_then(|held| held.downcast_ref()).or_else(|| error.downcast_ref())
}

/// An error with its causes, without repetition.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = one_line(&error.to_string());
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = one_line(&cause.to_string());
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// What others wrote, without line breaks and bounded.
fn one_line(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
