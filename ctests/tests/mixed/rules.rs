//! A DestinationRule that says what clients speak.

use serde_json::json;

use super::world::*;
use super::*;

fn tls(mode: &str) -> String {
    destination_rule(&json!({"loadBalancer": {"simple": "ROUND_ROBIN"}, "tls": {"mode": mode}}))
}

#[test]
fn a_rule_that_demands_tls_is_named_and_one_that_forbids_it_is_kept() {
    let Some(node) = node() else { return };
    let (kubernetes, _istiod) = control_plane(&node);
    let pods = Pods::new(&kubernetes);
    let _programs = pods.start(&kubernetes);
    let ldmesh = pods.caller(Kind::Ldmesh);
    let answered = |kind: Kind| End::Answered(kind.name(), None);
    for server in KINDS {
        check("no rule", &answered(server), || pods.call(Kind::Ldmesh, server.name()));
    }

    for mode in ["ISTIO_MUTUAL", "SIMPLE"] {
        kubernetes.apply(&tls(mode));
        for server in KINDS {
            let said = || explain(ldmesh, server.name());
            let why = format!("passes: the endpoints demand TLS: outbound|80||{}.default", server.name());
            wait_until(mode, SOON, said, || said().contains(&why));
            // To the service's own address, in plain text: kube-proxy chooses, and who takes plain text answers.
            check(mode, &answered(server), || pods.call(Kind::Ldmesh, server.name()));
            let closed = || call_closed(ldmesh, server.name());
            check(mode, &End::Failed("(7) Failed to connect".to_owned()), closed);
        }
        // A sidecar does what the rule says, and nobody there speaks TLS.
        for server in [Kind::Plain, Kind::Ldmesh] {
            check(mode, &End::Failed("503".to_owned()), || pods.call(Kind::Sidecar, server.name()));
        }
    }

    kubernetes.apply(&tls("DISABLE"));
    for (caller, server) in KINDS.iter().flat_map(|caller| KINDS.map(|server| (*caller, server))) {
        check("DISABLE", &answered(server), || pods.call(caller, server.name()));
    }
    assert!(!explain(ldmesh, ALL).contains("sidecar:"), "{}", explain(ldmesh, ALL));
    kubernetes.apply(&peer_authentication("STRICT"));
    for caller in KINDS {
        let refused = End::Failed(if caller == Kind::Sidecar { "503" } else { "Connection reset by peer" }.to_owned());
        check("DISABLE and STRICT", &refused, || pods.call(caller, Kind::Sidecar.name()));
    }
}

fn call_closed(pod: &Pod, service: &str) -> End {
    let mut curl = pod.mesh("curl");
    curl.env("LDMESH_FAIL", "closed");
    call(curl, service)
}
