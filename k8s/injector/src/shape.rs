//! Whether a pod has the shape that the rest of this crate relies on.
//!
//! Only what is read or edited is looked at: everything else is the API server's business. After [`check`], labels
//! and annotations are text, containers are named, and environment, mounts and volumes are lists of named objects.

use std::fmt;

use serde_json::{Map, Value};
use thiserror::Error;

/// A field that cannot be what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {problem}")]
pub struct Malformed {
    /// The field, from the pod: `spec.containers[0].name`.
    pub path: String,
    /// What is wrong; the remedy.
    pub problem: String,
}

/// The lists of containers in a pod's spec.
pub(crate) const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Of each list; no node runs a pod with as many. What is added to a container, and said of it, is larger than the least
/// that can be written of one.
const CONTAINERS_MOST: usize = 128;
/// Bytes of a name; a path has no more.
const NAME_MOST: usize = 4096;

/// Where a value stands.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    At(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::At(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl Path<'_> {
    fn wrong(&self, problem: impl Into<String>) -> Malformed {
        Malformed { path: self.to_string(), problem: problem.into() }
    }
}

/// Checks the parts of a pod (or of a pod template) that injection reads.
pub(crate) fn check(pod: &Value) -> Result<(), Malformed> {
    let root = Path::Root;
    let Value::Object(pod) = pod else {
        return Err(Malformed { path: "pod".into(), problem: "is not an object; give it metadata and spec".into() });
    };
    let at = Path::Key(&root, "metadata");
    if let Some(metadata) = object(pod, "metadata", &at)? {
        for name in ["labels", "annotations"] {
            let at = Path::Key(&at, name);
            for (key, value) in object(metadata, name, &at)?.into_iter().flatten() {
                text(value, &Path::Key(&at, key))?;
            }
        }
    }
    let at = Path::Key(&root, "spec");
    let spec = object(pod, "spec", &at)?.ok_or_else(|| at.wrong("is missing; a pod needs containers"))?;
    for name in CONTAINER_LISTS {
        let at = Path::Key(&at, name);
        let containers = objects(spec, name, &at)?;
        if containers.len() > CONTAINERS_MOST {
            return Err(at.wrong(format!("has more than {CONTAINERS_MOST} containers; make several pods of them")));
        }
        for (index, container) in containers.into_iter().enumerate() {
            check_container(container, &Path::At(&at, index))?;
        }
    }
    let volumes = Path::Key(&at, "volumes");
    for (index, volume) in objects(spec, "volumes", &volumes)?.into_iter().enumerate() {
        named(volume, "name", &Path::At(&volumes, index))?;
    }
    objects(spec, "imagePullSecrets", &Path::Key(&at, "imagePullSecrets"))?;
    for name in ["securityContext", "nodeSelector", "os"] {
        object(spec, name, &Path::Key(&at, name))?;
    }
    if spec.get("containers").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Err(Path::Key(&at, "containers").wrong("is missing or empty; a pod needs a container"));
    }
    Ok(())
}

fn check_container(container: &Map<String, Value>, at: &Path<'_>) -> Result<(), Malformed> {
    named(container, "name", at)?;
    for (list, key) in [("env", "name"), ("volumeMounts", "mountPath")] {
        let list_at = Path::Key(at, list);
        for (index, entry) in objects(container, list, &list_at)?.into_iter().enumerate() {
            let at = Path::At(&list_at, index);
            named(entry, key, &at)?;
            if list == "volumeMounts" {
                named(entry, "name", &at)?;
            } else if let Some(value) = entry.get("value").filter(|value| !value.is_null()) {
                text(value, &Path::Key(&at, "value"))?;
            }
        }
    }
    for name in ["resources", "securityContext"] {
        object(container, name, &Path::Key(at, name))?;
    }
    Ok(())
}

fn object<'a>(
    parent: &'a Map<String, Value>,
    key: &str,
    at: &Path<'_>,
) -> Result<Option<&'a Map<String, Value>>, Malformed> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(at.wrong(format!("is {}; write keys and values", kind(other)))),
    }
}

