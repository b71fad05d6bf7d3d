//! Small protobuf values that several resource types are made of.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{self as pb, Any};
use prost::{Message, Name};

/// `Any` of a message.
pub(super) fn any<T: Message + Name>(message: &T) -> Any {
    Any { type_url: format!("type.googleapis.com/{}", T::full_name()), value: message.encode_to_vec() }
}

/// A TCP address.
pub(super) fn address(host: &str, port: u16) -> core::Address {
    let socket = core::SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

/// An address prefix.
pub(super) fn cidr(ip: IpAddr, prefix: u8) -> core::CidrRange {
    core::CidrRange { address_prefix: ip.to_string(), prefix_len: u32_value(prefix.into()) }
}

/// "Ask on this stream."
pub(super) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        initial_fetch_timeout: Some(pb::Duration::default()),
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        ..Default::default()
    }
}

pub(super) fn u32_value(value: u32) -> Option<pb::UInt32Value> {
    Some(pb::UInt32Value { value })
}

pub(super) fn u64_value(value: u64) -> Option<pb::UInt64Value> {
    Some(pb::UInt64Value { value })
}

pub(super) fn bool_value(value: bool) -> Option<pb::BoolValue> {
    Some(pb::BoolValue { value })
}

pub(super) fn duration(value: Duration) -> pb::Duration {
    pb::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or_default(),
    }
}
