//! Writes changes into a text: what is added gets lines of its own where it belongs, and everything else, comments
//! included, stays byte for byte.
//!
//! The result is read again and compared with what it should be. A document in which that fails (anchors that are
//! used elsewhere, unusual layouts) is written anew, in its own order of keys, without its comments.

use std::ops::Range;

use serde_json::Value;

use super::emit::{self, Style};
use super::{Document, Kind, Node, YamlError, load};

/// A document that is to have another value.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Its index.
    pub document: usize,
    pub value: Value,
}

/// The new text, and the documents that lost their comments.
pub(crate) fn splice(
    text: &str,
    documents: &[Document],
    changes: &[Change],
) -> Result<(String, Vec<usize>), YamlError> {
    let mut rewritten = Vec::new();
    loop {
        let new = edit_all(text, documents, changes, &rewritten);
        let wrong = wrong(&load(&new), documents.len(), changes);
        let before = rewritten.len();
        rewritten.extend(wrong.into_iter().filter(|index| !rewritten.contains(index)).collect::<Vec<_>>());
        if rewritten.len() == before {
            return check_all(new, documents, changes, rewritten);
        }
    }
}

/// Changed documents that did not become what they should be.
fn wrong(read: &Result<Vec<Document>, YamlError>, documents: usize, changes: &[Change]) -> Vec<usize> {
    let all = || changes.iter().map(|change| change.document);
    match read {
        Ok(read) if read.len() == documents => {
            let value =
                |index: usize| read.get(index).and_then(|document| document.value.as_ref()).map(|node| &node.value);
            let is_wrong = |change: &&Change| value(change.document) != Some(&change.value);
            changes.iter().filter(is_wrong).map(|change| change.document).collect()
        }
        Ok(_) => all().collect(),
        Err(error) => {
            let index = error.document.saturating_sub(1);
            if all().any(|document| document == index) { vec![index] } else { all().collect() }
        }
    }
}

fn check_all(
    new: String,
    documents: &[Document],
    changes: &[Change],
    rewritten: Vec<usize>,
) -> Result<(String, Vec<usize>), YamlError> {
    let wrong = |index: &usize, read: &[Document]| {
        let value =
            |document: Option<&Document>| document.and_then(|d| d.value.as_ref()).map(|node| node.value.clone());
        let change = changes.iter().find(|change| change.document == *index).map(|change| change.value.clone());
        value(read.get(*index)) != change.or_else(|| value(documents.get(*index)))
    };
    let read = load(&new)?;
    match (0..documents.len().max(read.len())).find(|index| wrong(index, &read)) {
        None => Ok((new, rewritten)),
        Some(index) => {
            let message = "cannot be edited in this layout; write it in block style, without anchors".to_owned();
            Err(YamlError { document: index.saturating_add(1), line: 0, message })
        }
    }
}

fn edit_all(text: &str, documents: &[Document], changes: &[Change], rewritten: &[usize]) -> String {
    let mut editor = Editor { text, edits: Vec::new(), style: Style { list_indent: 0, json: false } };
    for change in changes {
        let Some(node) = documents.get(change.document).and_then(|document| document.value.as_ref()) else { continue };
        let json = text.get(node.span.clone()).is_some_and(|text| text.starts_with('{'));
        editor.style = Style { list_indent: editor.list_indent(node).unwrap_or(0), json };
        if rewritten.contains(&change.document) || editor.edit(node, &change.value).is_none() {
            editor.edits.retain(|(at, _)| !(node.span.start <= at.start && at.end <= node.span.end));
            let new = match text.get(node.span.clone()).is_some_and(|text| text.starts_with(['{', '['])) {
                true => emit::flow(&change.value, editor.style),
                false => emit::block(&change.value, 0, editor.style, Some(node)),
            };
            editor.edits.push((node.span.clone(), new));
        }
    }
    editor.apply()
}

struct Editor<'a> {
    text: &'a str,
    edits: Vec<(Range<usize>, String)>,
    style: Style,
}

