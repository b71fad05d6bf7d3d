//! Golden files: `golden/NAME.yaml` becomes `golden/NAME.injected.yaml`, and `golden/NAME.notes` says what a person is
//! told. `LDMESH_GOLDEN=update cargo test -p injector --test golden` writes them anew.
//!
//! The first line of a file may hold flags: `# ldmesh inject --leader=sidecar`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use injector::stream::{Injected, documents, inject_stream};
use injector::{Namespace, Outcome, Settings, inject, patch};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Names of the cases.
fn cases() -> Vec<String> {
    let names = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned)).collect();
    names.retain(|name| !name.ends_with(".injected"));
    names.sort();
    names
}

struct Case {
    name: String,
    text: String,
    settings: Settings,
    namespace: String,
}

impl Case {
    fn read(name: &str) -> Self {
        let text = fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap();
        let mut case = Case { name: name.into(), text, settings: Settings::default(), namespace: "default".into() };
        let flags = case.text.lines().next().and_then(|line| line.strip_prefix("# ldmesh inject ")).unwrap_or_default();
        for flag in flags.split_whitespace() {
            let (key, value) = flag.trim_start_matches("--").split_once('=').expect(flag);
            match key {
                "namespace" => case.namespace = value.into(),
                _ => case.settings.set(key, value).expect(flag),
            }
        }
        case
    }

