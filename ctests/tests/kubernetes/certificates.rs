//! Certificates: the webhook's own ones, those of a Secret, and what the webhook may do for them.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use ctests::{Finished, Kubernetes, Pod, Replica, has_helm, wait_until};
use serde_json::json;

use super::{NAMESPACE, SOON, WEBHOOK, bundles, cluster, install, installed, is_injected, run, try_out};

pub(super) const SECRET: &str = "ldmesh-webhook-certificates";

/// A sample of a replica's metrics.
fn metric(replica: &Replica<'_>, name: &str) -> f64 {
    let text = replica.get("/metrics").unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}:\n{text}")).parse().unwrap()
}

pub(super) fn expiry(replica: &Replica<'_>) -> f64 {
    metric(replica, "ldmesh_webhook_certificate_expiry_seconds")
}

/// How many CAs the API server trusts for a webhook.
fn authorities(kubernetes: &Kubernetes<'_>) -> usize {
    let path = "go-template={{range .webhooks}}{{.clientConfig.caBundle | base64decode}}===={{end}}";
    let got = kubernetes.kubectl(&["get", "mutatingwebhookconfiguration", "ldmesh", "-o", path]);
    let each: Vec<_> = got.success().split("====").map(|text| text.matches("BEGIN CERTIFICATE").count()).collect();
    assert_eq!(each[0], each[1]);
    each[0]
}

#[test]
fn admissions_go_on_while_the_webhooks_own_certificate_rotates() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    // The shortest that the webhook takes: a new one after 40 s.
    let (kubernetes, replicas) = installed(&inside, &["--set", "certificates.lifetime=1m,failurePolicy=Fail"]);
    let start = Instant::now();
    let first: Vec<_> = replicas.iter().map(expiry).collect();
    assert_eq!(first[0], first[1], "they share one");
    assert_eq!(authorities(&kubernetes), 1);

    let (mut admissions, mut most) = (0, 0);
    let mut admit = |done: &dyn Fn() -> bool, what: &str| {
        while !done() {
            let created = try_out(&kubernetes);
            assert!(is_injected(&created), "after {:?} and {admissions} admissions: {created}", start.elapsed());
            admissions += 1;
            most = most.max(authorities(&kubernetes));
            assert!(start.elapsed() < Duration::from_secs(240), "{what}: {admissions} admissions, {most} CAs");
        }
    };
    admit(&|| replicas.iter().zip(&first).all(|(one, &first)| expiry(one) > first), "both replicas have another one");
    // The end of the first one.
    admit(&|| start.elapsed() > Duration::from_secs(61), "the first one is over");
    println!("{admissions} admissions, {most} CAs at most");
    assert_eq!(most, 2, "old and new are trusted for a while");
    let rotations: f64 = replicas.iter().map(|one| metric(one, "ldmesh_webhook_rotations_total")).sum();
    assert!(rotations >= 2.0, "{rotations}");
    let calls: f64 = replicas.iter().map(|one| metric(one, "ldmesh_webhook_tls_handshake_errors_total")).sum();
    assert_eq!(calls, 0.0, "the API server refused no certificate");
}

