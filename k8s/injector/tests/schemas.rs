//! Every golden result is valid to Kubernetes' own schemas, and another YAML parser reads it as ours does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ctests::skipped;
use injector::stream::documents;
use serde_json::{Value, json};

/// The oldest with native sidecars by default that is still supported, and the newest that the validator has.
const VERSIONS: [&str; 4] = ["-k", "1.31.0", "-k", "1.36.0"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The validator's command; `None` where it cannot be installed, which counts as a skipped test.
fn validator() -> Option<PathBuf> {
    let done = Command::new(repository().join("scripts/kubernetes-validate.sh")).output().unwrap();
    if !done.status.success() {
        skipped(&format!("kubernetes-validate: {}", String::from_utf8_lossy(&done.stderr)));
        return None;
    }
    Some(PathBuf::from(String::from_utf8(done.stdout).unwrap().trim()))
}

/// Every golden result, by name.
fn results() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let read = |name: String| (name.clone(), fs::read_to_string(folder.join(name)).unwrap());
    names.filter(|name| name.ends_with(".injected.yaml")).map(read).collect()
}

/// The objects that have a schema; those of a list each for itself.
fn objects(document: Value) -> Vec<Value> {
    match document {
        Value::Object(object) if object.get("kind") == Some(&json!("List")) => {
            object.get("items").and_then(Value::as_array).into_iter().flatten().cloned().flat_map(objects).collect()
        }
        Value::Object(object) if object.get("apiVersion") == Some(&json!("example.com/v1")) => Vec::new(),
        Value::Object(mut object) => {
            // The validator wants a name, which Kubernetes makes of generateName.
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.entry("name").or_insert_with(|| "generated".into());
            }
            vec![Value::Object(object)]
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_result_is_valid_to_kubernetes_schemas() {
    let Some(validator) = validator() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemas");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut files = Vec::new();
    for (name, text) in results() {
        let objects = documents(&text).unwrap().into_iter().flat_map(objects);
        for (index, object) in objects.enumerate() {
            let file = folder.join(format!("{index}-{name}"));
            fs::write(&file, object.to_string()).unwrap();
            files.push(file);
        }
    }
    assert!(files.len() >= 40, "{} objects", files.len());
    let validate = |files: &[PathBuf]| {
        Command::new(&validator).args(VERSIONS).args(["--strict", "--quiet"]).args(files).output().unwrap()
    };
    let done = validate(&files);
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    // A schema that is not there is a warning only.
    assert!(done.status.success() && said.trim().is_empty(), "{said}");
    let wrong = folder.join("wrong.yaml");
    fs::write(
        &wrong,
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"nam":"a"}]}}"#,
    )
    .unwrap();
    assert!(!validate(&[wrong]).status.success(), "it takes everything for valid");
}

#[test]
fn another_parser_reads_every_result_as_ours_does() {
    let Some(validator) = validator() else { return };
    let script = "import json, sys, yaml\n\
        print(json.dumps(list(yaml.load_all(sys.stdin.buffer, Loader=yaml.SafeLoader))))";
    for (name, text) in results() {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("parsed.yaml");
        fs::write(&file, &text).unwrap();
        let mut python = Command::new(validator.with_file_name("python"));
        let done = python.args(["-c", script]).stdin(fs::File::open(&file).unwrap()).output().unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        let theirs: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(documents(&text).unwrap(), theirs, "{name}");
    }
}
