//! Who is injected, and who is not.

use std::path::Path;

use ctests::{Finished, Pod, has_helm};
use serde_json::{Value, json};

use super::{LABELLED, NAMESPACE, create, injected, installed, namespace, object, pod, pod_of, variable};

const OPTED_OUT: &str = "ldmesh.io/inject: \"false\"";

#[test]
fn every_way_to_ask_and_to_forbid_is_heard() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, _replicas) = installed(&inside, &["--set", "excludedNamespaces={excluded}"]);
    namespace(&kubernetes, "enabled", "ldmesh.io/injection: enabled");
    namespace(&kubernetes, "disabled", "ldmesh.io/injection: disabled");
    namespace(&kubernetes, "excluded", "ldmesh.io/injection: enabled");
    for system in ["kube-system", "kube-public", "kube-node-lease", "istio-system"] {
        namespace(&kubernetes, system, "ldmesh.io/injection: enabled");
    }

    let proxy = "  - {name: istio-proxy, image: proxy}\n";
    let windows = "  os: {name: windows}\n";
    let host_network = "  hostNetwork: true\n";
    // Name, namespace, labels, more of the spec; whether it is injected, and what the warning has.
    let cases: &[(&str, &str, &str, &str, bool, &str)] = &[
        ("namespace-asks", "enabled", "", "", true, ""),
        ("both-ask", "enabled", LABELLED, "", true, ""),
        ("pod-asks", "default", LABELLED, "", true, ""),
        ("nobody-asks", "default", "", "", false, ""),
        ("other-word", "default", "ldmesh.io/inject: \"yes\"", "", false, ""),
        ("pod-forbids", "enabled", OPTED_OUT, "", false, ""),
        ("pod-forbids-alone", "default", OPTED_OUT, "", false, ""),
        ("namespace-forbids", "disabled", "", "", false, ""),
        ("namespace-wins", "disabled", LABELLED, "", false, ""),
        ("excluded", "excluded", LABELLED, "", false, ""),
        ("system", "kube-system", LABELLED, "", false, ""),
        ("public", "kube-public", LABELLED, "", false, ""),
        ("node-lease", "kube-node-lease", LABELLED, "", false, ""),
        ("istio", "istio-system", LABELLED, "", false, ""),
        ("host-network", "enabled", "", host_network, false, "it uses its node's network (hostNetwork)"),
        ("windows", "enabled", "", windows, false, "it is for Windows"),
        ("sidecar", "enabled", "", proxy, false, "it has Istio's sidecar (container istio-proxy)"),
        ("sidecar-asked", "enabled", "sidecar.istio.io/inject: \"true\"", "", false, "it asks for Istio's sidecar"),
    ];
    for (name, namespace, labels, spec, wanted, warning) in cases {
        let (created, warnings) = create(&kubernetes, &pod(namespace, name, labels, "", spec));
        assert_eq!(injected(&created), *wanted, "{name}: {created}");
        match *warning {
            "" => assert_eq!(warnings, "", "{name}"),
            text => assert!(warnings.starts_with("Warning: ") && warnings.contains(text), "{name}: {warnings}"),
        }
    }
    let own = pod(NAMESPACE, "own", LABELLED, "", "").replace("{name: app, image: app}", RESTRICTED);
    assert!(!injected(&create(&kubernetes, &own).0), "the webhook's own namespace");
}

/// The container of a pod that runs where only restricted ones may.
const RESTRICTED: &str = "{name: app, image: app, securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: true, \
                          capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}}";

#[test]
fn what_annotations_say_of_a_sidecar_and_of_a_static_pod_is_heard() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, _replicas) = installed(&inside, &[]);
    namespace(&kubernetes, "enabled", "ldmesh.io/injection: enabled");

    let mixed = "ldmesh.io/mixed: \"true\"";
    let asked = "sidecar.istio.io/inject: \"true\"";
    let proxy = "  - {name: istio-proxy, image: proxy}\n";
    for (name, labels, spec) in [("sidecar", "", proxy), ("sidecar-asked", asked, "")] {
        let (created, warnings) = create(&kubernetes, &pod("enabled", name, labels, mixed, spec));
        assert!(warnings.contains("so that ldmesh leads none"), "{name}: {warnings}");
        assert!(injected(&created), "{name}: {created}");
        // Istio's webhook is to find the pod as it was.
        let label = created["metadata"]["labels"]["sidecar.istio.io/inject"].as_str();
        assert_eq!(label, (labels == asked).then_some("true"), "{name}: {created}");
        let proxy = created["spec"]["containers"].get(1).unwrap_or(&Value::Null);
        assert_eq!(proxy["env"], Value::Null, "{name}: Istio's own container is left alone");
    }
    let not_mixed = pod("enabled", "not-mixed", "", "ldmesh.io/mixed: \"false\"", proxy);
    let (created, warnings) = create(&kubernetes, &not_mixed);
    assert!(!injected(&created) && warnings.contains("ldmesh.io/mixed allows both"), "{warnings}: {created}");

    // As kubelet creates it: the pod runs already, from a file of its node.
    let mirror = "kubernetes.io/config.mirror: 4f9c7ab2, kubernetes.io/config.source: file";
    for (name, namespace, labels) in [("mirror", "enabled", ""), ("mirror-asks", "default", LABELLED)] {
        let (created, warnings) = create(&kubernetes, &pod(namespace, name, labels, mirror, "  nodeName: node\n"));
        assert!(!injected(&created), "{name}: {created}");
        assert!(warnings.contains("the pod is not in the mesh: it mirrors a static pod"), "{name}: {warnings}");
    }
}

