//! Client programs that are compiled: Java, Go and Rust.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use ctests::{CONNECTIONS, Cell, Finished, Manifest, Mode, Pod, Port, Service, Works, app, check_client, compiled};

const ECHO: &str = "ping at 10.96.0.20:7";

/// Java of the classes of `ctests/apps/java`, told not to spend its time on optimising.
fn java(pod: &Pod, class: &str, arguments: &[&str]) -> Command {
    let classes = compiled("java", |folder| {
        let mut javac = Command::new("javac");
        javac.arg("-d").arg(folder);
        for class in ["UrlConnection", "Client", "Channel"] {
            javac.arg(app(&format!("java/{class}.java")));
        }
        javac
    });
    let mut java = pod.mesh("java");
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]).arg(classes).arg(class).args(arguments);
    java.arg(CONNECTIONS.to_string());
    java
}

#[test]
fn java_http_url_connection() {
    check_client("Java HttpURLConnection", "greeter", "greeter", 1, |pod, host| {
        java(pod, "UrlConnection", &[&format!("http://{host}/")])
    });
}

#[test]
fn java_http_client() {
    check_client("Java java.net.http", "greeter", "greeter", 1, |pod, host| {
        java(pod, "Client", &[&format!("http://{host}/")])
    });
}

#[test]
fn java_nio_channel() {
    check_client("Java NIO SocketChannel", "echo", ECHO, 1, |pod, host| java(pod, "Channel", &[host, "7"]));
}

#[test]
fn rust_standard_library() {
    let program = compiled("rust", |folder| {
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-o"]).arg(folder.join("dial")).arg(app("rust/dial.rs"));
        rustc
    });
    check_client("Rust std::net", "echo", ECHO, 1, |pod, host| {
        let mut dial = pod.mesh(program.join("dial"));
        dial.args([host, "7", &CONNECTIONS.to_string()]);
        dial
    });
}

fn go(name: &str, cgo: &str) -> std::path::PathBuf {
    let folder = compiled(name, |folder| {
        let mut go = Command::new("go");
        // One cache of the standard library for both builds, kept with what else tests build.
        go.env("CGO_ENABLED", cgo).env("GOCACHE", folder.with_file_name("go-cache"));
        go.args(["build", "-o"]).arg(folder.join("dial")).arg(app("go/dial.go"));
        go
    });
    folder.join("dial")
}

fn dial(pod: &Pod, program: &Path, host: &str, port: &str) -> Command {
    let mut dial = pod.mesh(program);
    dial.args([host, port, &CONNECTIONS.to_string()]);
    dial
}

#[test]
fn go_with_cgo() {
    let cell = Cell::application("Go, cgo");
    let program = go("go-cgo", "1");
    let pod = Pod::new();
    let endpoints = ["127.0.2.1", "127.0.2.2", "127.0.2.3"];
    let _echoes = endpoints.map(|ip| pod.backend_of(Mode::Echo, &format!("{ip}:7000"), &format!("at-{ip}")));
    let service = Service::new("echo", "default", &["10.96.0.20"], &endpoints).ports(&[Port::new("tcp", 7000, 7000)]);
    let _control_plane = pod.serve(&Manifest::of(&[service]).and_in_turn("echo"));
    // What kube-proxy does to a ClusterIP, done by a listener.
    pod.ip("route add local 10.96.0.0/16 dev lo");
    let _kube_proxy = pod.backend_of(Mode::Echo, "10.96.0.20:7000", "kube-proxy");
    let run = |resolve: &str, host: &str| {
        let mut dial = dial(&pod, &program, host, "7000");
        // Its own resolver sends datagrams, which the library leaves alone.
        Finished::of(dial.env("GODEBUG", "netdns=cgo").env("LDMESH_RESOLVE", resolve))
    };
    let at_vip = run("vip", "echo");
    assert_eq!(at_vip.success(), ["kube-proxy ping at 10.96.0.20:7000"; CONNECTIONS].join("\n"));
    let at_endpoints = run("endpoint", "echo");
    for ip in endpoints {
        let line = format!("at-{ip} ping at {ip}:7000\n");
        assert_eq!(at_endpoints.stdout.matches(&line).count(), CONNECTIONS / endpoints.len(), "{at_endpoints}");
    }
    let unknown = run("endpoint", "nobody");
    assert!(unknown.stderr.contains("lookup nobody"), "{unknown}");
    cell.is(
        Works::Unbalanced,
        "connects by raw system calls: with GODEBUG=netdns=cgo names resolve, connections go through the ClusterIP; \
         with LDMESH_RESOLVE=endpoint in turn over 3 endpoints",
    );
}

#[test]
fn go_static() {
    let cell = Cell::application("Go, static");
    let program = go("go-static", "0");
    let pod = Pod::new();
    let _neighbours = pod.neighbours();
    pod.ip("route add local 10.96.0.0/16 dev lo");
    let _kube_proxy = pod.backend_of(Mode::Echo, "10.96.0.20:7", "kube-proxy");
    let check = Finished::of(&mut pod.ldmesh(&["check", program.to_str().unwrap()]));
    assert_eq!(check.status.code(), Some(1), "{check}");
    assert!(check.to_string().contains("static"), "{check}");
    let with = Finished::of(&mut dial(&pod, &program, "10.96.0.20", "7"));
    assert_eq!(with.success(), vec![format!("kube-proxy {ECHO}"); CONNECTIONS].join("\n"));
    // Its own resolver asks the nameserver, which this pod has not.
    let unknown = Finished::of(&mut dial(&pod, &program, "echo", "7"));
    assert!(unknown.stderr.contains("lookup echo on 10.96.0.53:53"), "{unknown}");
    cell.is(Works::Unchanged, "loads no library (`ldmesh check` tells): connections go through the ClusterIP");
}
