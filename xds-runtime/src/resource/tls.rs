//! What transport sockets demand of a connection.

use super::any::message_name;
use super::metadata::text;
use super::model::UpstreamTls;
use super::wire::{Cluster, TransportSocket, TransportSocketMatch};

/// Plain text. Everything else (TLS, PROXY protocol, HTTP CONNECT, internal) needs bytes of ours.
pub(super) fn is_raw(socket: &TransportSocket) -> bool {
    match &socket.typed_config {
        Some(any) => message_name(&any.type_url) == "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        None => socket.name == "envoy.transport_sockets.raw_buffer" || socket.name == "raw_buffer",
    }
}

/// The demand of a cluster.
///
/// The first of `transport_socket_matches` whose match is contained in an endpoint's metadata counts; an
/// empty match contains everything; `transport_socket` (else plain text) serves the rest. So an endpoint
/// without a mode gets what stands behind all conditional entries, and that decides between
/// [`UpstreamTls::ByEndpoint`] and [`UpstreamTls::Required`].
pub(super) fn upstream(cluster: &Cluster) -> UpstreamTls {
    if cluster.transport_socket_matcher.is_some() {
        return UpstreamTls::Required;
    }
    let mut by_endpoint = false;
    for entry in &cluster.transport_socket_matches {
        let raw = entry.transport_socket.as_ref().is_none_or(is_raw);
        match condition(entry) {
            Condition::Always => return demand(raw, by_endpoint),
            Condition::TlsModeIstio => by_endpoint |= !raw,
            // TLS under a condition that is not evaluated: plain text could be a downgrade.
            Condition::Other if !raw => return UpstreamTls::Required,
            Condition::Other => {}
        }
    }
    demand(cluster.transport_socket.as_ref().is_none_or(is_raw), by_endpoint)
}

fn demand(rest_is_raw: bool, by_endpoint: bool) -> UpstreamTls {
    match (rest_is_raw, by_endpoint) {
        (false, _) => UpstreamTls::Required,
        (true, true) => UpstreamTls::ByEndpoint,
        (true, false) => UpstreamTls::None,
    }
}

enum Condition {
    Always,
    TlsModeIstio,
    Other,
}

fn condition(entry: &TransportSocketMatch) -> Condition {
    let Some(asked) = entry.r#match.as_ref().filter(|asked| !asked.fields.is_empty()) else {
        return Condition::Always;
    };
    if asked.fields.iter().all(|field| field.key == "tlsMode") && text(asked, "tlsMode") == Some("istio") {
        Condition::TlsModeIstio
    } else {
        Condition::Other
    }
}
