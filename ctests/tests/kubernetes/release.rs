//! The life of a release: what the chart refuses, upgrades and rollbacks, plain manifests, and what uninstalling leaves.

use std::collections::BTreeSet;
use std::fs;

use ctests::{Kubernetes, Pod, Replica, has_helm, helm_without_cluster, wait_until};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    CHART, LABELLED, NAMESPACE, SOON, WEBHOOK, bundles, cluster, install, installed, object, pod, run, try_out,
    variable, wait_until_injecting,
};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s/install.yaml");

#[test]
fn the_chart_passes_helms_lint_and_refuses_values_that_mean_nothing() {
    if !has_helm() {
        return;
    }
    helm_without_cluster(&["lint", "--strict", "."]).success();
    for (value, why) in [
        ("failurePolicy=Maybe", "'/failurePolicy'"),
        ("replicas=0", "'/replicas'"),
        ("timeoutSeconds=31", "'/timeoutSeconds'"),
        ("certificates.source=cert-manager", "missing property 'name'"),
        ("certificates.source=secret", "'/certificates/"),
        ("certificates.lifetime=soon", "'/certificates/lifetime'"),
        ("certificates.lifetime=59s", "'/certificates/lifetime'"),
        ("certificates.lifetime=0m", "'/certificates/lifetime'"),
        ("settings.colour=blue", "colour"),
        ("settings.inject=true", "inject"),
        ("settings.mode=loud", "'/settings/mode'"),
        ("settings.log=true", "'/settings/log'"),
        ("image.digest=latest", "'/image/digest'"),
        ("settings.mode.app=on", "'/settings/mode'"),
        ("networkPolicy.apiServer={10.0.0.1}", "'/networkPolicy/apiServer/0'"),
        ("networkPolicy.health={nodes}", "'/networkPolicy/health/0'"),
        ("repicas=3", "repicas"),
    ] {
        let done = helm_without_cluster(&["template", "ldmesh", ".", "--set", value]);
        assert!(!done.status.success() && done.stderr.contains(why), "{value}: {done}");
    }
}

/// The object of a kind that a template of the chart makes of a values file.
#[track_caller]
fn rendered(values: &str, template: &str, kind: &str) -> Value {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), values).unwrap();
    let path = file.path().display().to_string();
    let done = helm_without_cluster(&["template", "ldmesh", ".", "--values", &path, "--show-only", template]);
    let mut objects = serde_norway::Deserializer::from_str(done.success()).map(|one| Value::deserialize(one).unwrap());
    objects.find(|object| object["kind"] == kind).unwrap()
}

#[test]
fn settings_of_a_values_file_are_what_they_were_meant_to_be() {
    if !has_helm() {
        return;
    }
    for (mode, expected) in [("on", "on"), ("off", "off"), ("\"on\"", "on"), ("shadow", "shadow"), ("'off'", "off")] {
        // YAML 1.1, as helm reads it, takes some of these words for booleans.
        let values = format!("settings: {{mode: {mode}, log: off, mixed: yes, run-size: 32Mi}}\n");
        let text = rendered(&values, "templates/settings.yaml", "ConfigMap")["data"]["settings.yaml"]
            .as_str()
            .unwrap()
            .to_owned();
        let mut settings = injector::Settings::default();
        injector::parse_settings(&text, &mut settings).unwrap();
        let mut wanted = injector::Settings::default();
        for (name, value) in [
            ("mode", expected),
            ("log", "off"),
            ("mixed", "true"),
            ("run-size", "32Mi"),
            ("image", "ldmesh:0.1.0"),
            ("image-pull-policy", "IfNotPresent"),
        ] {
            wanted.set(name, value).unwrap();
        }
        assert_eq!(format!("{settings:?}"), format!("{wanted:?}"), "{mode}");
    }
}