#[test]
fn an_emptied_secret_costs_no_admission() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, replicas) = installed(&inside, &["--set", "failurePolicy=Fail"]);
    let served = || replicas.iter().map(expiry).collect::<Vec<_>>();
    let empty = ["patch", "secret", SECRET, "--namespace", NAMESPACE, "--type=json"];
    let first = authority_of(&kubernetes);
    for round in 1..=2 {
        let before = served();
        let start = Instant::now();
        kubernetes.kubectl(&[&empty[..], &["--patch", r#"[{"op": "remove", "path": "/data"}]"#]].concat()).success();
        let (mut admissions, mut failed, mut most) = (0, Vec::new(), 0);
        while served().iter().zip(&before).any(|(now, before)| now <= before) {
            let created = try_out(&kubernetes);
            if !is_injected(&created) {
                failed.push(format!("after {:?}: {created}", start.elapsed()));
            }
            admissions += 1;
            most = most.max(authorities(&kubernetes));
            assert!(start.elapsed() < Duration::from_secs(90), "{admissions} admissions; {:?} {before:?}", served());
        }
        println!("round {round}: {admissions} admissions in {:?}, {most} CAs at most", start.elapsed());
        assert!(failed.is_empty(), "{} of {admissions} failed:\n{}", failed.len(), failed.join("\n"));
        assert!(most >= 2, "old and new are trusted for a while");
    }
    let bundle = || bundles(&kubernetes)[0].clone();
    wait_until("the first CA is gone", 2 * SOON, bundle, || !trusts(&kubernetes, &first));
    let refused: f64 = replicas.iter().map(|one| metric(one, "ldmesh_webhook_tls_handshake_errors_total")).sum();
    assert_eq!(refused, 0.0, "the API server refused no certificate");
    assert!(is_injected(&try_out(&kubernetes)));
}

/// The CA of the Secret's certificate, PEM.
fn authority_of(kubernetes: &Kubernetes<'_>) -> String {
    let path = r#"go-template={{index .data "ca.crt" | base64decode}}"#;
    let got = kubernetes.kubectl(&["get", "secret", SECRET, "--namespace", NAMESPACE, "-o", path]);
    got.success().to_owned()
}

/// Whether the API server trusts a CA for the first webhook.
fn trusts(kubernetes: &Kubernetes<'_>, authority: &str) -> bool {
    let path = "go-template={{(index .webhooks 0).clientConfig.caBundle | base64decode}}";
    let got = kubernetes.kubectl(&["get", "mutatingwebhookconfiguration", "ldmesh", "-o", path]);
    got.success().contains(authority)
}

#[test]
fn a_secret_of_somebody_elses_is_served_and_needs_no_right_at_all() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = cluster(&inside);
    let authority = authority(inside.folder());
    put_secret(&kubernetes, &authority, 1);
    let bundle = Finished::of(Command::new("base64").arg("--wrap=0").arg(authority.join("ca.crt")));
    let bundle = format!("certificates.caBundle={}", bundle.success());
    install(&kubernetes, &["--set", "certificates.source=secret,certificates.secretName=own", "--set", &bundle]);
    let rights = kubernetes.kubectl(&["get", "roles,rolebindings,secrets", "--namespace", NAMESPACE, "-o", "name"]);
    let ours: Vec<_> = rights.success().lines().filter(|line| line.contains("ldmesh-webhook")).collect();
    assert_eq!(ours, Vec::<&str>::new());

    let replicas = run(&kubernetes);
    let first = expiry(&replicas[0]);
    put_secret(&kubernetes, &authority, 2);
    for replica in &replicas {
        kubernetes.refresh(NAMESPACE, WEBHOOK, replica);
    }
    let renewed = || replicas.iter().all(|one| expiry(one) > first);
    wait_until("both serve the new certificate", SOON, || expiry(&replicas[0]).to_string(), renewed);
    assert!(is_injected(&try_out(&kubernetes)));
}

/// A folder with a CA: `ca.crt`, `ca.key`.
pub(super) fn authority(folder: &std::path::Path) -> std::path::PathBuf {
    let folder = folder.join("authority");
    fs::create_dir(&folder).unwrap();
    openssl(&folder, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 10 -subj /CN=own");
    folder
}

fn openssl(folder: &std::path::Path, arguments: &str) {
    let mut openssl = Command::new("openssl");
    Finished::of(openssl.current_dir(folder).args(arguments.split(' '))).success();
}

/// Creates or replaces the Secret `own`: a certificate for so many days.
pub(super) fn put_secret(kubernetes: &Kubernetes<'_>, authority: &std::path::Path, days: u32) {
    let name = format!("{WEBHOOK}.{NAMESPACE}.svc");
    fs::write(authority.join("names"), format!("subjectAltName=DNS:{name}\n")).unwrap();
    openssl(authority, "req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=webhook");
    let sign = format!(
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days {days} -extfile names -out tls.crt"
    );
    openssl(authority, &sign);
    let read = |name: &str| fs::read_to_string(authority.join(name)).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "own", "namespace": NAMESPACE},
        "stringData": {"tls.crt": read("tls.crt"), "tls.key": read("tls.key")},
    });
    kubernetes.apply(&secret.to_string());
}

#[test]
fn the_webhook_may_touch_its_secret_and_its_configuration_and_nothing_else() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = cluster(&inside);
    install(&kubernetes, &[]);
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:{WEBHOOK}");
    let may = |verb: &str, what: &str, namespace: &str| {
        let done = kubernetes.kubectl(&["auth", "can-i", verb, what, "--namespace", namespace, &account]);
        done.stdout.trim() == "yes"
    };
    let secret = format!("secrets/{SECRET}");
    let configuration = "mutatingwebhookconfigurations.admissionregistration.k8s.io/ldmesh";
    for (verb, what) in
        [("get", secret.as_str()), ("update", &secret), ("get", configuration), ("patch", configuration)]
    {
        wait_until(&format!("may {verb} {what}"), SOON, String::new, || may(verb, what, NAMESPACE));
    }
    for (verb, what, namespace) in [
        ("create", "secrets", NAMESPACE),
        ("list", "secrets", NAMESPACE),
        ("get", "secrets/other", NAMESPACE),
        ("delete", &secret, NAMESPACE),
        ("get", &secret, "default"),
        ("list", "mutatingwebhookconfigurations.admissionregistration.k8s.io", NAMESPACE),
        ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io", NAMESPACE),
        ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io/other", NAMESPACE),
        ("delete", configuration, NAMESPACE),
        ("get", "pods", NAMESPACE),
        ("get", "configmaps", NAMESPACE),
        ("get", "namespaces", NAMESPACE),
    ] {
        assert!(!may(verb, what, namespace), "{verb} {what} in {namespace}");
    }
    let _replicas = run(&kubernetes);
    let [first, second] = <[String; 2]>::try_from(bundles(&kubernetes)).unwrap();
    assert!(!first.is_empty());
    assert_eq!(first, second);
}
