//! The certificate that is served, and how PEM becomes one.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::metrics::Metrics;

/// Why PEM text is no certificate to serve; what to do is in the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadCertificate(pub String);

fn bad(text: impl Into<String>) -> BadCertificate {
    BadCertificate(text.into())
}

/// A chain with its key. Times are seconds since 1970.
#[derive(Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// It holds from then.
    pub not_before: i64,
    /// It is over then.
    pub not_after: i64,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}..{})", self.not_before, self.not_after)
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

impl Certificate {
    /// Reads a chain and its key; they must belong together.
    pub fn parse(chain: &[u8], key: &[u8]) -> Result<Self, BadCertificate> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| bad(format!("tls.crt: {error}; write certificates in PEM")))?;
        let first = chain.first().ok_or_else(|| bad("tls.crt: has no certificate; write one in PEM"))?;
        let (not_before, not_after) = validity(first).map_err(|BadCertificate(why)| bad(format!("tls.crt: {why}")))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| bad(format!("tls.key: {error}; write a private key in PEM")))?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| bad(format!("tls.crt and tls.key: {error}; write a pair that belongs together")))?;
        Ok(Certificate { key: Arc::new(key), not_before, not_after })
    }

    /// Whether it is over.
    pub fn is_over(&self, now: i64) -> bool {
        self.not_after <= now
    }

    /// Whether a client that asks for this name takes it.
    pub fn is_for(&self, name: &str) -> bool {
        let Some(first) = self.key.cert.first() else { return false };
        let Ok((_, parsed)) = X509Certificate::from_der(first) else { return false };
        let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
        names.value.general_names.iter().any(|found| {
            matches!(found, x509_parser::extensions::GeneralName::DNSName(found) if found.eq_ignore_ascii_case(name))
        })
    }
}

/// From when to when a certificate holds.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Result<(i64, i64), BadCertificate> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| bad(format!("{error}; write an X.509 certificate")))?;
    let validity = parsed.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// What new connections get. Those that are there keep theirs.
#[derive(Debug, Default)]
pub struct Served(RwLock<Option<Certificate>>);

impl Served {
    /// Serves it from now on.
    pub fn set(&self, certificate: Certificate) {
        *self.0.write() = Some(certificate);
    }

    pub(crate) fn replace(&self, certificate: Certificate, metrics: &Metrics) {
        metrics.serves_until(certificate.not_after);
        self.set(certificate);
    }

    /// What is served.
    pub fn get(&self) -> Option<Certificate> {
        self.0.read().clone()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().as_ref().map(|certificate| Arc::clone(&certificate.key))
    }
}
