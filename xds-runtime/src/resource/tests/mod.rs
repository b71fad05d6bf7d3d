//! What is accepted, what is rejected and with which field, per type.

#![allow(clippy::expect_used, reason = "a failed expectation is how a test fails")]
#![allow(clippy::panic, reason = "a failed expectation is how a test fails")]

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::google::protobuf;
use prost::Message;

use super::*;

mod balancing;
mod cds;
mod eds;
mod lds;
mod outcome;
mod outlier;
mod rds;
mod subsets;

fn u32v(value: u32) -> Option<protobuf::UInt32Value> {
    Some(protobuf::UInt32Value { value })
}

fn seconds(seconds: i64) -> Option<protobuf::Duration> {
    Some(protobuf::Duration { seconds, nanos: 0 })
}

fn typed_any<M: Message>(type_name: &str, message: &M) -> protobuf::Any {
    protobuf::Any { type_url: format!("type.googleapis.com/{type_name}"), value: message.encode_to_vec() }
}

fn socket(address: &str, port: u32) -> Option<core::Address> {
    let socket = core::SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

/// A message as it is read.
fn read<M: Message + Default>(whole: &impl Message) -> M {
    M::decode(whole.encode_to_vec().as_slice()).expect("a message")
}

fn lb_endpoint(address: &str, port: u32) -> endpoint::LbEndpoint {
    let endpoint = endpoint::Endpoint { address: socket(address, port), ..Default::default() };
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    }
}

fn tls_mode(mode: &str) -> protobuf::Struct {
    let kind = Some(protobuf::value::Kind::StringValue(mode.to_owned()));
    protobuf::Struct { fields: [("tlsMode".to_owned(), protobuf::Value { kind })].into() }
}

#[track_caller]
fn valid<M: Message>(kind: ResourceType, message: &M) -> Resource {
    match decode(kind, "", &message.encode_to_vec().into()) {
        Decoded::Valid { resource, .. } => *resource,
        other => panic!("{other:?}"),
    }
}

/// The message is rejected, by name and with exactly this reason.
#[track_caller]
fn check_rejected<M: Message>(kind: ResourceType, message: &M, want: &str) {
    match decode(kind, "", &message.encode_to_vec().into()) {
        Decoded::Rejected { name, reason } => {
            assert_eq!((name.as_str(), reason.as_str()), ("it", want))
        }
        other => panic!("{other:?}"),
    }
}
