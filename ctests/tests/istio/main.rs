//! A real istiod over a real API server: the endpoints of every kind of service, securely, and right through
//! everything that a control plane does.
//!
//! Each test has a pod of its own with all three in it; the objects are the files of `ctests/istio/`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod changes;
mod entries;
mod policies;
mod security;
mod services;

use std::time::Duration;

use ctests::namespace::POD_V4;
use ctests::{Finished, Istiod, Kubernetes, Pod, has_istio, wait_until};
use serde_json::json;

/// istiod collects changes for 100 ms; two cores are shared.
const SOON: Duration = Duration::from_secs(20);

/// Starts Kubernetes and istiod, and makes this pod known to them.
#[track_caller]
fn istio<'pod>(pod: &'pod Pod, mesh_config: &str) -> (Kubernetes<'pod>, Istiod<'pod>) {
    let kubernetes = pod.kubernetes();
    let istiod = kubernetes.istiod(mesh_config);
    kubernetes.run_pod("default", "app-0", POD_V4, &json!({"app": "app"}));
    (kubernetes, istiod)
}

/// The name of the backend that answers a preloaded curl, or curl's error.
fn who(pod: &Pod, url: &str) -> String {
    let finished = Finished::of(&mut pod.curl(url));
    match finished.status.success() {
        true => finished.stdout.split(' ').next().unwrap_or_default().to_owned(),
        false => finished.stderr,
    }
}

/// Waits until `name` answers, and asks it again.
#[track_caller]
fn check_answers(pod: &Pod, url: &str, name: &str) {
    let dump = || format!("{url}: {}\n{}", who(pod, url), pod.dump());
    wait_until(&format!("{name} answers at {url}"), SOON, dump, || who(pod, url) == name);
    for _ in 0..5 {
        assert_eq!(who(pod, url), name, "{url}");
    }
}

/// What `ldmesh explain` prints.
fn explain(pod: &Pod, target: &str) -> String {
    Finished::of(&mut pod.ldmesh(&["explain", target])).to_string()
}
