//! A pod as the webhook gets it: who is asked for, who is left alone and why, what a person is warned of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use injector::{Namespace, Outcome, Reason, Request, Settings, inject, inject_as, patch};
use serde_json::{Value, json};

fn namespace(name: &str, labels: &[(&str, &str)]) -> Namespace {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Namespace { name: name.into(), labels }
}

fn enabled() -> Namespace {
    namespace("shop", &[("ldmesh.io/injection", "enabled")])
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}})
}

fn with(pointer: &str, value: Value) -> Value {
    let mut pod = pod();
    let mut at = &mut pod;
    for key in pointer.split('/').skip(1) {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[key.replace("~1", "/")],
        };
    }
    *at = value;
    pod
}

#[track_caller]
fn injected(pod: &Value) -> (Value, Vec<String>) {
    match inject(pod, &enabled(), &Settings::default()) {
        Outcome::Injected { pod, warnings } => (pod, warnings.iter().map(ToString::to_string).collect()),
        Outcome::LeftAlone(reason) => panic!("left alone: {reason}"),
    }
}

#[track_caller]
fn check_asked(label: Option<&str>, namespace: &Namespace, expected: Option<Reason>) {
    let pod = match label {
        Some(label) => with("/metadata/labels", json!({"ldmesh.io/inject": label})),
        None => pod(),
    };
    let reason = match inject(&pod, namespace, &Settings::default()) {
        Outcome::Injected { .. } => None,
        Outcome::LeftAlone(reason) => Some(reason),
    };
    assert_eq!(reason, expected, "label {label:?}");
}

#[track_caller]
fn check_left_alone(pod: &Value, expected: &str) {
    match inject(pod, &enabled(), &Settings::default()) {
        Outcome::LeftAlone(reason) => assert_eq!(reason.to_string(), expected),
        Outcome::Injected { .. } => panic!("it was injected"),
    }
}

#[track_caller]
fn check_warnings(pod: &Value, expected: &[&str]) {
    assert_eq!(injected(pod).1, expected);
}

fn variable<'a>(pod: &'a Value, container: usize, name: &str) -> Option<&'a str> {
    let variables = pod["spec"]["containers"][container]["env"].as_array()?;
    variables.iter().find(|entry| entry["name"] == name)?["value"].as_str()
}

#[test]
fn a_label_of_pod_or_namespace_asks_and_false_always_wins() {
    let other = namespace("shop", &[]);
    let disabled = namespace("shop", &[("ldmesh.io/injection", "disabled")]);
    check_asked(None, &other, Some(Reason::NotAsked));
    check_asked(None, &disabled, Some(Reason::NotAsked));
    check_asked(None, &enabled(), None);
    check_asked(Some("true"), &other, None);
    check_asked(Some("true"), &disabled, None);
    check_asked(Some("false"), &enabled(), Some(Reason::OptedOut));
    check_asked(Some("yes"), &other, Some(Reason::NotAsked));
    let request = Request { namespace: &other, settings: &Settings::default(), asked: true, workload: None };
    let refuses = with("/metadata/labels", json!({"ldmesh.io/inject": "false"}));
    assert_eq!(inject_as(&refuses, &request), Outcome::LeftAlone(Reason::OptedOut));
    assert!(matches!(inject_as(&pod(), &request), Outcome::Injected { .. }));
}

#[test]
fn pods_that_cannot_be_in_the_mesh_are_left_alone_and_the_reason_is_told() {
    for system in ["kube-system", "kube-public", "kube-node-lease", "istio-system"] {
        let namespace = namespace(system, &[("ldmesh.io/injection", "enabled")]);
        check_asked(Some("true"), &namespace, Some(Reason::SystemNamespace(system.into())));
    }
    check_left_alone(&with("/spec/hostNetwork", json!(true)), "it uses its node's network (hostNetwork)");
    check_left_alone(&with("/spec/os", json!({"name": "windows"})), "it is for Windows");
    check_left_alone(&with("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"})), "it is for Windows");
    check_left_alone(
        &with("/spec/initContainers", json!([{"name": "istio-proxy", "restartPolicy": "Always"}])),
        "it has Istio's sidecar (container istio-proxy); ldmesh.io/mixed allows both",
    );
    check_left_alone(
        &with("/metadata/annotations", json!({"ldmesh.io/containers": "other"})),
        "its settings choose none of its containers",
    );
    check_left_alone(&with("/spec/containers/0/env", json!({})), "spec.containers[0].env: is an object; write a list");
}

