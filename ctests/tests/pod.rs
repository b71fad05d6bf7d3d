//! The harness itself: what a pod promises to the tests that use it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;
use std::time::Duration;

use ctests::{Finished, Mode, Pod, Running, can_map_users, process, skipped, wait_until};

const CONNECT: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
s.settimeout(float(sys.argv[3]))
try:
    s.connect((sys.argv[1], int(sys.argv[2])))
    print('connected')
except OSError as error:
    print(error.strerror or error)
";

#[track_caller]
fn check_connect(pod: &Pod, address: &str, expected: &str) -> Duration {
    let mut python = pod.command("/usr/bin/python3");
    python.args(["-c", CONNECT, address, "8080", "1"]);
    let finished = Finished::of(&mut python);
    assert_eq!(finished.success(), expected, "{address}");
    finished.took
}

#[test]
fn an_address_outside_the_pod_is_unreachable_at_once() {
    let pod = Pod::new();
    for address in ["10.96.0.10", "192.0.2.1", "2001:db8:1::1"] {
        check_connect(&pod, address, "Network is unreachable");
    }
    let routes = Finished::of(pod.command("ip").args(["route", "show", "default"]));
    assert_eq!(routes.success(), "");
}

#[test]
fn the_pod_has_an_interface_with_addresses_of_both_families() {
    let pod = Pod::new();
    let _v4 = pod.backend("10.244.0.2:8080", "a");
    let _v6 = pod.backend("[2001:db8::2]:8080", "b");
    check_connect(&pod, "10.244.0.2", "connected");
    check_connect(&pod, "2001:db8::2", "connected");
}

#[test]
fn a_lookup_by_libc_fails_fast_and_the_own_name_is_known() {
    let pod = Pod::builder().hostname("app-7").build();
    let own = Finished::of(pod.command("getent").args(["ahostsv4", "app-7"]));
    assert!(own.success().starts_with("10.244.0.2"), "{own}");
    let other = Finished::of(pod.command("getent").args(["ahosts", "greeter.default.svc"]));
    assert_eq!(other.status.code(), Some(2), "{other}");
    assert!(other.took < Duration::from_secs(1), "{other}");
}

#[test]
fn hosts_can_be_rewritten_while_the_pod_runs() {
    let pod = Pod::new();
    std::fs::write(pod.folder().join("hosts"), "192.0.2.7 late\n").unwrap();
    let late = Finished::of(pod.command("getent").args(["ahostsv4", "late"]));
    assert!(late.success().starts_with("192.0.2.7"), "{late}");
}

#[test]
fn a_backend_says_its_name_and_counts_its_connections() {
    let pod = Pod::new();
    let backend = pod.backend("127.0.1.1:8080", "first");
    for _ in 0..3 {
        let answer = Finished::of(pod.command("curl").args(["-sS", "http://127.0.1.1:8080/"]));
        assert!(answer.success().starts_with("first 127.0.0.1:"), "{answer}");
    }
    wait_until("3 connections", Duration::from_secs(2), || pod.dump(), || backend.accepted() == 3);
}

#[test]
fn a_refusing_backend_refuses_and_a_hanging_one_never_answers() {
    let pod = Pod::new();
    let _refusing = pod.backend_of(Mode::Refuse, "127.0.1.1:8080", "r");
    check_connect(&pod, "127.0.1.1", "Connection refused");
    let _hanging = pod.backend_of(Mode::Hang, "127.0.1.2:8080", "h");
    check_connect(&pod, "127.0.1.2", "timed out");
}

#[test]
fn a_killed_backend_refuses() {
    let pod = Pod::new();
    let backend = pod.backend("127.0.1.1:8080", "first");
    backend.kill();
    check_connect(&pod, "127.0.1.1", "Connection refused");
}

#[test]
fn pods_do_not_see_each_other() {
    let (one, other) = (Pod::new(), Pod::new());
    let _backend = one.backend("127.0.1.1:8080", "first");
    check_connect(&other, "127.0.1.1", "Connection refused");
    std::fs::write(one.run_dir().join("mark"), "").unwrap();
    assert!(!other.run_dir().join("mark").exists());
}

#[test]
fn daemons_end_with_the_pod() {
    let pod = Pod::new();
    let mut shell = pod.command("sh");
    shell.args(["-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null & setsid sleep 1001 >/dev/null 2>&1 &"]);
    Finished::of(&mut shell).success();
    let two = || pod.processes().len() == 2;
    wait_until("two daemons", Duration::from_secs(2), || pod.dump(), two);
    let daemons = pod.processes();
    drop(pod);
    assert!(daemons.iter().all(|daemon| !daemon.is_alive()), "{daemons:?}");
}

#[test]
fn a_pod_ends_when_its_user_is_killed() {
    let mut user = Command::new(env!("CARGO_BIN_EXE_pod"));
    user.args(["--", "sleep", "1002"]);
    let running = Running::start(&mut user);
    let find = || process::all().into_iter().find(|one| one.command_line() == "sleep 1002" && one.is_alive());
    let sleeper = ctests::wait_for("sleep runs", Duration::from_secs(5), String::new, find);
    drop(running);
    wait_until("sleep ends", Duration::from_secs(5), String::new, || !sleeper.is_alive());
}

#[test]
fn another_user_can_be_taken_on() {
    if !can_map_users() {
        return skipped("only root can map several users");
    }
    let pod = Pod::new();
    let id = Finished::of(pod.command_as(1234, "id").arg("-u"));
    assert_eq!(id.success(), "1234");
}

#[test]
fn the_run_directory_can_be_small() {
    let pod = Pod::builder().run_dir_size("64k").build();
    let mut dd = pod.command("dd");
    dd.args(["if=/dev/zero", "of=/run/ldmesh/big", "bs=1k", "count=200"]);
    let full = Finished::of(&mut dd);
    assert!(full.stderr.contains("No space left"), "{full}");
}

#[test]
fn an_ordinary_user_can_have_a_pod() {
    if !can_map_users() {
        return skipped("this test changes from root to another user; the others here ran as one");
    }
    let mut pod = Command::new("setpriv");
    pod.args(["--reuid", "1234", "--regid", "1234", "--clear-groups"]);
    // The build's folder may be closed to other users, so the program comes by descriptor.
    let program = std::fs::File::open(env!("CARGO_BIN_EXE_pod")).unwrap();
    let copy = tempfile_copy(program);
    pod.arg(copy.path().join("pod")).args(["--hostname", "small", "--"]);
    pod.args(["sh", "-c", "id -u; hostname; ip -4 -o address show eth0"]);
    let finished = Finished::of(&mut pod);
    let said = finished.success();
    assert!(said.starts_with("0\nsmall\n") && said.contains("10.244.0.2/24"), "{finished}");
}

/// A folder that every user may enter, with the program in it.
fn tempfile_copy(mut program: std::fs::File) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = folder.path().join("pod");
    std::io::copy(&mut program, &mut std::fs::File::create(&path).unwrap()).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    folder
}