impl Editor<'_> {
    fn apply(mut self) -> String {
        // Stable: what was to be inserted first at a place stands first.
        self.edits.sort_by_key(|(at, _)| at.start);
        let newline = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut new = String::with_capacity(self.text.len().saturating_mul(2));
        let mut done = 0;
        for (at, insert) in &self.edits {
            new.push_str(self.text.get(done..at.start).unwrap_or_default());
            new.push_str(&insert.replace('\n', newline));
            done = at.end.max(done);
        }
        new.push_str(self.text.get(done..).unwrap_or_default());
        new
    }

    /// Makes `node` have `value`; `None` where this layout allows no edit.
    fn edit(&mut self, node: &Node, value: &Value) -> Option<()> {
        if node.value == *value {
            return Some(());
        }
        match (&node.kind, value) {
            (Kind::Mapping { flow, entries }, Value::Object(object)) if !entries.is_empty() => {
                let old = node.value.as_object()?;
                if old.keys().any(|key| !object.contains_key(key)) {
                    return None;
                }
                let mut missing = Vec::new();
                for key in emit::ordered(object, Some(node)) {
                    let value = object.get(key)?;
                    match entries.iter().find(|entry| entry.key == key && !entry.merge) {
                        Some(entry) if is_left_out(&entry.node) => {
                            self.fill(&entry.key_span, &entry.node, value)?;
                        }
                        Some(entry) => self.edit_in(&entry.node, value, Some(self.column(entry.key_span.start)))?,
                        None if old.get(key) == Some(value) => {}
                        None => missing.push((key, value)),
                    }
                }
                self.add_entries(node, *flow, &missing)
            }
            (Kind::Sequence { flow, items }, Value::Array(list)) if !items.is_empty() => {
                self.edit_list(*flow, items, list)
            }
            _ => self.edit_in(node, value, None),
        }
    }

    /// As `edit`; `key` is the column of the key whose value it is.
    fn edit_in(&mut self, node: &Node, value: &Value, key: Option<usize>) -> Option<()> {
        let is_collection = match &node.kind {
            Kind::Mapping { entries, .. } => value.is_object() && !entries.is_empty(),
            Kind::Sequence { items, .. } => value.is_array() && !items.is_empty(),
            _ => false,
        };
        if node.value == *value {
            return Some(());
        }
        if is_collection {
            return self.edit(node, value);
        }
        let new = match (&node.kind, key) {
            // Empty or null, below a key of a block: the value gets lines of its own.
            (Kind::Mapping { .. } | Kind::Sequence { .. } | Kind::Scalar, Some(column))
                if (value.is_array() || value.is_object()) && self.is_alone_on_line(node) =>
            {
                let indent = column + if value.is_array() { self.style.list_indent } else { 2 };
                let start = self.text.get(..node.span.start)?.trim_end_matches(' ').len();
                self.edits.push((start..node.span.start, String::new()));
                format!("\n{}{}", emit::pad(indent), emit::block(value, indent, self.style, None))
            }
            _ => emit::flow(value, self.style),
        };
        self.edits.push((node.span.clone(), new));
        Some(())
    }

    /// Nothing but blanks follows, and the key is in a block: its line has no flow collection around the node.
    fn is_alone_on_line(&self, node: &Node) -> bool {
        let rest = self.text.get(node.span.end..self.line_end(node.span.end)).unwrap_or("x");
        let start = self.line_start(node.span.start);
        let before = self.text.get(start..node.span.start).unwrap_or("{");
        rest.trim().is_empty() && !before.contains(['{', '['])
    }

    /// A key without a value.
    fn fill(&mut self, key: &Range<usize>, node: &Node, value: &Value) -> Option<()> {
        if node.value == *value {
            return Some(());
        }
        let column = self.column(key.start);
        let line_end = self.line_end(key.end);
        let rest = self.text.get(key.end..line_end)?;
        let after_colon = rest.trim_start_matches(['"', '\'', ' ']).strip_prefix(':')?.trim();
        if !after_colon.is_empty() && !after_colon.starts_with('#') {
            return None;
        }
        let indent = column + if value.is_array() { self.style.list_indent } else { 2 };
        let new = format!("\n{}{}", emit::pad(indent), emit::block(value, indent, self.style, None));
        self.edits.push((line_end..line_end, new));
        Some(())
    }

    fn add_entries(&mut self, node: &Node, flow: bool, missing: &[(&str, &Value)]) -> Option<()> {
        let Kind::Mapping { entries, .. } = &node.kind else { return None };
        if missing.is_empty() {
            return Some(());
        }
        let last = entries.last()?;
        let end = last.node.span.end.max(last.key_span.end);
        if flow {
            let one = |(key, value): &(&str, &Value)| format!(", {}", emit::flow_entry(key, value, self.style));
            self.edits.push((end..end, missing.iter().map(one).collect()));
            return Some(());
        }
        let indent = self.column(entries.first()?.key_span.start);
        let at = self.line_end(end);
        for (key, value) in missing {
            let entry = emit::entry(key, value, indent, self.style, None);
            self.edits.push((at..at, format!("\n{}{entry}", emit::pad(indent))));
        }
        Some(())
    }

    /// The old items are in the new list, in their order, changed perhaps; others stand between them.
    fn edit_list(&mut self, flow: bool, items: &[Node], list: &[Value]) -> Option<()> {
        let by_index = items.len() == list.len();
        let mut rest = items.iter().peekable();
        let mut previous: Option<&Node> = None;
        for value in list {
            match rest.peek() {
                Some(item) if by_index || is_same(&item.value, value) => {
                    self.edit(item, value)?;
                    previous = rest.next();
                }
                next => {
                    let next = next.copied();
                    self.insert_item(flow, previous, next, value)?;
                }
            }
        }
        rest.next().is_none().then_some(())
    }

    fn insert_item(&mut self, flow: bool, previous: Option<&Node>, next: Option<&Node>, value: &Value) -> Option<()> {
        if flow {
            let (at, new) = match (previous, next) {
                (_, Some(next)) => (next.span.start, format!("{}, ", emit::flow(value, self.style))),
                (Some(previous), None) => (previous.span.end, format!(", {}", emit::flow(value, self.style))),
                (None, None) => return None,
            };
            self.edits.push((at..at, new));
            return Some(());
        }
        let dash = self.dash(previous.or(next)?)?;
        let indent = self.column(dash);
        let item = emit::item(value, indent, self.style, None);
        match (previous, next) {
            (Some(previous), _) => {
                let at = self.line_end(previous.span.end);
                self.edits.push((at..at, format!("\n{}{item}", emit::pad(indent))));
            }
            (None, _) => {
                let at = self.before_comments(self.line_start(dash));
                self.edits.push((at..at, format!("{}{item}\n", emit::pad(indent))));
            }
        }
        Some(())
    }

    /// The dash of an item; nothing but blanks stands before it on its line.
    fn dash(&self, item: &Node) -> Option<usize> {
        let before = self.text.get(..item.span.start)?.trim_end();
        let dash = before.strip_suffix('-')?.len();
        self.text.get(self.line_start(dash)..dash)?.trim().is_empty().then_some(dash)
    }

    /// The start of the comments that belong to the line at `at`.
    fn before_comments(&self, at: usize) -> usize {
        let mut at = at;
        loop {
            let above = self.line_start(at.saturating_sub(1));
            let line = self.text.get(above..at).unwrap_or_default().trim();
            if at == 0 || !line.starts_with('#') {
                return at;
            }
            at = above;
        }
    }

    fn list_indent(&self, node: &Node) -> Option<usize> {
        match &node.kind {
            Kind::Mapping { flow: false, entries } => entries.iter().find_map(|entry| match &entry.node.kind {
                Kind::Sequence { flow: false, items } => {
                    let dash = self.column(self.dash(items.first()?)?);
                    dash.checked_sub(self.column(entry.key_span.start))
                }
                _ => self.list_indent(&entry.node),
            }),
            Kind::Sequence { items, .. } => items.iter().find_map(|item| self.list_indent(item)),
            _ => None,
        }
    }

    fn line_start(&self, at: usize) -> usize {
        self.text.get(..at).and_then(|text| text.rfind('\n')).map_or(0, |newline| newline.saturating_add(1))
    }

    fn line_end(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        at.saturating_add(line.trim_end_matches('\r').len())
    }

    fn column(&self, at: usize) -> usize {
        self.text.get(self.line_start(at)..at).map_or(0, |text| text.chars().count())
    }
}

/// A key without text behind it.
fn is_left_out(node: &Node) -> bool {
    matches!(node.kind, Kind::Scalar) && node.value.is_null() && node.span.is_empty()
}

/// Whether the new item is the old one, changed perhaps.
fn is_same(old: &Value, new: &Value) -> bool {
    if old == new {
        return true;
    }
    let names = |value: &Value| (value.get("name").cloned(), value.get("mountPath").cloned());
    old.get("name").is_some() && names(old) == names(new)
}
