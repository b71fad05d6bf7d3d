//! The way from one source of certificates to another.

use std::process::Command;

use ctests::{Finished, Kubernetes, Pod, Replica, has_helm, wait_until};

use super::certificates::{SECRET, authority, put_secret};
use super::{CHART, NAMESPACE, SOON, WEBHOOK, bundles, cluster, install, run};

/// One part of a Secret, in base64.
fn secret(kubernetes: &Kubernetes<'_>, name: &str, key: &str) -> Option<String> {
    let path = format!("go-template={{{{index .data \"{key}\"}}}}");
    let got = kubernetes.kubectl(&["get", "secret", name, "--namespace", NAMESPACE, "-o", &path]);
    (got.status.success() && !got.stdout.is_empty() && !got.stdout.contains("<no value>")).then_some(got.stdout)
}

#[track_caller]
fn wait_for_bundle(kubernetes: &Kubernetes<'_>, wanted: &str) {
    let has = || bundles(kubernetes).iter().all(|bundle| bundle == wanted);
    // The webhook itself takes what it does not know away after half a minute.
    wait_until("caBundle is that of the source", 3 * SOON, || bundles(kubernetes).join("\n"), has);
}

#[track_caller]
fn upgrade(kubernetes: &Kubernetes<'_>, values: &str) {
    kubernetes.helm(&["upgrade", "ldmesh", CHART, "--namespace", NAMESPACE, "--set", values]).success();
}

/// The replicas as the Deployment is now.
#[track_caller]
fn replace<'pod>(kubernetes: &Kubernetes<'pod>, replicas: Vec<Replica<'pod>>) -> Vec<Replica<'pod>> {
    for replica in replicas {
        replica.terminate();
    }
    run(kubernetes)
}

/// Rights and Secrets of the self-made certificate.
fn of_its_own(kubernetes: &Kubernetes<'_>) -> Vec<String> {
    let kinds = "roles,rolebindings,secrets";
    let found = kubernetes.kubectl(&["get", kinds, "--namespace", NAMESPACE, "-o", "name"]);
    let names = found.success().lines().filter(|line| line.ends_with(WEBHOOK) || line.ends_with(SECRET));
    names.map(str::to_owned).collect()
}

#[test]
fn the_source_changes_to_a_secret_and_back() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = cluster(&inside);
    install(&kubernetes, &[]);
    let replicas = run(&kubernetes);

    let folder = authority(inside.folder());
    put_secret(&kubernetes, &folder, 1);
    let bundle = Finished::of(Command::new("base64").arg("--wrap=0").arg(folder.join("ca.crt")));
    let values =
        format!("certificates.source=secret,certificates.secretName=own,certificates.caBundle={}", bundle.success());
    // caBundle was the webhook's own until now.
    let flags = ["upgrade", "ldmesh", CHART, "--namespace", NAMESPACE, "--force-conflicts", "--set", &values];
    kubernetes.helm(&flags).success();
    wait_for_bundle(&kubernetes, bundle.success());
    let replicas = replace(&kubernetes, replicas);
    assert_eq!(of_its_own(&kubernetes), Vec::<String>::new());

    upgrade(&kubernetes, "certificates.source=self-signed");
    let _replicas = replace(&kubernetes, replicas);
    wait_for_bundle(&kubernetes, &secret(&kubernetes, SECRET, "ca.crt").unwrap());
}