fn objects<'a>(
    parent: &'a Map<String, Value>,
    key: &str,
    at: &Path<'_>,
) -> Result<Vec<&'a Map<String, Value>>, Malformed> {
    let list = match parent.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(at.wrong(format!("is {}; write a list", kind(other)))),
    };
    let entry = |(index, entry): (usize, &'a Value)| {
        entry.as_object().ok_or_else(|| Path::At(at, index).wrong(format!("is {}; write keys and values", kind(entry))))
    };
    list.iter().enumerate().map(entry).collect()
}

fn text(value: &Value, at: &Path<'_>) -> Result<(), Malformed> {
    match value {
        Value::String(_) => Ok(()),
        other => Err(at.wrong(format!("is {}; put text there, in quotes", kind(other)))),
    }
}

fn named(object: &Map<String, Value>, key: &str, at: &Path<'_>) -> Result<(), Malformed> {
    let at = Path::Key(at, key);
    match object.get(key) {
        None | Some(Value::Null) => Err(at.wrong("is missing; it is required")),
        Some(Value::String(text)) if text.is_empty() => Err(at.wrong("is empty; it is required")),
        Some(Value::String(text)) if text.len() > NAME_MOST => {
            Err(at.wrong(format!("has more than {NAME_MOST} bytes; shorten it")))
        }
        Some(value) => text(value, &at),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The objects of a list; nothing where it is absent.
pub(crate) fn entries<'a>(parent: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
    parent.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// A field that is text.
pub(crate) fn text_of<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// An object of an object, made where it is absent.
pub(crate) fn object_mut<'a>(parent: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = parent.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(object) => object,
        _ => unreachable!("it was made an object"),
    }
}

/// A list of an object, made where it is absent.
pub(crate) fn list_mut<'a>(parent: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let slot = parent.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    match slot {
        Value::Array(list) => list,
        _ => unreachable!("it was made a list"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_wrong(pod: Value, expected: &str) {
        assert_eq!(check(&pod).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_field_that_cannot_be_read_is_named_from_the_pod_on() {
        check_wrong(json!([]), "pod: is not an object; give it metadata and spec");
        check_wrong(json!({}), "spec: is missing; a pod needs containers");
        check_wrong(
            json!({"spec": {"containers": []}}),
            "spec.containers: is missing or empty; a pod needs a container",
        );
        check_wrong(json!({"spec": {"containers": {}}}), "spec.containers: is an object; write a list");
        check_wrong(json!({"spec": {"containers": [3]}}), "spec.containers[0]: is a number; write keys and values");
        check_wrong(json!({"spec": {"containers": [{}]}}), "spec.containers[0].name: is missing; it is required");
        check_wrong(
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": 1}]}]}}),
            "spec.containers[0].env[0].value: is a number; put text there, in quotes",
        );
        check_wrong(
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "v"}]}]}}),
            "spec.containers[1].volumeMounts[0].mountPath: is missing; it is required",
        );
        check_wrong(
            json!({"spec": {"containers": [{"name": "a"}], "initContainers": vec![json!({"name": "a"}); 129]}}),
            "spec.initContainers: has more than 128 containers; make several pods of them",
        );
        check_wrong(
            json!({"spec": {"containers": [{"name": "a".repeat(4097)}]}}),
            "spec.containers[0].name: has more than 4096 bytes; shorten it",
        );
        check_wrong(
            json!({"metadata": {"labels": {"ldmesh.io/inject": true}}, "spec": {"containers": [{"name": "a"}]}}),
            "metadata.labels.ldmesh.io/inject: is a boolean; put text there, in quotes",
        );
    }

    #[test]
    fn nulls_are_absent() {
        let pod = json!({"metadata": null, "spec": {"initContainers": null, "volumes": null, "containers": [
            {"name": "a", "env": null, "volumeMounts": null, "securityContext": null}]}});
        assert_eq!(check(&pod), Ok(()));
    }
}
