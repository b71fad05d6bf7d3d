//! The chart in a real API server, installed by a real helm, with the webhook running as its Deployment says.
//!
//! Each test has a pod of its own with etcd, kube-apiserver and the webhook's replicas in it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admission;
mod certificates;
mod failures;
mod istio;
mod release;
mod sources;
mod walkthrough;

use std::time::Duration;

use ctests::{Finished, Kubernetes, Pod, Replica, wait_until};
use serde_json::{Value, json};

const NAMESPACE: &str = "ldmesh-system";
const WEBHOOK: &str = "ldmesh-webhook";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s/chart");
/// API servers see a changed configuration within a second; two cores are shared.
const SOON: Duration = Duration::from_secs(30);
/// Where replicas have their addresses.
const REPLICAS: [&str; 2] = ["10.244.1.11", "10.244.1.12"];

/// A cluster with the namespace of the webhook, where only restricted pods run.
fn cluster(pod: &Pod) -> Kubernetes<'_> {
    let kubernetes = pod.kubernetes_with_webhooks();
    namespace(&kubernetes, NAMESPACE, "pod-security.kubernetes.io/enforce: restricted");
    namespace(&kubernetes, "default", "");
    kubernetes
}

/// A namespace with labels, and with what its controller would put there.
fn namespace(kubernetes: &Kubernetes<'_>, name: &str, labels: &str) {
    kubernetes.apply(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}\n---\n\
         {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: default, namespace: {name}}}}}"
    ));
}

/// Installs the chart, with flags for helm.
#[track_caller]
fn install(kubernetes: &Kubernetes<'_>, flags: &[&str]) {
    kubernetes.helm(&[&["install", "ldmesh", CHART, "--namespace", NAMESPACE], flags].concat()).success();
}

/// Runs both replicas, and waits until the API server has been told where they are and how to trust them.
#[track_caller]
fn run<'pod>(kubernetes: &Kubernetes<'pod>) -> Vec<Replica<'pod>> {
    let replicas = REPLICAS.map(|address| kubernetes.replica(NAMESPACE, WEBHOOK, address));
    kubernetes.endpoints(NAMESPACE, WEBHOOK, &REPLICAS);
    wait_until_injecting(kubernetes);
    replicas.into()
}

/// A cluster with the chart, installed with flags for helm, and its replicas.
#[track_caller]
fn installed<'pod>(pod: &'pod Pod, flags: &[&str]) -> (Kubernetes<'pod>, Vec<Replica<'pod>>) {
    let kubernetes = cluster(pod);
    install(&kubernetes, flags);
    let replicas = run(&kubernetes);
    (kubernetes, replicas)
}

#[track_caller]
fn wait_until_injecting(kubernetes: &Kubernetes<'_>) {
    let dump = || format!("{}", try_out(kubernetes));
    wait_until("the API server calls the webhook", SOON, dump, || is_injected(&try_out(kubernetes)));
}

/// What would become of a pod that asks to be injected.
fn try_out(kubernetes: &Kubernetes<'_>) -> Finished {
    kubernetes.kubectl_with(&["create", "--dry-run=server", "-o", "json"], &pod("default", "probe", LABELLED, "", ""))
}

fn is_injected(created: &Finished) -> bool {
    created.status.success() && injected(&object(created))
}

fn object(created: &Finished) -> Value {
    serde_json::from_str(created.success()).unwrap()
}

/// Whether a pod is one of the mesh: it gets the library, and its first container loads it.
fn injected(pod: &Value) -> bool {
    let installs = pod["spec"]["initContainers"][0]["name"] == "ldmesh-install";
    let env = pod["spec"]["containers"][0]["env"].as_array();
    let preloads = env.into_iter().flatten().any(|one| one["name"] == "LD_PRELOAD");
    assert_eq!(installs, preloads, "half an injection: {pod}");
    installs
}

/// The label by which a pod asks.
const LABELLED: &str = "ldmesh.io/inject: \"true\"";

/// A pod's YAML: labels and annotations of it, and more of its `spec`.
fn pod(namespace: &str, name: &str, labels: &str, annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}, \
         annotations: {{{annotations}}}}}\nspec:\n  containers:\n  - {{name: app, image: app}}\n{spec}"
    )
}

/// Creates a pod; gives it as it is then, and the API server's warnings.
#[track_caller]
fn create(kubernetes: &Kubernetes<'_>, yaml: &str) -> (Value, String) {
    let created = kubernetes.kubectl_with(&["create", "-o", "json"], yaml);
    (object(&created), created.stderr)
}

/// A pod of a Deployment's template, as the controller of its ReplicaSet would ask for one; it is not created.
#[track_caller]
fn pod_of(kubernetes: &Kubernetes<'_>, namespace: &str, deployment: &str) -> Value {
    let found = kubernetes.get(&["deployment", deployment, "--namespace", namespace]);
    let template = &found["spec"]["template"];
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["labels"]["pod-template-hash"] = json!("7c5ddbdf54");
    pod["metadata"]["generateName"] = json!(format!("{deployment}-7c5ddbdf54-"));
    pod["metadata"]["namespace"] = json!(namespace);
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-7c5ddbdf54"), "controller": true,
        "uid": "11111111-2222-3333-4444-555555555555",
    }]);
    object(&kubernetes.kubectl_with(&["create", "--dry-run=server", "-o", "json"], &pod.to_string()))
}

/// A variable of a pod's first container.
fn variable<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let env = pod["spec"]["containers"][0]["env"].as_array()?;
    env.iter().find(|one| one["name"] == name)?["value"].as_str()
}

/// The CA certificates of each webhook of the configuration, PEM.
fn bundles(kubernetes: &Kubernetes<'_>) -> Vec<String> {
    let configuration = kubernetes.get(&["mutatingwebhookconfiguration", "ldmesh"]);
    let webhooks = configuration["webhooks"].as_array().unwrap();
    webhooks.iter().map(|one| one["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned()).collect()
}
