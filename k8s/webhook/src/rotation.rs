//! A certificate that the webhook makes itself, shared by its replicas in a Secret.
//!
//! ```text
//! Secret absent, unreadable, for another name, or two thirds over --> make a CA and a certificate, write the Secret
//!                                                                     (who loses the race reads again)
//! Secret without the CA of what this replica serves               --> add it
//! each replica: read the Secret --> caBundle has its CAs? else patch it --> a little later: serve it
//! ```
//! The Secret's `ca.crt` has the CA of its certificate and, until they are over, the CAs before it. A certificate is
//! served only after the API servers can know its CA, and its CA goes only when nobody serves it, so that no admission
//! fails while replicas change over.
//!
//! That holds where somebody empties or damages the Secret, too. Who repairs it cannot know what the other replicas
//! serve, and does not ask caBundle, where anybody could have put a CA: each replica adds its own to the Secret, which
//! is the one place that says what is trusted, and [`crate::trust`] takes nothing out of caBundle before they can have
//! done so. A CA whose certificate no replica serves does not come back: who empties the Secret twice, the second time
//! once its certificate is served, is rid of the first one.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::authority;
use crate::bundle::Bundle;
use crate::certificate::{Certificate, now};
use crate::cluster::{Cluster, ClusterError};
use crate::metrics::{CERTIFICATES, Metrics};
use crate::routes::App;
use crate::trust::{Strangers, Webhooks};

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
#[derive(Clone)]
struct Stored {
    certificate: Certificate,
    /// Who signed it.
    issuer: CertificateDer<'static>,
    /// What is trusted: CAs that are not over.
    bundle: Bundle,
    /// It has to be written, and could not be.
    due: Option<ClusterError>,
}

/// A rotation at work.
pub(crate) struct Rotating {
    rotation: Rotation,
    /// The CA of the certificate that is served.
    own: Option<CertificateDer<'static>>,
    /// The certificate of the Secret whose CA is published, since when.
    published: Option<(Certificate, Instant)>,
    strangers: Strangers,
    problem: Option<String>,
}

impl Rotating {
    pub fn new(rotation: Rotation) -> Self {
        Rotating { rotation, own: None, published: None, strangers: Strangers::default(), problem: None }
    }

    /// Steps for ever.
    pub async fn run(mut self, app: &App, every: Duration) {
        loop {
            let problem = self.step(app).await.err();
            app.metrics.reloaded(CERTIFICATES, problem.is_none());
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

    async fn step(&mut self, app: &App) -> Result<(), String> {
        let secret = format!("Secret {}/{}", self.rotation.namespace, self.rotation.secret);
        let failed = |error: ClusterError| format!("{secret}: {error}");
        let stored = self.rotation.stored(self.own.as_ref(), &app.metrics).await.map_err(failed)?;
        let current = app.served.get();
        if current.as_ref().is_none_or(|current| current.is_over(now())) {
            self.serve(&stored, app);
        }
        let name = format!("MutatingWebhookConfiguration {}", self.rotation.configuration);
        let webhooks = self.rotation.webhooks();
        let trusted = webhooks.trust(&stored.bundle, &mut self.strangers).await;
        trusted.map_err(|error| format!("{name}: {error}"))?;
        app.trusted.store(true, Ordering::Relaxed);
        if current.as_ref() != Some(&stored.certificate) {
            let since = match &self.published {
                Some((certificate, since)) if *certificate == stored.certificate => *since,
                _ => self.published.insert((stored.certificate.clone(), Instant::now())).1,
            };
            if since.elapsed() >= self.rotation.settle {
                log::info!("the new certificate is in use");
                self.serve(&stored, app);
            }
        }
        stored.due.map_or(Ok(()), |error| Err(failed(error)))
    }

    fn serve(&mut self, stored: &Stored, app: &App) {
        self.own = Some(stored.issuer.clone());
        app.served.replace(stored.certificate.clone(), &app.metrics);
    }
}

impl Rotation {
    /// Names of the service; the API server asks for the first.
    fn names(&self) -> Vec<String> {
        let short = format!("{}.{}", self.service, self.namespace);
        vec![format!("{short}.svc"), format!("{short}.svc.cluster.local"), short, self.service.clone()]
    }

    fn webhooks(&self) -> Webhooks<'_> {
        let Rotation { cluster, configuration, namespace, service, settle, .. } = self;
        Webhooks { cluster, configuration, namespace, service, settle: *settle }
    }

    /// What the Secret has; made anew where it is not good, and with the CA `own` in it.
    async fn stored(&self, own: Option<&CertificateDer<'static>>, metrics: &Metrics) -> Result<Stored, ClusterError> {
        let list = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        let path = format!("{list}/{}", self.secret);
        let mut failure = ClusterError::Refused(409, "others change it all the time".into());
        for _ in 0..5 {
            let found = match self.cluster.call(Method::GET, &path, None).await {
                Ok(found) => Some(found),
                Err(error) if error.status() == Some(404) => None,
                Err(error) => return Err(error),
            };
            let mut data = found.as_ref().and_then(|found| found.get("data")).cloned().unwrap_or_default();
            let has = Bundle::parse(&decode(&data, "ca.crt").unwrap_or_default());
            let knows_own = own.is_none_or(|own| has.contains(own));
            // In front: a list that is full of others must not cut it off.
            let with_own = own.cloned().into_iter().collect::<Bundle>().and(&has);
            // The same order at each replica, or they would write caBundle in turns.
            let (usable, is_due) = self.good(&data, if knows_own { &has } else { &with_own }).unzip();
            match is_due {
                Some(false) if knows_own => return usable.ok_or(failure),
                Some(false) => data["ca.crt"] = STANDARD.encode(with_own.pem()).into(),
                _ => data = self.made(&with_own)?,
            }
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
                Ok(_) if is_due == Some(false) => {
                    log::info!("the CA in use is again in Secret {}/{}", self.namespace, self.secret);
                }
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
    fn good(&self, data: &Value, bundle: &Bundle) -> Option<(Stored, bool)> {
        let (chain, key) = (decode(data, "tls.crt")?, decode(data, "tls.key")?);
        let certificate = Certificate::parse(&chain, &key).ok()?;
        let issuer = bundle.issuer(&chain)?.clone();
        let name = self.names().into_iter().next()?;
        if certificate.is_over(now()) || !certificate.is_for(&name) {
            return None;
        }
        let third = certificate.not_after.saturating_sub(certificate.not_before) / 3;
        let due = now() >= certificate.not_after.saturating_sub(third);
        Some((Stored { certificate, issuer, bundle: bundle.clone(), due: None }, due))
    }

    /// The Secret's data with a new CA before the others, and its certificate.
    fn made(&self, others: &Bundle) -> Result<Value, ClusterError> {
        let made = authority::make(&self.names(), SystemTime::now(), self.lifetime)
            .map_err(|error| ClusterError::Unknown(format!("cannot make a certificate: {error}")))?;
        let bundle = Bundle::parse(made.ca.as_bytes()).and(others);
        Ok(json!({
            "tls.crt": STANDARD.encode(&made.certificate),
            "tls.key": STANDARD.encode(&made.key),
            "ca.crt": STANDARD.encode(bundle.pem()),
        }))
    }
}

fn decode(data: &Value, key: &str) -> Option<Vec<u8>> {
    STANDARD.decode(data.get(key)?.as_str()?).ok()
}
