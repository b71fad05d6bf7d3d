//! The metadata that load balancing compares: `envoy.lb`.

use std::collections::BTreeMap;
use std::fmt;

use prost::Message;

use super::invalid::Invalid;
use super::wire::{self, Kind, Struct, Value};

/// Keys and values, of an endpoint or of what a route asks for.
pub type Metadata = BTreeMap<String, MetadataValue>;

/// A value; only equal ones match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataValue {
    /// Null.
    Null,
    /// A boolean.
    Bool(bool),
    /// The bits of a double; zero has no sign.
    Number(u64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<MetadataValue>),
    /// A structure.
    Struct(Metadata),
}

/// The fields that load balancing looks at.
pub(super) fn of_load_balancing(wire: Option<&wire::Metadata>) -> Result<Metadata, Invalid> {
    let found = wire.map_or(Ok(None), |wire| of_filter(wire, "envoy.lb"))?;
    Ok(found.map(fields).unwrap_or_default())
}

/// The metadata of a filter.
pub(super) fn of_filter(wire: &wire::Metadata, filter: &str) -> Result<Option<Struct>, Invalid> {
    let found = wire.filter_metadata.iter().rfind(|entry| *entry.filter == *filter.as_bytes());
    found
        .map(|entry| Struct::decode(entry.fields.clone()))
        .transpose()
        .map_err(|error| Invalid::new(format!("filter_metadata[{filter:?}]"), error.to_string()))
}

/// A field of text.
pub(super) fn text<'a>(wire: &'a Struct, key: &str) -> Option<&'a str> {
    let field = wire.fields.iter().rfind(|field| field.key == key)?;
    match field.value.as_ref()?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

/// What a part of a route asks for: what the whole does, with its own over it (Envoy).
pub(super) fn over(whole: &Metadata, own: Option<&wire::Metadata>) -> Result<Metadata, Invalid> {
    let mut merged = whole.clone();
    merged.extend(of_load_balancing(own)?);
    Ok(merged)
}

/// The fields of a structure.
pub(super) fn fields(wire: Struct) -> Metadata {
    wire.fields.into_iter().map(|field| (field.key, field.value.unwrap_or_default().into())).collect()
}

impl From<Value> for MetadataValue {
    fn from(wire: Value) -> Self {
        match wire.kind {
            None | Some(Kind::NullValue(_)) => Self::Null,
            Some(Kind::BoolValue(value)) => Self::Bool(value),
            // Adding zero takes the sign off the negative one.
            Some(Kind::NumberValue(number)) => Self::Number((number + 0.0).to_bits()),
            Some(Kind::StringValue(text)) => Self::Text(text),
            Some(Kind::ListValue(list)) => Self::List(list.values.into_iter().map(Self::from).collect()),
            Some(Kind::StructValue(inner)) => Self::Struct(fields(inner)),
        }
    }
}

impl fmt::Display for MetadataValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(bits) => f64::from_bits(*bits).fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::List(values) => {
                f.write_str("[")?;
                for (nth, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if nth == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Struct(inner) => write!(f, "{{{}}}", in_words(inner)),
        }
    }
}

/// `key=value, key=value`, in order of the keys.
pub fn in_words(metadata: &Metadata) -> String {
    metadata.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}
