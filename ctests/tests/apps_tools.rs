//! Client programs of the command line, unmodified, in the mesh: who answered them, and what they believe.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use ctests::{CONNECTIONS, Cell, Finished, Pod, Works, app, check_client};

const GREETER: &str = "greeter";

/// A request through a program that carries bytes between a connection and its standard input and output.
fn through(pod: &Pod, host: &str, words: &[&str]) -> Command {
    let mut command = pod.mesh("bash");
    command.arg(app("bash/get.sh")).arg(host).args(words);
    command
}

#[test]
fn curl() {
    let cell = Cell::application("curl");
    let pod = Pod::new();
    let neighbours = pod.neighbours();
    // One process, and a connection for each URL, as it asks for no other use of it.
    let closing = |pod: &Pod, host: &str| {
        let mut curl = pod.mesh("curl");
        curl.args(["-sS", "-H", "Connection: close"]).args(vec![format!("http://{host}/"); CONNECTIONS]);
        curl
    };
    neighbours.check(GREETER, GREETER, 1, closing);
    let before = neighbours.wait_for_accepted(CONNECTIONS);
    let mut kept = pod.curl("http://greeter/");
    kept.args(vec!["http://greeter/"; CONNECTIONS - 1]).args(["-w", "%{stderr}%{remote_ip}:%{remote_port}\n"]);
    let kept = Finished::of(&mut kept);
    assert_eq!(kept.success().lines().count(), CONNECTIONS, "{kept}");
    assert_eq!(kept.stderr, "10.96.0.10:80\n".repeat(CONNECTIONS));
    assert_eq!(neighbours.wait_for_accepted(before + 1), before + 1);
    cell.is(Works::Balanced, "in turn over 3 endpoints; a kept connection stays with its endpoint");
}

#[test]
fn wget() {
    let cell = Cell::application("wget");
    let pod = Pod::new();
    pod.neighbours().check(GREETER, GREETER, CONNECTIONS, |pod, host| {
        let mut wget = pod.mesh("wget");
        wget.args(["--tries=1", "-q", "-O-", &format!("http://{host}/")]);
        wget
    });
    cell.is(Works::Balanced, "in turn over 3 endpoints");
}

#[test]
fn aria2() {
    let cell = Cell::application("aria2");
    let pod = Pod::new();
    pod.neighbours().check(GREETER, GREETER, CONNECTIONS, |pod, host| {
        let mut shell = pod.mesh("sh");
        // Its own resolver (c-ares) asks the nameserver; this pod has none.
        let script = "aria2c -q --no-conf --async-dns=false --allow-overwrite=true -d \"$1\" -o got \"http://$2/\" && cat \"$1/got\"";
        shell.args(["-c", script, "sh"]).arg(pod.folder()).arg(host);
        shell
    });
    cell.is(
        Works::Balanced,
        "in turn over 3 endpoints, with --async-dns=false; else its names come from the nameserver",
    );
}

#[test]
fn bash_dev_tcp() {
    check_client("bash /dev/tcp", "echo", "ping", 1, |pod, host| {
        let mut bash = pod.mesh("bash");
        bash.arg(app("bash/dev_tcp.sh")).args([host, "7", &CONNECTIONS.to_string()]);
        bash
    });
}

#[test]
fn socat() {
    check_client("socat", GREETER, GREETER, CONNECTIONS, |pod, host| {
        through(pod, host, &["socat", "-lf/dev/null", "-t10", "-", &format!("TCP:{host}:80")])
    });
}

#[test]
fn netcat_of_openbsd() {
    check_client("netcat (OpenBSD)", GREETER, GREETER, CONNECTIONS, |pod, host| {
        through(pod, host, &["nc.openbsd", host, "80"])
    });
}

#[test]
fn netcat_traditional() {
    check_client("netcat (traditional)", GREETER, GREETER, CONNECTIONS, |pod, host| {
        through(pod, host, &["nc.traditional", host, "80"])
    });
}

#[test]
fn ncat() {
    check_client("ncat", GREETER, GREETER, CONNECTIONS, |pod, host| through(pod, host, &["ncat", host, "80"]));
}

#[test]
fn busybox_wget() {
    check_client("BusyBox wget", GREETER, GREETER, CONNECTIONS, |pod, host| {
        let mut wget = pod.mesh("busybox");
        wget.args(["wget", "-q", "-O", "-", &format!("http://{host}/")]);
        wget
    });
}

#[test]
fn busybox_nc() {
    check_client("BusyBox nc", GREETER, GREETER, CONNECTIONS, |pod, host| {
        through(pod, host, &["busybox", "nc", host, "80"])
    });
}
