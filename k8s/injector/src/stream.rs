//! A text of YAML documents, and the same with its pods in the mesh: `ldmesh inject`.
//!
//! Nothing is decided here: each Pod and each pod template of the usual workloads goes through
//! [`inject_as`](crate::inject_as), and what comes back is written into the text.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::annotations::{PREFIX, Place};
use crate::decide::{Namespace, Reason};
use crate::inject::{Outcome, Request, Warning, inject_as};
use crate::settings::Settings;
use crate::shape::{Malformed, text_of};
use crate::workload::template;
use crate::yaml::{self, Change, YamlError, splice};

/// Why a text cannot be injected: its place, what is wrong, the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("document {document}: {message}")]
pub struct StreamError {
    /// Counted from 1.
    pub document: usize,
    /// The field where there is one, what is wrong, the remedy.
    pub message: String,
}

/// Something that the user should know: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Counted from 1.
    pub document: usize,
    /// Its text.
    pub text: String,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The whole text.
    pub text: String,
    /// What was left alone, or lost.
    pub notes: Vec<Note>,
}

/// Injects every pod of a text. `namespace` is that of objects that name none.
pub fn inject_stream(text: &str, namespace: &str, settings: &Settings) -> Result<Injected, StreamError> {
    let documents = yaml::load(text).map_err(syntax)?;
    let mut notes = Vec::new();
    let mut changes = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let Some(Value::Object(object)) = document.value.as_ref().map(|node| &node.value) else { continue };
        let number = index.saturating_add(1);
        let mut found = Found { settings, namespace, document: number, notes: &mut notes, any: false };
        let value = found.object(object, "")?;
        if let (true, Some((key, line))) = (found.any, &document.duplicate) {
            let message = format!("line {line}: the key {key} stands twice in one mapping; remove one");
            return Err(StreamError { document: number, message });
        }
        if let Some(value) = value {
            changes.push(Change { document: index, value });
        }
    }
    let (text, rewritten) = splice(text, &documents, &changes).map_err(syntax)?;
    for index in rewritten {
        let text = "it is written anew, without its comments: its layout (anchors, perhaps) allows no edit".to_owned();
        notes.push(Note { document: index.saturating_add(1), text });
    }
    Ok(Injected { text, notes })
}

/// The documents of a text, as Kubernetes reads them; an empty one is null.
pub fn documents(text: &str) -> Result<Vec<Value>, StreamError> {
    let documents = yaml::load(text).map_err(syntax)?;
    Ok(documents.into_iter().map(|document| document.value.map_or(Value::Null, |node| node.value)).collect())
}

fn syntax(error: YamlError) -> StreamError {
    let message = match error.line {
        0 => error.message,
        line => format!("line {line}: {}; correct the YAML", error.message),
    };
    StreamError { document: error.document, message }
}

struct Found<'a> {
    settings: &'a Settings,
    namespace: &'a str,
    document: usize,
    notes: &'a mut Vec<Note>,
    /// Whether there was a pod.
    any: bool,
}

impl Found<'_> {
    /// The object with its pods injected; `None` where nothing changes. `at` is its path in the document.
    fn object(&mut self, object: &Map<String, Value>, at: &str) -> Result<Option<Value>, StreamError> {
        if text_of(object, "apiVersion") == Some("v1") && text_of(object, "kind") == Some("List") {
            return self.list(object, at);
        }
        let Some(template) = template(object) else { return Ok(None) };
        self.any = true;
        let kind = text_of(object, "kind").unwrap_or_default();
        let metadata = object.get("metadata").and_then(Value::as_object);
        let name = metadata.and_then(|metadata| text_of(metadata, "name"));
        let namespace = metadata.and_then(|metadata| text_of(metadata, "namespace"));
        let prefix = join(at, &template.path.join("."));
        let mut value = Value::Object(object.clone());
        let pointer: String = template.path.iter().flat_map(|key| ["/", key]).collect();
        let Some(pod) = value.pointer_mut(&pointer) else {
            return Err(self.error(format!("{prefix}: is missing; a {kind} needs a pod template")));
        };
        if let Some(message) = misplaced(object, pod, at, &prefix) {
            return Err(self.error(message));
        }
        let namespace = Namespace::new(namespace.unwrap_or(self.namespace));
        let workload = name.filter(|_| !template.path.is_empty());
        let request = Request { namespace: &namespace, settings: self.settings, asked: true, workload };
        let title = format!("{kind} {}", name.unwrap_or("without a name"));
        match inject_as(pod, &request) {
            Outcome::LeftAlone(Reason::Malformed(Malformed { path, problem })) => {
                let path = if path == "pod" { prefix } else { join(&prefix, &path) };
                Err(self.error(format!("{path}: {problem}")))
            }
            Outcome::LeftAlone(reason) => {
                self.note(format!("{title} is left alone: {reason}"));
                Ok(None)
            }
            Outcome::Injected { pod: new, warnings } => {
                for warning in warnings {
                    match warning {
                        Warning::Left(text) => self.note(format!("{title}: {text}")),
                        Warning::Setting(problem) => {
                            let list = if problem.place == Place::Label { "labels" } else { "annotations" };
                            let field = join(&prefix, &format!("metadata.{list}[{}]", problem.key));
                            let what = format!("{field}: {:?} is not taken; {}", problem.value, problem.remedy);
                            return Err(self.error(what));
                        }
                    }
                }
                if !names_secrets(pod) && names_secrets(&new) {
                    // The webhook comes after the account's were added (Kubernetes' ServiceAccount admission).
                    let what = "it names imagePullSecrets now, and those of its ServiceAccount no longer count; \
                                name them in image-pull-secrets, too";
                    self.note(format!("{title}: {what}"));
                }
                let changed = *pod != new;
                *pod = new;
                Ok(changed.then_some(value))
            }
        }
    }

    fn list(&mut self, object: &Map<String, Value>, at: &str) -> Result<Option<Value>, StreamError> {
        let mut value = object.clone();
        let mut changed = false;
        let items = value.get_mut("items").and_then(Value::as_array_mut);
        for (index, item) in items.into_iter().flatten().enumerate() {
            let Some(object) = item.as_object() else { continue };
            if let Some(new) = self.object(object, &join(at, &format!("items[{index}]")))? {
                *item = new;
                changed = true;
            }
        }
        Ok(changed.then_some(Value::Object(value)))
    }

    fn note(&mut self, text: String) {
        self.notes.push(Note { document: self.document, text });
    }

    fn error(&self, message: String) -> StreamError {
        StreamError { document: self.document, message }
    }
}

fn names_secrets(pod: &Value) -> bool {
    pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array).is_some_and(|secrets| !secrets.is_empty())
}

/// A label or an annotation of ours at the workload instead of its pods. Tools that write them to both are no mistake.
fn misplaced(object: &Map<String, Value>, pod: &Value, at: &str, template: &str) -> Option<String> {
    ["labels", "annotations"].iter().find_map(|list| {
        let metadata = object.get("metadata")?.get(list)?.as_object()?;
        let in_pod = |key: &str| pod.get("metadata").and_then(|m| m.get(list)?.get(key)).is_some();
        let key = metadata.keys().find(|key| key.starts_with(PREFIX) && !in_pod(key))?;
        let field = join(at, &format!("metadata.{list}[{key}]"));
        Some(format!("{field}: has no effect here; move it to {template}.metadata.{list}"))
    })
}

fn join(path: &str, rest: &str) -> String {
    match (path.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_owned(),
        (_, true) => path.to_owned(),
        _ => format!("{path}.{rest}"),
    }
}
