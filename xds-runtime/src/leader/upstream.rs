//! The configured control plane as the ADS client's endpoint.

use crate::ads::{Endpoint, Node, TlsConfig};
use crate::config::{Roots, Upstream};
use crate::resource::Locality;

/// The endpoint of an upstream.
pub fn endpoint(upstream: &Upstream) -> Endpoint {
    let tls = upstream.tls.as_ref().map_or_else(TlsConfig::default, |tls| TlsConfig {
        root_file: match &tls.roots {
            Roots::System => None,
            Roots::File(path) => Some(path.clone()),
        },
        server_name: Some(tls.server_name.clone()),
        identity: tls.client.clone(),
    });
    let node = &upstream.node;
    Endpoint {
        uri: upstream.control_plane.to_string(),
        tls,
        token_file: upstream.token_file.clone(),
        metadata: vec![("clusterid".to_owned(), upstream.cluster_id.clone())],
        node: Node {
            id: node.id.clone(),
            cluster: node.cluster.clone(),
            metadata: node.metadata.clone(),
            locality: Locality {
                region: node.locality.region.clone(),
                zone: node.locality.zone.clone(),
                sub_zone: node.locality.sub_zone.clone(),
            },
        },
    }
}
