//! What the pod has of each resource, as CSDS tells it (`envoy.service.status.v3.ClientConfig`, in the JSON of
//! protobuf): the names and the meaning of every field are those of that message and of
//! `envoy.admin.v3.ClientResourceStatus`.
//!
//! ```text
//! journal (what was accepted) --+
//! status.json (what was not)  --+--> one entry a resource
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use xds_runtime::leader::journal::Seed;
use xds_runtime::leader::status::{Nack, Status};
use xds_runtime::resource::ResourceType;
use xds_runtime::shm::Millis;

/// `ClientConfig`.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientConfig {
    /// The node as it is sent; null before the first leader.
    pub node: serde_json::Value,
    /// One entry a resource.
    pub generic_xds_configs: Vec<GenericXdsConfig>,
}

/// `GenericXdsConfig`, without the resource itself.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GenericXdsConfig {
    pub type_url: &'static str,
    pub name: String,
    /// With which the present content came; a resend of the same bytes under another version does not change it. Where
    /// the control plane gives resources none of their own (istiod), that of the type's last response.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version_info: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    pub client_status: ClientStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_state: Option<UpdateFailureState>,
}

/// `ClientResourceStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ClientStatus {
    Requested,
    DoesNotExist,
    Acked,
    Nacked,
}

/// `UpdateFailureState`.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateFailureState {
    pub last_update_attempt: String,
    pub details: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version_info: String,
}

impl ClientConfig {
    /// Puts both together. `accepted` may be younger than `said`, which is written every five seconds at least.
    pub(super) fn new(said: &Status, accepted: Seed, clock: &Clock) -> Self {
        let of_type = |kind: ResourceType| said.types.iter().find(|said| said.name == kind.short());
        let mut entries = BTreeMap::new();
        for ((kind, name), accepted) in accepted {
            let own = Some(accepted.version).filter(|version| !version.is_empty());
            entries.insert(
                (kind, name.clone()),
                GenericXdsConfig {
                    version_info: own.or_else(|| Some(of_type(kind)?.version.clone())).unwrap_or_default(),
                    last_updated: Some(clock.rfc3339(accepted.updated)),
                    ..GenericXdsConfig::new(kind, name, ClientStatus::Acked)
                },
            );
        }
        for kind in ResourceType::ALL {
            let Some(said) = of_type(kind) else { continue };
            let lists = [(&said.requested, ClientStatus::Requested), (&said.missing, ClientStatus::DoesNotExist)];
            for (names, status) in lists {
                for name in names {
                    let entry = || GenericXdsConfig::new(kind, name.clone(), status);
                    entries.entry((kind, name.clone())).or_insert_with(entry);
                }
            }
            for nack in &said.rejected {
                let entry = || GenericXdsConfig::new(kind, nack.name.clone(), ClientStatus::Nacked);
                let entry = entries.entry((kind, nack.name.clone())).or_insert_with(entry);
                entry.client_status = ClientStatus::Nacked;
                entry.error_state = Some(UpdateFailureState::new(nack, clock));
            }
        }
        let node = said.control_plane.node.clone();
        Self { node, generic_xds_configs: entries.into_values().collect() }
    }
}

impl GenericXdsConfig {
    fn new(kind: ResourceType, name: String, client_status: ClientStatus) -> Self {
        let type_url = kind.type_url();
        Self { type_url, name, version_info: String::new(), last_updated: None, client_status, error_state: None }
    }
}

impl UpdateFailureState {
    fn new(nack: &Nack, clock: &Clock) -> Self {
        Self {
            last_update_attempt: clock.rfc3339(nack.at),
            details: nack.reason.clone(),
            version_info: nack.version.clone(),
        }
    }
}

/// The same moment on the clock of the shared files and on the wall.
pub(super) struct Clock {
    pub shared: Millis,
    pub wall: SystemTime,
}

impl Clock {
    fn rfc3339(&self, at: Millis) -> String {
        let ago = Duration::from_millis(self.shared.saturating_sub(at));
        let then = self.wall.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
        humantime::format_rfc3339_millis(then).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use xds_runtime::leader::journal::Accepted;
    use xds_runtime::leader::status::{ControlPlaneStatus, TypeStatus};

    #[test]
    fn each_resource_has_its_status() {
        let clock = Clock { shared: 10_000, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(100) };
        let accepted = |name: &str| {
            let version = if name == "bare" { "" } else { "7" };
            let accepted = Accepted { version: version.to_owned(), updated: 4_000, raw: b"bytes".as_slice().into() };
            ((ResourceType::Endpoint, name.to_owned()), accepted)
        };
        let nack = |name: &str| Nack {
            name: name.to_owned(),
            version: "8".to_owned(),
            reason: "endpoints: no port".to_owned(),
            at: 9_500,
        };
        let said = Status {
            control_plane: ControlPlaneStatus { node: json!({"id": "sidecar~"}), ..Default::default() },
            types: vec![TypeStatus {
                name: "EDS".to_owned(),
                // "good" came between the two readings.
                requested: vec!["asked".to_owned(), "good".to_owned()],
                missing: vec!["none".to_owned(), "bad".to_owned()],
                rejected: vec![nack("kept"), nack("bad")],
                version: "9".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let found = ClientConfig::new(&said, ["bare", "good", "kept"].map(accepted).into(), &clock);
        let url = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
        let error = json!({
            "lastUpdateAttempt": "1970-01-01T00:01:39.500Z", "details": "endpoints: no port", "versionInfo": "8",
        });
        let updated = "1970-01-01T00:01:34.000Z";
        let expected = json!({
            "node": {"id": "sidecar~"},
            "genericXdsConfigs": [
                {"typeUrl": url, "name": "asked", "clientStatus": "REQUESTED"},
                {"typeUrl": url, "name": "bad", "clientStatus": "NACKED", "errorState": error},
                {"typeUrl": url, "name": "bare", "clientStatus": "ACKED", "versionInfo": "9", "lastUpdated": updated},
                {"typeUrl": url, "name": "good", "clientStatus": "ACKED", "versionInfo": "7", "lastUpdated": updated},
                {"typeUrl": url, "name": "kept", "clientStatus": "NACKED", "versionInfo": "7", "lastUpdated": updated,
                 "errorState": error},
                {"typeUrl": url, "name": "none", "clientStatus": "DOES_NOT_EXIST"},
            ],
        });
        assert_eq!(serde_json::to_value(found).unwrap(), expected);
    }
}