#[test]
fn on_openshift_the_namespace_gives_the_ids() {
    if !has_helm() {
        return;
    }
    let context = |values: &str| {
        rendered(values, "templates/deployment.yaml", "Deployment")["spec"]["template"]["spec"]["securityContext"]
            .clone()
    };
    let fixed = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    for values in
        ["podSecurityContext: null\n", "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}\n"]
    {
        assert_eq!(context(values), fixed, "{values}");
    }
    let mut own = fixed.clone();
    (own["runAsUser"], own["runAsGroup"], own["fsGroup"]) = (json!(1000), json!(65532), json!(65532));
    assert_eq!(context("podSecurityContext: {runAsUser: 1000}\n"), own);
    let file = "podSecurityContext.runAsNonRoot=false";
    let done = helm_without_cluster(&["template", "ldmesh", ".", "--set", file]);
    assert!(!done.status.success() && done.stderr.contains("'/podSecurityContext"), "{done}");
}

#[test]
fn the_image_is_pulled_by_the_secrets_of_the_values_everywhere() {
    if !has_helm() {
        return;
    }
    let values = "image: {pullSecrets: [mesh, shared]}\n";
    let deployment = rendered(values, "templates/deployment.yaml", "Deployment");
    let names = json!([{"name": "mesh"}, {"name": "shared"}]);
    assert_eq!(deployment["spec"]["template"]["spec"]["imagePullSecrets"], names);
    let map = rendered(values, "templates/settings.yaml", "ConfigMap");
    let mut settings = injector::Settings::default();
    injector::parse_settings(map["data"]["settings.yaml"].as_str().unwrap(), &mut settings).unwrap();
    let pod = json!({"spec": {"containers": [{"name": "app"}]}});
    let namespace = injector::Namespace::new("default");
    let request = injector::Request { namespace: &namespace, settings: &settings, asked: true, workload: None };
    let injector::Outcome::Injected { pod, .. } = injector::inject_as(&pod, &request) else { panic!("left alone") };
    assert_eq!(pod["spec"]["imagePullSecrets"], names);
}

#[test]
fn a_selector_of_the_values_names_no_key_twice() {
    if !has_helm() {
        return;
    }
    let selector = |values: &str| {
        let deployment = rendered(values, "templates/deployment.yaml", "Deployment");
        deployment["spec"]["template"]["spec"]["nodeSelector"].clone()
    };
    let linux = json!({"kubernetes.io/os": "linux"});
    assert_eq!(selector("{}\n"), linux);
    assert_eq!(selector("nodeSelector: {kubernetes.io/os: linux}\n"), linux);
    assert_eq!(selector("nodeSelector: {pool: mesh}\n"), json!({"kubernetes.io/os": "linux", "pool": "mesh"}));
}

#[test]
fn with_cert_manager_the_webhook_needs_no_right_and_no_way_out() {
    if !has_helm() {
        return;
    }
    let values =
        "certificates.source=cert-manager,certificates.issuerRef.name=ca,certificates.issuerRef.kind=ClusterIssuer";
    let done = helm_without_cluster(&["template", "ldmesh", ".", "--namespace", NAMESPACE, "--set", values]);
    let text = done.success();
    for wanted in [
        "cert-manager.io/inject-ca-from: ldmesh-system/ldmesh-webhook",
        "  - ldmesh-webhook.ldmesh-system.svc\n",
        "    kind: ClusterIssuer\n    name: ca\n",
        "--certificates=/certificates",
        "secretName: ldmesh-webhook-cert-manager",
        "automountServiceAccountToken: false",
        "egress: []",
    ] {
        assert!(text.contains(wanted), "{wanted}:\n{text}");
    }
    for kind in ["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Secret"] {
        assert!(!text.contains(&format!("kind: {kind}\n")), "{kind}:\n{text}");
    }
}

/// What there is: every object of every kind that can be listed, but for what comes and goes by itself.
fn objects(kubernetes: &Kubernetes<'_>) -> BTreeSet<String> {
    let kinds = kubernetes.kubectl(&["api-resources", "--verbs=list", "-o", "name"]);
    let own = ["events", "events.events.k8s.io", "leases.coordination.k8s.io", "componentstatuses", "endpoints"];
    let kinds: Vec<_> = kinds.success().lines().filter(|kind| !own.contains(kind)).collect();
    let listed = kubernetes.kubectl(&["get", &kinds.join(","), "--all-namespaces", "-o", "name"]);
    listed.success().lines().map(str::to_owned).collect()
}

