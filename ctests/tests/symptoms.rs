//! What users of other such libraries met: one test for each symptom, here or where the subject is.
//!
//! | no | library, issue | symptom | test |
//! | --- | --- | --- | --- |
//! | 1 | mirrord 3659 | Next.js hangs: a mutex held at fork | `lives_fork::a_thousand_children_forked_among_threads_inside_hooks_all_find_and_reach_a_service` |
//! | 2 | mirrord 2047 | Elixir: a lock dropped in the child | `lives_fork::children_forked_among_threads_while_another_thread_leads_all_find_and_reach_a_service` |
//! | 3 | mirrord 1792, 1759 | crash after fork | `lives_fork::programs_that_end_among_threads_inside_hooks_do_not_trip_the_switch` |
//! | 4 | mirrord 757 | Node closes by raw system calls | [`a_descriptor_that_node_closed_by_a_raw_system_call_is_forgotten`] |
//! | 5 | mirrord 4220 | Node aborts on an error code of lookups | [`node_lives_through_every_failed_lookup`] |
//! | 6 | mirrord 4622 | our socket becomes fd 0 | `lives_descriptors::nothing_of_ours_takes_the_number_of_a_closed_standard_stream` |
//! | 7 | mirrord 987 | Node's children escape | [`children_of_node_are_in_the_mesh`] |
//! | 8 | mirrord 864 | uvicorn --reload: sockets shared across exec | [`sockets_passed_on_by_exec_keep_their_peers`] |
//! | 9 | mirrord 1386 | a UDP reply from another source | [`a_datagram_is_answered_from_where_it_was_sent_to`] |
//! | 10 | mirrord 1776 | resolvers over sendmsg and recvmsg | [`a_resolver_over_sendmsg_and_recvmsg_is_left_alone`] |
//! | 11 | mirrord 2055 | Erlang: gethostbyname | `apps_languages::erlang_gen_tcp` |
//! | 12 | mirrord 327 | Node: assertion on a v4-mapped address | [`node_sees_no_v4_mapped_peer_that_it_did_not_dial`] |
//! | 13 | proxychains-ng 9, 439 | ssh closes all descriptors | `lives_descriptors::a_program_that_closes_every_descriptor_goes_on_and_so_does_its_agent` |
//! | 14 | proxychains-ng 542 | random EBADF, double close | `lives_descriptors::a_thread_that_closes_every_descriptor_without_end_harms_only_what_it_closes` |
//! | 15 | proxychains-ng 273 | descriptors leak to children | [`children_inherit_no_descriptor_of_ours`] |
//! | 16 | proxychains-ng 171 | MongoDB times out: non-blocking connects | [`a_connect_with_a_time_limit_ends_with_the_connection`] |
//! | 17 | proxychains-ng 119 | a thread in a constructor, tcmalloc | [`a_thread_started_in_a_constructor_under_tcmalloc_reaches_a_service`] |
//! | 18 | proxychains-ng 77 | Maven: v4-mapped addresses | [`a_v4_mapped_address_of_a_service_is_dialled_and_answered_as_one`] |
//! | 19 | nmap | AI_NUMERICHOST | [`a_numeric_lookup_never_asks_the_mesh`] |
//! | 20 | dotnet, gpg | unknown system calls denied | [`system_calls_by_number_answer_as_without_us`] |
//! | 21 | nginx on glibc 2.17 | symbol mutex across fork | `lives_fork::children_forked_before_there_is_any_configuration_pass_and_do_not_hang` |
//! | 22 | nginx | reload | `servers_proxies::nginx_is_balanced_reloads_and_replaces_its_workers` |
//! | 23 | jemalloc 2472 | LD_AUDIT, static TLS | `copreload::with_an_auditor_we_take_none_of_the_static_tls_that_jemalloc_needs` |
//! | 24 | appscope 416 | our descriptors closed: 100 % CPU | [`a_leader_whose_program_closed_all_descriptors_does_not_spin`] |
//! | 25 | appscope 516 | a forked child stuck with TLS | [`children_forked_while_threads_speak_tls_speak_tls_themselves`] |
//! | 26 | appscope 1499 | our `backtrace` clashes | [`only_hooks_and_names_of_our_own_are_exported`] |
//! | 27 | appscope 1529, 1186 | postgres, mysqld | `servers_postgres` |
//! | 28 | appscope 1408 | old Alpine lacks `secure_getenv` | [`secure_getenv_is_not_imported`] |
//! | 29 | opentelemetry-injector 399 | SIGABRT on an empty GNU hash bucket | [`a_program_with_an_empty_hash_table_runs`] |
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::Command;

