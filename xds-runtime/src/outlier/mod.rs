//! Outlier detection: which endpoints are out of service for a while because connects to them failed.
//!
//! ```text
//! a connect failed (any process) --> slot: counts, rows --row complete--> claim on the cluster --> ejected, or not
//! each interval (the leader) -----> volumes since the last --> success rate, failure percentage --^
//!                            \----> multipliers of who is back for an interval shrink
//! ```
//! Envoy's algorithm for its TCP proxy. There a connect that fails is a 503, one that times out a 504, and one that
//! succeeds a 200: both failures count as 5xx and as gateway failure. With `split_external_local_origin_errors`
//! they are of local origin instead, and nothing else ever happens to a TCP connection. So each cluster has one kind
//! of volume, and one or two rows.
//!
//! Decisions are pure (`rows`, `decision`, `statistics`): time, randomness and what they count are arguments. What
//! acts in the process that saw the failure (`eject`, `failure`) may run in a signal handler: no lock, no allocation,
//! no system call, no unbounded wait. An ejection is a time in the endpoint's slot, so it ends by itself, and all
//! processes of the pod see it with their next pick.

mod decision;
mod detector;
mod eject;
mod failure;
mod rows;
mod settings;
mod statistics;

pub use decision::{Census, Decision, decide};
pub use detector::Detector;
pub use eject::{Verdict, eject};
pub use failure::{Ejected, cluster_in, count_failure, failed_in};
pub use rows::{Detected, Rows, Thresholds};
#[cfg(test)]
pub(crate) use settings::testing;
pub use settings::{FailurePercentage, SETTINGS_WORDS, Settings, SuccessRate};
pub use statistics::{Volume, by_failure_percentage, by_success_rate};
