//! Kubernetes' Services: `ctests/istio/services.yaml`.

use ctests::{Finished, Pod, c_program};

use super::*;

#[test]
fn each_kind_of_service_is_reached_as_it_should_be() {
    let pod = Pod::in_cluster();
    let _backends = [
        ("10.244.1.1:8080", "web"),
        ("10.244.1.1:9000", "web-admin"),
        ("10.244.1.2:8080", "web-elsewhere"),
        ("10.244.1.3:3306", "store"),
        ("10.244.1.4:7001", "plain"),
        ("10.244.1.5:8443", "vault"),
        ("10.244.1.6:7400", "ring-0"),
        ("10.244.1.7:7400", "ring-1"),
        ("10.244.1.8:8080", "shard"),
        ("10.244.1.9:8080", "asleep"),
    ]
    .map(|(address, name)| pod.backend(address, name));
    let (kubernetes, _istiod) = istio(&pod, "{}");
    // istiod holds endpoints back until it knows the pods that they name.
    kubernetes.run_pod("default", "ring-0", "10.244.1.6", &json!({"app": "ring"}));
    kubernetes.run_pod("default", "ring-1", "10.244.1.7", &json!({"app": "ring"}));
    kubernetes.apply(include_str!("../../istio/services.yaml"));

    for (url, name) in [
        ("http://web/", "web"),
        ("http://web:9000/", "web-admin"),
        ("http://web.elsewhere/", "web-elsewhere"),
        ("http://web.default.svc.cluster.local/", "web"),
        ("http://store:3306/", "store"),
        ("http://plain:7000/", "plain"),
        ("http://vault:443/", "vault"),
        ("http://ring-0.ring:7400/", "ring-0"),
        ("http://ring-1.ring:7400/", "ring-1"),
        ("http://shards:8080/", "shard"),
    ] {
        check_answers(&pod, url, name);
    }

    // A headless name has its pods' addresses; the port that is dialled is theirs.
    let addresses = Finished::of(pod.mesh(c_program("lookup")).args(["ring", "-", "stream"])).stdout;
    assert!(addresses.contains("addr=10.244.1.6 ") && addresses.contains("addr=10.244.1.7 "), "{addresses}");
    // A port that the service does not have, its datagrams, and a name that is not istiod's are not the mesh's.
    for target in ["web:81", "clock:123", "alias:80"] {
        assert!(explain(&pod, target).contains("passes") || explain(&pod, target).contains("libc answers"), "{target}");
    }
    // Nobody is ready: the program's connect goes where it would go without us, and nobody is there.
    let nobody = who(&pod, "http://asleep/");
    assert!(nobody.contains("connect"), "{nobody}");
    assert!(explain(&pod, "asleep:80").contains("no endpoint"), "{}", explain(&pod, "asleep:80"));
}