use ctests::{
    Backend, CONTROL_PLANE_URL, ControlPlane, Finished, Manifest, Mode, Pod, artifacts, c_library, c_program,
};
use object::{Object, ObjectSection, ObjectSymbol};

/// Two greeters, known to the mesh once this returns.
fn greeters(pod: &Pod, mode: Mode) -> (Vec<Backend>, ControlPlane<'_>) {
    let parts = (pod.greeters(mode, 2), pod.serve(&Manifest::greeter(2)));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80"])).success();
    parts
}

/// What a script prints in the mesh.
#[track_caller]
fn python(pod: &Pod, script: &str) -> String {
    said(pod.mesh("/usr/bin/python3").args(["-c", script]))
}

#[track_caller]
fn node(pod: &Pod, script: &str) -> String {
    said(pod.mesh("node").args(["-e", script]))
}

#[track_caller]
fn said(command: &mut Command) -> String {
    let finished = Finished::of(command);
    assert_eq!(finished.stderr, "", "{finished}");
    finished.success().to_owned()
}

#[test]
fn a_descriptor_that_node_closed_by_a_raw_system_call_is_forgotten() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    let _other = pod.backend_of(Mode::Echo, "127.0.2.1:9000", "other");
    let script = "
const net = require('net');
const peer = (port, host) => new Promise((done, fail) => {
  const s = net.connect(port, host, () => {
    const said = [s._handle.fd, s.remoteAddress, s.remotePort];
    s.destroy(); s.on('close', () => done(said));
  });
  s.on('error', fail);
});
(async () => {
  const [first, one] = await peer(80, 'greeter');
  const [second, two] = await peer(9000, '127.0.2.1');
  console.log(first === second, one, two);
})();";
    assert_eq!(node(&pod, script), "true 10.96.0.10 127.0.2.1");
}

#[test]
fn node_lives_through_every_failed_lookup() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    let script = "
const dns = require('dns').promises;
const lookups = [['greeter', 6], ['greeter', 4], ['not.in.the.mesh', 0], ['a'.repeat(300), 0]];
(async () => {
  for (const [name, family] of lookups) {
    const answer = await dns.lookup(name, { family }).catch(error => error);
    console.log(answer.code ? answer.code.replace(/^E.*/, 'refused') : answer.address);
  }
})();";
    assert_eq!(node(&pod, script).replace('\n', " "), "refused 10.96.0.10 refused refused");
}

#[test]
fn children_of_node_are_in_the_mesh() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Http);
    let script = "
const { execFileSync, spawnSync } = require('child_process');
console.log(execFileSync('curl', ['-sS', 'http://greeter/']).toString().split('-')[0]);
console.log(spawnSync('curl -sS http://greeter/', { shell: true }).stdout.toString().split('-')[0]);";
    assert_eq!(node(&pod, script), "greeter\ngreeter");
}

#[test]
fn sockets_passed_on_by_exec_keep_their_peers() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    let script = r#"
import os, socket, sys
listener = socket.create_server(('127.0.0.1', 0))
dialled = socket.create_connection(('greeter', 80))
for one in listener, dialled: one.set_inheritable(True)
after = '''
import socket, sys
listener, dialled = (socket.socket(fileno=int(fd)) for fd in sys.argv[1:])
print(dialled.getpeername(), dialled.recv(7).decode())
client = socket.create_connection(listener.getsockname())
print(listener.accept()[1] == client.getsockname(), client.getpeername() == listener.getsockname())
'''
os.execv(sys.executable, [sys.executable, '-c', after, str(listener.fileno()), str(dialled.fileno())])
"#;
    assert_eq!(python(&pod, script), "('10.96.0.10', 80) greeter\nTrue True");
}

#[test]
fn a_datagram_is_answered_from_where_it_was_sent_to() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    // The address and port of a service, which is for TCP; here it is the pod's own, and UDP.
    pod.ip("address add 10.96.0.10/32 dev lo");
    let script = "
import socket
server = socket.socket(type=socket.SOCK_DGRAM); server.bind(('10.96.0.10', 80))
client = socket.socket(type=socket.SOCK_DGRAM); client.sendto(b'ping', ('greeter', 80))
server.sendto(*server.recvfrom(9))
print(*client.recvfrom(9))
client.connect(('greeter', 80)); client.send(b'ping'); server.sendto(*server.recvfrom(9))
print(*client.recvfrom(9), client.getpeername())";
    assert_eq!(python(&pod, script), "b'ping' ('10.96.0.10', 80)\nb'ping' ('10.96.0.10', 80) ('10.96.0.10', 80)");
}

