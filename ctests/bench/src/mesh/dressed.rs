//! The resources of a synthetic mesh with what istiod adds to them and a client of connections has no use for: it is
//! most of their bytes.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use control_plane::{Proxy, Synthetic, type_url};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster::TransportSocketMatch};
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ConfigSource, Metadata, SocketAddress, TrafficDirection, TransportSocket, address,
    config_source::ConfigSourceSpecifier, socket_address::PortSpecifier, transport_socket,
};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy,
    tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
};
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SdsSecretConfig, UpstreamTlsContext,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
};
use envoy_types::pb::google::protobuf::{Any, ListValue, Struct, UInt32Value, Value, value::Kind};
use prost::Message;

/// The port of the listener that leads everywhere; no program dials it.
const EVERYTHING: u32 = 9;

/// All resources by type and name, as bytes.
pub fn resources(mesh: &Synthetic, everything: bool) -> Result<BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>> {
    let rendered = mesh.snapshot()?.resources(&Proxy::default());
    let mut resources = BTreeMap::new();
    for url in type_url::PUSH_ORDER {
        let entries = rendered.get(url).context("a type is missing")?;
        let entries = entries.iter().map(|(name, entry)| {
            let bytes = match url {
                type_url::CLUSTER => cluster(&entry.resource.value)?,
                type_url::ENDPOINT => assignment(&entry.resource.value)?,
                _ => entry.resource.value.clone(),
            };
            Ok((name.clone(), bytes))
        });
        resources.insert(url, entries.collect::<Result<BTreeMap<_, _>>>()?);
    }
    if everything {
        let clusters = resources.get(type_url::ENDPOINT).into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let listener = leads_to(clusters);
        let listeners = resources.entry(type_url::LISTENER).or_default();
        listeners.insert(listener.name.clone(), listener.encode_to_vec());
    }
    Ok(resources)
}

/// `outbound|80||HOST` with the service it is of, and TLS for endpoints that have it.
fn cluster(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut cluster = Cluster::decode(bytes)?;
    if let Some(host) = cluster.name.strip_prefix("outbound|80||") {
        let (name, rest) = host.split_once('.').context("a host without namespace")?;
        let namespace = rest.split('.').next().unwrap_or_default();
        let service = fields(&[("host", text(host)), ("name", text(name)), ("namespace", text(namespace))]);
        let services = Kind::ListValue(ListValue { values: vec![Value { kind: Some(service) }] });
        let facts = [("default_original_port", Kind::NumberValue(80.0)), ("services", services)];
        cluster.metadata = Some(istio(&facts));
        cluster.transport_socket_matches = vec![mutual_tls(host, namespace, name), plain_text()];
    }
    Ok(cluster.encode_to_vec())
}

fn assignment(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut assignment = ClusterLoadAssignment::decode(bytes)?;
    let host = assignment.cluster_name.rsplit('|').next().unwrap_or_default();
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    let workload = format!("{name};{namespace};{name};v1;Kubernetes");
    for endpoint in assignment.endpoints.iter_mut().flat_map(|locality| &mut locality.lb_endpoints) {
        endpoint.metadata = Some(istio(&[("workload", text(&workload))]));
        endpoint.load_balancing_weight = Some(UInt32Value { value: 1 });
    }
    Ok(assignment.encode_to_vec())
}

/// A listener whose connections are shared among all clusters.
fn leads_to(clusters: Vec<String>) -> Listener {
    let share = |name| ClusterWeight { name, weight: 1, ..Default::default() };
    let proxy = TcpProxy {
        stat_prefix: "everything".to_owned(),
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: clusters.into_iter().map(share).collect(),
        })),
        ..Default::default()
    };
    let config = any("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", &proxy);
    let filter = Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(config)),
    };
    let socket = SocketAddress {
        address: "0.0.0.0".to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(EVERYTHING)),
        ..Default::default()
    };
    Listener {
        name: format!("0.0.0.0_{EVERYTHING}"),
        address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        traffic_direction: TrafficDirection::Outbound.into(),
        ..Default::default()
    }
}

/// As automatic mutual TLS has it.
fn mutual_tls(host: &str, namespace: &str, name: &str) -> TransportSocketMatch {
    let secret = |name: &str| SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
            ..Default::default()
        }),
    };
    let peers = envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher {
        match_pattern: Some(envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern::Exact(format!(
            "spiffe://cluster.local/ns/{namespace}/sa/{name}"
        ))),
        ..Default::default()
    };
    #[expect(deprecated, reason = "istiod writes it")]
    let validation = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_subject_alt_names: vec![peers],
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret("ROOTCA")),
        ..Default::default()
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret("default")],
            alpn_protocols: vec!["istio-peer-exchange".to_owned(), "istio".to_owned()],
            validation_context_type: Some(ValidationContextType::CombinedValidationContext(validation)),
            ..Default::default()
        }),
        sni: format!("outbound_.80_._.{host}"),
        ..Default::default()
    };
    let socket = any("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", &context);
    socket_match("tlsMode-istio", &[("tlsMode", text("istio"))], "envoy.transport_sockets.tls", socket)
}

fn plain_text() -> TransportSocketMatch {
    let socket = any("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", &RawBuffer {});
    socket_match("tlsMode-disabled", &[], "envoy.transport_sockets.raw_buffer", socket)
}

fn socket_match(name: &str, matches: &[(&str, Kind)], socket: &str, config: Any) -> TransportSocketMatch {
    TransportSocketMatch {
        name: name.to_owned(),
        r#match: Some(structure(matches)),
        transport_socket: Some(TransportSocket {
            name: socket.to_owned(),
            config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
        }),
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn istio(facts: &[(&str, Kind)]) -> Metadata {
    Metadata { filter_metadata: HashMap::from([("istio".to_owned(), structure(facts))]), ..Default::default() }
}

fn structure(facts: &[(&str, Kind)]) -> Struct {
    let field = |(name, kind): &(&str, Kind)| ((*name).to_owned(), Value { kind: Some(kind.clone()) });
    Struct { fields: facts.iter().map(field).collect() }
}

fn fields(facts: &[(&str, Kind)]) -> Kind {
    Kind::StructValue(structure(facts))
}

fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}
