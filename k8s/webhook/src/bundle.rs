//! CA certificates that are trusted together: `ca.crt` of the Secret, and caBundle.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificate::{now, validity};

/// A rotation leaves two, and a damaged Secret one more for each replica; what goes on and on does not grow for ever.
const MOST: usize = 16;

/// CAs that are not over, each once, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bundle(Vec<CertificateDer<'static>>);

impl Bundle {
    /// What of a text is a CA that is not over; the rest is passed over.
    pub fn parse(pem: &[u8]) -> Self {
        CertificateDer::pem_slice_iter(pem).flatten().collect()
    }

    /// These, and then the others.
    pub fn and(&self, others: &Bundle) -> Self {
        self.0.iter().chain(&others.0).cloned().collect()
    }

    pub fn contains(&self, ca: &CertificateDer<'_>) -> bool {
        self.0.contains(ca)
    }

    pub fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter()
    }

    /// The CA that a chain's first certificate names as its issuer; each CA has a name of its own.
    pub fn issuer(&self, chain: &[u8]) -> Option<&CertificateDer<'static>> {
        let first = CertificateDer::pem_slice_iter(chain).next()?.ok()?;
        let (_, first) = X509Certificate::from_der(&first).ok()?;
        self.0.iter().find(|ca| {
            X509Certificate::from_der(ca).is_ok_and(|(_, ca)| ca.subject().as_raw() == first.issuer().as_raw())
        })
    }

    pub fn pem(&self) -> String {
        self.0.iter().map(pem).collect()
    }
}

impl FromIterator<CertificateDer<'static>> for Bundle {
    fn from_iter<T: IntoIterator<Item = CertificateDer<'static>>>(cas: T) -> Self {
        let mut kept = Vec::new();
        for ca in cas {
            let holds = validity(&ca).is_ok_and(|(_, not_after)| not_after > now());
            if holds && kept.len() < MOST && !kept.contains(&ca) {
                kept.push(ca);
            }
        }
        Bundle(kept)
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, character) in STANDARD.encode(certificate).chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}