#[test]
fn a_resolver_over_sendmsg_and_recvmsg_is_left_alone() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    let script = "
import socket
server = socket.socket(type=socket.SOCK_DGRAM); server.bind(('127.0.0.1', 53))
client = socket.socket(type=socket.SOCK_DGRAM)
query = bytes.fromhex('abcd01000001000000000000076772656574657200000100 01')
client.sendmsg([query[:12], query[12:]], [], 0, ('127.0.0.1', 53))
got, _, _, peer = server.recvmsg(512)
server.sendmsg([got[:2], b'answer'], [], 0, peer)
answer, _, _, source = client.recvmsg(512)
print(got == query, answer[:2] == query[:2], answer[2:].decode(), source)";
    assert_eq!(python(&pod, script), "True True answer ('127.0.0.1', 53)");
}

#[test]
fn node_sees_no_v4_mapped_peer_that_it_did_not_dial() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    let script = "
const s = require('net').connect(80, process.argv[1], () => { console.log(s.remoteFamily, s.remoteAddress); s.destroy(); });";
    for (dialled, seen) in [("greeter", "IPv4 10.96.0.10"), ("::ffff:10.96.0.10", "IPv6 ::ffff:10.96.0.10")] {
        assert_eq!(said(pod.mesh("node").args(["-e", script, dialled])), seen);
    }
}

#[test]
fn children_inherit_no_descriptor_of_ours() {
    let pod = Pod::builder().env("LDMESH_LEAD", "thread").build();
    let mesh = (pod.greeters(Mode::Echo, 2), pod.serve(&Manifest::greeter(2)));
    let script = "
import socket, subprocess
for _ in range(3): socket.create_connection(('greeter', 80)).close()
print(subprocess.run(['ls', '/proc/self/fd'], close_fds=False, capture_output=True, text=True).stdout.split())";
    let plain = script.replace("'greeter', 80", "'127.0.1.1', 8080");
    let without = said(pod.command("/usr/bin/python3").args(["-c", &plain]));
    assert_eq!(python(&pod, script), without);
    assert_eq!(mesh.1.stats().streams_total(), 1, "no thread of the program led");
}

#[test]
fn a_connect_with_a_time_limit_ends_with_the_connection() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    let script = "
import socket
for _ in range(20):
    s = socket.socket(); s.settimeout(5); s.connect(('greeter', 80))
    assert s.recv(8) and s.gettimeout() == 5 and s.getpeername() == ('10.96.0.10', 80)
    s.close()
print('connected')";
    assert_eq!(python(&pod, script), "connected");
}

#[test]
fn a_thread_started_in_a_constructor_under_tcmalloc_reaches_a_service() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    let starter = c_library("thread_in_constructor");
    let tcmalloc = format!("/usr/lib/{}-linux-gnu/libtcmalloc_minimal.so.4", std::env::consts::ARCH);
    let (starter, ours) = (starter.display(), artifacts().library.display());
    // Constructors run from the last to the first: once before ours has run, once after it.
    for preload in [format!("{tcmalloc} {ours} {starter}"), format!("{tcmalloc} {starter} {ours}")] {
        let mut command = pod.command("env");
        command.arg(format!("LD_PRELOAD={preload}")).arg(format!("LDMESH_XDS={CONTROL_PLANE_URL}")).arg("true");
        assert_eq!(said(&mut command), "constructor=connected", "{preload}");
    }
}

#[test]
fn a_v4_mapped_address_of_a_service_is_dialled_and_answered_as_one() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    let answer = Finished::of(pod.mesh(c_program("dial")).args(["::ffff:10.96.0.10", "80"]));
    answer.success();
    assert_eq!(answer.field("peer"), Some("[::ffff:10.96.0.10]:80"), "{answer}");
    assert!(answer.field("backend").unwrap().starts_with("greeter-"), "{answer}");
}

#[test]
fn a_numeric_lookup_never_asks_the_mesh() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    let lookup = |name: &str| Finished::of(pod.mesh(c_program("lookup")).args([name, "80", "numerichost", "stream"]));
    assert_eq!(lookup("greeter").field("code"), Some("EAI_NONAME"));
    assert_eq!(lookup("192.0.2.7").field("addr"), Some("192.0.2.7"));
}

