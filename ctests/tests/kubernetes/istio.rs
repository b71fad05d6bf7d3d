//! The template for clusters that have Istio's webhook: rendered by Istio's chart, run by a real istiod.

use std::path::Path;
use std::process::Command;

use ctests::{Finished, Istiod, Kubernetes, Pod, has_helm, helm_without_cluster, wait_until};
use serde_json::{Value, json};

use super::{SOON, cluster, create, injected, install, namespace, pod, run};

const EVICTABLE: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
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

/// Starts istiod with its injection: its chart's templates and ours, asked for by a label of the namespace or of the pod.
fn istiod_that_injects<'pod>(kubernetes: &Kubernetes<'pod>) -> Istiod<'pod> {
    kubernetes.namespace("istio-system");
    let chart = chart();
    let rendered = |template: &str| {
        let flags =
            ["template", "istiod", &chart, "--namespace", "istio-system", "--values", VALUES, "--show-only", template];
        helm_without_cluster(&flags).success().to_owned()
    };
    kubernetes.apply(&rendered("templates/istiod-injector-configmap.yaml"));
    let istiod = kubernetes.istiod("{}");
    let bundle = ctests::base64(kubernetes.istio_root().as_bytes());
    let mut configuration: Value = serde_norway::from_str(&rendered("templates/mutatingwebhook.yaml")).unwrap();
    let webhooks = configuration["webhooks"].as_array_mut().unwrap();
    assert_eq!(webhooks.len(), 4, "{webhooks:#?}");
    for webhook in webhooks {
        // There is no Service: istiod runs beside the API server.
        assert!(webhook["clientConfig"]["service"].is_object(), "{webhook}");
        webhook["clientConfig"] = json!({"url": "https://istiod.istio-system.svc:15017/inject", "caBundle": bundle});
    }
    kubernetes.apply(&configuration.to_string());
    istiod
}

#[test]
fn where_both_webhooks_are_asked_istios_comes_first_and_the_pod_keeps_its_sidecar() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = cluster(&inside);
    let _istiod = istiod_that_injects(&kubernetes);
    install(&kubernetes, &[]);
    let _replicas = run(&kubernetes);
    namespace(&kubernetes, "both", "ldmesh.io/injection: enabled, istio-injection: enabled");

    let has_sidecar = |pod: &Value| pod["spec"].to_string().contains("\"istio-proxy\"");
    let (created, warnings) = create(&kubernetes, &pod("both", "nothing-said", "", "", ""));
    assert!(has_sidecar(&created) && !created.to_string().contains("ldmesh-install"), "{created}");
    assert!(warnings.contains("it has Istio's sidecar (container istio-proxy)"), "{warnings}");
    let (created, _) = create(&kubernetes, &pod("both", "no-sidecar", "sidecar.istio.io/inject: \"false\"", "", ""));
    assert!(injected(&created) && !has_sidecar(&created), "{created}");
}

#[test]
fn istios_own_webhook_injects_by_the_template() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = inside.kubernetes_with_webhooks();
    namespace(&kubernetes, "default", "");
    let _istiod = istiod_that_injects(&kubernetes);

    let labels = "sidecar.istio.io/inject: \"true\"";
    let annotations = "inject.istio.io/templates: ldmesh, ldmesh.io/mode: shadow";
    let more = "  - {name: own, image: own, env: [{name: LD_PRELOAD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}\n  \
                initContainers: [{name: first, image: first}]\n";
    let yaml = pod("default", "by-istio", labels, annotations, more);
    let dry_run = || kubernetes.kubectl_with(&["create", "--dry-run=server", "-o", "json"], &yaml);
    let installs = || dry_run().stdout.contains("ldmesh-install");
    wait_until("istiod injects", SOON, || dry_run().to_string(), installs);
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
    // Nobody asks for anything.
    assert_eq!(spec["initContainers"][0]["resources"], json!({}), "{created}");
    assert_eq!(spec["initContainers"][0]["securityContext"].get("runAsUser"), None, "{created}");
    assert_eq!(created["metadata"]["annotations"][EVICTABLE], "ldmesh-files", "{created}");
    // What a container has stays.
    let own = spec["containers"].as_array().unwrap().iter().find(|one| one["name"] == "own").unwrap();
    assert!(own["env"].as_array().unwrap().iter().any(|one| one["name"] == "LD_PRELOAD" && one.get("value").is_none()));
    assert!(!spec.to_string().contains("istio-proxy"), "{created}");

    // Pods of several users, whose containers all ask for CPU.
    let users = |name: &str, of_pod: Value, of_app: Value, of_web: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"sidecar.istio.io/inject": "true"},
                "annotations": {"inject.istio.io/templates": "ldmesh", EVICTABLE: "cache"}},
            "spec": {"securityContext": of_pod, "containers": [
                {"name": "app", "image": "app", "securityContext": of_app,
                 "resources": {"requests": {"cpu": "70m", "memory": "9Mi"}, "limits": {"cpu": "1"}}},
                {"name": "web", "image": "app", "securityContext": of_web,
                 "resources": {"requests": {"cpu": "20m"}, "limits": {"cpu": "1"}}},
            ]},
        })
        .to_string()
    };
    let user = |user: u32| json!({"runAsUser": user});
    for (name, of_pod, of_app, of_web, expected) in [
        ("root", user(0), json!({}), json!({}), json!(0)),
        ("some-root", user(0), user(1000), json!({}), json!(65532)),
        ("user", json!({"runAsUser": 1000, "fsGroup": 0}), json!({}), json!({}), json!(1000)),
        ("containers", user(0), user(1000), user(1000), json!(1000)),
        ("one", json!({}), user(1000), json!({}), json!(null)),
    ] {
        let (created, _) = create(&kubernetes, &users(name, of_pod, of_app, of_web));
        let install = &created["spec"]["initContainers"][0];
        assert_eq!(install["name"], "ldmesh-install", "{created}");
        assert_eq!(install["securityContext"]["runAsUser"], expected, "{created}");
        assert_eq!(install["securityContext"]["runAsNonRoot"], json!(expected != json!(0)), "{created}");
        assert_eq!(created["metadata"]["annotations"][EVICTABLE], "cache,ldmesh-files", "{created}");
        assert_eq!(install["resources"], json!({"requests": {"cpu": "70m"}, "limits": {"cpu": "1"}}), "{created}");
    }
}
