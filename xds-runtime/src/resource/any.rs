//! `google.protobuf.Any` and the resource wrapper.

use bytes::Bytes;
use prost::Message;

use super::Invalid;
use super::wire::Any;

/// Type URL of the wrapper that gives a resource a name and a version outside its own bytes.
const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// The bytes of a resource and what a wrapper around them said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapper {
    /// Name, empty when there was no wrapper.
    pub name: String,
    /// Type URL of the inner bytes.
    pub type_url: String,
    /// The resource's own bytes.
    pub value: Bytes,
}

/// Takes a resource out of `envoy.service.discovery.v3.Resource` if it is in one.
///
/// A wrapper that does not decode is an error with the decoder's reason.
pub fn unwrap_resource(type_url: &str, value: Bytes) -> Result<Wrapper, String> {
    if type_url != WRAPPER {
        return Ok(Wrapper { name: String::new(), type_url: type_url.to_owned(), value });
    }
    let wrapper = crate::ads::wire::Resource::decode(value).map_err(|e| format!("resource wrapper: {e}"))?;
    match wrapper.resource {
        Some(any) => Ok(Wrapper { name: wrapper.name, type_url: any.type_url, value: any.value }),
        None => Err(format!("resource wrapper {:?}: resource missing", wrapper.name)),
    }
}

/// The message name of a type URL: what follows the last slash.
pub(super) fn message_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

/// Decodes the content of an `Any` whose type was already looked at.
pub(super) fn unpack<M: Message + Default>(any: &Any) -> Result<M, Invalid> {
    M::decode(any.value.clone()).map_err(|e| Invalid::new("typed_config", e.to_string()))
}
