//! `ldmesh webhook --self-signed` with a real API server: it makes its certificate, is trusted, and puts pods into the
//! mesh, with no more rights than it needs. Pods are objects only.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use ctests::{Finished, Kubernetes, Pod, has_istio, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The Service's address. Nothing here leads a connection to an endpoint, so the webhook has the address itself.
const SERVICE: &str = "10.96.0.50";
const DEADLINE: Duration = Duration::from_secs(90);
const API: &str = "https://kubernetes.default.svc.cluster.local";

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: mesh}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {ldmesh.io/injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: webhook, namespace: mesh}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: other}
---
apiVersion: v1
kind: Service
metadata: {name: ldmesh-webhook, namespace: mesh}
spec: {clusterIP: 10.96.0.50, ports: [{port: 443}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: webhook, namespace: mesh}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [ldmesh-webhook-certificates], verbs: [get, update]}
- {apiGroups: [""], resources: [secrets], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: webhook, namespace: mesh}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: webhook}
subjects: [{kind: ServiceAccount, name: webhook, namespace: mesh}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: webhook}
rules:
- apiGroups: [admissionregistration.k8s.io]
  resources: [mutatingwebhookconfigurations]
  resourceNames: [ldmesh]
  verbs: [get, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: webhook}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: webhook}
subjects: [{kind: ServiceAccount, name: webhook, namespace: mesh}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: ldmesh}
webhooks:
- name: namespace.ldmesh.io
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  clientConfig: {service: {name: ldmesh-webhook, namespace: mesh, path: /inject/namespace-enabled}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  namespaceSelector: {matchLabels: {ldmesh.io/injection: enabled}}
- name: pod.ldmesh.io
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  clientConfig: {service: {name: ldmesh-webhook, namespace: mesh, path: /inject}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  namespaceSelector: {matchExpressions: [{key: ldmesh.io/injection, operator: DoesNotExist}]}
  objectSelector: {matchLabels: {ldmesh.io/inject: "true"}}
"#;

#[test]
fn a_real_api_server_trusts_the_webhooks_own_certificate_and_injects() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let kubernetes = pod.kubernetes_with_accounts();
    kubernetes.apply(OBJECTS);
    Finished::of(pod.command("ip").args(["address", "add", &format!("{SERVICE}/32"), "dev", "lo"])).success();
    let webhook = pod.server(&mut webhook(&pod, &kubernetes), &format!("{SERVICE}:443"));
    kubernetes.wait_for(&["mutatingwebhookconfiguration", "ldmesh"], |found| {
        let trusted = |webhook: &Value| webhook["clientConfig"]["caBundle"].is_string();
        found["webhooks"].as_array()?.iter().all(trusted).then_some(())
    });

    // The webhook must be called (failurePolicy Fail), and it is once the API server has seen the patch.
    let first = pod_of("shop", "first", &json!({}));
    let refusals = || kubernetes.refusals(&first);
    wait_until("the API server trusts it", DEADLINE, || refusals().join("\n"), || refusals().is_empty());
    let made = [("shop", "plain", json!({}), true), ("shop", "refuses", json!({"ldmesh.io/inject": "false"}), false)];
    let others = [("other", "plain", json!({}), false), ("other", "asks", json!({"ldmesh.io/inject": "true"}), true)];
    for (namespace, name, labels, expected) in made.into_iter().chain(others) {
        kubernetes.apply(&pod_of(namespace, name, &labels));
        let container = kubernetes
            .wait_for(&["pod", name, "--namespace", namespace], |found| Some(found["spec"]["containers"][0].clone()));
        let env = container["env"].as_array().cloned().unwrap_or_default();
        let preloads = env.iter().any(|variable| variable["name"] == "LD_PRELOAD");
        assert_eq!(preloads, expected, "{namespace}/{name}: {container:#}");
    }
    let secret = ["secret", "ldmesh-webhook-certificates", "--namespace", "mesh"];
    kubernetes.wait_for(&secret, |found| found["data"]["tls.key"].as_str().map(str::to_owned));
    webhook.signal(Signal::TERM);
    let done = webhook.finish();
    assert_eq!(done.status.code(), Some(0), "{done}");
    assert!(!done.stderr.contains("warn"), "{done}");
    assert!(!kubernetes.refusals(&first).is_empty(), "it was not the webhook that let pods in");
}

/// The webhook with the rights of its service account.
fn webhook(pod: &Pod, kubernetes: &Kubernetes<'_>) -> Command {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
        "clusters": [{"name": "cluster", "cluster": {
            "server": "https://127.0.0.1:6443",
            "certificate-authority": pod.folder().join("kubernetes/certificates/apiserver.crt"),
        }}],
        "users": [{"name": "webhook", "user": {"token": kubernetes.token("mesh", "webhook", API)}}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "webhook"}}],
    });
    let file = pod.folder().join("webhook.json");
    fs::write(&file, config.to_string()).unwrap();
    let mut command = pod.ldmesh(&["webhook", "--self-signed", "--namespace", "mesh"]);
    command.args(["--listen", &format!("{SERVICE}:443"), "--health-listen", "127.0.0.1:8080"]);
    command.env("KUBECONFIG", file);
    command
}

fn pod_of(namespace: &str, name: &str, labels: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    })
    .to_string()
}
