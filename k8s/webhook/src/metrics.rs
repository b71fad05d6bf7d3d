//! What the webhook counts, as Prometheus text.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::review::Verdict;

/// Labels of an admission: `injected`, `unchanged`, `left_alone` (with a reason), `failed`, `malformed`, `busy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: &'static str,
    reason: &'static str,
}

/// What is reloaded: `settings` or `certificates`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

/// Every counter; one for the whole webhook.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    admissions: Family<Result, Counter>,
    duration: Histogram,
    expiry: Gauge,
    reload_errors: Family<What, Counter>,
    reload_failed: Family<What, Gauge>,
    rotations: Counter,
    handshake_errors: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ldmesh_webhook");
        let admissions = Family::<Result, Counter>::default();
        registry.register("admissions", "Reviews by what became of them", admissions.clone());
        // 100 us to 1 s: the answer is to take less than 10 ms.
        let bounds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0];
        let duration = Histogram::new(bounds);
        registry.register("admission_duration_seconds", "From the whole request to its answer", duration.clone());
        let expiry = Gauge::default();
        registry.register("certificate_expiry_seconds", "When the served certificate ends, Unix time", expiry.clone());
        let reload_errors = Family::<What, Counter>::default();
        registry.register("reload_errors", "Reloads that failed", reload_errors.clone());
        let reload_failed = Family::<What, Gauge>::default();
        registry.register("reload_failed", "1 while the last reload is a failed one", reload_failed.clone());
        let rotations = Counter::default();
        registry.register("rotations", "Certificates that this replica made", rotations.clone());
        let handshake_errors = Counter::default();
        registry.register(
            "tls_handshake_errors",
            "Connections that ended in the TLS handshake",
            handshake_errors.clone(),
        );
        for what in [SETTINGS, CERTIFICATES] {
            // They are shown from the start.
            drop(reload_errors.get_or_create(&What { what }));
            drop(reload_failed.get_or_create(&What { what }));
        }
        Metrics { registry, admissions, duration, expiry, reload_errors, reload_failed, rotations, handshake_errors }
    }
}

/// A settings file.
pub(crate) const SETTINGS: &str = "settings";
/// Certificate files, or the Secret and the caBundle.
pub(crate) const CERTIFICATES: &str = "certificates";

impl Metrics {
    pub(crate) fn admitted(&self, verdict: Verdict, took: Duration) {
        let (result, reason) = match verdict {
            Verdict::Injected => ("injected", ""),
            Verdict::Unchanged => ("unchanged", ""),
            Verdict::LeftAlone(reason) => ("left_alone", reason),
            Verdict::Failed => ("failed", ""),
        };
        self.admissions.get_or_create(&Result { result, reason }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(crate) fn malformed(&self) {
        self.admissions.get_or_create(&Result { result: "malformed", reason: "" }).inc();
    }

    pub(crate) fn busy(&self) {
        self.admissions.get_or_create(&Result { result: "busy", reason: "" }).inc();
    }

    pub(crate) fn serves_until(&self, seconds: i64) {
        self.expiry.set(seconds);
    }

    pub(crate) fn reloaded(&self, what: &'static str, good: bool) {
        self.reload_failed.get_or_create(&What { what }).set(i64::from(!good));
        if !good {
            self.reload_errors.get_or_create(&What { what }).inc();
        }
    }

    pub(crate) fn rotated(&self) {
        self.rotations.inc();
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshake_errors.inc();
    }

    /// The Prometheus (OpenMetrics) text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}
