//! Pods with Istio's sidecar, pods with ldmesh and plain pods call each other.
//!
//! All is Istio's but Envoy's build: istiod over a real API server, `istio-init`'s rules in each pod's own network,
//! `pilot-agent`, and certificates of istiod's CA, so that a sidecar tells its program whom it was called by. The nodes'
//! part, which leads plain pods to services, is iptables, as kube-proxy writes it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod both;
mod matrix;
mod rules;
mod world;

use std::time::Duration;

use ctests::{Finished, Pod, wait_until};

use world::End;

/// istiod collects changes for 100 ms, two types go out one after the other, and two cores are shared.
const SOON: Duration = Duration::from_secs(30);

/// What `ldmesh explain` prints.
fn explain(pod: &Pod, target: &str) -> String {
    Finished::of(&mut pod.ldmesh(&["explain", target])).success().to_owned()
}

/// Waits until calls end like this, and sees that they go on to.
#[track_caller]
fn check(what: &str, expected: &End, call: impl Fn() -> End) {
    let is_expected = || match (call(), expected) {
        (End::Failed(why), End::Failed(expected)) => why.contains(expected.as_str()),
        (end, expected) => end == *expected,
    };
    wait_until(&format!("{what}: {expected:?}"), SOON, || format!("{:?}", call()), is_expected);
    for _ in 0..3 {
        assert!(is_expected(), "{what}: {:?}, not {expected:?}", call());
    }
}