/// What the cluster itself would take away with the Deployment and the Service.
fn collect(kubernetes: &Kubernetes<'_>, replicas: Vec<Replica<'_>>) {
    for replica in replicas {
        let name = replica.name.clone();
        let ended = replica.terminate();
        assert!(ended.status.success(), "{ended}");
        kubernetes.kubectl(&["delete", "pod", &name, "--namespace", NAMESPACE, "--grace-period=0"]).success();
    }
    kubernetes.kubectl(&["delete", "endpointslice", WEBHOOK, "--namespace", NAMESPACE]).success();
}

#[test]
fn uninstalling_leaves_nothing() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = cluster(&inside);
    let before = objects(&kubernetes);
    install(&kubernetes, &[]);
    let replicas = run(&kubernetes);
    let between: Vec<_> = objects(&kubernetes).difference(&before).cloned().collect();
    println!("{between:#?}");
    let secret = format!("secret/{WEBHOOK}-certificates");
    assert!(between.contains(&secret), "{between:?}");

    kubernetes.helm(&["uninstall", "ldmesh", "--namespace", NAMESPACE]).success();
    collect(&kubernetes, replicas);
    let left = || objects(&kubernetes).difference(&before).cloned().collect::<Vec<_>>();
    wait_until("all is as before", SOON, || format!("{:?}", left()), || left().is_empty());
    let created = try_out(&kubernetes);
    assert!(!super::is_injected(&created), "{created}");
}

#[test]
fn an_upgrade_keeps_the_certificates_and_brings_new_settings_to_running_replicas() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, replicas) = installed(&inside, &[]);
    let kept = || {
        let secret = kubernetes.get(&["secret", "ldmesh-webhook-certificates", "--namespace", NAMESPACE]);
        (bundles(&kubernetes), secret["data"].clone())
    };
    let before = kept();
    assert!(before.0.iter().all(|bundle| !bundle.is_empty()) && before.1["tls.key"].is_string());
    let mode = || variable(&object(&try_out(&kubernetes)), "LDMESH_MODE").map(str::to_owned);
    assert_eq!(mode(), None);

    let steps: [(&[&str], Option<&str>); 2] = [
        (
            &["upgrade", "ldmesh", CHART, "--namespace", NAMESPACE, "--set", "settings.mode=shadow,timeoutSeconds=5"],
            Some("shadow"),
        ),
        (&["rollback", "ldmesh", "--namespace", NAMESPACE], None),
    ];
    for (step, wanted) in steps {
        kubernetes.helm(step).success();
        assert_eq!(kept(), before, "{step:?}");
        let configuration = kubernetes.get(&["mutatingwebhookconfiguration", "ldmesh"]);
        let timeout = if wanted.is_some() { 5 } else { 3 };
        assert_eq!(configuration["webhooks"][0]["timeoutSeconds"], timeout);
        for replica in &replicas {
            kubernetes.refresh(NAMESPACE, WEBHOOK, replica);
        }
        wait_until(&format!("mode {wanted:?}"), SOON, || format!("{:?}", mode()), || mode().as_deref() == wanted);
    }
}

#[test]
fn a_secret_that_somebody_deleted_comes_back_with_an_upgrade() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, _replicas) = installed(&inside, &[]);
    let secret = ["secret", "ldmesh-webhook-certificates", "--namespace", NAMESPACE];
    kubernetes.kubectl(&[&["delete"], &secret[..]].concat()).success();
    wait_until_injecting(&kubernetes);
    kubernetes.helm(&["upgrade", "ldmesh", CHART, "--namespace", NAMESPACE]).success();
    kubernetes.wait_for(&secret, |found| found["data"]["tls.key"].as_str().map(str::to_owned));
    wait_until_injecting(&kubernetes);
}

