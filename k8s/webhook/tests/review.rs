//! Reviews and their answers: who is injected, who is left alone, what is no review.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use injector::Settings;
use proptest::prelude::*;
use serde_json::{Value, json};
use webhook::{Answer, Verdict, answer};

fn pod(labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-", "labels": labels},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    })
}

fn review(object: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop", "operation": "CREATE", "userInfo": {"username": "admin"},
            "object": object, "oldObject": null, "dryRun": false, "options": {"kind": "CreateOptions"},
        },
    })
}

#[track_caller]
fn ask(review: &Value, enabled: bool) -> (Answer, Value) {
    let answer = answer(review.to_string().as_bytes(), enabled, &Settings::default()).unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(body["kind"], "AdmissionReview");
    assert_eq!(body["response"]["uid"], review["request"]["uid"]);
    assert_eq!(body["response"]["allowed"], true);
    (answer, body["response"].clone())
}

/// The pod as the API server has it after the answer.
fn patched(object: &Value, response: &Value) -> Value {
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut object = object.clone();
    json_patch::patch(&mut object, &patch).unwrap();
    object
}

#[track_caller]
fn check_left_alone(review: &Value, enabled: bool, why: &'static str, warnings: Value) {
    let (answer, response) = ask(review, enabled);
    assert_eq!(answer.verdict, Verdict::LeftAlone(why));
    let mut expected = json!({"uid": review["request"]["uid"], "allowed": true});
    if warnings != json!([]) {
        expected["warnings"] = warnings;
    }
    assert_eq!(response, expected);
}

#[test]
fn who_asks_is_injected_by_a_patch() {
    for (labels, enabled) in [(json!({}), true), (json!({"ldmesh.io/inject": "true"}), false)] {
        let review = review(pod(labels));
        let (answer, response) = ask(&review, enabled);
        assert_eq!(answer.verdict, Verdict::Injected);
        assert_eq!(answer.text, "shop/web- is put into the mesh");
        let pod = patched(&review["request"]["object"], &response);
        let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        assert!(env.iter().any(|variable| variable["name"] == "LD_PRELOAD"), "{pod:#}");
        assert_eq!(response.get("warnings"), None);
    }
}

#[test]
fn who_did_not_ask_or_says_no_is_left_alone_in_silence() {
    check_left_alone(&review(pod(json!({}))), false, "not_asked", json!([]));
    for enabled in [true, false] {
        check_left_alone(&review(pod(json!({"ldmesh.io/inject": "false"}))), enabled, "opted_out", json!([]));
    }
}

#[test]
fn who_cannot_be_in_the_mesh_is_told_why() {
    let with = |pointer: &str, value: Value| {
        let mut review = review(pod(json!({})));
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        review.pointer_mut(parent).unwrap()[key] = value;
        review
    };
    let told = |why: &str| json!([format!("ldmesh: the pod is not in the mesh: {why}")]);
    let host = with("/request/object/spec/hostNetwork", json!(true));
    check_left_alone(&host, true, "host_network", told("it uses its node's network (hostNetwork)"));
    let windows = with("/request/object/spec/os", json!({"name": "windows"}));
    check_left_alone(&windows, true, "windows", told("it is for Windows"));
    let system = with("/request/namespace", json!("kube-system"));
    check_left_alone(&system, true, "system_namespace", told("namespace kube-system is the system's"));
    let mirror = with("/request/object/metadata/annotations", json!({"kubernetes.io/config.mirror": "x"}));
    check_left_alone(&mirror, true, "mirror", told("it mirrors a static pod"));
    let nobody = with("/request/object/metadata/annotations", json!({"ldmesh.io/containers": "other"}));
    check_left_alone(&nobody, true, "no_container", told("its settings choose none of its containers"));
    let sidecar = with("/request/object/spec/containers", json!([{"name": "istio-proxy"}, {"name": "app"}]));
    let why = "it has Istio's sidecar (container istio-proxy); ldmesh.io/mixed allows both";
    check_left_alone(&sidecar, true, "sidecar", told(why));
    let broken = with("/request/object/spec/containers", json!({}));
    check_left_alone(&broken, true, "malformed_pod", told("spec.containers: is an object; write a list"));
    let none = with("/request/object", json!(null));
    check_left_alone(&none, true, "malformed_pod", told("pod: is not an object; give it metadata and spec"));
}

#[test]
fn warnings_of_an_injection_reach_the_person() {
    let mut pod = pod(json!({}));
    pod["metadata"]["annotations"] = json!({"ldmesh.io/mode": "loud\n"});
    let (answer, response) = ask(&review(pod), true);
    assert_eq!(answer.verdict, Verdict::Injected);
    let told = json!(["ldmesh: annotation ldmesh.io/mode: \"loud\\n\" is not taken; use on, off or shadow"]);
    assert_eq!(response["warnings"], told);
    assert!(!answer.text.contains('\n'), "{}", answer.text);
}

#[test]
fn only_the_creation_of_a_pod_is_changed() {
    let no_creation =
        "ldmesh: pods are injected when they are created; let the webhook's rules name CREATE of pods only";
    for operation in ["UPDATE", "DELETE", "CONNECT"] {
        let mut review = review(pod(json!({})));
        review["request"]["operation"] = operation.into();
        if operation != "UPDATE" {
            review["request"]["object"] = Value::Null;
        }
        check_left_alone(&review, true, "no_creation", json!([no_creation]));
    }
    let mut binding = review(pod(json!({})));
    binding["request"]["subResource"] = "binding".into();
    check_left_alone(&binding, true, "no_creation", json!([no_creation]));
    let mut deployment = review(json!({}));
    deployment["request"]["kind"] = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let why = "ldmesh: \"Deployment\" of group \"apps\" is no pod; let the webhook's rules name pods only";
    check_left_alone(&deployment, true, "no_pod", json!([why]));
}

