//! From events to nodes.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::{Map, Value};

use super::scalar::resolve;
use super::{Document, Entry, Kind, Node, YamlError};

/// Deeper than any manifest; the parser's stack is ours.
const MAX_DEPTH: usize = 128;
/// Aliases of aliases can make a small text endless.
const MAX_EXPANSION: usize = 1 << 20;

/// Reads every document of a text.
pub(crate) fn load(text: &str) -> Result<Vec<Document>, YamlError> {
    let mut loader = Loader {
        text,
        offsets: (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect()),
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        duplicate: None,
        document: 1,
        expansion: 0,
    };
    let mut documents = Vec::new();
    loop {
        let (event, span) = loader.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart(_) => {
                loader.document = documents.len().saturating_add(1);
                loader.anchors.clear();
                let node = loader.node(0)?;
                documents.push(Document { value: node, duplicate: loader.duplicate.take() });
            }
            Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
            _ => return Err(loader.error(span.start.line(), "is outside of a document")),
        }
    }
}

struct Loader<'a> {
    text: &'a str,
    /// Of each character, where it is not one byte each.
    offsets: Option<Vec<usize>>,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Value>,
    duplicate: Option<(String, usize)>,
    document: usize,
    expansion: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.parser.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn scan_error(&self, error: &ScanError) -> YamlError {
        self.error(error.marker().line(), error.info())
    }

    fn error(&self, line: usize, message: &str) -> YamlError {
        let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        YamlError { document: self.document, line, message }
    }

    fn byte(&self, index: usize) -> usize {
        let offsets = self.offsets.as_ref();
        offsets.map_or(index, |offsets| offsets.get(index).copied().unwrap_or(self.text.len())).min(self.text.len())
    }

    /// Without blanks at the end: some spans reach to the next token.
    fn bytes(&self, span: Span) -> Range<usize> {
        let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()));
        let trimmed = self.text.get(start..end).map_or(0, |text| text.trim_end().len());
        start..start.saturating_add(trimmed)
    }

    fn node(&mut self, depth: usize) -> Result<Option<Node>, YamlError> {
        let (event, span) = self.next()?;
        self.node_of(event, span, depth)
    }

    fn node_of(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Option<Node>, YamlError> {
        let line = span.start.line();
        if depth > MAX_DEPTH {
            return Err(self.error(line, "is nested too deeply"));
        }
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str");
                let value = if is_text { Value::from(text.as_ref()) } else { resolve(&text) };
                (Node { value, span: self.bytes(span), kind: Kind::Scalar }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(value) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.error(line, "is an alias of an anchor that is not complete"));
                };
                self.expansion = self.expansion.saturating_add(size(&value));
                if self.expansion > MAX_EXPANSION {
                    return Err(self.error(line, "aliases make it too large"));
                }
                (Node { value, span: self.bytes(span), kind: Kind::Alias }, 0)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(span, depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(span, depth)?, anchor),
            Event::DocumentEnd | Event::StreamEnd => return Ok(None),
            _ => return Err(self.error(line, "ends before it begins")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.value.clone());
        }
        Ok(Some(node))
    }

    fn sequence(&mut self, start: Span, depth: usize) -> Result<Node, YamlError> {
        let at = self.byte(start.start.index());
        let flow = self.text.as_bytes().get(at) == Some(&b'[');
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                let end = if flow { self.byte(span.end.index()) } else { end_of(items.last(), at) };
                let value = Value::Array(items.iter().map(|item: &Node| item.value.clone()).collect());
                return Ok(Node { value, span: at..end, kind: Kind::Sequence { flow, items } });
            }
            items.extend(self.node_of(event, span, depth.saturating_add(1))?);
        }
    }

    fn mapping(&mut self, start: Span, depth: usize) -> Result<Node, YamlError> {
        let at = self.byte(start.start.index());
        let flow = self.text.as_bytes().get(at) == Some(&b'{');
        let mut entries: Vec<Entry> = Vec::new();
        let mut value = Map::new();
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            let (key, key_span, plain) = match event {
                Event::MappingEnd => {
                    let last = entries.last().map(|entry| &entry.node);
                    let key_end = entries.last().map_or(at, |entry| entry.key_span.end);
                    let end = if flow { self.byte(span.end.index()) } else { end_of(last, at).max(key_end) };
                    for entry in entries.iter().filter(|entry| entry.merge) {
                        merge(&mut value, &entry.node.value);
                    }
                    return Ok(Node {
                        value: Value::Object(value),
                        span: at..end,
                        kind: Kind::Mapping { flow, entries },
                    });
                }
                Event::Scalar(text, style, ..) => (text.into_owned(), self.bytes(span), style == ScalarStyle::Plain),
                _ => return Err(self.error(line, "has a key that is no text")),
            };
            let Some(node) = self.node(depth.saturating_add(1))? else {
                return Err(self.error(line, "ends within a mapping"));
            };
            let is_merge = plain && key == "<<";
            if !is_merge && value.insert(key.clone(), node.value.clone()).is_some() && self.duplicate.is_none() {
                self.duplicate = Some((key.clone(), line));
            }
            entries.push(Entry { key, key_span, merge: is_merge, node });
        }
    }
}

fn end_of(last: Option<&Node>, start: usize) -> usize {
    last.map_or(start, |node| node.span.end).max(start)
}

/// A mapping, or a list of them of which the earlier ones win; what is there already wins over all.
fn merge(into: &mut Map<String, Value>, from: &Value) {
    match from {
        Value::Object(from) => {
            for (key, value) in from {
                into.entry(key.as_str()).or_insert_with(|| value.clone());
            }
        }
        Value::Array(list) => list.iter().filter(|one| one.is_object()).for_each(|one| merge(into, one)),
        _ => {}
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(size).fold(1, usize::saturating_add),
        Value::Object(object) => object.values().map(size).fold(1, usize::saturating_add),
        _ => 1,
    }
}
