//! The messages of resources, as far as they are read.
//!
//! Declared here and not taken from envoy-types, whose messages have every field: most of a resource is about requests,
//! and decoding that took longer and more memory than all that is done with the rest. Field numbers and names are the
//! specification's (envoy/config/*/v3, envoy/extensions/*, google/protobuf). What is small, rare or read whole is
//! envoy-types' own.
//!
//! What is not declared is skipped: whether its bytes would decode is not looked at, and no field of it can be a reason
//! to reject a resource. What only has to be there is [`Present`] or bytes. Of a field that is set twice, and of a name
//! that is in a map twice, the last counts, as ever.

#![allow(clippy::enum_variant_names, reason = "names are the specification's")]

mod cluster;
mod endpoint;
mod listener;
mod route;

use bytes::Bytes;
use envoy_types::pb::google::protobuf::UInt32Value;
use prost::{Message, Oneof};

pub use crate::ads::wire::{Any, Locality};
pub use cluster::*;
pub use endpoint::*;
pub use listener::*;
pub use route::*;

/// A message of which it is enough to know that it is there.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Present {}

/// A message that has its name, or key, as its first field; nothing else of it is read.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Named {
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `envoy.config.core.v3.Address`.
#[derive(Clone, PartialEq, Message)]
pub struct Address {
    #[prost(oneof = "AddressKind", tags = "1, 2, 3")]
    pub address: Option<AddressKind>,
}

/// `Address.address`.
#[derive(Clone, PartialEq, Oneof)]
pub enum AddressKind {
    #[prost(message, tag = "1")]
    SocketAddress(SocketAddress),
    #[prost(message, tag = "2")]
    Pipe(Pipe),
    #[prost(message, tag = "3")]
    EnvoyInternalAddress(EnvoyInternalAddress),
}

/// `envoy.config.core.v3.SocketAddress`.
#[derive(Clone, PartialEq, Message)]
pub struct SocketAddress {
    #[prost(int32, tag = "1")]
    pub protocol: i32,
    /// Text.
    #[prost(bytes = "bytes", tag = "2")]
    pub address: Bytes,
    #[prost(oneof = "PortSpecifier", tags = "3, 4")]
    pub port_specifier: Option<PortSpecifier>,
}

/// `SocketAddress.port_specifier`.
#[derive(Clone, PartialEq, Oneof)]
pub enum PortSpecifier {
    #[prost(uint32, tag = "3")]
    PortValue(u32),
    #[prost(string, tag = "4")]
    NamedPort(String),
}

/// `envoy.config.core.v3.Pipe`.
#[derive(Clone, PartialEq, Message)]
pub struct Pipe {
    #[prost(string, tag = "1")]
    pub path: String,
}

/// `envoy.config.core.v3.EnvoyInternalAddress`; its oneof has this one member.
#[derive(Clone, PartialEq, Message)]
pub struct EnvoyInternalAddress {
    #[prost(string, optional, tag = "1")]
    pub server_listener_name: Option<String>,
    #[prost(string, tag = "2")]
    pub endpoint_id: String,
}

/// `envoy.config.core.v3.CidrRange`.
#[derive(Clone, PartialEq, Message)]
pub struct CidrRange {
    #[prost(string, tag = "1")]
    pub address_prefix: String,
    #[prost(message, optional, tag = "2")]
    pub prefix_len: Option<UInt32Value>,
}

/// `envoy.config.core.v3.Metadata`. Its map is a list of entries that are decoded when they are asked for.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(message, repeated, tag = "1")]
    pub filter_metadata: Vec<FilterMetadata>,
}

/// An entry of `Metadata.filter_metadata`.
#[derive(Clone, PartialEq, Message)]
pub struct FilterMetadata {
    /// Text.
    #[prost(bytes = "bytes", tag = "1")]
    pub filter: Bytes,
    /// [`Struct`].
    #[prost(bytes = "bytes", tag = "2")]
    pub fields: Bytes,
}

/// `google.protobuf.Struct`. Its map is a list of entries.
#[derive(Clone, PartialEq, Message)]
pub struct Struct {
    #[prost(message, repeated, tag = "1")]
    pub fields: Vec<Field>,
}

/// An entry of `Struct.fields`.
#[derive(Clone, PartialEq, Message)]
pub struct Field {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Value>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<Kind>,
}

/// `Value.kind`.
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    #[prost(int32, tag = "1")]
    NullValue(i32),
    #[prost(double, tag = "2")]
    NumberValue(f64),
    #[prost(string, tag = "3")]
    StringValue(String),
    #[prost(bool, tag = "4")]
    BoolValue(bool),
    #[prost(message, tag = "5")]
    StructValue(Struct),
    #[prost(message, tag = "6")]
    ListValue(ListValue),
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, Message)]
pub struct ListValue {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

/// `envoy.config.core.v3.TransportSocket`; its oneof has this one member.
#[derive(Clone, PartialEq, Message)]
pub struct TransportSocket {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub typed_config: Option<Any>,
}

/// `envoy.config.core.v3.TypedExtensionConfig`.
#[derive(Clone, PartialEq, Message)]
pub struct TypedExtensionConfig {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub typed_config: Option<Any>,
}
