//! Whom the API server trusts: caBundle of each webhook that calls our Service.
//!
//! CAs are added at once and taken away late. One that this replica does not find in the Secret may be that of what
//! another replica serves, which is about to put it there (see [`crate::rotation`]); it stays for [`LINGER`] times
//! `settle`. So nothing that is only in caBundle stays for good: who could once patch it cannot leave a CA of his own.
//!
//! A patch says what it found. If somebody changed that in the meantime, the API server refuses the patch, and all is
//! read again: a replica that is late does not take away what another one has just added.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cluster::{Cluster, ClusterError};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
/// Replicas look every `settle` / 2, and the API server may fail them once or twice.
const LINGER: u32 = 3;
const ATTEMPTS: usize = 5;

/// The webhooks of a configuration that call a Service.
#[derive(Clone, Debug)]
pub(crate) struct Webhooks<'a> {
    pub cluster: &'a Cluster,
    pub configuration: &'a str,
    pub namespace: &'a str,
    pub service: &'a str,
    pub settle: Duration,
}

/// Since when there are CAs in caBundle that are not in the Secret.
#[derive(Debug, Default)]
pub(crate) struct Strangers(HashMap<CertificateDer<'static>, Instant>);

impl Strangers {
    /// Those that may stay for now.
    fn among(&mut self, found: &Bundle, ours: &Bundle, stay: Duration) -> Bundle {
        let strangers = found.iter().filter(|ca| !ours.contains(ca));
        let young = strangers.filter(|ca| self.0.entry((*ca).clone()).or_insert_with(Instant::now).elapsed() < stay);
        young.cloned().collect()
    }

    fn forget_others(&mut self, found: &[Bundle]) {
        self.0.retain(|ca, _| found.iter().any(|bundle| bundle.contains(ca)));
    }
}

impl Webhooks<'_> {
    /// Sees to it that the API server trusts these CAs.
    pub async fn trust(&self, ours: &Bundle, strangers: &mut Strangers) -> Result<(), ClusterError> {
        let mut failure = ClusterError::Refused(409, "others change it all the time".into());
        for _ in 0..ATTEMPTS {
            match self.try_trust(ours, strangers).await {
                // A failed `test` is 422.
                Err(error) if matches!(error.status(), Some(409 | 422)) => failure = error,
                done => return done,
            }
        }
        Err(failure)
    }

    async fn try_trust(&self, ours: &Bundle, strangers: &mut Strangers) -> Result<(), ClusterError> {
        let path = format!("{CONFIGURATIONS}/{}", self.configuration);
        let configuration = self.cluster.call(Method::GET, &path, None).await?;
        let webhooks = configuration.get("webhooks").and_then(Value::as_array).cloned().unwrap_or_default();
        let (mut seen, mut operations) = (Vec::new(), Vec::new());
        for (index, webhook) in webhooks.iter().enumerate() {
            let service = |key: &str| webhook.pointer(&format!("/clientConfig/service/{key}")).and_then(Value::as_str);
            if service("name") != Some(self.service) || service("namespace") != Some(self.namespace) {
                continue;
            }
            let found = webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str);
            let trusted = Bundle::parse(&found.and_then(|found| STANDARD.decode(found).ok()).unwrap_or_default());
            let wanted = ours.and(&strangers.among(&trusted, ours, self.settle.saturating_mul(LINGER)));
            seen.push(trusted);
            let wanted = STANDARD.encode(wanted.pem());
            if found != Some(&wanted) {
                let name = webhook.get("name").cloned().unwrap_or_default();
                operations.push(json!({"op": "test", "path": format!("/webhooks/{index}/name"), "value": name}));
                // As a whole, for caBundle may be absent.
                let (path, client) = (format!("/webhooks/{index}/clientConfig"), webhook.get("clientConfig"));
                operations.push(json!({"op": "test", "path": path, "value": client}));
                operations.push(json!({"op": "add", "path": format!("{path}/caBundle"), "value": wanted}));
            }
        }
        strangers.forget_others(&seen);
        if seen.is_empty() {
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
