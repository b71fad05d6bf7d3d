//! ServiceEntries and WorkloadEntries: `ctests/istio/entries.yaml`.

use ctests::{Finished, Pod, c_program};

use super::*;

#[test]
fn each_kind_of_service_entry_is_reached_as_it_should_be() {
    let pod = Pod::in_cluster();
    let _backends = [
        ("10.244.1.1:6000", "fixed-1"),
        ("10.244.1.2:6002", "fixed-2"),
        ("10.244.1.1:8080", "fixed-1"),
        ("10.244.1.2:8080", "fixed-2"),
        ("10.244.1.3:8080", "named"),
        ("10.244.1.3:8443", "secret"),
        ("10.244.1.5:5001", "gathered"),
        ("10.244.1.6:6100", "automatic"),
        ("10.244.1.7:8080", "machine"),
        ("10.244.1.8:8080", "several"),
    ]
    .map(|(address, name)| pod.backend(address, name));
    let (kubernetes, istiod) = istio(&pod, "{}");
    kubernetes.apply(include_str!("../../istio/entries.yaml"));
    check_answers(&pod, "http://machines.example/", "machine");
    println!(
        "{}",
        Finished::of(
            pod.command("curl").args(["-s", "http://127.0.0.1:15080/debug/config_dump?proxyID=app-0.default"])
        )
        .stdout
        .len()
    );
    for target in [
        "fixed.example:6000",
        "fixed.example:80",
        "named.example:80",
        "rotating.example:8000",
        "network.example:5000",
        "10.98.1.1:5000",
        "gathered.example:5001",
        "10.99.3.3:5001",
        "automatic.example:6100",
        "secret.example:443",
        "machines.example:80",
        "several.example:80",
        "one.several.example:80",
    ] {
        println!(
            "{}",
            Finished::of(&mut pod.mesh(c_program("lookup")).args([target.split(':').next().unwrap(), "-", "stream"]))
        );
        println!("{}", who(&pod, &format!("http://{target}/")));
        println!("== {target}\n{}", explain(&pod, target));
    }
    let _ = istiod;
}