#[test]
fn a_bad_setting_is_named_with_what_is_allowed_and_counts_as_absent() {
    let annotations = json!({
        "ldmesh.io/mode": "loud",
        "ldmesh.io/colour": "blue",
        "ldmesh.io/leader.app": "agent",
        "ldmesh.io/mode.nobody": "shadow",
        "ldmesh.io/inject": "true",
        "ldmesh.io/exclude": "10.0.0.0/33",
        "other.io/mode": "loud",
    });
    let pod = with("/metadata/annotations", annotations);
    let (done, warnings) = injected(&pod);
    let starts = [
        "annotation ldmesh.io/colour: \"blue\" is not taken; there is no such setting; there are inject, containers,",
        "annotation ldmesh.io/exclude: \"10.0.0.0/33\" is not taken; use a name, *.suffix, CIDR,",
        "annotation ldmesh.io/inject: \"true\" is not taken; ldmesh.io/inject is a label: move it there",
        "annotation ldmesh.io/leader.app: \"agent\" is not taken; leader is for the whole pod: ldmesh.io/leader",
        "annotation ldmesh.io/mode: \"loud\" is not taken; use on, off or shadow",
        "annotation ldmesh.io/mode.nobody: \"shadow\" is not taken; no container is named nobody; there are app",
    ];
    assert_eq!(warnings.len(), starts.len(), "{warnings:#?}");
    for (warning, start) in warnings.iter().zip(starts) {
        assert!(warning.starts_with(start), "{warning}");
    }
    assert_eq!(variable(&done, 0, "LDMESH_MODE"), None);
    check_warnings(
        &with("/metadata/labels", json!({"ldmesh.io/inject": "yes", "ldmesh.io/mode": "shadow"})),
        &[
            "label ldmesh.io/inject: \"yes\" is not taken; use \"true\" or \"false\"",
            "label ldmesh.io/mode: \"shadow\" is not taken; the only label of a pod is ldmesh.io/inject; settings are annotations",
        ],
    );
}

#[test]
fn a_container_wins_over_the_pod_and_the_pod_over_the_operator() {
    let mut settings = Settings::default();
    settings.set("mode", "shadow").unwrap();
    settings.set("log", "info").unwrap();
    settings.set("fail", "closed").unwrap();
    let mut pod = with(
        "/metadata/annotations",
        json!({"ldmesh.io/mode": "off", "ldmesh.io/mode.app": "on",
        "ldmesh.io/log": "warn"}),
    );
    pod["spec"]["containers"] = json!([{"name": "app"}, {"name": "other"}]);
    let Outcome::Injected { pod, warnings } = inject(&pod, &enabled(), &settings) else { panic!() };
    assert_eq!(warnings, []);
    let of = |container, name| variable(&pod, container, name);
    assert_eq!([of(0, "LDMESH_MODE"), of(1, "LDMESH_MODE")], [Some("on"), Some("off")]);
    assert_eq!([of(0, "LDMESH_LOG"), of(0, "LDMESH_FAIL")], [Some("warn"), Some("closed")]);
}

#[test]
fn what_a_container_defines_itself_stays() {
    let own = json!([
        {"name": "LDMESH_MODE", "value": "shadow"},
        {"name": "POD_NAME", "value": "x"},
        {"name": "LD_PRELOAD", "value": "/opt/libldmesh.so"},
    ]);
    let mut pod = with("/spec/containers/0/env", own.clone());
    pod["metadata"]["annotations"] = json!({"ldmesh.io/mode": "on"});
    let (pod, _) = injected(&pod);
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    assert_eq!(env.get(..3).unwrap(), own.as_array().unwrap());
    let names: Vec<&Value> = env.iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names.iter().filter(|name| **name == "LDMESH_MODE").count(), 1);
}