#[test]
fn a_reinvocation_changes_nothing_and_completes_a_container_that_came_since() {
    let first = review(pod(json!({})));
    let mut injected = patched(&first["request"]["object"], &ask(&first, true).1);
    let (again, response) = ask(&review(injected.clone()), true);
    assert_eq!(again.verdict, Verdict::Unchanged);
    assert_eq!(response, json!({"uid": first["request"]["uid"], "allowed": true}));
    injected["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late", "image": "late:1"}));
    let (late, response) = ask(&review(injected.clone()), true);
    assert_eq!(late.verdict, Verdict::Injected);
    let env = |pod: &Value, index: usize| pod["spec"]["containers"][index]["env"].clone();
    let done = patched(&injected, &response);
    assert_eq!(env(&done, 1), env(&injected, 0));
}

#[test]
fn a_dry_run_is_answered_like_any_other_and_told_apart_in_the_log() {
    let mut dry = review(pod(json!({})));
    let expected = ask(&dry, true).1;
    dry["request"]["dryRun"] = true.into();
    let (answer, response) = ask(&dry, true);
    assert_eq!(response, expected);
    assert_eq!(answer.text, "shop/web- is put into the mesh (dry run)");
}

#[test]
fn what_a_later_kubernetes_adds_is_passed_over() {
    let mut review = review(pod(json!({})));
    review["later"] = json!({"x": [1]});
    review["request"]["later"] = json!([null]);
    review["request"]["object"]["spec"]["later"] = json!({"y": 1});
    let response = ask(&review, true).1;
    assert_eq!(patched(&review["request"]["object"], &response)["spec"]["later"], json!({"y": 1}));
}

#[track_caller]
fn check_malformed(body: &[u8], start: &str) {
    let malformed = answer(body, true, &Settings::default()).unwrap_err().to_string();
    assert!(malformed.starts_with(start), "{malformed}");
    assert!(!malformed.contains('\n'), "{malformed}");
}

#[test]
fn what_is_no_review_is_refused_with_the_place_and_the_remedy() {
    check_malformed(
        b"",
        "EOF while parsing a value at line 1 column 0; send an AdmissionReview of admission.k8s.io/v1",
    );
    check_malformed(b"\xff\xfe", "expected value at line 1 column 1");
    check_malformed(b"[]", "invalid length 0");
    check_malformed(b"{}", "missing field `apiVersion`");
    let mut deep = br#"{"apiVersion":"#.to_vec();
    deep.extend([b'['; 100_000]);
    check_malformed(&deep, "apiVersion: ");
    let with = |pointer: &str, value: Value| {
        let mut review = review(pod(json!({})));
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        review.pointer_mut(parent).unwrap()[key] = value;
        review.to_string().into_bytes()
    };
    let beta =
        "is \"AdmissionReview\" of \"admission.k8s.io/v1beta1\"; let admissionReviewVersions of the webhook be [v1]";
    check_malformed(&with("/apiVersion", json!("admission.k8s.io/v1beta1")), beta);
    check_malformed(&with("/kind", json!("Pod")), "is \"Pod\" of \"admission.k8s.io/v1\"; ");
    check_malformed(&with("/request", json!(null)), "request: invalid type: null");
    check_malformed(&with("/request/uid", json!("")), "request.uid: is empty; ");
    check_malformed(&with("/request/uid", json!(5)), "request.uid: invalid type: integer `5`, expected a string");
    check_malformed(&with("/request/operation", json!("create")), "request.operation: unknown variant `create`");
    check_malformed(&with("/request/kind", json!({"kind": "Pod"})), "request.kind: missing field `version`");
    check_malformed(&with("/request/dryRun", json!("no")), "request.dryRun: invalid type");
    let mut two = review(pod(json!({}))).to_string();
    two.push_str("{}");
    check_malformed(two.as_bytes(), "trailing characters");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A review with bytes changed, cut or put in: answered or refused, never a panic.
    #[test]
    fn a_damaged_review_is_answered_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..8)
    ) {
        let mut bytes = review(pod(json!({"ldmesh.io/inject": "true"}))).to_string().into_bytes();
        for (index, byte, kind) in edits {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, byte),
            }
        }
        check_answer_or_line(&bytes);
    }

    #[test]
    fn any_bytes_are_answered_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        check_answer_or_line(&bytes);
    }

    /// Whatever stands where the pod should: it is allowed.
    #[test]
    fn any_object_is_allowed(object in any_json()) {
        let (answer, _) = ask(&review(object), true);
        prop_assert_ne!(answer.verdict, Verdict::Failed);
    }
}

fn check_answer_or_line(bytes: &[u8]) {
    match answer(bytes, true, &Settings::default()) {
        Ok(answer) => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["response"]["allowed"], true);
            assert_ne!(answer.verdict, Verdict::Failed);
        }
        Err(malformed) => assert!(!malformed.to_string().is_empty()),
    }
}

/// JSON with the keys of a pod, in places where they belong or not.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "metadata",
        "labels",
        "annotations",
        "spec",
        "containers",
        "initContainers",
        "volumes",
        "env",
        "name",
        "value",
        "volumeMounts",
        "mountPath",
        "securityContext",
        "ldmesh.io/inject",
        "LD_PRELOAD",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/]{0,6}".prop_map(Value::from),
        key.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
