//! What of a client's node decides what it gets.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::{Value, value::Kind};

use crate::model::Locality;

/// A kind of client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    pub(super) namespace: String,
    pub(super) locality: Locality,
    /// Labels of the client's pod.
    pub(super) labels: BTreeMap<String, String>,
    /// The client resolves names itself and is given allocated addresses.
    pub(super) auto_allocated: bool,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            locality: Locality::default(),
            labels: BTreeMap::new(),
            auto_allocated: false,
        }
    }
}

impl Proxy {
    /// A client in a namespace, with nothing else said.
    pub fn in_namespace(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..Self::default() }
    }

    /// The same client in a locality.
    #[must_use]
    pub fn in_locality(mut self, region: &str, zone: &str, sub_zone: &str) -> Self {
        self.locality = Locality { region: region.to_owned(), zone: zone.to_owned(), sub_zone: sub_zone.to_owned() };
        self
    }

    /// The same client with `DNS_CAPTURE` and `DNS_AUTO_ALLOCATE`.
    #[must_use]
    pub fn with_auto_allocated_addresses(mut self) -> Self {
        self.auto_allocated = true;
        self
    }

    /// The same client with a label.
    #[must_use]
    pub fn with_label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The namespace, which decides what short names mean.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Reads a node: the metadata first, then the id (`sidecar~ip~pod.namespace~domain`).
    pub fn of_node(node: &Node) -> Self {
        let metadata = |key: &str| match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
            Kind::StringValue(text) => Some(text.as_str()),
            Kind::BoolValue(true) => Some("true"),
            _ => None,
        };
        let from_id = || {
            let pod = node.id.split('~').nth(2)?;
            pod.rsplit_once('.').map(|(_, namespace)| namespace)
        };
        let namespace = metadata("NAMESPACE").or_else(from_id).filter(|namespace| !namespace.is_empty());
        let locality = node.locality.as_ref().map_or_else(Locality::default, |locality| Locality {
            region: locality.region.clone(),
            zone: locality.zone.clone(),
            sub_zone: locality.sub_zone.clone(),
        });
        let labels =
            node.metadata.as_ref().and_then(|metadata| match metadata.fields.get("LABELS")?.kind.as_ref()? {
                Kind::StructValue(labels) => Some(&labels.fields),
                _ => None,
            });
        let label = |(key, value): (&String, &Value)| match value.kind.as_ref()? {
            Kind::StringValue(text) => Some((key.clone(), text.clone())),
            _ => None,
        };
        Self {
            namespace: namespace.unwrap_or("default").to_owned(),
            locality,
            labels: labels.into_iter().flatten().filter_map(label).collect(),
            auto_allocated: metadata("DNS_CAPTURE") == Some("true") && metadata("DNS_AUTO_ALLOCATE") == Some("true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::Struct;

    use super::*;

    #[test]
    fn the_namespace_comes_from_the_node_id_when_the_metadata_has_none() {
        let node = Node { id: "sidecar~10.0.0.1~pod-1.shop~shop.svc.cluster.local".to_owned(), ..Node::default() };
        assert_eq!(Proxy::of_node(&node), Proxy::in_namespace("shop"));
        let node = Node { id: "anything".to_owned(), ..Node::default() };
        assert_eq!(Proxy::of_node(&node), Proxy::default());
    }

    #[test]
    fn the_labels_are_those_of_the_metadata() {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let labels = Struct { fields: [("app".to_owned(), text("front"))].into() };
        let fields = [("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(labels)) })].into();
        let node = Node { metadata: Some(Struct { fields }), ..Node::default() };
        assert_eq!(Proxy::of_node(&node), Proxy::default().with_label("app", "front"));
    }
}
