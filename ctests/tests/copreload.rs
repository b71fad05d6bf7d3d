//! Other libraries in LD_PRELOAD or LD_AUDIT: in either order, programs are in the mesh as with ours alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use ctests::{CONTROL_PLANE_URL, Finished, Manifest, Mode, Pod, artifacts, c_program};

/// Where Debian has the library.
#[track_caller]
fn debian(library: &str) -> String {
    let path = format!("/usr/lib/{}-linux-gnu/{library}", std::env::consts::ARCH);
    assert!(Path::new(&path).exists(), "{path} is missing: scripts/test.sh installs it");
    path
}

/// The other library's value for LD_PRELOAD, before ours and after it.
fn both_orders(other: &str) -> [String; 2] {
    let ours = artifacts().library.display();
    [format!("{other} {ours}"), format!("{ours} {other}")]
}

/// A command that env(1) preloads, so that nothing of the harness is.
fn preloaded(pod: &Pod, preload: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = pod.command("env");
    command.arg(format!("LD_PRELOAD={preload}")).arg(format!("LDMESH_XDS={CONTROL_PLANE_URL}")).arg(program);
    command
}

/// A pod whose mesh has the greeter.
fn with_greeter(check: impl FnOnce(&Pod)) {
    let pod = Pod::new();
    let _http = pod.greeters(Mode::Http, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    check(&pod);
}

/// The program succeeds and says nothing on stderr.
#[track_caller]
fn quiet(command: &mut Command) -> Finished {
    let finished = Finished::of(command);
    assert!(finished.status.success() && finished.stderr.is_empty(), "{command:?}: {finished}");
    finished
}

#[track_caller]
fn check_curl(preload: &str, environment: &[(&str, &str)]) {
    with_greeter(|pod| {
        let mut curl = preloaded(pod, preload, "curl");
        curl.args(["-sS", "--max-time", "10", "http://greeter/"]).envs(environment.iter().copied());
        assert!(quiet(&mut curl).stdout.starts_with("greeter-"), "{preload}");
    });
}

/// Programs with and without threads find and reach the service.
#[track_caller]
fn check_programs(preload: &str, environment: &[(&str, &str)]) {
    with_greeter(|pod| {
        let mut lookup = preloaded(pod, preload, c_program("lookup"));
        lookup.args(["greeter", "80", "inet", "stream"]).envs(environment.iter().copied());
        assert_eq!(quiet(&mut lookup).field("addr"), Some("10.96.0.10"), "{preload}");
        let mut connects = preloaded(pod, preload, c_program("connects"));
        let finished = quiet(connects.args(["greeter", "80", "4"]).envs(environment.iter().copied()));
        assert_eq!(finished.field("peer"), Some("10.96.0.10:80"), "{preload}: {finished}");
        assert_eq!(finished.field("connected"), Some("32"), "{preload}: {finished}");
    });
}

#[test]
fn jemalloc() {
    for preload in both_orders(&debian("libjemalloc.so.2")) {
        check_curl(&preload, &[]);
        check_programs(&preload, &[]);
    }
}

#[test]
fn tcmalloc() {
    for preload in both_orders(&debian("libtcmalloc_minimal.so.4")) {
        check_curl(&preload, &[]);
        check_programs(&preload, &[]);
    }
}

/// ASan insists on being the first; told not to, it also works as the second. Its leak check traces the process, which
/// is not for every container. curl is left out: it hangs with this library alone.
#[test]
fn asan() {
    let [first, second] = both_orders(&debian("libasan.so.8"));
    check_programs(&first, &[("ASAN_OPTIONS", "detect_leaks=0")]);
    check_programs(&second, &[("ASAN_OPTIONS", "detect_leaks=0:verify_asan_link_order=0")]);
}

#[test]
fn fakeroot() {
    let pod = Pod::new();
    let _http = pod.greeters(Mode::Http, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    // fakeroot puts its library before what is preloaded already; the other order is made by hand inside.
    let ours = artifacts().library.display().to_string();
    for preload in ["$LD_PRELOAD".to_owned(), format!("{ours} ${{LD_PRELOAD%:*}}")] {
        let script = format!(
            "export LD_PRELOAD=\"{preload}\"; touch \"$1\"; chown 7:8 \"$1\"; stat -c %u:%g \"$1\"; \
             curl -sS --max-time 10 http://greeter/"
        );
        let mut command = pod.mesh("fakeroot");
        let file = pod.folder().join("file");
        let finished = Finished::of(command.args(["sh", "-c", &script, "sh"]).arg(&file));
        let lines: Vec<_> = finished.success().lines().collect();
        assert_eq!(lines[0], "7:8", "{preload}: {finished}");
        assert!(lines[1].starts_with("greeter-"), "{preload}: {finished}");
        assert_eq!(finished.stderr, "", "{preload}");
    }
}

/// socket_wrapper takes sockets over: they are UNIX sockets below, and the mesh leaves them alone. A service that is not
/// of the mesh is reached as without us, in both orders.
#[test]
fn socket_wrapper() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let others = format!("{} {}", debian("libsocket_wrapper.so"), debian("libnss_wrapper.so"));
    let hosts = pod.folder().join("wrapped-hosts");
    std::fs::write(&hosts, "127.0.0.7 wrapped.example\n").unwrap();
    let script = "
import socket, threading
listener = socket.socket()
listener.bind(('127.0.0.7', 7))
listener.listen()
def serve():
    one, peer = listener.accept()
    one.sendall(b'wrapped ' + peer[0].encode())
threading.Thread(target=serve).start()
client = socket.create_connection(('wrapped.example', 7))
print(client.getpeername(), client.recv(99).decode())
";
    let wrapped = |preload: &str| {
        let folder = pod.folder().join(format!("sockets-{}", preload.len()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut python = preloaded(&pod, preload, "/usr/bin/python3");
        python.env("SOCKET_WRAPPER_DIR", &folder).env("SOCKET_WRAPPER_DEFAULT_IFACE", "7");
        python.env("NSS_WRAPPER_HOSTS", &hosts).args(["-c", script]);
        let finished = Finished::of(&mut python);
        assert_eq!(finished.stderr, "", "{preload}: {finished}");
        finished.success().to_owned()
    };
    let without = wrapped(&others);
    assert_eq!(without, "('127.0.0.7', 7) wrapped 127.0.0.7");
    both_orders(&others).iter().for_each(|preload| assert_eq!(wrapped(preload), without, "{preload}"));
}

/// jemalloc#2472: with LD_AUDIT too little room is left for jemalloc's static thread-local storage, and no program
/// starts. We take none of that room: what is just enough for jemalloc alone is enough for both.
#[test]
fn with_an_auditor_we_take_none_of_the_static_tls_that_jemalloc_needs() {
    let auditor = ctests::c_library("audits");
    let jemalloc = debian("libjemalloc.so.2");
    let pod = Pod::new();
    let with_room = |room: u32| {
        let tunables = format!("glibc.rtld.optional_static_tls={room}");
        [("LD_AUDIT", auditor.to_str().unwrap().to_owned()), ("GLIBC_TUNABLES", tunables)]
    };
    // Set by env(1) and seen by the program that it starts: the tunables of a running program do not change.
    let starts = |room: u32| {
        let mut command = preloaded(&pod, &jemalloc, "true");
        Finished::of(command.envs(with_room(room))).status.success()
    };
    let rooms: Vec<u32> = (0..256).map(|step| step * 32).collect();
    assert!(!starts(0), "there is room for jemalloc anyway: nothing is shown");
    let enough = rooms[rooms.partition_point(|&room| !starts(room))];
    let environment = with_room(enough);
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    for preload in both_orders(&jemalloc) {
        check_curl(&preload, &environment);
        check_programs(&preload, &environment);
    }
}