#[test]
fn a_reference_in_a_value_is_not_expanded_by_kubernetes() {
    let pod = with("/metadata/annotations", json!({"ldmesh.io/log-file": "/tmp/$(HOSTNAME).log"}));
    assert_eq!(variable(&injected(&pod).0, 0, "LDMESH_LOG_FILE"), Some("/tmp/$$(HOSTNAME).log"));
}

#[test]
fn injecting_again_is_an_empty_patch_and_a_new_container_is_completed_alone() {
    let (mut once, _) = injected(&pod());
    assert_eq!(patch(&once, &injected(&once).0).0, []);
    once["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late", "image": "late:1"}));
    let (twice, _) = injected(&once);
    let paths: Vec<String> = patch(&once, &twice).iter().map(|operation| operation.path().to_string()).collect();
    assert_eq!(paths, ["/spec/containers/1/env", "/spec/containers/1/volumeMounts"]);
}

#[test]
fn a_setting_that_changed_since_does_not_touch_what_is_there() {
    for (first, second) in [("init", "image-volume"), ("image-volume", "init")] {
        let mut settings = Settings::default();
        settings.set("install", first).unwrap();
        let Outcome::Injected { pod: mut once, .. } = inject(&pod(), &enabled(), &settings) else { panic!() };
        for (name, value) in [("install", second), ("image", "ldmesh:2"), ("run-size", "8Mi"), ("xds", "https://o:1")] {
            settings.set(name, value).unwrap();
        }
        let again = inject(&once, &enabled(), &settings);
        assert_eq!(again, Outcome::Injected { pod: once.clone(), warnings: Vec::new() });
        // A container that comes later gets the library from where the others have it.
        once["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late"}));
        let Outcome::Injected { pod, .. } = inject(&once, &enabled(), &settings) else { panic!() };
        assert_eq!(pod["spec"]["volumes"], once["spec"]["volumes"]);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"], once["spec"]["containers"][0]["volumeMounts"]);
    }
}

#[test]
fn an_init_container_that_installs_elsewhere_does_not_count_as_ours() {
    let pod =
        with("/spec/initContainers", json!([{"name": "ldmesh-install", "command": ["/ldmesh", "install", "/x"]}]));
    let (pod, _) = injected(&pod);
    let init = pod["spec"]["initContainers"].as_array().unwrap();
    let names: Vec<&str> = init.iter().map(|container| container["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ldmesh-install-2", "ldmesh-install"]);
    assert_eq!(injected(&pod).0, pod);
}

#[test]
fn our_own_containers_run_under_restricted_pod_security() {
    let mut settings = Settings::default();
    settings.set("leader", "sidecar").unwrap();
    for user in [json!(null), json!(1000), json!(0)] {
        let pod = with("/spec/securityContext", json!({"runAsUser": user, "fsGroup": 7}));
        let Outcome::Injected { pod, .. } = inject(&pod, &enabled(), &settings) else { panic!() };
        let ours = pod["spec"]["initContainers"].as_array().unwrap();
        assert_eq!(ours.len(), 2);
        for container in ours {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
            assert_eq!(security["seccompProfile"], json!({"type": "RuntimeDefault"}));
            // kubelet refuses runAsNonRoot for a container that would be root; those of a pod that is root are.
            assert_eq!(security["runAsNonRoot"], json!(user != 0), "{container}");
            let is_agent = container["command"][1] == "agent";
            let expected = if is_agent || user == 0 { user.clone() } else { json!(null) };
            assert_eq!(security["runAsUser"], expected, "{container}");
        }
    }
}

#[test]
fn the_agent_is_never_preloaded_and_nobody_before_the_library() {
    let mut settings = Settings::default();
    settings.set("leader", "sidecar").unwrap();
    settings.set("init-containers", "true").unwrap();
    let pod = with("/spec/initContainers", json!([{"name": "migrate"}, {"name": "proxy", "restartPolicy": "Always"}]));
    let Outcome::Injected { pod, .. } = inject(&pod, &enabled(), &settings) else { panic!() };
    let init = pod["spec"]["initContainers"].as_array().unwrap();
    let preloads = |container: &Value| {
        container["env"].as_array().into_iter().flatten().any(|entry| entry["name"] == "LD_PRELOAD")
    };
    let found: Vec<(&str, bool)> = init.iter().map(|c| (c["name"].as_str().unwrap(), preloads(c))).collect();
    assert_eq!(found, [("ldmesh-install", false), ("ldmesh-agent", false), ("migrate", true), ("proxy", true)]);
}