#[test]
fn annotations_hold_and_a_bad_one_is_a_warning() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, _replicas) =
        installed(&inside, &["--set", "settings.log=info", "--set", "image.repository=registry.example/ldmesh"]);

    let yaml = pod("default", "shadow", LABELLED, "ldmesh.io/mode: shadow, ldmesh.io/exclude: \":5432\"", "");
    let (created, warnings) = create(&kubernetes, &yaml);
    assert_eq!(warnings, "");
    for (name, value) in [("LDMESH_MODE", "shadow"), ("LDMESH_EXCLUDE", ":5432"), ("LDMESH_LOG", "info")] {
        assert_eq!(variable(&created, name), Some(value), "{created}");
    }
    assert_eq!(created["spec"]["initContainers"][0]["image"], "registry.example/ldmesh:0.1.0");

    let (created, warnings) = create(&kubernetes, &pod("default", "loud", LABELLED, "ldmesh.io/mode: loud", ""));
    assert!(injected(&created), "{created}");
    assert_eq!(variable(&created, "LDMESH_MODE"), None);
    assert!(warnings.contains("ldmesh.io/mode"), "{warnings}");
    assert!(warnings.contains("use on, off or shadow"), "{warnings}");
}

#[test]
fn a_deployment_stays_as_it_is_and_its_pods_are_injected() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, _replicas) = installed(&inside, &[]);
    namespace(&kubernetes, "enabled", "ldmesh.io/injection: enabled");

    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "namespace": "enabled"},
        "spec": {"selector": {"matchLabels": {"app": "shop"}}, "template": {
            "metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "app", "image": "app"}]},
        }},
    });
    let (created, warnings) = create(&kubernetes, &deployment.to_string());
    assert_eq!(warnings, "");
    assert!(!injected(&created["spec"]["template"]), "{created}");
    let created = pod_of(&kubernetes, "enabled", "shop");
    assert!(injected(&created), "{created}");
    assert_eq!(variable(&created, "ISTIO_META_WORKLOAD_NAME"), Some("shop"), "{created}");
}

/// The pods of `k8s/injector`'s golden files that are alone in theirs.
fn golden_pods() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/injector/tests/golden");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".injected.yaml") else { continue };
        let before = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let is_pod = before.lines().any(|line| line.trim_end() == "kind: Pod") && !before.contains("\n---");
        // Other namespaces are not here.
        if is_pod && !before.contains("namespace:") {
            found.push((name.to_owned(), before));
        }
    }
    found.sort();
    found
}

#[test]
fn the_webhook_makes_of_a_pod_what_ldmesh_inject_makes_of_it() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, _replicas) = installed(&inside, &[]);
    namespace(&kubernetes, "enabled", "ldmesh.io/injection: enabled");
    namespace(&kubernetes, "disabled", "ldmesh.io/injection: disabled");
    let golden = golden_pods();
    assert!(golden.len() >= 10, "{} pods", golden.len());
    let (mut compared, mut refused) = (0, Vec::new());
    let file = inside.folder().join("before.yaml");
    for (name, before) in golden {
        std::fs::write(&file, &before).unwrap();
        let mut inject =
            inside.ldmesh(&["inject", "--image", "ldmesh:0.1.0", "--image-pull-policy", "IfNotPresent", "-f"]);
        let after = Finished::of(inject.arg(&file));
        after.success();
        let create = |namespace: &str, yaml: &str| {
            let flags = ["create", "--dry-run=server", "-o", "json", "--namespace", namespace];
            let done = kubernetes.kubectl_with(&flags, yaml);
            if done.status.success() { Ok(object(&done)) } else { Err(done.stderr) }
        };
        let by_webhook = create("enabled", &before);
        let by_file = create("disabled", &after.stdout);
        match (by_webhook, by_file) {
            (Ok(by_webhook), Ok(by_file)) => {
                assert_eq!(comparable(&by_webhook), comparable(&by_file), "{name}");
                compared += 1;
            }
            (Err(by_webhook), Err(by_file)) => {
                assert_eq!(by_webhook, by_file, "{name}");
                // Ephemeral containers come later; the API server takes no new pod with one.
                let why = "spec.ephemeralContainers: Forbidden: cannot be set on create";
                assert!(by_file.contains(why), "{name}: {by_file}");
                refused.push(name);
            }
            (by_webhook, by_file) => panic!("{name} is refused on one side: {by_webhook:?} {by_file:?}"),
        }
    }
    assert!(compared >= 10, "{compared} pods compared");
    assert_eq!(refused, ["ephemeral"]);
}

/// Of a pod as the API server has it, what does not differ from one to the next.
fn comparable(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    forget_account(&mut spec);
    json!({"spec": spec, "labels": pod["metadata"]["labels"]})
}

/// Takes away the volume of the service account and its mounts, whose name is random.
fn forget_account(value: &mut Value) {
    let is_account = |one: &Value| one["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-"));
    match value {
        Value::Array(list) => {
            list.retain(|one| !is_account(one));
            list.iter_mut().for_each(forget_account);
        }
        Value::Object(object) => object.values_mut().for_each(forget_account),
        _ => {}
    }
}
