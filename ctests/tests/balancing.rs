//! What a DestinationRule's load balancer does, seen by programs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use ctests::{Finished, Manifest, Mode, Pod};

/// The greeter with a consistent hash over source addresses.
fn hashed(count: u8, table: &str) -> Manifest {
    Manifest::greeter(count).and(&format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: greeter, namespace: default}}\n\
         spec:\n  host: greeter.default.svc.cluster.local\n  trafficPolicy:\n    loadBalancer:\n      \
         consistentHash: {{useSourceIp: true, {table}}}\n",
    ))
}

/// Who answers a client whose socket is bound to an address; `None` = to none.
fn answer(pod: &Pod, source: Option<&str>) -> String {
    let mut curl = pod.curl("http://greeter/");
    if let Some(source) = source {
        curl.args(["--interface", source]);
    }
    let answer = Finished::of(&mut curl);
    answer.success().split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn a_consistent_hash_keeps_each_source_with_its_endpoint_and_moves_few_when_one_goes() {
    for table in ["ringHash: {minimumRingSize: 1024}", "maglev: {tableSize: 65537}"] {
        let pod = Pod::new();
        let mut backends = pod.greeters(Mode::Http, 4);
        let _control_plane = pod.serve(&hashed(4, table));
        let sources: Vec<String> = (1..=16).map(|n| format!("127.0.0.{n}")).collect();
        let all = || sources.iter().map(|source| answer(&pod, Some(source))).collect::<Vec<_>>();
        let before = all();
        assert_eq!(all(), before, "{table}: a source moved");
        let own = answer(&pod, None);
        assert!((0..4).all(|_| answer(&pod, None) == own), "{table}: the pod's own address moved");
        let used: BTreeSet<&String> = before.iter().collect();
        assert!(used.len() > 2, "{table}: {before:?}");
        backends.remove(1).kill();
        for (was, is) in before.iter().zip(all()) {
            assert_ne!(is, "greeter-2", "{table}");
            assert!(was == "greeter-2" || *was == is, "{table}: {was} became {is}");
        }
    }
}