/// Where `app` has the run directory, with a volume of this source mounted at `/run`.
#[track_caller]
fn check_run_directory(source: Value, expected: &str) {
    let mut pod = with("/spec/volumes", json!([source]));
    pod["spec"]["volumes"][0]["name"] = json!("own");
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "own", "mountPath": "/run"}]);
    let (pod, _) = injected(&pod);
    let app = &pod["spec"]["containers"][0];
    let mounts = app["volumeMounts"].as_array().unwrap();
    let run = mounts.iter().find(|mount| mount["name"] == "ldmesh-run").unwrap();
    assert_eq!(run["mountPath"], expected, "{source}");
    let told = app["env"].as_array().unwrap().iter().any(|entry| entry["name"] == "LDMESH_RUN_DIR");
    assert_eq!(told, expected != "/run/ldmesh", "{app}");
}

#[test]
fn nothing_is_mounted_inside_of_what_is_read_only_by_its_source_or_stays_when_the_pod_is_gone() {
    for source in [
        json!({"hostPath": {"path": "/run"}}),
        json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}),
        json!({"persistentVolumeClaim": {"claimName": "c"}}),
        json!({"csi": {"driver": "d", "readOnly": true}}),
        json!({"nfs": {"server": "s", "path": "/", "readOnly": true}}),
        json!({"configMap": {"name": "c"}}),
    ] {
        check_run_directory(source, "/ldmesh-run");
    }
    check_run_directory(json!({"emptyDir": {}}), "/run/ldmesh");
    check_run_directory(json!({"ephemeral": {"volumeClaimTemplate": {}}}), "/run/ldmesh");
}

/// How long the injection of a pod takes that has so many volumes, each with a name that we would take.
fn time_of(volumes: usize) -> Duration {
    let name = |number: usize| if number == 1 { "ldmesh-run".to_owned() } else { format!("ldmesh-run-{number}") };
    let all = (1..=volumes).map(|number| json!({"name": name(number), "configMap": {"name": "c"}}));
    let mut pod = with("/spec/volumes", all.collect());
    let mounts = (1..=volumes).map(|number| json!({"name": name(number), "mountPath": format!("/{number}")}));
    pod["spec"]["containers"][0]["volumeMounts"] = mounts.collect();
    let once = || {
        let start = Instant::now();
        let (done, _) = injected(&pod);
        assert!(done.to_string().contains(&format!("\"{}\"", name(volumes + 1))));
        start.elapsed()
    };
    (0..5).map(|_| once()).min().unwrap()
}

#[test]
fn ten_times_the_volumes_take_no_hundred_times_as_long() {
    let (few, many) = (time_of(500), time_of(5000));
    // In proportion it would be 10, by pairs 100.
    assert!(many < 60 * few, "500 volumes take {few:?}, 5000 {many:?}");
}

#[test]
fn a_value_for_many_containers_does_not_outgrow_the_pod() {
    let pod = |bytes: usize, containers: usize, key: &str| {
        let list = (0..containers).map(|number| json!({"name": format!("c{number}")}));
        let mut pod = with("/spec/containers", list.collect());
        pod["metadata"]["annotations"] = json!({key: format!("/{}", "x".repeat(bytes))});
        pod
    };
    for key in ["ldmesh.io/log-file", "ldmesh.io/preload"] {
        assert!(matches!(inject(&pod(8_000, 100, key), &enabled(), &Settings::default()), Outcome::Injected { .. }));
        let left = inject(&pod(11_000, 100, key), &enabled(), &Settings::default());
        let Outcome::LeftAlone(reason) = left else { panic!("{key}") };
        assert!(reason.to_string().starts_with("metadata.annotations: settings of 11"), "{reason}");
    }
}

#[test]
fn no_pod_is_answered_with_a_reason_whatever_it_is() {
    for nonsense in [json!(null), json!([]), json!(3), json!("pod"), json!({}), json!({"spec": 1, "metadata": 2})] {
        assert!(matches!(inject(&nonsense, &enabled(), &Settings::default()), Outcome::LeftAlone(_)), "{nonsense}");
    }
}
