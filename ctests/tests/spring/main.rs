//! The demo: a Spring client that knows its servers by the name of a Service only, and what the mesh makes of it.
//!
//! The manifests are those of `k8s/demo`. The same steps are taken with `ldmesh serve` and with a real istiod.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
mod steps;

use ctests::{Pod, has_istio, skipped, spring_jars};

use cluster::{Istio, Served};
use steps::follow;

#[test]
fn a_spring_client_follows_ldmesh_serve() {
    let Some(jars) = spring_jars() else { return skipped("no JDK or no Maven") };
    let pod = pod();
    follow(&pod, &jars, &Served::start(&pod));
}

#[test]
fn a_spring_client_follows_istiod() {
    let Some(jars) = spring_jars() else { return skipped("no JDK or no Maven") };
    if !has_istio() {
        return;
    }
    let pod = pod();
    follow(&pod, &jars, &Istio::start(&pod));
}

fn pod() -> Pod {
    let pod = Pod::in_cluster();
    // kube-proxy refuses connections to a service without endpoints; here nobody listens there.
    pod.ip("route add local 10.96.0.40/31 dev lo");
    pod
}
