//! The webhook's own CA: made for one certificate, then forgotten.
//!
//! Its key is never written anywhere, so nobody can make a second certificate that the API server takes.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A certificate and its CA, in PEM.
#[derive(Clone, Debug)]
pub struct Made {
    /// For the service.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// Who signed it.
    pub ca: String,
}

/// Clocks of a cluster differ; a certificate holds from a little earlier.
const SKEW: Duration = Duration::from_secs(3600);

/// Makes a CA and a certificate for these names; the API server asks for the first.
pub fn make(names: &[String], now: SystemTime, lifetime: Duration) -> Result<Made, rcgen::Error> {
    let first = names.first().map(String::as_str).unwrap_or_default();
    let (from, until) = (now.checked_sub(SKEW.min(lifetime / 10)), now.checked_add(lifetime));
    let (Some(from), Some(until)) = (from, until) else { return Err(rcgen::Error::Time) };

    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // Several are in one bundle, so each has a name of its own.
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    ca.distinguished_name.push(DnType::CommonName, format!("CA of {first} {since}"));
    (ca.not_before, ca.not_after) = (from.into(), until.into());
    let ca_certificate = ca.self_signed(&ca_key)?;

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(names)?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    // The name itself may be longer than the 64 characters of a common name.
    leaf.distinguished_name.push(DnType::CommonName, "ldmesh webhook");
    (leaf.not_before, leaf.not_after) = (from.into(), until.into());
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
    Ok(Made { certificate: certificate.pem(), key: key.serialize_pem(), ca: ca_certificate.pem() })
}
