//! Writes values as block YAML, in the order of keys that people are used to.

use serde_json::{Map, Value};

use super::scalar::write;
use super::{Kind, Node};

/// Keys that come first in an object.
const FIRST: [&str; 8] =
    ["apiVersion", "kind", "metadata", "name", "image", "imagePullPolicy", "restartPolicy", "command"];

/// How the text around is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Of lists below their keys.
    pub list_indent: usize,
    /// Whether the document is JSON.
    pub json: bool,
}

/// `key: value` in block style, the first line without indentation, without a line break at the end. `like` gives
/// the order of the keys that it has.
pub(super) fn entry(key: &str, value: &Value, indent: usize, style: Style, like: Option<&Node>) -> String {
    let key = write(&Value::from(key));
    let inner = if value.is_array() { indent + style.list_indent } else { indent + 2 };
    match value {
        Value::Array(list) if !list.is_empty() => format!("{key}:\n{}{}", pad(inner), block(value, inner, style, like)),
        Value::Object(object) if !object.is_empty() => {
            format!("{key}:\n{}{}", pad(inner), block(value, inner, style, like))
        }
        scalar => format!("{key}: {}", write(scalar)),
    }
}

/// A value in block style, the first line without indentation.
pub(super) fn block(value: &Value, indent: usize, style: Style, like: Option<&Node>) -> String {
    let next = format!("\n{}", pad(indent));
    match value {
        Value::Object(object) if !object.is_empty() => {
            let keys = ordered(object, like);
            let one = |key: &&str| {
                let value = object.get(*key).unwrap_or(&Value::Null);
                entry(key, value, indent, style, like.and_then(|like| child(like, key)))
            };
            keys.iter().map(one).collect::<Vec<_>>().join(&next)
        }
        Value::Array(list) if !list.is_empty() => {
            let one =
                |(index, value): (usize, &Value)| item(value, indent, style, like.and_then(|like| at(like, index)));
            list.iter().enumerate().map(one).collect::<Vec<_>>().join(&next)
        }
        scalar => write(scalar),
    }
}

/// `- value`, the first line without indentation.
pub(super) fn item(value: &Value, indent: usize, style: Style, like: Option<&Node>) -> String {
    format!("- {}", block(value, indent + 2, style, like))
}

/// A value on one line. JSON is YAML's flow style, and stays JSON in a JSON document.
pub(super) fn flow(value: &Value, style: Style) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(|one| flow(one, style)).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            let one = |key: &&str| flow_entry(key, object.get(*key).unwrap_or(&Value::Null), style);
            format!("{{{}}}", ordered(object, None).iter().map(one).collect::<Vec<_>>().join(", "))
        }
        scalar if style.json => scalar.to_string(),
        scalar => write(scalar),
    }
}

/// `key: value` on one line.
pub(super) fn flow_entry(key: &str, value: &Value, style: Style) -> String {
    format!("{}: {}", flow(&Value::from(key), style), flow(value, style))
}

pub(super) fn pad(indent: usize) -> String {
    " ".repeat(indent)
}

/// Keys as the node has them, then the usual first ones, then by name.
pub(super) fn ordered<'a>(object: &'a Map<String, Value>, like: Option<&Node>) -> Vec<&'a str> {
    let known: Vec<&str> = match like.map(|like| &like.kind) {
        Some(Kind::Mapping { entries, .. }) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        _ => Vec::new(),
    };
    let rank = |key: &str| {
        let first = FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
        let known_at = known.iter().position(|known| *known == key).unwrap_or(known.len());
        (known_at, first)
    };
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    keys
}

fn child<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    match &node.kind {
        Kind::Mapping { entries, .. } => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
        _ => None,
    }
}

fn at(node: &Node, index: usize) -> Option<&Node> {
    match &node.kind {
        Kind::Sequence { items, .. } => items.get(index),
        _ => None,
    }
}
