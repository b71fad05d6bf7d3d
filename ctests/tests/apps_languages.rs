//! Client libraries of languages, unmodified, in the mesh: who answered them, and what they believe.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use ctests::{CONNECTIONS, Cell, Finished, Pod, Works, app, artifacts, check_client};

/// The body of an answer ends with the Host that was asked for.
const HOST: &str = "greeter";
const HOST_AND_PEER: &str = "greeter at 10.96.0.10:80";
const ECHO: &str = "ping at 10.96.0.20:7";

/// An interpreter that runs a program of `ctests/apps`, with `http://HOST/ COUNT`.
fn http(pod: &Pod, interpreter: &str, program: &str, host: &str) -> Command {
    let mut command = pod.mesh(interpreter);
    command.arg(app(program)).args([&format!("http://{host}/"), &CONNECTIONS.to_string()]);
    command
}

/// An interpreter that runs a program of `ctests/apps`, with `HOST 7 COUNT`.
fn echo(pod: &Pod, interpreter: &str, program: &str, host: &str) -> Command {
    let mut command = pod.mesh(interpreter);
    command.arg(app(program)).args([host, "7", &CONNECTIONS.to_string()]);
    command
}

#[track_caller]
fn check_http(row: &str, tail: &str, interpreter: &str, program: &str) {
    check_client(row, "greeter", tail, 1, |pod, host| http(pod, interpreter, program, host));
}

#[track_caller]
fn check_echo(row: &str, interpreter: &str, program: &str) {
    check_client(row, "echo", ECHO, 1, |pod, host| echo(pod, interpreter, program, host));
}

/// Connections in turn; and at most `kept` of them where the program keeps them.
#[track_caller]
fn check_keeping_http(row: &str, tail: &str, kept: usize, interpreter: &str, program: &str) {
    let cell = Cell::application(row);
    let pod = Pod::new();
    let neighbours = pod.neighbours();
    neighbours.check("greeter", tail, 1, |pod, host| http(pod, interpreter, program, host));
    let before = neighbours.wait_for_accepted(CONNECTIONS);
    let keeps = Finished::of(http(&pod, interpreter, program, "greeter").arg("keep"));
    // The same peer is the same connection.
    let mut peers: Vec<_> = keeps.success().lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(peers.len(), CONNECTIONS, "{keeps}");
    peers.sort_unstable();
    peers.dedup();
    assert!(peers.len() <= kept, "{keeps}");
    assert_eq!(neighbours.wait_for_accepted(before + peers.len()), before + peers.len(), "{keeps}");
    cell.is(Works::Balanced, "in turn over 3 endpoints; a kept connection stays with its endpoint");
}

#[test]
fn python_sockets() {
    check_echo("Python socket", "/usr/bin/python3", "python/sockets.py");
}

#[test]
fn python_asyncio() {
    check_echo("Python asyncio", "/usr/bin/python3", "python/streams.py");
}

#[test]
fn python_workers_of_multiprocessing() {
    let cell = Cell::application("Python multiprocessing");
    let pod = Pod::new();
    let neighbours = pod.neighbours();
    neighbours.check("echo", ECHO, 1, |pod, host| echo(pod, "/usr/bin/python3", "python/pool.py", host));
    cell.is(Works::Balanced, "3 forked workers together, in turn over 3 endpoints");
}

#[test]
fn python_urllib() {
    check_http("Python urllib", HOST, "/usr/bin/python3", "python/get_urllib.py");
}

#[test]
fn python_requests() {
    check_keeping_http("Python requests", HOST, 1, "/usr/bin/python3", "python/get_requests.py");
}

#[test]
fn node_net() {
    check_echo("Node net", "node", "node/net.js");
}

#[test]
fn node_http() {
    check_keeping_http("Node http", HOST_AND_PEER, 1, "node", "node/http.js");
}

#[test]
fn node_fetch() {
    // It opens a second one while the first is still busy with the end of an answer.
    check_keeping_http("Node fetch", HOST, 2, "node", "node/fetch.js");
}

#[test]
fn perl_io_socket() {
    check_echo("Perl IO::Socket", "perl", "perl/socket.pl");
}

#[test]
fn perl_http_tiny() {
    check_http("Perl HTTP::Tiny", HOST, "perl", "perl/tiny.pl");
}

#[test]
fn perl_lwp() {
    check_http("Perl LWP", HOST, "perl", "perl/lwp.pl");
}

#[test]
fn ruby_tcp_socket() {
    check_echo("Ruby TCPSocket", "ruby", "ruby/socket.rb");
}

#[test]
fn ruby_net_http() {
    check_http("Ruby net/http", HOST, "ruby", "ruby/http.rb");
}

#[test]
fn php_streams() {
    check_http("PHP file_get_contents", HOST, "php", "php/streams.php");
}

#[test]
fn php_fsockopen() {
    check_echo("PHP fsockopen", "php", "php/sockets.php");
}

#[test]
fn php_curl() {
    let cell = Cell::application("PHP curl");
    let pod = Pod::new();
    let neighbours = pod.neighbours();
    // Stands in for the cluster's DNS and kube-proxy.
    pod.ip("route add local 10.96.0.0/16 dev lo");
    let _kube_proxy = pod.backend("10.96.0.10:80", "kube-proxy");
    let alone = Finished::of(&mut http(&pod, "php", "php/curl.php", "10.96.0.10"));
    assert_eq!(alone.success().matches("kube-proxy").count(), CONNECTIONS, "{alone}");
    let both = |pod: &Pod, host: &str| {
        let mut php = http(pod, "php", "php/curl.php", host);
        php.env("LD_PRELOAD", format!("{}:libcurl.so.4", artifacts().library.display()));
        php
    };
    neighbours.check("greeter", HOST_AND_PEER, 1, both);
    cell.is(
        Works::Unbalanced,
        "PHP opens extensions with RTLD_DEEPBIND, so libcurl calls libc past the library: through the ClusterIP; \
         balanced with libcurl.so.4 preloaded, too",
    );
}

#[test]
fn erlang_gen_tcp() {
    check_echo("Erlang gen_tcp", "escript", "erlang/tcp.escript");
}

#[test]
fn erlang_httpc() {
    check_http("Erlang httpc", HOST, "escript", "erlang/httpc.escript");
}

#[test]
fn lua_socket() {
    check_echo("Lua socket", "lua5.4", "lua/socket.lua");
}

#[test]
fn tcl_http() {
    check_http("Tcl http", HOST, "tclsh", "tcl/http.tcl");
}
