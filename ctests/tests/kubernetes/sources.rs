//! The way from one source of certificates to another; one of them is a real cert-manager.

use std::process::Command;

use ctests::{Finished, Kubernetes, Pod, Replica, has_cert_manager, has_helm, wait_until};

use super::certificates::{SECRET, authority, expiry, put_secret};
use super::{CHART, NAMESPACE, SOON, WEBHOOK, bundles, cluster, install, installed, is_injected, run, try_out};

/// Where cert-manager puts the webhook's certificate.
const ISSUED: &str = "ldmesh-webhook-cert-manager";
const BY_CERT_MANAGER: &str =
    "certificates.source=cert-manager,certificates.issuerRef.name=own,certificates.issuerRef.kind=Issuer";

/// A CA as cert-manager's users have one: signed by itself, and an Issuer over it.
const ISSUERS: &str = "
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: itself, namespace: ldmesh-system}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: authority, namespace: ldmesh-system}
spec:
  isCA: true
  commonName: authority
  secretName: authority
  privateKey: {algorithm: ECDSA}
  issuerRef: {name: itself, kind: Issuer}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: own, namespace: ldmesh-system}
spec: {ca: {secretName: authority}}
";

/// One part of a Secret, in base64.
fn secret(kubernetes: &Kubernetes<'_>, name: &str, key: &str) -> Option<String> {
    let path = format!("go-template={{{{index .data \"{key}\"}}}}");
    let got = kubernetes.kubectl(&["get", "secret", name, "--namespace", NAMESPACE, "-o", &path]);
    (got.status.success() && !got.stdout.is_empty() && !got.stdout.contains("<no value>")).then_some(got.stdout)
}

#[track_caller]
fn wait_for_certificate(kubernetes: &Kubernetes<'_>) -> String {
    let events = || kubernetes.kubectl(&["get", "certificates,certificaterequests,issuers", "-A", "-o", "yaml"]).stdout;
    wait_until("there is a certificate", SOON, events, || secret(kubernetes, ISSUED, "tls.crt").is_some());
    let path = "go-template={{index .data \"ca.crt\" | base64decode}}";
    kubernetes.kubectl(&["get", "secret", ISSUED, "--namespace", NAMESPACE, "-o", path]).stdout
}

#[track_caller]
fn wait_for_bundle(kubernetes: &Kubernetes<'_>, wanted: &str) {
    let has = || bundles(kubernetes).iter().all(|bundle| bundle == wanted);
    // The webhook itself takes what it does not know away after half a minute.
    wait_until("caBundle is that of the source", 3 * SOON, || bundles(kubernetes).join("\n"), has);
}

/// cert-manager adds to what was there before.
#[track_caller]
fn wait_for_authority(kubernetes: &Kubernetes<'_>, wanted: &str) {
    let bundles = "go-template={{range .webhooks}}{{.clientConfig.caBundle | base64decode}}|{{end}}";
    let bundles = || kubernetes.kubectl(&["get", "mutatingwebhookconfiguration", "ldmesh", "-o", bundles]).stdout;
    let has = || bundles().trim_end_matches('|').split('|').all(|bundle| bundle.contains(wanted.trim()));
    wait_until("caBundle has the issuer's CA", SOON, bundles, has);
}

#[track_caller]
fn upgrade(kubernetes: &Kubernetes<'_>, flags: &[&str]) {
    kubernetes.helm(&[&["upgrade", "ldmesh", CHART, "--namespace", NAMESPACE], flags].concat()).success();
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
fn the_source_changes_to_cert_manager_which_issues_and_renews_and_back() {
    if !has_cert_manager() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = cluster(&inside);
    let _cert_manager = kubernetes.cert_manager();
    kubernetes.apply(ISSUERS);
    install(&kubernetes, &[]);
    let replicas = run(&kubernetes);
    assert_eq!(of_its_own(&kubernetes).len(), 3);

    upgrade(&kubernetes, &["--set", BY_CERT_MANAGER]);
    let authority = wait_for_certificate(&kubernetes);
    wait_for_authority(&kubernetes, &authority);
    let replicas = replace(&kubernetes, replicas);
    assert_eq!(of_its_own(&kubernetes), Vec::<String>::new());

    // Another certificate of the same issuer.
    let before = replicas.iter().map(expiry).collect::<Vec<_>>();
    kubernetes.kubectl(&["delete", "secret", ISSUED, "--namespace", NAMESPACE]).success();
    wait_for_certificate(&kubernetes);
    let renewed = || {
        replicas.iter().for_each(|replica| kubernetes.refresh(NAMESPACE, WEBHOOK, replica));
        replicas.iter().zip(&before).all(|(replica, before)| expiry(replica) > *before)
    };
    wait_until("both serve the new certificate", SOON, || format!("{before:?}"), renewed);
    assert!(is_injected(&try_out(&kubernetes)));

    upgrade(&kubernetes, &["--set", "certificates.source=self-signed"]);
    let _replicas = replace(&kubernetes, replicas);
    assert_eq!(of_its_own(&kubernetes).len(), 3);
    wait_for_bundle(&kubernetes, &secret(&kubernetes, SECRET, "ca.crt").unwrap());
    assert!(is_injected(&try_out(&kubernetes)));
}

#[test]
fn the_source_changes_to_a_secret_and_back() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, replicas) = installed(&inside, &[]);

    let folder = authority(inside.folder());
    put_secret(&kubernetes, &folder, 1);
    let bundle = Finished::of(Command::new("base64").arg("--wrap=0").arg(folder.join("ca.crt")));
    let values =
        format!("certificates.source=secret,certificates.secretName=own,certificates.caBundle={}", bundle.success());
    // caBundle was the webhook's own until now.
    upgrade(&kubernetes, &["--force-conflicts", "--set", &values]);
    wait_for_bundle(&kubernetes, bundle.success());
    let replicas = replace(&kubernetes, replicas);
    assert_eq!(of_its_own(&kubernetes), Vec::<String>::new());

    upgrade(&kubernetes, &["--set", "certificates.source=self-signed"]);
    let _replicas = replace(&kubernetes, replicas);
    wait_for_bundle(&kubernetes, &secret(&kubernetes, SECRET, "ca.crt").unwrap());
}