#[test]
fn system_calls_by_number_answer_as_without_us() {
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    let script = "
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    ctypes.set_errno(77)
    return libc.syscall(*arguments), ctypes.get_errno()
pid = call(39)
print(pid == (os.getpid(), 77), call(9999), call(3, 999), call(42, 999, None, 0))";
    let without = said(pod.command("/usr/bin/python3").args(["-c", script]));
    assert!(without.starts_with("True (-1, 38)"), "{without}");
    assert_eq!(python(&pod, script), without);
}

#[test]
fn a_leader_whose_program_closed_all_descriptors_does_not_spin() {
    let pod = Pod::builder().env("LDMESH_LEAD", "thread").build();
    let _mesh = (pod.greeters(Mode::Echo, 2), pod.serve(&Manifest::greeter(2)));
    let script = "
import os, socket, time
socket.getaddrinfo('greeter', 80)
os.closerange(3, 65536)
before = time.process_time(); time.sleep(2); used = time.process_time() - before
socket.create_connection(('greeter', 80))
print('quiet' if used < 0.5 else used)";
    assert_eq!(python(&pod, script), "quiet");
}

#[test]
fn children_forked_while_threads_speak_tls_speak_tls_themselves() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let (key, certificate) = (pod.folder().join("key.pem"), pod.folder().join("certificate.pem"));
    let mut request = Command::new("openssl");
    request.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=greeter",
    ]);
    Finished::of(
        request.args(["-addext", "subjectAltName=DNS:greeter", "-keyout"]).arg(&key).arg("-out").arg(&certificate),
    )
    .success();
    let script = "
import os, socket, ssl, sys, threading
key, certificate = sys.argv[1:]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain(certificate, key)
trust = ssl.create_default_context(cafile=certificate)
listener = socket.create_server(('127.0.1.1', 8080), backlog=100)
if not os.fork():
    def answer(one):
        with server.wrap_socket(one, server_side=True) as tls: tls.sendall(b'hello')
    while True: threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()
def visit():
    with trust.wrap_socket(socket.create_connection(('greeter', 80)), server_hostname='greeter') as tls:
        return tls.recv(9) == b'hello'
visit() # imports a codec: a child of a thread that imports waits for Python's own lock for ever
stop = threading.Event()
def busy():
    while not stop.is_set(): visit()
threads = [threading.Thread(target=busy) for _ in range(3)]
for one in threads: one.start()
children = []
for _ in range(20):
    child = os.fork()
    if not child: os._exit(not visit())
    children.append(child)
print(sum(os.waitpid(child, 0)[1] == 0 for child in children))
stop.set()
for one in threads: one.join()
";
    let mut command = pod.mesh("timeout");
    command.args(["60", "/usr/bin/python3", "-c", script]).arg(key).arg(certificate);
    command.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    // The server outlives the program, and with it the pipe; the pod ends it.
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line.trim(), "20");
    assert!(child.wait().unwrap().success());
}

fn dynamic_symbols(undefined: bool) -> Vec<String> {
    let bytes = std::fs::read(&artifacts().library).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let symbols = file.dynamic_symbols().filter(|symbol| symbol.is_undefined() == undefined);
    let mut names: Vec<_> = symbols.map(|symbol| symbol.name().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn only_hooks_and_names_of_our_own_are_exported() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/exports.golden");
    let golden = std::fs::read_to_string(golden).unwrap();
    assert_eq!(dynamic_symbols(false), golden.lines().collect::<Vec<_>>());
}

#[test]
fn secure_getenv_is_not_imported() {
    let imports = dynamic_symbols(true);
    assert!(imports.iter().any(|name| name == "dlsym"), "no imports were found: {imports:?}");
    assert!(!imports.iter().any(|name| name == "secure_getenv"), "{imports:?}");
}

#[test]
fn a_program_with_an_empty_hash_table_runs() {
    let program = c_program("connects");
    let bytes = std::fs::read(&program).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let table = file.section_by_name(".gnu.hash").unwrap().uncompressed_data().unwrap().into_owned();
    let word = |n: usize| u32::from_le_bytes(table[n * 4..n * 4 + 4].try_into().unwrap());
    // Counts of buckets, unhashed symbols and 64-bit words of the filter; then the filter and the buckets.
    let buckets = 4 + 2 * word(2) as usize;
    assert!((buckets..buckets + word(0) as usize).any(|n| word(n) == 0), "no bucket is empty: nothing is shown");
    let pod = Pod::new();
    let _mesh = greeters(&pod, Mode::Echo);
    Finished::of(pod.mesh(program).args(["greeter", "80", "1"])).success();
}