    #[track_caller]
    fn inject(&self, text: &str) -> Injected {
        inject_stream(text, &self.namespace, &self.settings).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn notes(injected: &Injected) -> String {
    injected.notes.iter().map(|note| format!("document {}: {}\n", note.document, note.text)).collect()
}

#[test]
fn every_case_becomes_its_golden_file() {
    let update = std::env::var_os("LDMESH_GOLDEN").is_some_and(|value| value == "update");
    let mut expected = BTreeSet::new();
    let mut stale = Vec::new();
    for name in cases() {
        let case = Case::read(&name);
        let injected = case.inject(&case.text);
        let notes = notes(&injected);
        expected.insert(format!("{name}.yaml"));
        for (file, content) in [(format!("{name}.injected.yaml"), &injected.text), (format!("{name}.notes"), &notes)] {
            if content.is_empty() {
                continue;
            }
            let path = folder().join(&file);
            if update {
                fs::write(&path, content).unwrap();
            } else if fs::read_to_string(&path).ok().as_ref() != Some(content) {
                stale.push(file.clone());
            }
            expected.insert(file);
        }
    }
    assert_eq!(stale, Vec::<String>::new(), "stale: look at what changed, then run with LDMESH_GOLDEN=update");
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let orphans: Vec<String> = files.filter(|file| !expected.contains(file)).collect();
    assert_eq!(orphans, Vec::<String>::new(), "of no case: remove them");
    assert!(cases().len() >= 40, "{} cases", cases().len());
}

#[test]
fn comments_stay_in_their_order() {
    let mut comments = 0;
    for name in cases() {
        let case = Case::read(&name);
        let injected = case.inject(&case.text);
        if notes(&injected).contains("written anew") {
            continue;
        }
        let mut lines = injected.text.lines();
        for comment in case.text.lines().filter(|line| line.trim_start().starts_with('#')) {
            assert!(lines.any(|line| line == comment), "{name}: {comment}");
            comments += 1;
        }
    }
    assert!(comments > 20, "{comments} comments");
}

#[test]
fn injecting_again_changes_nothing() {
    for name in cases() {
        let case = Case::read(&name);
        let once = case.inject(&case.text).text;
        assert_eq!(case.inject(&once).text, once, "{name}");
    }
}

#[test]
fn the_json_patch_makes_the_same_of_every_document() {
    for name in cases() {
        let case = Case::read(&name);
        let (before, after) = (documents(&case.text).unwrap(), documents(&case.inject(&case.text).text).unwrap());
        assert_eq!(before.len(), after.len(), "{name}");
        for (before, after) in before.into_iter().zip(after) {
            let mut patched = before.clone();
            json_patch::patch(&mut patched, &patch(&before, &after)).unwrap();
            assert_eq!(patched, after, "{name}");
        }
    }
}

/// The class of service, as Kubernetes computes it from the containers.
fn quality_of_service(spec: &Value) -> &'static str {
    let list = |name: &str| spec[name].as_array().cloned().unwrap_or_default();
    let containers: Vec<Value> = [list("initContainers"), list("containers")].concat();
    let amount = |container: &Value, list: &str, resource: &str| container["resources"][list][resource].clone();
    let mut any = false;
    let mut guaranteed = true;
    for container in &containers {
        for resource in ["cpu", "memory"] {
            let (limit, request) = (amount(container, "limits", resource), amount(container, "requests", resource));
            any |= !limit.is_null() || !request.is_null();
            guaranteed &= !limit.is_null() && (request.is_null() || request == limit);
        }
    }
    match (guaranteed, any) {
        (true, _) => "Guaranteed",
        (false, true) => "Burstable",
        (false, false) => "BestEffort",
    }
}

/// Every pod spec in a document.
fn specs(document: &Value) -> Vec<&Value> {
    if let Some(items) = document["items"].as_array() {
        return items.iter().flat_map(specs).collect();
    }
    let places = ["/spec", "/spec/template/spec", "/spec/jobTemplate/spec/template/spec"];
    places.iter().filter_map(|place| document.pointer(place)).filter(|spec| spec["containers"].is_array()).collect()
}

#[test]
fn the_class_of_service_stays() {
    for name in cases() {
        let case = Case::read(&name);
        let (before, after) = (documents(&case.text).unwrap(), documents(&case.inject(&case.text).text).unwrap());
        for (before, after) in before.iter().zip(&after) {
            for (before, after) in specs(before).into_iter().zip(specs(after)) {
                assert_eq!(quality_of_service(before), quality_of_service(after), "{name}");
            }
        }
    }
}

/// Whom kubelet gives projected tokens to (`FsUserFrom` of pkg/kubelet/kubelet_volumes.go): the user of all containers.
/// Else they are root's, with their default mode.
fn user_of_tokens(spec: &Value) -> Option<i64> {
    let lists = ["initContainers", "containers"].map(|list| spec[list].as_array());
    let user = |of: &Value| of["securityContext"]["runAsUser"].as_i64();
    let mut users = lists.into_iter().flatten().flatten().map(|container| user(container).or_else(|| user(spec)));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}

#[test]
fn tokens_stay_with_the_user_who_has_them() {
    let mut kept = BTreeSet::new();
    for name in cases() {
        let case = Case::read(&name);
        let (before, after) = (documents(&case.text).unwrap(), documents(&case.inject(&case.text).text).unwrap());
        for (before, after) in before.iter().zip(&after) {
            for (before, after) in specs(before).into_iter().zip(specs(after)) {
                assert_eq!(user_of_tokens(before), user_of_tokens(after), "{name}");
                kept.extend(user_of_tokens(after));
            }
        }
    }
    assert!(kept.contains(&0) && kept.len() > 2, "{kept:?}");
}

#[test]
fn no_name_or_mount_path_stands_twice() {
    for name in cases() {
        let case = Case::read(&name);
        for document in documents(&case.inject(&case.text).text).unwrap() {
            for spec in specs(&document) {
                let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| spec[list].as_array());
                let containers: Vec<&Value> = lists.into_iter().flatten().flatten().collect();
                check_unique(&name, containers.iter().map(|container| container["name"].to_string()));
                check_unique(&name, spec["volumes"].as_array().into_iter().flatten().map(|v| v["name"].to_string()));
                for container in containers {
                    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
                    check_unique(&name, mounts.map(|mount| mount["mountPath"].to_string()));
                }
            }
        }
    }
}

#[track_caller]
fn check_unique(case: &str, names: impl Iterator<Item = String>) {
    let mut seen = BTreeSet::new();
    for name in names {
        assert!(seen.insert(name.clone()), "{case}: {name} stands twice");
    }
}

#[test]
fn the_webhooks_way_makes_the_same_of_a_pod() {
    let mut enabled = Namespace::new("default");
    enabled.labels.insert("ldmesh.io/injection".into(), "enabled".into());
    let mut pods = 0;
    for name in cases() {
        let case = Case::read(&name);
        enabled.name = case.namespace.clone();
        let (before, after) = (documents(&case.text).unwrap(), documents(&case.inject(&case.text).text).unwrap());
        for (before, after) in before.iter().zip(&after).filter(|(before, _)| before["kind"] == json!("Pod")) {
            let namespace = before["metadata"]["namespace"].as_str().unwrap_or(&case.namespace);
            let namespace = Namespace { name: namespace.into(), ..enabled.clone() };
            match inject(before, &namespace, &case.settings) {
                Outcome::Injected { pod, .. } => assert_eq!(pod, *after, "{name}"),
                Outcome::LeftAlone(_) => assert_eq!(before, after, "{name}"),
            }
            pods += 1;
        }
    }
    assert!(pods > 5, "{pods} pods");
}
