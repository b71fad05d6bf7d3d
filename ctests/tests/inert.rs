//! Off, or without configuration, the library does nothing that can be seen.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, Trace, artifacts, c_program, wait_until};

/// The system calls of a program from its first socket on, and all that name a file of ours.
#[track_caller]
fn check_no_other_call(environment: &[(&str, &str)], program: &str, arguments: &[&str]) {
    let pod = Pod::new();
    let _backend = pod.backend_of(Mode::Echo, "127.0.0.1:9000", "plain");
    let program = c_program(program);
    let command = [&[program.to_str().unwrap()], arguments].concat();
    let without = Trace::of(&pod, false, &[], &command);
    let library = artifacts().library.to_str().unwrap();
    let with = Trace::of(&pod, false, &[&[("LD_PRELOAD", library)], environment].concat(), &command);
    assert_eq!(with.finished.status.code(), without.finished.status.code(), "{}", with.finished);
    assert_eq!(with.finished.stderr, "");
    // Both programs have loaded once the program's own first file or socket appears.
    let own = |call: &ctests::Syscall| {
        call.name == "socket" || (call.name == "openat" && call.rest.contains("/etc/")) && !call.rest.contains("ld.so")
    };
    assert!(!without.names_from(own).is_empty(), "nothing to compare: {arguments:?}");
    // A configured library allocates while it is loaded, so what malloc asks once comes earlier: none is added.
    let (with_calls, without_calls) = (with.names_from(own), without.names_from(own));
    let mut rest = without_calls.iter();
    let added = with_calls.iter().find(|call| !rest.any(|one| one == *call));
    assert_eq!(added, None, "{environment:?} {arguments:?}: {with_calls:?} against {without_calls:?}");
    let ours: Vec<_> = with
        .calls
        .iter()
        .filter(|call| call.name != "execve" && call.rest.contains("ldmesh"))
        .filter(|call| !call.rest.contains("libldmesh.so"))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
    let threads: Vec<_> = with.named(&["clone", "clone3", "rt_sigaction"]).collect();
    assert_eq!(threads.len(), without.named(&["clone", "clone3", "rt_sigaction"]).count());
    assert_eq!(pod.agents(), [], "{}", pod.dump());
}

#[test]
fn without_configuration_no_call_is_added() {
    check_no_other_call(&[], "dial", &["127.0.0.1", "9000"]);
    check_no_other_call(&[], "dial", &["10.96.0.10", "80"]);
    check_no_other_call(&[], "lookup", &["greeter", "80"]);
    check_no_other_call(&[], "lookup", &["localhost", "80"]);
}

#[test]
fn switched_off_no_call_is_added() {
    let off = [("LDMESH_XDS", ctests::CONTROL_PLANE_URL), ("LDMESH_MODE", "off")];
    check_no_other_call(&off, "dial", &["127.0.0.1", "9000"]);
    check_no_other_call(&off, "dial", &["10.96.0.10", "80"]);
    check_no_other_call(&off, "lookup", &["greeter", "80"]);
}

#[test]
fn an_excluded_executable_stays_out() {
    let out = [("LDMESH_XDS", ctests::CONTROL_PLANE_URL), ("LDMESH_EXCLUDE_EXE", "*/dial")];
    check_no_other_call(&out, "dial", &["10.96.0.10", "80"]);
}

#[test]
fn the_kill_switch_turns_running_and_new_processes_off_and_on() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    Finished::of(&mut pod.curl("http://greeter/")).success();
    let mut python = pod.mesh("/usr/bin/python3");
    let script = "
import socket, sys
for line in sys.stdin:
    try:
        socket.getaddrinfo('greeter', 80)
        print('known', flush=True)
    except OSError:
        print('unknown', flush=True)
";
    python.args(["-c", script]).stdin(std::process::Stdio::piped());
    let mut held = python.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ask = {
        use std::io::{BufRead, BufReader, Write};
        let (mut input, output) = (held.stdin.take().unwrap(), held.stdout.take().unwrap());
        let mut output = BufReader::new(output);
        move || {
            writeln!(input, "?").unwrap();
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            line.trim().to_owned()
        }
    };
    assert_eq!(ask(), "known");
    Finished::of(&mut pod.ldmesh(&["off"])).success();
    assert_eq!(ask(), "unknown");
    assert_eq!(Finished::of(&mut pod.curl("http://greeter/")).status.code(), Some(6));
    Finished::of(&mut pod.ldmesh(&["on"])).success();
    wait_until("known again", Duration::from_secs(5), || pod.dump(), || ask() == "known");
    Finished::of(&mut pod.curl("http://greeter/")).success();
    held.kill().unwrap();
    held.wait().unwrap();
}

#[test]
fn shadow_mode_changes_nothing() {
    let pod = Pod::builder().env("LDMESH_MODE", "shadow").build();
    let _backends = pod.greeters(Mode::Http, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    assert_eq!(Finished::of(&mut pod.curl("http://greeter/")).status.code(), Some(6));
}

#[test]
fn a_program_that_only_serves_leaves_no_run_directory() {
    let pod = Pod::new();
    let mut python = pod.mesh("python3");
    python.args(["-c", "import socket as s; l = s.create_server(('127.0.0.1', 0)); c = s.create_connection(l.getsockname()); print(l.accept()[0].getpeername() == c.getsockname())"]);
    assert_eq!(Finished::of(&mut python).success().trim(), "True");
    assert_eq!(std::fs::read_dir(pod.run_dir()).unwrap().count(), 0, "{}", pod.dump());
}

#[test]
fn lines_of_the_log_never_go_to_another_file_that_took_the_number_of_stderr() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let data = pod.folder().join("data");
    let mut python = pod.mesh("python3");
    python.env("LDMESH_LOG", "trace").args(["-c", "import os, socket, sys; os.close(2); f = open(sys.argv[1], 'w'); socket.gethostbyname('greeter'); print(f.fileno())"]).arg(&data);
    assert_eq!(Finished::of(&mut python).success().trim(), "2");
    assert_eq!(std::fs::read_to_string(data).unwrap(), "");
}