#[test]
fn bad_settings_leave_running_replicas_with_the_last_good_ones() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, replicas) = installed(&inside, &["--set", "settings.mode=shadow"]);
    kubernetes
        .helm(&["upgrade", "ldmesh", CHART, "--namespace", NAMESPACE, "--set", "settings.run-size=much"])
        .success();
    for replica in &replicas {
        kubernetes.refresh(NAMESPACE, WEBHOOK, replica);
        let metrics = || replica.get("/metrics").unwrap();
        let failed = "ldmesh_webhook_reload_failed{what=\"settings\"} 1\n";
        wait_until("the reload has failed", SOON, metrics, || metrics().contains(failed));
        replica.get("/readyz").unwrap();
    }
    assert_eq!(variable(&object(&try_out(&kubernetes)), "LDMESH_MODE"), Some("shadow"));
}

#[test]
fn the_network_policy_lets_in_whom_the_values_name_and_without_them_everybody() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = cluster(&inside);
    let policy = || {
        let found = kubernetes.get(&["networkpolicy", WEBHOOK, "--namespace", NAMESPACE]);
        assert_eq!(found["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        (found["spec"]["ingress"].clone(), found["spec"]["egress"].clone())
    };
    let ports =
        |ports: &[Value]| -> Value { ports.iter().map(|port| json!({"port": port, "protocol": "TCP"})).collect() };
    let (https, health) = (ports(&[json!("https")]), ports(&[json!("health")]));
    let api_server = ports(&[json!(443), json!(6443)]);
    install(&kubernetes, &[]);
    let everybody = json!([{"ports": https}, {"ports": health}]);
    assert_eq!(policy(), (everybody, json!([{"ports": api_server}])));

    let values = "networkPolicy.apiServer={10.0.0.0/24,fd00::/64},networkPolicy.health={10.244.0.0/16}";
    kubernetes.helm(&["upgrade", "ldmesh", CHART, "--namespace", NAMESPACE, "--set", values]).success();
    let block = |cidr: &str| json!({"ipBlock": {"cidr": cidr}});
    let named = json!([block("10.0.0.0/24"), block("fd00::/64")]);
    let ingress = json!([{"ports": https, "from": named}, {"ports": health, "from": [block("10.244.0.0/16")]}]);
    assert_eq!(policy(), (ingress, json!([{"ports": api_server, "to": named}])));
}

#[test]
fn plain_manifests_are_the_charts() {
    if !has_helm() {
        return;
    }
    let flags = ["template", "ldmesh", ".", "--namespace", NAMESPACE, "--set", "namespace.create=true"];
    let rendered = helm_without_cluster(&flags);
    let text = format!(
        "# The chart with its defaults, for kubectl apply. Made from k8s/chart by its test with LDMESH_GOLDEN=update.\n{}\n",
        rendered.success()
    );
    if std::env::var_os("LDMESH_GOLDEN").is_some_and(|value| value == "update") {
        fs::write(MANIFESTS, &text).unwrap();
    }
    assert!(
        fs::read_to_string(MANIFESTS).unwrap_or_default() == text,
        "k8s/install.yaml is stale: LDMESH_GOLDEN=update"
    );
}

#[test]
fn plain_manifests_install_and_are_applied_again_without_harm() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = inside.kubernetes_with_webhooks();
    super::namespace(&kubernetes, "default", "");
    let before = objects(&kubernetes);
    let apply = ["apply", "--filename", MANIFESTS];
    kubernetes.kubectl(&apply).success();
    let replicas = run(&kubernetes);
    let trusted = bundles(&kubernetes);
    let again = kubernetes.kubectl(&apply);
    assert!(again.success().lines().all(|line| line.ends_with("unchanged") || line.ends_with("configured")), "{again}");
    assert_eq!(bundles(&kubernetes), trusted);
    wait_until_injecting(&kubernetes);

    kubernetes.kubectl(&["delete", "--wait=false", "--filename", MANIFESTS]).success();
    collect(&kubernetes, replicas);
    // A controller would end the namespace, which is empty.
    let left = || {
        let now = objects(&kubernetes);
        now.difference(&before).filter(|name| *name != "namespace/ldmesh-system").cloned().collect::<Vec<_>>()
    };
    wait_until("all is as before", SOON, || format!("{:?}", left()), || left().is_empty());
    let created: Value = super::create(&kubernetes, &pod("default", "after", LABELLED, "", "")).0;
    assert!(!super::injected(&created));
}
