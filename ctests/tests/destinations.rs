//! What an address and port mean: server names, the outbound policy, HTTP rules, endpoints that are removed, sockets'
//! settings.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, Running, c_program, wait_until};

const VIP: &str = "10.96.0.10";

/// Resolves a name in the way that is named first, dials what it got on port 443, and says who answers.
const BY_NAME: &str = "
import socket, sys
how, name = sys.argv[1:]
if how == 'getaddrinfo':
    address = socket.getaddrinfo(name, 443, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
elif how == 'gethostbyname':
    address = socket.gethostbyname_ex(name)[2][0]
else:
    address = name
connection = socket.socket()
try:
    connection.connect((address, 443))
    print('backend=' + connection.makefile().readline().strip())
except OSError as error:
    print('errno=' + str(error.errno))
";

fn by_name(pod: &Pod, how: &str, name: &str) -> Finished {
    Finished::of(pod.mesh("python3").args(["-c", BY_NAME, how, name]))
}

/// A TLS service without an address, at one endpoint.
fn tls_entry(name: &str, host: &str, endpoint: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         hosts: ['{host}']\n  resolution: STATIC\n  ports: [{{number: 443, name: tls, protocol: TLS, targetPort: 8080}}]\n  \
         endpoints: [{{address: {endpoint}}}]\n"
    )
}

#[test]
fn a_tls_service_without_an_address_is_known_by_the_name_that_the_program_resolved() {
    let hosts = "127.0.0.1 localhost\n198.51.100.7 a.example\n198.51.100.8 b.example\n198.51.100.9 c.example\n\
                 198.51.100.10 a.example2 b.example2\n";
    let pod = Pod::builder().hosts(hosts).build();
    let _backends = pod.greeters(Mode::Echo, 2);
    let manifest = Manifest::greeter(1).and(&tls_entry("a", "a.example", "127.0.1.1")).and(&tls_entry(
        "b",
        "b.example",
        "127.0.1.2",
    ));
    let _control_plane = pod.serve(&manifest);
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    // Without the mesh there is no way out of the pod.
    let unreachable = rustix::io::Errno::NETUNREACH.raw_os_error().to_string();
    for how in ["getaddrinfo", "gethostbyname"] {
        for (name, backend) in [("a.example", "greeter-1"), ("B.example", "greeter-2")] {
            let answer = by_name(&pod, how, name);
            assert_eq!(answer.field("backend"), Some(backend), "{how} {name}: {answer}");
        }
        let other = by_name(&pod, how, "c.example");
        assert_eq!(other.field("errno"), Some(unreachable.as_str()), "{how}: {other}");
    }
    let digits = by_name(&pod, "digits", "198.51.100.7");
    assert_eq!(digits.field("errno"), Some(unreachable.as_str()), "{digits}");
    let explained = Finished::of(&mut pod.ldmesh(&["explain", "a.example:443"]));
    let text = explained.success();
    assert!(text.contains("TLS name  a.example") && text.contains("127.0.1.1:8080"), "{explained}");
    let by_address = Finished::of(&mut pod.ldmesh(&["explain", "198.51.100.7:443"]));
    assert!(by_address.success().contains("b.example: outbound|443||b.example"), "{by_address}");
}

#[test]
fn outside_the_registry_is_refused_and_said_but_never_on_loopback() {
    let pod = Pod::new();
    let _greeter = pod.greeters(Mode::Echo, 1);
    let _local = pod.backend_of(Mode::Echo, "127.0.0.1:9000", "local");
    let _control_plane = pod.serve(&Manifest::greeter(1).and(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: istio-system}\n\
         spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n",
    ));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    let log = pod.folder().join("log");
    let mut dial = pod.mesh(c_program("dial"));
    dial.env("LDMESH_LOG", "info").env("LDMESH_LOG_FILE", &log);
    let answer = Finished::of(dial.args(["198.51.100.1", "443"]));
    assert_eq!(answer.field("connect"), Some("ECONNREFUSED"), "{answer}");
    let said = std::fs::read_to_string(&log).unwrap();
    let line = "connect 198.51.100.1:443: refused: not in the registry (REGISTRY_ONLY)";
    assert!(said.lines().any(|said| said.ends_with(line)), "{said}");
    for (address, port, backend) in [("127.0.0.1", "9000", "local"), (VIP, "80", "greeter-1")] {
        let answer = Finished::of(pod.mesh(c_program("dial")).args([address, port]));
        assert_eq!(answer.field("backend"), Some(backend), "{answer}");
    }
    let explained = Finished::of(&mut pod.ldmesh(&["explain", "198.51.100.1:443"]));
    assert!(explained.success().contains("not in the registry (REGISTRY_ONLY): ECONNREFUSED"), "{explained}");
}

