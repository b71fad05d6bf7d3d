//! Istio's Sidecar, as far as it says what happens to unknown destinations.

use serde::Deserialize;

use super::scalar::nullable;

/// The spec of a Sidecar. What it narrows (`egress`) is not applied: every client sees every service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "the spec of a Sidecar")]
pub(crate) struct Sidecar {
    #[serde(deserialize_with = "nullable")]
    pub workload_selector: Option<WorkloadSelector>,
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// Which clients of the namespace it is for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, expecting = "a workload selector")]
pub(crate) struct WorkloadSelector {
    #[serde(deserialize_with = "nullable")]
    pub labels: std::collections::BTreeMap<String, String>,
}

/// What happens to destinations that nothing describes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, expecting = "an outbound traffic policy")]
pub(crate) struct OutboundTrafficPolicy {
    pub mode: OutboundMode,
}

/// The mode of an outbound traffic policy.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", expecting = "REGISTRY_ONLY or ALLOW_ANY")]
pub(crate) enum OutboundMode {
    /// They are refused; Istio's meaning of a policy without a mode.
    #[default]
    RegistryOnly,
    /// They are left alone.
    AllowAny,
}
