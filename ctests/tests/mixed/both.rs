//! A pod with both: what Envoy captures is Envoy's, the rest is ldmesh's, and what the injector writes keeps them apart.

use std::net::Ipv4Addr;

use injector::{Namespace, Outcome, Settings, inject};
use serde_json::json;

use super::world::*;
use super::*;

/// The value of `LDMESH_EXCLUDE` that a pod with a sidecar gets, and what it is told.
fn injected(annotations: serde_json::Value) -> (Option<String>, Vec<String>) {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "both", "labels": {"ldmesh.io/inject": "true"}, "annotations": annotations},
        "spec": {
            "containers": [{"name": "app", "image": "app"}],
            "initContainers": [{"name": "istio-proxy", "image": "istio/proxyv2", "restartPolicy": "Always"}],
        },
    });
    pod["metadata"]["annotations"]["ldmesh.io/mixed"] = json!("true");
    let Outcome::Injected { pod, warnings } = inject(&pod, &Namespace::new("default"), &Settings::default()) else {
        panic!("left alone");
    };
    let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let exclude = variables.iter().find(|variable| variable["name"] == "LDMESH_EXCLUDE");
    let exclude = exclude.map(|variable| variable["value"].as_str().unwrap().to_owned());
    (exclude, warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn of_sidecar_and_ldmesh_in_one_pod_each_has_its_connections() {
    let Some(node) = node() else { return };
    let (kubernetes, _istiod) = control_plane(&node);
    let pods = Pods::new(&kubernetes);
    let _programs = pods.start(&kubernetes);
    let labels = json!({"app": "both", "security.istio.io/tlsMode": "istio"});
    let curl = |pod: &Pod, exclude: Option<&str>| {
        let mut curl = pod.mesh("curl");
        curl.envs(exclude.map(|list| ("LDMESH_EXCLUDE", list)));
        curl
    };
    let answered = |kind: Kind, caller: Option<&str>| End::Answered(kind.name(), caller.map(str::to_owned));

    // The sidecar captures what goes out, as it does by default: all of Istio holds, and ldmesh keeps away.
    let captured = pod(&kubernetes, "both-0", Ipv4Addr::new(10, 244, 2, 30), &labels, true);
    let envoy = captured.istio_proxy(&kubernetes, true);
    let (exclude, warnings) = injected(json!({}));
    assert!(warnings.iter().any(|line| line.contains("ldmesh leads none")), "{warnings:?}");
    for server in KINDS {
        let identity = (server == Kind::Sidecar).then_some("both");
        check("captured", &answered(server, identity), || call(curl(&captured, exclude.as_deref()), server.name()));
    }
    let service = "outbound|80||sidecar.default.svc.cluster.local";
    assert!(envoy.connections(service) > 0, "Envoy chose");
    // The agent's own stream goes through Envoy.
    let status = || Finished::of(&mut captured.ldmesh(&["status"])).stdout;
    wait_until("its own stream", SOON, status, || status().contains("connected (delta)"));

    // Without that, Envoy gets endpoints, which it does not know: no identity, and no way in where one is demanded.
    let passed = envoy.connections("PassthroughCluster");
    check("unaware", &answered(Kind::Sidecar, None), || call(curl(&captured, None), Kind::Sidecar.name()));
    assert!(envoy.connections("PassthroughCluster") > passed, "Envoy passed them on");

    // The sidecar takes what comes in only: ldmesh leads what goes out.
    let left = pod(&kubernetes, "both-1", Ipv4Addr::new(10, 244, 2, 31), &labels, true);
    let envoy = left.istio_proxy(&kubernetes, false);
    let (exclude, warnings) = injected(json!({"traffic.sidecar.istio.io/includeOutboundIPRanges": ""}));
    assert_eq!((&exclude, warnings.len()), (&None, 0), "{warnings:?}");
    for server in KINDS {
        check("left", &answered(server, None), || call(curl(&left, None), server.name()));
    }
    let explained = explain(&left, Kind::Sidecar.name());
    assert!(explained.contains("successes") && !explained.contains("picks 0,"), "{explained}");
    assert_eq!(envoy.connections("PassthroughCluster"), 0);

    // Where mTLS is demanded, only what Envoy captured comes through, and plain pods do not get in.
    kubernetes.apply(&peer_authentication("STRICT"));
    let reset = End::Failed("Connection reset by peer".to_owned());
    check("left, STRICT", &reset, || call(curl(&left, None), Kind::Sidecar.name()));
    let (exclude, _) = injected(json!({}));
    check("captured, STRICT", &answered(Kind::Sidecar, Some("both")), || {
        call(curl(&captured, exclude.as_deref()), Kind::Sidecar.name())
    });
    check("unaware, STRICT", &reset, || call(curl(&captured, None), Kind::Sidecar.name()));
    // Both pods have a server behind their sidecars.
    let _server = left.backend("0.0.0.0:8080", Kind::Sidecar.name());
    check("in, STRICT", &reset, || call(pods.caller(Kind::Plain).command("curl"), "10.244.2.31:8080"));
}
