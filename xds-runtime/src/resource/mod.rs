//! Protobuf to typed resources; protobuf stops here.
//!
//! Resources are decoded one at a time: the prost message lives only inside [`decode`], because decoded
//! protobufs of a large mesh are ten times their wire size. Its type is one of `wire`, which has only what is read: the
//! rest is skipped, unchecked.
//!
//! There are three outcomes (gRFC A88):
//! * valid: the typed resource;
//! * rejected: it has a name and breaks a rule of its proto or of Envoy; the reason names the field. The last
//!   good value of that name stays;
//! * undecodable: it has no name, so nobody can say which resource is meant, and absence proves nothing.
//!
//! What is valid but not supported is accepted, and named in the typed resource (`Unsupported`).

mod any;
mod balancing;
mod cluster;
mod dns;
mod endpoint;
mod invalid;
mod lb_policy;
mod listener;
mod metadata;
pub mod model;
mod name_table;
mod outlier;
mod route;
mod scalar;
mod subsets;
mod tls;
mod wire;

use bytes::Bytes;
use prost::Message;

pub use any::{Wrapper, unwrap_resource};
pub use balancing::{Balancing, SlowStart, ZoneAware};
pub use invalid::Invalid;
pub use metadata::{Metadata, MetadataValue, in_words};
pub use model::*;
pub use subsets::{Fallback, Selector, SelectorFallback, Subsets};

/// What became of the bytes of one resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A valid resource.
    Valid {
        /// Resource name; empty for the name table.
        name: String,
        /// The typed resource.
        resource: Box<Resource>,
    },
    /// A resource with a name that breaks a rule.
    Rejected {
        /// Resource name; empty for the name table.
        name: String,
        /// Field and rule, in one line.
        reason: String,
    },
    /// Bytes without a name.
    Undecodable {
        /// Why, in one line.
        reason: String,
    },
}

/// Decodes one resource of type `kind`.
///
/// `name_hint` is the name that the envelope carried (delta, wrapped resources), or empty. With a hint no outcome
/// is [`Decoded::Undecodable`].
pub fn decode(kind: ResourceType, name_hint: &str, bytes: &Bytes) -> Decoded {
    let outcome = match kind {
        ResourceType::Listener => {
            typed(bytes, listener::convert).map(|l| (l.name.clone(), Resource::Listener(Box::new(l))))
        }
        ResourceType::Route => typed(bytes, route::convert).map(|r| (r.name.clone(), Resource::Route(r))),
        ResourceType::Cluster => {
            typed(bytes, cluster::convert).map(|c| (c.name.clone(), Resource::Cluster(Box::new(c))))
        }
        ResourceType::Endpoint => {
            typed(bytes, endpoint::convert).map(|e| (e.cluster_name.clone(), Resource::Endpoints(e)))
        }
        // Istio sends exactly one table, without a name: it is its own identity.
        ResourceType::NameTable => {
            typed(bytes, name_table::convert).map(|t| (name_hint.to_owned(), Resource::Names(t)))
        }
    };
    match outcome {
        Ok((name, _)) if !name_hint.is_empty() && name != name_hint => Decoded::Rejected {
            name: name_hint.to_owned(),
            reason: format!("name: the resource calls itself {name:?}"),
        },
        Ok((name, _)) if name.is_empty() && kind != ResourceType::NameTable => {
            Decoded::Undecodable { reason: "name: missing".to_owned() }
        }
        Ok((name, resource)) => Decoded::Valid { name, resource: Box::new(resource) },
        Err(reason) => {
            let name = if name_hint.is_empty() { own_name(kind, bytes) } else { name_hint.to_owned() };
            if name.is_empty() && kind != ResourceType::NameTable {
                Decoded::Undecodable { reason }
            } else {
                Decoded::Rejected { name, reason }
            }
        }
    }
}

fn typed<M: Message + Default, T>(bytes: &Bytes, convert: impl FnOnce(M) -> Result<T, Invalid>) -> Result<T, String> {
    let message = M::decode(bytes.clone()).map_err(|e| format!("not a {}: {e}", short_type::<M>()))?;
    convert(message).map_err(|e| e.to_string())
}

fn short_type<M>() -> &'static str {
    std::any::type_name::<M>().rsplit("::").next().unwrap_or("message")
}

/// The name inside bytes that did not decode: it is field 1 of every named type.
fn own_name(kind: ResourceType, bytes: &Bytes) -> String {
    if kind == ResourceType::NameTable {
        return String::new();
    }
    let mut message = wire::Named::default();
    // What was read before the error is kept, and that is the point.
    let _ = message.merge(bytes.clone());
    message.name
}

#[cfg(test)]
mod tests;
