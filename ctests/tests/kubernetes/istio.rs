//! The template for clusters that have Istio's webhook: rendered by Istio's chart, run by a real istiod.

use std::path::Path;
use std::process::Command;

use ctests::{Finished, Pod, has_helm, helm_without_cluster, wait_until};
use serde_json::{Value, json};

use super::{SOON, create, namespace, pod};

const VALUES: &str = "../istio-template/values.yaml";

/// The folder of Istio's chart `istiod`, as the module of istiod has it.
fn chart() -> String {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("istiod");
    let mut go = Command::new("go");
    let found = Finished::of(go.current_dir(module).args(["list", "-m", "-f", "{{.Dir}}", "istio.io/istio"]));
    format!("{}/manifests/charts/istio-control/istio-discovery", found.success())
}

/// The variables of a container, by name.
fn variables(container: &Value) -> Vec<&str> {
    container["env"].as_array().into_iter().flatten().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn istios_own_webhook_injects_by_the_template() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = inside.kubernetes_with_webhooks();
    namespace(&kubernetes, "default", "");
    kubernetes.namespace("istio-system");
    let only = "templates/istiod-injector-configmap.yaml";
    let flags =
        ["template", "istiod", &chart(), "--namespace", "istio-system", "--values", VALUES, "--show-only", only];
    kubernetes.apply(helm_without_cluster(&flags).success());
    let _istiod = kubernetes.istiod("{}");
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "istio-sidecar-injector"},
        "webhooks": [{
            "name": "object.sidecar-injector.istio.io",
            "clientConfig": {
                "url": "https://istiod.istio-system.svc:15017/inject",
                "caBundle": ctests::base64(kubernetes.istio_root().as_bytes()),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "objectSelector": {"matchLabels": {"sidecar.istio.io/inject": "true"}},
            "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }],
    });
    kubernetes.apply(&configuration.to_string());

    let labels = "sidecar.istio.io/inject: \"true\"";
    let annotations = "inject.istio.io/templates: ldmesh, ldmesh.io/mode: shadow";
    let more = "  - {name: own, image: own, env: [{name: LD_PRELOAD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}\n  \
                initContainers: [{name: first, image: first}]\n";
    let yaml = pod("default", "by-istio", labels, annotations, more);
    let dry_run = || kubernetes.kubectl_with(&["create", "--dry-run=server", "-o", "json"], &yaml);
    let injected = || dry_run().stdout.contains("ldmesh-install");
    wait_until("istiod injects", SOON, || dry_run().to_string(), injected);
    let (created, _) = create(&kubernetes, &yaml);
    let spec = &created["spec"];
    assert_eq!(spec["initContainers"][0]["name"], "ldmesh-install");
    assert_eq!(spec["initContainers"][1]["name"], "first");
    assert_eq!(variables(&spec["initContainers"][1]), Vec::<&str>::new());
    let app = &spec["containers"][0];
    let wanted = [
        "LD_PRELOAD",
        "LDMESH_XDS",
        "LDMESH_MODE",
        "POD_NAME",
        "POD_NAMESPACE",
        "INSTANCE_IP",
        "SERVICE_ACCOUNT",
        "ISTIO_META_WORKLOAD_NAME",
        "ISTIO_META_CLUSTER_ID",
    ];
    assert_eq!(variables(app), wanted, "{created}");
    for (index, value) in
        ["/ldmesh-files/libldmesh.so", "https://istiod.istio-system.svc:15012", "shadow"].iter().enumerate()
    {
        assert_eq!(app["env"][index]["value"], *value);
    }
    // What a container has stays.
    let own = spec["containers"].as_array().unwrap().iter().find(|one| one["name"] == "own").unwrap();
    assert!(own["env"].as_array().unwrap().iter().any(|one| one["name"] == "LD_PRELOAD" && one.get("value").is_none()));
    assert!(!spec.to_string().contains("istio-proxy"), "{created}");
}
