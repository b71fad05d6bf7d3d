//! Whatever a pod or a text is: no panic, and what was injected stays as it is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use injector::stream::{documents, inject_stream};
use injector::{Namespace, Outcome, Request, Settings, inject_as, patch};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// The golden texts, from which the cases are made.
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
});

/// Every pod and pod template of them.
static PODS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let documents: Vec<Value> = TEXTS.iter().flat_map(|text| documents(text).unwrap()).collect();
    let pods = documents.iter().filter_map(|document| {
        let places = ["/spec/template", "/spec/jobTemplate/spec/template", ""];
        places.iter().find_map(|place| document.pointer(place).filter(|pod| pod["spec"]["containers"].is_array()))
    });
    pods.cloned().collect()
});

/// Goes down `way` and puts `value` there, or removes what is there.
fn mutate(at: &mut Value, way: &[usize], value: &Option<Value>) {
    let Some((step, rest)) = way.split_first() else {
        if let Some(value) = value {
            *at = value.clone();
        }
        return;
    };
    match at {
        Value::Object(object) if !object.is_empty() => {
            let key = object.keys().nth(step % object.len()).unwrap().clone();
            if rest.is_empty() && value.is_none() {
                object.remove(&key);
            } else {
                mutate(&mut object[&key], rest, value);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let index = step % list.len();
            if rest.is_empty() && value.is_none() {
                list.remove(index);
            } else {
                mutate(&mut list[index], rest, value);
            }
        }
        other => {
            if let Some(value) = value {
                *other = value.clone();
            }
        }
    }
}

fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/:$()é\n#-]{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["ldmesh-files", "ldmesh-install", "/run/ldmesh", "/ldmesh-files", "/", "LD_PRELOAD"])
            .prop_map(Value::from),
    ];
    scalar.prop_recursive(2, 6, 3, |inner| {
        let keys = prop::sample::select(vec!["name", "env", "value", "mountPath", "emptyDir", "configMap", "command"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..3).prop_map(|pairs| Value::Object(
                pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_pod_is_injected_once_or_left_alone(
        index in any::<prop::sample::Index>(),
        changes in prop::collection::vec((prop::collection::vec(0_usize..8, 1..7), prop::option::of(values())), 0..4),
        leader in prop::sample::select(vec!["auto", "agent", "thread", "sidecar"]),
        install in prop::sample::select(vec!["init", "image-volume"]),
    ) {
        let mut pod = index.get(&PODS).clone();
        for (way, value) in &changes {
            mutate(&mut pod, way, value);
        }
        let mut settings = Settings::default();
        settings.set("leader", leader).unwrap();
        settings.set("install", install).unwrap();
        let namespace = Namespace::new("default");
        let request = Request { namespace: &namespace, settings: &settings, asked: true, workload: None };
        if let Outcome::Injected { pod: once, .. } = inject_as(&pod, &request) {
            let mut patched = pod.clone();
            json_patch::patch(&mut patched, &patch(&pod, &once)).unwrap();
            prop_assert_eq!(&patched, &once);
            match inject_as(&once, &request) {
                Outcome::Injected { pod: twice, .. } => prop_assert_eq!(twice, once),
                Outcome::LeftAlone(reason) => prop_assert!(false, "{}", reason),
            }
        }
    }

    #[test]
    fn any_text_is_injected_once_or_refused(
        index in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[ \\-\\[\\]{}:,#&*|>'\"\n\ra0é]{0,3}"), 0..4),
    ) {
        let mut text: Vec<char> = index.get(&TEXTS).chars().collect();
        for (at, insert) in &edits {
            let at = at.index(text.len());
            text.splice(at..(at + 1).min(text.len()), insert.chars());
        }
        let text: String = text.into_iter().collect();
        if let Ok(once) = inject_stream(&text, "default", &Settings::default()) {
            let twice = inject_stream(&once.text, "default", &Settings::default());
            prop_assert_eq!(twice.map(|twice| twice.text), Ok(once.text));
        }
    }
}
