//! YAML as Kubernetes reads it, with the place of everything in its text, so that a change can be written where it
//! belongs and the rest stays.
//!
//! The parser gives events; [`load`] makes nodes of them. Merge keys and aliases are resolved in [`Node::value`].

mod emit;
mod load;
mod scalar;
mod splice;

use std::ops::Range;

use serde_json::Value;
use thiserror::Error;

pub(crate) use load::load;
pub(crate) use splice::{Change, splice};

/// Why a text is no YAML.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub(crate) struct YamlError {
    /// Which document, from 1.
    pub document: usize,
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// One document of a stream; without a node where it is empty.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub value: Option<Node>,
    /// The first key that stands twice in a mapping, with its line.
    pub duplicate: Option<(String, usize)>,
}

/// A value and its text.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub value: Value,
    /// Bytes of the text; without trailing blanks. For a block collection from its first key or dash.
    pub span: Range<usize>,
    pub kind: Kind,
}

/// How a node is written.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar,
    Alias,
    Mapping { flow: bool, entries: Vec<Entry> },
    Sequence { flow: bool, items: Vec<Node> },
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    /// A merge key (`<<`): its value's keys count as the mapping's own.
    pub merge: bool,
    pub node: Node,
}
