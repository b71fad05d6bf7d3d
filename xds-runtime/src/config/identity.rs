//! The node this pod presents to the control plane, as Istio's sidecar would.

use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::bootstrap::BootstrapNode;
use super::{Pod, Problem, Settings};

/// `envoy.config.core.v3.Node`, without the protobuf.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeIdentity {
    /// `sidecar~ip~pod.namespace~namespace.svc.cluster.local`: istiod wants exactly four parts.
    pub id: String,
    /// The service cluster: the app label, or the workload, and the namespace.
    pub cluster: String,
    /// A JSON object.
    pub metadata: Value,
    /// Where the pod runs.
    pub locality: Locality,
}

/// Region, zone and sub-zone; empty where unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Sub-zone.
    pub sub_zone: String,
}

impl NodeIdentity {
    /// Collects the identity from the environment, a bootstrap's node where there is one, and the pod's files. What
    /// is missing is made up so that istiod still accepts it: the host name as pod, `default` as namespace, the
    /// first address of an interface. Leader side: reads files.
    pub fn gather(settings: &Settings, node: &BootstrapNode, pod: &Pod) -> (NodeIdentity, Vec<Problem>) {
        let vars = &settings.identity;
        let mut problems = Vec::new();
        let proxy_config = proxy_config(vars.proxy_config.as_deref(), &mut problems);
        let labels = labels(pod);

        let namespace = vars.pod_namespace.clone().or_else(|| pod.namespace()).unwrap_or_else(|| "default".into());
        let name = vars.pod_name.clone().unwrap_or_else(|| short_hostname(pod));
        let ip = vars.instance_ip.or_else(|| pod.address()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));

        // The later entry wins: bootstrap, PROXY_CONFIG's proxyMetadata, ISTIO_META_*, what the pod is.
        let mut metadata = node.metadata.clone();
        let from_proxy_config = proxy_config.get("proxyMetadata").and_then(Value::as_object).into_iter().flatten();
        metadata.extend(from_proxy_config.filter_map(|(key, value)| {
            let key = key.strip_prefix("ISTIO_META_").filter(|key| !key.is_empty())?;
            Some((key.to_owned(), value.clone()))
        }));
        metadata.extend(vars.istio_meta.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))));
        metadata.entry("CLUSTER_ID").or_insert_with(|| "Kubernetes".into());
        metadata.entry("INSTANCE_IPS").or_insert_with(|| ip.to_string().into());
        if let Some(account) = &vars.service_account {
            metadata.insert("SERVICE_ACCOUNT".into(), account.as_str().into());
        }
        metadata.insert("NAMESPACE".into(), namespace.as_str().into());
        metadata.insert("NAME".into(), name.as_str().into());
        if !labels.is_empty() {
            metadata.insert("LABELS".into(), Value::Object(labels.clone()));
        }
        metadata.insert("PROXY_CONFIG".into(), Value::Object(proxy_config));
        keep_a_sidecars_view(&mut metadata, &mut problems);

        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let id =
            given(&node.id).unwrap_or_else(|| format!("sidecar~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local"));
        let workload = || metadata.get("WORKLOAD_NAME").and_then(Value::as_str);
        let app = labels.get("app").and_then(Value::as_str).or_else(workload);
        let own_cluster = || app.map_or_else(|| "istio-proxy".into(), |app| format!("{app}.{namespace}"));
        let cluster = given(&node.cluster).unwrap_or_else(own_cluster);
        let locality = Some(node.locality.clone()).filter(|l| *l != Locality::default());
        let locality = locality.unwrap_or_else(|| locality_of(&labels));
        (NodeIdentity { id, cluster, metadata: Value::Object(metadata), locality }, problems)
    }

    /// A metadata entry that is text.
    pub fn metadata_text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Value::as_str)
    }
}

/// What would make istiod send another shape than the runtime reads: gRPC's generator, listeners bound to
/// 127.0.0.1, and HBONE's internal addresses.
fn keep_a_sidecars_view(metadata: &mut Map<String, Value>, problems: &mut Vec<Problem>) {
    metadata.remove("GENERATOR");
    if metadata.get("INTERCEPTION_MODE").and_then(Value::as_str) == Some("NONE") {
        metadata.remove("INTERCEPTION_MODE");
        let remedy = "leave it out: istiod would bind every listener to 127.0.0.1";
        problems.push(Problem::new("INTERCEPTION_MODE", "NONE", remedy));
    }
    metadata.insert("DISABLE_HBONE_SEND".into(), "true".into());
}

/// Istio's injector writes JSON here; the YAML that Istio's agent would also take is not read.
fn proxy_config(text: Option<&str>, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let Some(text) = text else { return Map::new() };
    match serde_json::from_str(text) {
        Ok(Value::Object(config)) => config,
        _ => {
            problems.push(Problem::new("PROXY_CONFIG", text, "use a JSON object, as Istio's injector writes it"));
            Map::new()
        }
    }
}

fn labels(pod: &Pod) -> Map<String, Value> {
    let labels = pod.labels().into_iter().filter(|(key, _)| key != "pod-template-hash");
    labels.map(|(key, value)| (key, Value::from(value))).collect()
}

fn short_hostname(pod: &Pod) -> String {
    let name = pod.hostname().split('.').next().unwrap_or_default();
    if name.is_empty() { "unknown".into() } else { name.into() }
}

/// Istio's override label first, `region/zone/subzone` or with dots (a label's value cannot hold a slash), then the
/// well-known topology labels.
fn locality_of(labels: &Map<String, Value>) -> Locality {
    let label = |key: &str| labels.get(key).and_then(Value::as_str).unwrap_or_default();
    let own = label("istio-locality");
    if own.is_empty() {
        return Locality {
            region: label("topology.kubernetes.io/region").into(),
            zone: label("topology.kubernetes.io/zone").into(),
            sub_zone: label("topology.istio.io/subzone").into(),
        };
    }
    let mut parts = own.splitn(3, if own.contains('/') { '/' } else { '.' }).map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), sub_zone: next() }
}
