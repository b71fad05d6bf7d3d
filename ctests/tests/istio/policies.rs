//! VirtualServices, DestinationRules, localities, Sidecars and the registry: `ctests/istio/policies.yaml`.

use ctests::{Finished, Pod, c_program};

use serde_json::Value;

use super::*;

/// So many connections decide about a share.
const CONNECTIONS: u32 = 400;

#[test]
fn rules_and_policies_hold_for_connections() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let _backends =
        [("10.244.1.1:8080", "v1"), ("10.244.1.2:8080", "v2"), ("10.244.1.3:7000", "here"), ("10.244.1.4:7000", "far")]
            .map(|(address, name)| pod.backend(address, name));
    let kubernetes = pod.kubernetes();
    let istiod = kubernetes.istiod("{}");
    for (name, address, labels) in [
        ("app-0", POD_V4, json!({"app": "app", "istio-locality": "eu.a"})),
        ("shop-1", "10.244.1.1", json!({"app": "shop", "version": "v1"})),
        ("shop-2", "10.244.1.2", json!({"app": "shop", "version": "v2"})),
        ("near-1", "10.244.1.3", json!({"app": "near", "istio-locality": "eu.a"})),
        ("near-2", "10.244.1.4", json!({"app": "near", "istio-locality": "us.b"})),
    ] {
        kubernetes.run_pod("default", name, address, &labels);
    }
    kubernetes.apply(include_str!("../../istio/policies.yaml"));

    wait_until(
        "both versions",
        SOON,
        || pod.dump(),
        || who(&pod, "http://shop/").starts_with('v') && explain(&pod, "shop:80").contains("weight 25"),
    );
    check_share(&pod, "http://shop/", "v1", 0.75);
    check_share(&pod, "http://shop:9100/", "v1", 0.2);
    let shop = explain(&pod, "shop:80");
    for expected in [
        "outbound|80|v1|shop.default.svc.cluster.local (weight 75)",
        "outbound|80|v2|shop.default.svc.cluster.local (weight 25)",
        "policy    random, connect timeout 3000 ms, at most 100 connections",
        "consecutive 5xx 7; every 5000 ms; ejects for 20000 to",
        "keepalive after 60 s, every 10 s, 3 probes",
        "left out  HTTP rules that depend on the request",
    ] {
        assert!(shop.contains(expected), "{expected:?} in\n{shop}");
    }

    check_answers(&pod, "http://near:7000/", "here");
    let near = explain(&pod, "near:7000");
    assert!(near.contains("priority 0, eu/a") && near.contains("priority 1, us/b"), "{near}");

    let synced = || istiod.is_synced("app-0.default");
    wait_until("SYNCED", SOON, || format!("{:#}", istiod.syncz()), synced);
    check_all_is_acked(&pod);

    // What is deleted no longer holds.
    kubernetes.delete(
        "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: shop, namespace: default}}",
    );
    wait_until("no more weights", SOON, || explain(&pod, "shop:80"), || !explain(&pod, "shop:80").contains("|v1|"));
    check_share(&pod, "http://shop/", "v1", 0.5);
    kubernetes.delete("{apiVersion: v1, kind: Service, metadata: {name: shop, namespace: default}}");
    let gone = || explain(&pod, "shop:80").contains("libc answers");
    wait_until("the service is gone", SOON, || explain(&pod, "shop:80"), gone);
}

/// The share of `name` in [`CONNECTIONS`] connections is within four standard deviations of `expected`.
#[track_caller]
fn check_share(pod: &Pod, url: &str, name: &str, expected: f64) {
    let urls = vec![url; CONNECTIONS as usize];
    // One process, a connection for each.
    let mut curl = pod.mesh("curl");
    let finished = Finished::of(curl.args(["-sS", "--max-time", "20", "-H", "Connection: close"]).args(urls));
    let answers = finished.success().lines().filter(|line| line.starts_with(&format!("{name} "))).count();
    let share = answers as f64 / f64::from(CONNECTIONS);
    let bound = 4.0 * (expected * (1.0 - expected) / f64::from(CONNECTIONS)).sqrt();
    assert!((share - expected).abs() < bound, "{url}: {name} has {share} of {expected} ± {bound}\n{finished}");
}

#[test]
fn a_pod_sees_and_may_reach_what_its_sidecar_and_the_mesh_say() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let _backends = [("10.244.1.1:8080", "web"), ("10.244.1.2:8080", "web-elsewhere")]
        .map(|(address, name)| pod.backend(address, name));
    let (kubernetes, _istiod) = istio(&pod, "{}");
    kubernetes.apply(include_str!("../../istio/services.yaml"));
    check_answers(&pod, "http://web/", "web");
    check_answers(&pod, "http://web.elsewhere/", "web-elsewhere");
    assert!(explain(&pod, "192.0.2.1:81").contains("not described by the mesh: passes"));

    // Only its own namespace, and nobody outside.
    kubernetes.apply(
        r#"
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec:
  egress: [{hosts: ["./*"]}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
"#,
    );
    let closed = || explain(&pod, "192.0.2.1:81").contains("not in the registry (REGISTRY_ONLY): ECONNREFUSED");
    wait_until("REGISTRY_ONLY", SOON, || explain(&pod, "192.0.2.1:81"), closed);
    check_answers(&pod, "http://web/", "web");
    assert!(explain(&pod, "web.elsewhere").contains("libc answers"), "{}", explain(&pod, "web.elsewhere"));
    let dial = Finished::of(pod.mesh(c_program("dial")).args(["10.96.1.2", "80"]));
    assert!(dial.stdout.contains("connect=ECONNREFUSED"), "{dial}");

    // The same for the whole mesh.
    kubernetes
        .delete("{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: default, namespace: default}}");
    check_answers(&pod, "http://web.elsewhere/", "web-elsewhere");
    assert!(!closed());
    kubernetes.mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    wait_until("REGISTRY_ONLY of the mesh", SOON, || explain(&pod, "192.0.2.1:81"), closed);
    check_answers(&pod, "http://web.elsewhere/", "web-elsewhere");
}

/// Each resource is one that istiod gave, under its version, and nothing that was asked for lacks.
#[track_caller]
fn check_all_is_acked(pod: &Pod) {
    let config = || pod.status()["client_config"].take();
    let all_acked = || {
        let config = config();
        let entries = config["genericXdsConfigs"].as_array().unwrap();
        let acked = |entry: &Value| entry["clientStatus"] == "ACKED" && entry["versionInfo"].is_string();
        !entries.is_empty() && entries.iter().all(acked)
    };
    wait_until("all is acknowledged", SOON, || format!("{:#}", config()), all_acked);
    let config = config();
    assert_eq!(config["node"]["id"], format!("sidecar~{POD_V4}~app-0.default~default.svc.cluster.local"));
    let entries = config["genericXdsConfigs"].as_array().unwrap();
    for (kind, name) in [
        ("envoy.config.cluster.v3.Cluster", "outbound|80|v1|shop.default.svc.cluster.local"),
        ("envoy.config.endpoint.v3.ClusterLoadAssignment", "outbound|80|v2|shop.default.svc.cluster.local"),
        ("envoy.config.route.v3.RouteConfiguration", "80"),
    ] {
        let url = format!("type.googleapis.com/{kind}");
        let is = |entry: &&Value| entry["typeUrl"] == url.as_str() && entry["name"] == name;
        assert!(entries.iter().any(|entry| is(&entry)), "{kind} {name} in {entries:#?}");
    }
}
