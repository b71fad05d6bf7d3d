//! `ldmesh webhook`: it serves, ends in good order, and says in one line why it does not start.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

fn webhook(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ldmesh"));
    command.args(["webhook", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"]).args(arguments);
    for name in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "POD_NAMESPACE"] {
        command.env_remove(name);
    }
    command
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_serves_and_ends_with_status_0_within_ten_seconds_of_sigterm() {
    let folder = TempDir::new().unwrap();
    let names = ["ldmesh-webhook.mesh.svc".to_owned()];
    let made = webhook::make(&names, SystemTime::now(), Duration::from_secs(3600)).unwrap();
    fs::write(folder.path().join("tls.crt"), made.certificate).unwrap();
    fs::write(folder.path().join("tls.key"), made.key).unwrap();
    let mut command = webhook(&["--certificates", folder.path().to_str().unwrap()]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("health on ")).unwrap();
    let address = line.split("health on ").last().unwrap();
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200 "));
    let start = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    while get(address, "/readyz").starts_with("HTTP/1.1 200 ") {
        assert!(start.elapsed() < Duration::from_secs(3), "it is ready still");
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(lines.collect::<Vec<_>>(), ["ldmesh: shutting down"]);
}

#[track_caller]
fn check_refused(done: &Output, status: i32, expected: &str) {
    let text = String::from_utf8(done.stderr.clone()).unwrap();
    assert_eq!(done.status.code(), Some(status), "{text}");
    assert!(text.contains(expected), "{text}");
    assert!(status == 2 || text.lines().count() == 1, "{text}");
}

#[test]
fn what_keeps_it_from_starting_is_said_in_one_line() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let none = path("");
    let done = webhook(&["--certificates", &none]).output().unwrap();
    check_refused(&done, 1, "tls.crt: No such file or directory (os error 2); name a file that can be read");
    let done = webhook(&["--self-signed"]).output().unwrap();
    check_refused(&done, 1, "ldmesh: --namespace is missing, and POD_NAMESPACE is not set; ");
    let done = webhook(&["--self-signed", "--namespace", "mesh"]).output().unwrap();
    check_refused(&done, 1, "ldmesh: KUBERNETES_SERVICE_HOST is not set; run it in a pod, or set KUBECONFIG to a file");
    let config = path("config");
    fs::write(&config, "current-context: x\n").unwrap();
    let done = webhook(&["--self-signed", "--namespace", "mesh"]).env("KUBECONFIG", &config).output().unwrap();
    check_refused(&done, 1, "config: contexts: there is no \"x\"; ");
    let settings = path("settings");
    fs::write(&settings, "colour: blue\n").unwrap();
    let done = webhook(&["--self-signed", "--namespace", "mesh", "--settings", &settings])
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .output()
        .unwrap();
    check_refused(&done, 1, "settings: colour: \"blue\": there is no such setting");
    check_refused(&webhook(&[]).output().unwrap(), 2, "--certificates <DIR>");
    check_refused(&webhook(&["--self-signed", "--certificates", &none]).output().unwrap(), 2, "cannot be used with");
    let short = webhook(&["--self-signed", "--certificate-lifetime", "5s"]).output().unwrap();
    check_refused(&short, 2, "use a duration from 1m on, such as 90d or 36h");
}
