#![allow(clippy::unwrap_used, clippy::expect_used)]
mod world;
use ctests::*;
use world::*;

#[test]
fn explore() {
    let node = node();
    let (kubernetes, _istiod) = control_plane(&node, "{}");
    publish(&kubernetes);
    let plain = pod(&kubernetes, "plain", Kind::Plain.address(), &labels(Kind::Plain));
    let sidecar = pod(&kubernetes, "sidecar", Kind::Sidecar.address(), &labels(Kind::Sidecar));
    let ldmesh = pod(&kubernetes, "ldmesh", Kind::Ldmesh.address(), &labels(Kind::Ldmesh));
    let _b: Vec<_> = [(&plain, "plain"), (&sidecar, "sidecar"), (&ldmesh, "ldmesh")].map(|(p, n)| p.backend("0.0.0.0:8080", n)).into();
    let proxy = sidecar.istio_proxy(&kubernetes, true);
    let run = |when: &str| {
        for (caller, name) in [(&plain, "plain"), (&sidecar, "sidecar"), (&ldmesh, "ldmesh")] {
            for server in ["plain", "sidecar", "ldmesh", "all"] {
                for _ in 0..(if server == "all" {3} else {1}) {
                let mut curl = if name == "ldmesh" { caller.mesh("curl") } else { caller.command("curl") };
                curl.env("LDMESH_XDS", ISTIOD_TLS_URL);
                let done = Finished::of(curl.args(["-sS", "--max-time", "5", &format!("http://{server}/")]));
                println!("{when}: {name} -> {server}: {} {}", done.stdout.trim(), done.stderr.trim());
                }
            }
        }
        println!("tls in {}", proxy.sum(|n| n.contains("ssl.handshake")));
    };
    run("default");
    for mode in ["STRICT", "DISABLE", "PERMISSIVE"] {
        kubernetes.apply(&format!("{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: default, namespace: default}}, spec: {{mtls: {{mode: {mode}}}}}}}"));
        std::thread::sleep(std::time::Duration::from_secs(3));
        run(mode);
    }
    println!("{}", Finished::of(ldmesh.ldmesh(&["explain", "all:80"]).env("LDMESH_XDS", ISTIOD_TLS_URL)));
    println!("{}", Finished::of(ldmesh.ldmesh(&["status"]).env("LDMESH_XDS", ISTIOD_TLS_URL)));
    println!("{}", Finished::of(sidecar.command("curl").args(["-s", "http://127.0.0.1:15000/stats?type=All"])).stdout.lines().filter(|l| l.contains("ssl.h") || l.contains("rejected")||l.contains("inbound|") && l.contains("upstream_rq_total")).collect::<Vec<_>>().join("\n"));
}
