//! A real API server takes every pod that injection made, and says of it what it says of the pod before.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ctests::{Kubernetes, Pod, has_istio};

/// The golden files of `k8s/injector`: name, before, after.
fn golden() -> Vec<(String, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/injector/tests/golden");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".injected.yaml").map(str::to_owned)).collect();
    names.sort();
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let case = |name: String| (read(&format!("{name}.yaml")), read(&format!("{name}.injected.yaml")), name);
    names.into_iter().map(case).map(|(before, after, name)| (name, before, after)).collect()
}

/// The namespaces that a text names.
fn namespaces(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>();
    text.split("namespace: ").skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

/// A namespace with what its controller would put there.
fn populate(kubernetes: &Kubernetes<'_>, namespace: &str) {
    kubernetes.namespace(namespace);
    kubernetes.apply(&format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: default, namespace: {namespace}}}}}"
    ));
}

fn restrict(kubernetes: &Kubernetes<'_>, namespace: &str) {
    kubernetes.apply(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: \
         {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
    ));
}

#[test]
fn the_api_server_says_of_injected_pods_what_it_says_of_them_before() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let kubernetes = pod.kubernetes_with_accounts();
    populate(&kubernetes, "default");
    let golden = golden();
    assert!(golden.len() >= 40, "{} cases", golden.len());
    let mut known = BTreeSet::new();
    for (name, before, after) in &golden {
        for namespace in namespaces(before).into_iter().filter(|namespace| known.insert(namespace.clone())) {
            populate(&kubernetes, &namespace);
        }
        let refused = kubernetes.refusals(before);
        assert_eq!(kubernetes.refusals(after), refused, "{name}");
        for line in refused {
            println!("{name}: refused before and after: {line}");
        }
    }
}

#[test]
fn pods_of_restricted_namespaces_stay_restricted() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let kubernetes = pod.kubernetes_with_accounts();
    populate(&kubernetes, "locked");
    restrict(&kubernetes, "locked");
    let golden = golden();
    let restricted: Vec<_> = golden.iter().filter(|(name, ..)| name.starts_with("restricted")).collect();
    assert_eq!(restricted.len(), 3);
    for (name, before, after) in restricted {
        assert_eq!(kubernetes.refusals(before), Vec::<String>::new(), "{name}");
        assert_eq!(kubernetes.refusals(after), Vec::<String>::new(), "{name}");
        // The namespace does refuse what is not.
        let loose = after.replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true");
        assert_eq!(kubernetes.refusals(&loose).len(), 1, "{name}");
    }
}
