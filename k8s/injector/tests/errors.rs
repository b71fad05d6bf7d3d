//! What is said of a text that cannot be injected: one line with document, field and remedy.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use injector::stream::{Note, inject_stream};
use injector::{BadValue, SETTINGS, Scope, Settings, parse_settings};

#[track_caller]
fn check_error(text: &str, expected: &str) {
    let error = inject_stream(text, "default", &Settings::default()).unwrap_err().to_string();
    assert_eq!(error, expected);
    assert!(!error.contains('\n'));
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n";

#[test]
fn a_field_is_named_from_its_document_on() {
    let deployment = format!("{SERVICE}apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\n");
    check_error(&deployment, "document 2: spec.template: is missing; a Deployment needs a pod template");
    check_error(
        &format!(
            "{deployment}spec:\n  template:\n    spec:\n      containers:\n      - name: a\n        env: [{{name: A, value: yes}}]\n"
        ),
        "document 2: spec.template.spec.containers[0].env[0].value: is a boolean; put text there, in quotes",
    );
    check_error(
        "apiVersion: batch/v1\nkind: CronJob\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{}]}}}}}\n",
        "document 1: spec.jobTemplate.spec.template.spec.containers[0].name: is missing; it is required",
    );
    check_error("apiVersion: v1\nkind: Pod\n", "document 1: spec: is missing; a pod needs containers");
    check_error(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec: {containers: {}}\n",
        "document 1: items[0].spec.containers: is an object; write a list",
    );
}

#[test]
fn a_bad_annotation_is_an_error_with_what_is_allowed() {
    check_error(
        "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {ldmesh.io/mode: loud}}\nspec: {containers: [{name: a}]}\n",
        "document 1: metadata.annotations[ldmesh.io/mode]: \"loud\" is not taken; use on, off or shadow",
    );
    check_error(
        "apiVersion: v1\nkind: Pod\nmetadata: {labels: {ldmesh.io/inject: \"1\"}}\nspec: {containers: [{name: a}]}\n",
        "document 1: metadata.labels[ldmesh.io/inject]: \"1\" is not taken; use \"true\" or \"false\"",
    );
}

#[test]
fn what_stands_at_the_workload_instead_of_its_pods_is_told_where_it_belongs() {
    let workload = |own: &str, pods: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a, annotations: {{{own}}}}}\nspec:\n  \
             template: {{metadata: {{annotations: {{{pods}}}}}, spec: {{containers: [{{name: a}}]}}}}\n"
        )
    };
    check_error(
        &workload("ldmesh.io/mode: shadow", ""),
        "document 1: metadata.annotations[ldmesh.io/mode]: has no effect here; move it to spec.template.metadata.annotations",
    );
    let both = workload("ldmesh.io/mode: shadow", "ldmesh.io/mode: shadow");
    assert!(inject_stream(&both, "default", &Settings::default()).is_ok());
}

#[test]
fn broken_yaml_is_told_with_its_document_and_line() {
    let error = inject_stream(&format!("{SERVICE}a: [1\nb: 2\n"), "default", &Settings::default()).unwrap_err();
    assert_eq!(error.document, 2);
    assert!(error.message.starts_with("line ") && error.message.ends_with("; correct the YAML"), "{error}");
    check_error(
        "apiVersion: v1\nkind: Pod\nspec:\n  containers: [{name: a}]\n  containers: [{name: b}]\n",
        "document 1: line 5: the key containers stands twice in one mapping; remove one",
    );
    // What is none of ours may be as it likes.
    let other = "kind: Other\na: 1\na: 2\n";
    assert_eq!(inject_stream(other, "default", &Settings::default()).unwrap().text, other);
}

#[test]
fn aliases_of_aliases_do_not_grow_without_end() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = level - 1;
        let list = vec![format!("*a{before}"); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    let error = inject_stream(&text, "default", &Settings::default()).unwrap_err();
    assert!(error.message.contains("aliases make it too large"), "{error}");
    let deep = "[".repeat(100_000);
    assert!(inject_stream(&deep, "default", &Settings::default()).is_err());
}

#[test]
fn an_anchor_that_cannot_be_kept_is_written_anew_and_told() {
    // The second container is the first: an edit of the anchor would be right, one of the alias is not needed.
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {ldmesh.io/inject.b: \"false\"}}\nspec:\n  \
                containers:\n  - name: a\n    env: &env\n    - {name: A, value: b} # lost\n  - name: b\n    env: *env\n";
    let done = inject_stream(text, "default", &Settings::default()).unwrap();
    assert_eq!(
        done.notes,
        [Note {
            document: 1,
            text: "it is written anew, without its comments: its layout (anchors, perhaps) allows no edit".into()
        }]
    );
    let again = inject_stream(&done.text, "default", &Settings::default()).unwrap();
    assert_eq!((again.text, again.notes), (done.text, Vec::new()));
}

#[test]
fn every_setting_is_known_to_files_and_flags() {
    for setting in SETTINGS {
        let refused = Settings::default().set(setting.name, " ").unwrap_err();
        assert!(!refused.0.contains("no such setting"), "{}: {refused}", setting.name);
        assert_eq!(refused.0.contains("is for one container"), setting.scope == Scope::Container, "{refused}");
    }
}

#[test]
fn a_settings_file_is_a_mapping_of_known_names() {
    let mut settings = Settings::default();
    assert_eq!(parse_settings("# nothing\n", &mut settings), Ok(()));
    assert_eq!(parse_settings("mode: shadow\ninit-containers: true\nrun-size: 16Mi\n", &mut settings), Ok(()));
    assert_eq!(parse_settings("mode: off\nlog: off\nmixed: yes\n", &mut settings), Ok(()));
    let wrong = |text: &str| {
        let BadValue(why) = parse_settings(text, &mut Settings::default()).unwrap_err();
        why
    };
    assert_eq!(wrong("[]"), "is no mapping; write NAME: VALUE");
    assert_eq!(wrong("mode: [on]"), "mode: write one value");
    assert_eq!(
        wrong("image-pull-secrets: a,,b"),
        "image-pull-secrets: \"a,,b\": use at most 32 names of Secrets, separated by commas"
    );
    assert!(wrong(&format!("image-pull-secrets: {}", vec!["a"; 33].join(","))).ends_with("separated by commas"));
    assert_eq!(wrong("leader: nobody"), "leader: \"nobody\": use auto, agent, thread or sidecar");
    assert!(wrong("colour: blue").starts_with("colour: \"blue\": there is no such setting"));
}
