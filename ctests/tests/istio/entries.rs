//! ServiceEntries and WorkloadEntries: `ctests/istio/entries.yaml`.

use ctests::{Finished, Pod, c_program};

use super::*;

const ENTRIES: &str = include_str!("../../istio/entries.yaml");

#[test]
fn each_kind_of_service_entry_is_reached_as_it_should_be() {
    let pod = Pod::in_cluster();
    let _backends = [
        ("10.244.1.1:6000", "fixed-1"),
        ("10.244.1.2:6002", "fixed-2"),
        ("10.244.1.1:8080", "fixed-1"),
        ("10.244.1.2:8080", "fixed-2"),
        ("10.244.1.3:8080", "named"),
        ("10.244.1.5:5001", "gathered"),
        ("10.244.1.7:8080", "machine"),
        ("10.244.1.8:8080", "several"),
    ]
    .map(|(address, name)| pod.backend(address, name));
    let (kubernetes, _istiod) = istio(&pod, "{}");
    kubernetes.apply(ENTRIES);

    for (url, name) in [
        ("http://named.example/", "named"),
        ("http://rotating.example:8000/", "named"),
        ("http://10.99.3.3:5001/", "gathered"),
        ("http://machines.example/", "machine"),
        ("http://several.example/", "several"),
    ] {
        check_answers(&pod, url, name);
    }
    for url in ["http://fixed.example/", "http://fixed.example:6000/"] {
        let both = |name: &str| (0..100).any(|_| who(&pod, url) == name);
        assert!(both("fixed-1") && both("fixed-2"), "{url}");
    }

    // Without resolution, whoever dials an address of the network goes there.
    assert!(explain(&pod, "10.98.1.1:5000").contains("the address that was dialled"));
    // Without an address, a name is the business of DNS; it has not asked for an automatic one.
    for name in ["automatic.example", "network.example", "secret.example", "one.several.example"] {
        assert!(explain(&pod, name).contains("libc answers"), "{}", explain(&pod, name));
    }
    // Of TLS, the name decides at whatever address DNS has for it.
    let secret = explain(&pod, "secret.example:443");
    assert!(secret.contains("outbound|443||secret.example") && secret.contains("10.244.1.3:8443"), "{secret}");
}

#[test]
fn an_entry_without_an_address_has_an_automatic_one_where_the_pod_asks_for_it() {
    let pod = Pod::in_cluster();
    let _backends = [("10.244.1.6:6100", "automatic"), ("10.244.1.3:8443", "secret")]
        .map(|(address, name)| pod.backend(address, name));
    let (kubernetes, _istiod) = istio(&pod, "{}");
    kubernetes.apply(ENTRIES);
    // As users of sidecars write it.
    let proxy_config = json!({"proxyMetadata": {
        "ISTIO_META_DNS_CAPTURE": "true", "ISTIO_META_DNS_AUTO_ALLOCATE": "true",
    }});
    let who = |url: &str| {
        let finished = Finished::of(pod.curl(url).env("PROXY_CONFIG", proxy_config.to_string()));
        if finished.status.success() { finished.stdout.split(' ').next().unwrap().to_owned() } else { finished.stderr }
    };
    for (url, name) in [("http://automatic.example:6100/", "automatic"), ("http://secret.example:443/", "secret")] {
        wait_until(&format!("{name} answers"), SOON, || format!("{}\n{}", who(url), pod.dump()), || who(url) == name);
    }
    let lookup = Finished::of(
        pod.mesh(c_program("lookup"))
            .args(["automatic.example", "-", "stream"])
            .env("PROXY_CONFIG", proxy_config.to_string()),
    );
    assert!(lookup.stdout.contains("addr=240.240."), "{lookup}");
}
