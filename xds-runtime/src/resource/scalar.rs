//! Addresses, prefixes, durations, percentages: the small values that every resource is made of.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use envoy_types::pb::google::protobuf as google;

use super::invalid::Invalid;
use super::model::{Cidr, EndpointAddress};
use super::wire::{self, AddressKind, PortSpecifier};

/// An address as the control plane writes it. IPv4-mapped IPv6 addresses become IPv4: one address, one form.
pub(super) fn address(address: Option<wire::Address>) -> Result<EndpointAddress, Invalid> {
    match address.and_then(|a| a.address).ok_or_else(|| Invalid::missing("address"))? {
        AddressKind::SocketAddress(socket) => socket_address(&socket),
        AddressKind::Pipe(pipe) => Ok(EndpointAddress::Internal(format!("unix:{}", pipe.path).into())),
        AddressKind::EnvoyInternalAddress(internal) => {
            let Some(listener) = internal.server_listener_name else {
                return Err(Invalid::missing("address.envoy_internal_address.server_listener_name"));
            };
            Ok(EndpointAddress::Internal(format!("internal:{listener}/{}", internal.endpoint_id).into()))
        }
    }
}

fn socket_address(socket: &wire::SocketAddress) -> Result<EndpointAddress, Invalid> {
    let port = match socket.port_specifier {
        Some(PortSpecifier::PortValue(value)) => port(value, "address.socket_address.port_value")?,
        Some(PortSpecifier::NamedPort(ref name)) => {
            return Err(Invalid::new(
                "address.socket_address.named_port",
                format!("{name:?} needs a resolver extension"),
            ));
        }
        None => return Err(Invalid::missing("address.socket_address.port_value")),
    };
    if socket.address.is_empty() {
        return Err(Invalid::missing("address.socket_address.address"));
    }
    let not_text = |_| Invalid::new("address.socket_address.address", "is no text");
    let address = std::str::from_utf8(&socket.address).map_err(not_text)?;
    Ok(match address.parse::<IpAddr>() {
        Ok(ip) => EndpointAddress::Socket(SocketAddr::new(ip.to_canonical(), port)),
        Err(_) => EndpointAddress::Hostname(address.into(), port),
    })
}

/// A port number out of a `uint32`.
pub(super) fn port(value: u32, field: &str) -> Result<u16, Invalid> {
    u16::try_from(value).map_err(|_| Invalid::new(field, format!("{value} is over 65535")))
}

/// A CIDR. An absent length is 0, as in Envoy.
pub(super) fn cidr(range: &wire::CidrRange) -> Result<Cidr, Invalid> {
    let address: IpAddr = range
        .address_prefix
        .parse()
        .map_err(|_| Invalid::new("address_prefix", format!("{:?} is no IP address", range.address_prefix)))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = range.prefix_len.map_or(0, |l| l.value);
    match u8::try_from(bits) {
        Ok(length) if length <= most => Ok(Cidr { address, length }),
        _ => Err(Invalid::new("prefix_len", format!("{bits} is over {most}"))),
    }
}

/// A duration that must not be negative; `None` when absent.
pub(super) fn duration(value: Option<google::Duration>, field: &str) -> Result<Option<Duration>, Invalid> {
    let Some(value) = value else { return Ok(None) };
    match (u64::try_from(value.seconds), u32::try_from(value.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Some(Duration::new(seconds, nanos))),
        _ => Err(Invalid::new(field, format!("{}s {}ns is no duration", value.seconds, value.nanos))),
    }
}

/// A duration that must be over zero; `default` when absent.
pub(super) fn positive_duration(
    value: Option<google::Duration>,
    default: Duration,
    field: &str,
) -> Result<Duration, Invalid> {
    match duration(value, field)? {
        Some(Duration::ZERO) => Err(Invalid::new(field, "must be over 0")),
        other => Ok(other.unwrap_or(default)),
    }
}

/// An integer percentage; `default` when absent.
pub(super) fn percent(value: Option<google::UInt32Value>, default: u32, field: &str) -> Result<u32, Invalid> {
    match value.map_or(default, |v| v.value) {
        over @ 101.. => Err(Invalid::new(field, format!("{over} is over 100"))),
        value => Ok(value),
    }
}

/// A load-balancing weight: at least 1 when present.
pub(super) fn weight(value: Option<google::UInt32Value>) -> Result<Option<u32>, Invalid> {
    match value.map(|v| v.value) {
        Some(0) => Err(Invalid::new("load_balancing_weight", "must be at least 1")),
        other => Ok(other),
    }
}

/// Adds `weight` to `sum`; the sum must stay within 32 bits (gRFC A27, Envoy).
pub(super) fn add_weight(sum: &mut u32, weight: u32, field: &str) -> Result<(), Invalid> {
    *sum = sum.checked_add(weight).ok_or_else(|| Invalid::new(field, "the sum of weights is over 4294967295"))?;
    Ok(())
}
