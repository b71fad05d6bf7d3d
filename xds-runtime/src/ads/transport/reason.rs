//! Why the control plane is not there, in one line that names the thing.

use std::error::Error;
use std::path::PathBuf;

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
    /// The server's certificate, or ours, is not accepted.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The token is missing, expired or for another audience.
    #[error("unauthenticated: {0}")]
    Unauthenticated(String),
    /// The token is not this node's.
    #[error("permission denied: {0}")]
    PermissionDenied(String),
    /// The server ended the stream without an error.
    #[error("the control plane closed the stream")]
    Closed,
    /// Any other status.
    #[error("{0}")]
    Other(String),
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
            next = error.source();
        }
        let text = chain(error);
        if text.contains("certificate") || text.contains("UnknownIssuer") {
            Self::Certificate(text)
        } else {
            Self::Unreachable(text)
        }
    }
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
