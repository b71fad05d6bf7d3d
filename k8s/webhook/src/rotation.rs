//! A certificate that the webhook makes itself, shared by its replicas in a Secret.
//!
//! ```text
//! Secret absent, unreadable, for another name, or two thirds over --> make a CA and a certificate, write the Secret
//!                                                                     (who loses the race reads again)
//! each replica: read the Secret --> caBundle has its CAs? else patch it --> a little later: serve it
//! ```
//! The Secret's `ca.crt` has the CA of its certificate and, until they are over, the CAs before it. A certificate is
//! served only after the API servers can know its CA, so that no admission fails while replicas change over.

use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority;
use crate::certificate::{Certificate, Served, now, validity};
use crate::cluster::{Cluster, ClusterError};
use crate::metrics::{CERTIFICATES, Metrics};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// What to keep, where, and for how long.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The API server.
    pub cluster: Cluster,
    /// Where Service and Secret are.
    pub namespace: String,
    /// The Service that the API server calls.
    pub service: String,
    /// The Secret.
    pub secret: String,
    /// The MutatingWebhookConfiguration.
    pub configuration: String,
    /// How long a certificate holds.
    pub lifetime: Duration,
    /// From the patch of caBundle to the new certificate: what API servers may take to see it.
    pub settle: Duration,
}

/// What the Secret has.
struct Stored {
    certificate: Certificate,
    /// It is time for another one, and it could not be written.
    due: Option<ClusterError>,
    /// PEM of each CA that is not over.
    bundle: Vec<String>,
}

/// A rotation at work.
pub(crate) struct Rotating {
    rotation: Rotation,
    /// The certificate of the Secret whose CA is published, since when.
    published: Option<(Certificate, Instant)>,
    problem: Option<String>,
}

impl Rotating {
    pub fn new(rotation: Rotation) -> Self {
        Rotating { rotation, published: None, problem: None }
    }

    /// Steps for ever.
    pub async fn run(mut self, served: &Served, metrics: &Metrics, every: Duration) {
        loop {
            let problem = self.step(served, metrics).await.err();
            metrics.reloaded(CERTIFICATES, problem.is_none());
            if problem != self.problem {
                match &problem {
                    Some(problem) => log::warn!("{problem}; trying again every {every:?}"),
                    None => log::info!("Secret {} and caBundle are as they should be", self.rotation.secret),
                }
                self.problem = problem;
            }
            tokio::time::sleep(every).await;
        }
    }

    async fn step(&mut self, served: &Served, metrics: &Metrics) -> Result<(), String> {
        let secret = format!("Secret {}/{}", self.rotation.namespace, self.rotation.secret);
        let failed = |error: ClusterError| format!("{secret}: {error}");
        let stored = self.rotation.stored(metrics).await.map_err(failed)?;
        let current = served.get();
        if current.as_ref().is_none_or(|current| current.is_over(now())) {
            served.replace(stored.certificate.clone(), metrics);
        }
        let name = format!("MutatingWebhookConfiguration {}", self.rotation.configuration);
        self.rotation.publish(&stored.bundle).await.map_err(|error| format!("{name}: {error}"))?;
        if current.as_ref() == Some(&stored.certificate) {
            return stored.due.map_or(Ok(()), |error| Err(failed(error)));
        }
        let since = match &self.published {
            Some((certificate, since)) if *certificate == stored.certificate => *since,
            _ => {
                let now = Instant::now();
                self.published = Some((stored.certificate.clone(), now));
                now
            }
        };
        if since.elapsed() >= self.rotation.settle {
            log::info!("the new certificate is in use");
            served.replace(stored.certificate, metrics);
        }
        stored.due.map_or(Ok(()), |error| Err(failed(error)))
    }
}

impl Rotation {
    /// Names of the service; the API server asks for the first.
    fn names(&self) -> Vec<String> {
        let short = format!("{}.{}", self.service, self.namespace);
        vec![format!("{short}.svc"), format!("{short}.svc.cluster.local"), short, self.service.clone()]
    }

