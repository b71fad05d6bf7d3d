//! The mutating admission webhook: what stands between the API server and the injector.
//!
//! ```text
//! API server --HTTPS--> listen --> routes --> review (AdmissionReview in, patch out) --> injector
//!                         |          |
//!    served certificate --+          +-- settings         probes, Prometheus --HTTP--> routes --> metrics
//!        ^                               ^
//!        |  folder (files polled), or    +-- files polled
//!        +- rotation (own CA) <--> cluster (Secret, MutatingWebhookConfiguration)
//! ```
//! A pod is never refused: what cannot be injected is allowed as it is, with a warning. Only what is no
//! AdmissionReview is an error (HTTP 400); the API server's failurePolicy then decides.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod authority;
mod bodies;
mod bundle;
mod certificate;
mod cluster;
mod connections;
mod listen;
mod metrics;
mod reload;
mod review;
mod rotation;
mod routes;
mod run;
mod settings;
mod trust;
mod weight;

pub use authority::{Made, make};
pub use certificate::{BadCertificate, Certificate, Served};
pub use cluster::{Cluster, ClusterError};
pub use listen::{serve_http, serve_tls};
pub use review::{Answer, Malformed, Verdict, answer};
pub use rotation::Rotation;
pub use run::{Certificates, Options, StartError, Webhook};
pub use weight::weight;
