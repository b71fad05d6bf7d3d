//! Picking an endpoint, by policy and number of endpoints.

use std::net::IpAddr;

use control_plane::Synthetic;
use xds_runtime::lb::{Call, Choice, Seeded, choose};
use xds_runtime::shm::WordAddr;

use crate::case::Runner;
use crate::mesh::Mesh;

const ENDPOINTS: [usize; 3] = [3, 100, 10_000];
const POLICIES: [(&str, &str); 5] = [
    ("round robin", "simple: ROUND_ROBIN"),
    ("least request", "simple: LEAST_REQUEST"),
    ("random", "simple: RANDOM"),
    ("ring hash", "consistentHash: {useSourceIp: true, ringHash: {}}"),
    ("maglev", "consistentHash: {useSourceIp: true, maglev: {}}"),
];

pub fn run(runner: &mut Runner) {
    for (policy, setting) in POLICIES {
        for endpoints in ENDPOINTS {
            let mut mesh = Mesh::of_yaml(&format!("{}{}", Synthetic::new(1, endpoints).yaml(), rule(setting)));
            let (image, state) = (mesh.image(), mesh.state);
            let mut entropy = Seeded(1);
            let mut caller = 0_u32;
            let mut pick = || {
                caller = caller.wrapping_add(0x9e37_79b9);
                let source = || Some(IpAddr::V4(caller.into()));
                let (address, port) = (WordAddr::new(Synthetic::vip(0).into()), Synthetic::PORT);
                let call = Call { address, port, source: &source, now: 2_000_000, avoid: &[] };
                image.read(|view| choose(view, Some(&state), &call, &mut entropy)).unwrap()
            };
            let choice = pick();
            assert!(matches!(choice, Choice::Endpoint(_)), "{policy}: {choice:?}");
            runner.small("pick", &format!("{policy}, {endpoints} endpoints"), pick);
        }
    }
}

fn rule(setting: &str) -> String {
    format!(
        "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: rule, namespace: default}}
spec: {{host: {}, trafficPolicy: {{loadBalancer: {{{setting}}}}}}}
",
        Synthetic::host(0)
    )
}