    /// What the Secret has; made anew where it is not good.
    async fn stored(&self, metrics: &Metrics) -> Result<Stored, ClusterError> {
        let list = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        let path = format!("{list}/{}", self.secret);
        let mut failure = ClusterError::Refused(409, "others change it all the time".into());
        for _ in 0..5 {
            let found = match self.cluster.call(Method::GET, &path, None).await {
                Ok(found) => Some(found),
                Err(error) if error.status() == Some(404) => None,
                Err(error) => return Err(error),
            };
            let data = found.as_ref().and_then(|found| found.get("data")).cloned().unwrap_or_default();
            let old = authorities(&data);
            let usable = match self.good(&data, &old) {
                Some((stored, false)) => return Ok(stored),
                due_or_none => due_or_none.map(|(stored, _)| stored),
            };
            let made = authority::make(&self.names(), SystemTime::now(), self.lifetime)
                .map_err(|error| ClusterError::Unknown(format!("cannot make a certificate: {error}")))?;
            let mut bundle = made.ca.clone();
            bundle.extend(old.iter().map(|ca| pem(ca)));
            let data = json!({
                "tls.crt": STANDARD.encode(&made.certificate),
                "tls.key": STANDARD.encode(&made.key),
                "ca.crt": STANDARD.encode(&bundle),
            });
            let written = match found {
                Some(mut secret) => {
                    // With the resourceVersion that was read: of several replicas, one succeeds.
                    if let Some(secret) = secret.as_object_mut() {
                        secret.insert("data".into(), data);
                    }
                    self.cluster.call(Method::PUT, &path, Some(("application/json", &secret))).await
                }
                None => {
                    let metadata = json!({"name": self.secret, "namespace": self.namespace});
                    let secret = json!({
                        "apiVersion": "v1", "kind": "Secret", "metadata": metadata,
                        "type": "kubernetes.io/tls", "data": data,
                    });
                    self.cluster.call(Method::POST, &list, Some(("application/json", &secret))).await
                }
            };
            match written {
                Ok(_) => {
                    metrics.rotated();
                    log::info!("a new certificate is in Secret {}/{}", self.namespace, self.secret);
                }
                Err(error) if error.status() == Some(409) => failure = error,
                Err(error) => {
                    let usable = usable.ok_or_else(|| error.clone())?;
                    return Ok(Stored { due: Some(error), ..usable });
                }
            }
        }
        Err(failure)
    }

    /// The Secret's certificate if it can be served, and whether it is time for another one.
    fn good(&self, data: &Value, authorities: &[CertificateDer<'static>]) -> Option<(Stored, bool)> {
        let (chain, key) = (decode(data, "tls.crt")?, decode(data, "tls.key")?);
        let certificate = Certificate::parse(&chain, &key).ok()?;
        let signed = authorities.iter().any(|ca| is_issuer(ca, &chain));
        let name = self.names().into_iter().next()?;
        if certificate.is_over(now()) || !signed || !certificate.is_for(&name) {
            return None;
        }
        let third = certificate.not_after.saturating_sub(certificate.not_before) / 3;
        let due = now() >= certificate.not_after.saturating_sub(third);
        let bundle = authorities.iter().map(|ca| pem(ca)).collect();
        Some((Stored { certificate, due: None, bundle }, due))
    }

    /// Sees to it that the API server trusts the bundle, in every webhook of the configuration that calls our service.
    async fn publish(&self, bundle: &[String]) -> Result<(), ClusterError> {
        let path = format!("{CONFIGURATIONS}/{}", self.configuration);
        let configuration = self.cluster.call(Method::GET, &path, None).await?;
        let bundle = STANDARD.encode(bundle.concat());
        let webhooks = configuration.get("webhooks").and_then(Value::as_array).cloned().unwrap_or_default();
        let (mut ours, mut operations) = (0_usize, Vec::new());
        for (index, webhook) in webhooks.iter().enumerate() {
            let service = |key: &str| webhook.pointer(&format!("/clientConfig/service/{key}")).and_then(Value::as_str);
            if service("name") != Some(&self.service) || service("namespace") != Some(&self.namespace) {
                continue;
            }
            ours = ours.saturating_add(1);
            if webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str) != Some(&bundle) {
                let name = webhook.get("name").cloned().unwrap_or_default();
                operations.push(json!({"op": "test", "path": format!("/webhooks/{index}/name"), "value": name}));
                let path = format!("/webhooks/{index}/clientConfig/caBundle");
                operations.push(json!({"op": "add", "path": path, "value": bundle}));
            }
        }
        if ours == 0 {
            let service = format!("{}/{}", self.namespace, self.service);
            return Err(ClusterError::Unknown(format!("has no webhook of service {service}; check --service")));
        }
        if operations.is_empty() {
            return Ok(());
        }
        let patch = Value::Array(operations);
        self.cluster.call(Method::PATCH, &path, Some(("application/json-patch+json", &patch))).await?;
        log::info!("caBundle of MutatingWebhookConfiguration {} is patched", self.configuration);
        Ok(())
    }
}

fn decode(data: &Value, key: &str) -> Option<Vec<u8>> {
    STANDARD.decode(data.get(key)?.as_str()?).ok()
}

/// The Secret's CAs that are not over, the newest first.
fn authorities(data: &Value) -> Vec<CertificateDer<'static>> {
    let text = decode(data, "ca.crt").unwrap_or_default();
    let certificates = CertificateDer::pem_slice_iter(&text).flatten();
    certificates.filter(|ca| validity(ca).is_ok_and(|(_, not_after)| not_after > now())).collect()
}

/// Whether a chain's first certificate names this CA as its issuer; each CA has a name of its own.
fn is_issuer(ca: &CertificateDer<'_>, chain: &[u8]) -> bool {
    let Some(Ok(first)) = CertificateDer::pem_slice_iter(chain).next() else { return false };
    let (Ok((_, ca)), Ok((_, first))) = (X509Certificate::from_der(ca), X509Certificate::from_der(&first)) else {
        return false;
    };
    ca.subject().as_raw() == first.issuer().as_raw()
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
