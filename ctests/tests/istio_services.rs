//! Every kind of service that Istio describes, from a real istiod.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use ctests::namespace::POD_V4;
use ctests::{Finished, Pod, wait_until};
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_service_of_the_cluster_is_reached() {
    let pod = Pod::in_cluster();
    let _one = pod.backend("10.244.1.1:8080", "one");
    let kubernetes = pod.kubernetes();
    let istiod = kubernetes.istiod("{}");
    kubernetes.run_pod("default", "app-0", POD_V4, &json!({"app": "app"}));
    kubernetes.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: greeter, namespace: default}
spec:
  clusterIP: 10.96.0.10
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: greeter-1, namespace: default, labels: {kubernetes.io/service-name: greeter}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.1.1], conditions: {ready: true}}]
",
    );
    let answered = || Finished::of(&mut pod.curl("http://greeter/")).stdout.starts_with("one ");
    wait_until("the service answers", SOON, || format!("{}\n{}", istiod.syncz(), pod.dump()), answered);
}
