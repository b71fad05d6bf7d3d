//! Who we are to the control plane.

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value};

use crate::ads::wire;
use crate::resource::Locality;

const USER_AGENT: &str = "ldmesh";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The node of an xDS client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// For Istio: `sidecar~ip~pod.namespace~namespace.svc.cluster.local`.
    pub id: String,
    /// Cluster the node belongs to.
    pub cluster: String,
    /// A JSON object; anything else counts as empty.
    pub metadata: serde_json::Value,
    /// Where the node runs.
    pub locality: Locality,
}

impl Node {
    /// A metadata entry that is text.
    pub fn metadata_text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(serde_json::Value::as_str)
    }

    /// What is sent, in protobuf's JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let Locality { region, zone, sub_zone } = &self.locality;
        serde_json::json!({
            "id": self.id,
            "cluster": self.cluster,
            "metadata": self.metadata,
            "locality": {"region": region, "zone": zone, "subZone": sub_zone},
            "userAgentName": USER_AGENT,
            "userAgentVersion": VERSION,
        })
    }
}

impl From<&Node> for wire::Node {
    fn from(node: &Node) -> Self {
        let metadata = match &node.metadata {
            serde_json::Value::Object(fields) => Some(to_struct(fields)),
            _ => None,
        };
        let locality = (node.locality != Locality::default()).then(|| wire::Locality {
            region: node.locality.region.clone(),
            zone: node.locality.zone.clone(),
            sub_zone: node.locality.sub_zone.clone(),
        });
        Self {
            id: node.id.clone(),
            cluster: node.cluster.clone(),
            metadata,
            locality,
            user_agent_name: USER_AGENT.to_owned(),
            user_agent_version: VERSION.to_owned(),
            // Overprovisioning is honoured, so its absence is not declared.
            client_features: vec!["xds.config.resource-in-sotw".to_owned()],
        }
    }
}

fn to_struct(fields: &serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: fields.iter().map(|(name, value)| (name.clone(), to_value(value))).collect() }
}

fn to_value(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(b) => Kind::BoolValue(*b),
        serde_json::Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or(0.0)),
        serde_json::Value::String(s) => Kind::StringValue(s.clone()),
        serde_json::Value::Array(a) => Kind::ListValue(ListValue { values: a.iter().map(to_value).collect() }),
        serde_json::Value::Object(o) => Kind::StructValue(to_struct(o)),
    };
    Value { kind: Some(kind) }
}
