//! The table in docs/istio.md: each caller, each server, each mode of PeerAuthentication.

use super::world::*;
use super::*;

const RESET: &str = "Connection reset by peer";

/// What the table says. Only a sidecar demands mTLS, and only a sidecar speaks it: by itself where it is taken.
fn expected(caller: Kind, server: Kind, mode: &str) -> End {
    let identity =
        (caller == Kind::Sidecar && server == Kind::Sidecar && mode != "DISABLE").then(|| "sidecar".to_owned());
    if server == Kind::Sidecar && mode == "STRICT" && identity.is_none() {
        return End::Failed(RESET.to_owned());
    }
    End::Answered(server.name(), identity)
}

#[test]
fn who_answers_whom_in_each_mode_of_peer_authentication() {
    let Some(node) = node() else { return };
    let (kubernetes, _istiod) = control_plane(&node);
    let pods = Pods::new(&kubernetes);
    let _programs = pods.start(&kubernetes);
    let ldmesh = pods.caller(Kind::Ldmesh);

    for mode in ["PERMISSIVE", "STRICT", "DISABLE"] {
        kubernetes.apply(&peer_authentication(mode));
        for caller in KINDS {
            for server in KINDS {
                let what = format!("{mode}: {caller:?} calls {server:?}");
                check(&what, &expected(caller, server, mode), || pods.call(caller, server.name()));
            }
        }
        for caller in KINDS {
            check_turns(&pods, caller, mode);
        }

        // What a person is told. Of DISABLE the client is told, of STRICT it is not.
        let endpoint = format!("{}:8080", Kind::Sidecar.server());
        let explained = explain(ldmesh, ALL);
        let marked: Vec<&str> =
            explained.lines().filter(|line| line.contains("unless its PeerAuthentication is STRICT")).collect();
        assert_eq!(marked.len(), usize::from(mode != "DISABLE"), "{mode}: {explained}");
        assert!(marked.iter().all(|line| line.trim().starts_with(&endpoint)), "{mode}: {explained}");
        let status = Finished::of(&mut ldmesh.ldmesh(&["status"]));
        let said = status.success().lines().any(|line| line.contains(&endpoint) && line.contains(", sidecar,"));
        assert_eq!(said, mode != "DISABLE", "{mode}: {status}");
    }
}

/// A service of one endpoint of each kind: each has its turn, and ends as a call to its kind does.
#[track_caller]
fn check_turns(pods: &Pods, caller: Kind, mode: &str) {
    const EACH: usize = 4;
    let ends: Vec<End> = (0..EACH * KINDS.len()).map(|_| pods.call(caller, ALL)).collect();
    for server in KINDS {
        let expected = expected(caller, server, mode);
        let count = ends.iter().filter(|end| match (end, &expected) {
            (End::Failed(why), End::Failed(expected)) => why.contains(expected.as_str()),
            (end, expected) => *end == expected,
        });
        assert_eq!(count.count(), EACH, "{mode}: {caller:?} calls {ALL}, {expected:?}: {ends:?}");
    }
}