#[test]
fn an_exact_http_service_passes_where_its_rules_depend_on_the_request() {
    let rules = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: greeter, namespace: default}\n\
                 spec:\n  hosts: [greeter]\n  http:\n  - match: [{uri: {prefix: /v2}}]\n    \
                 route: [{destination: {host: greeter}}]\n  - route: [{destination: {host: greeter}}]\n";
    for (exact, expected) in [("*.other.svc.cluster.local", "OK"), ("*.default.svc.cluster.local", "ENETUNREACH")] {
        let pod = Pod::new();
        let _greeter = pod.greeters(Mode::Echo, 1);
        let _control_plane = pod.serve(&Manifest::greeter(1).and(rules));
        let mut lookup = pod.mesh(c_program("lookup"));
        Finished::of(lookup.env("LDMESH_EXACT_HTTP", exact).args(["greeter", "80", "inet"])).success();
        let answer = Finished::of(pod.mesh(c_program("dial")).args([VIP, "80"]));
        assert_eq!(answer.field("connect"), Some(expected), "{exact}: {answer}");
        let named = || Finished::of(&mut pod.ldmesh(&["status"])).success().contains("path under /v2");
        wait_until("status names the rule", Duration::from_secs(5), || pod.dump(), named);
    }
}

#[test]
fn a_removed_endpoint_gets_no_new_connection_and_keeps_the_old_ones() {
    let pod = Pod::new();
    let backends = pod.greeters(Mode::Echo, 2);
    let control_plane = pod.serve(&Manifest::greeter(2).and_in_turn("greeter"));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    let mut command = pod.mesh(c_program("holds_connections"));
    let mut held = Running::start(command.args([VIP, "80", "6"]).stdin(Stdio::piped()));
    let all = || backends.iter().map(|backend| backend.accepted()).sum::<usize>() == 6;
    wait_until("all connections are held", Duration::from_secs(5), || pod.dump(), all);
    assert_eq!(backends[1].accepted(), 3, "in turn");
    control_plane.apply(&Manifest::greeter(1).and_in_turn("greeter"));
    let known = || !Finished::of(&mut pod.ldmesh(&["explain", "greeter:80"])).success().contains("127.0.1.2:8080");
    wait_until("the endpoint is gone from the image", Duration::from_secs(5), || pod.dump(), known);
    for _ in 0..20 {
        let answer = Finished::of(pod.mesh(c_program("dial")).args([VIP, "80"]));
        assert_eq!(answer.field("backend"), Some("greeter-1"), "{answer}");
    }
    assert_eq!(backends[1].accepted(), 3);
    let mut input = held.stdin().unwrap();
    writeln!(input).unwrap();
    drop(input);
    let ended = held.finish();
    assert_eq!((ended.field("held"), ended.field("alive")), (Some("6"), Some("6")), "{ended}");
}

#[test]
fn a_clusters_keepalive_is_on_the_socket_unless_the_program_has_its_own_or_the_connect_fails() {
    let pod = Pod::new();
    let mut backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1).and(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: greeter, namespace: default}\nspec:\n  \
         host: greeter\n  trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {time: 600s, interval: 75s, probes: 3}}}}\n",
    ));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    let dial = |more: &[&str]| Finished::of(pod.mesh(c_program("dial_keepalive")).args([VIP, "80"]).args(more));
    let answer = dial(&[]);
    assert_eq!((answer.field("connect"), answer.field("after")), (Some("OK"), Some("1/3/600/75")), "{answer}");
    let own = dial(&["own"]);
    assert_eq!(own.field("connect"), Some("OK"), "{own}");
    assert_eq!(own.field("after"), own.field("before"), "{own}");
    assert!(own.field("after").unwrap().contains("/33/"), "{own}");
    backends.remove(0).kill();
    let refused = dial(&[]);
    assert_eq!(refused.field("connect"), Some("ECONNREFUSED"), "{refused}");
    assert_eq!(refused.field("after"), refused.field("before"), "{refused}");
}
