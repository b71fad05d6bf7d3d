//! The real libldmesh.so in real programs, against an image that this test publishes itself.
//!
//! Runs in a user and network namespace of its own with nothing but a loopback, so no packet to the made-up
//! addresses below leaves it. No harness: a namespace of users can only be entered with a single thread.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::{IpAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use xds_runtime::config::Settings;
use xds_runtime::control::{ImageId, Term};
use xds_runtime::image::{
    Action, Balancing, Cluster, DefaultAction, Destination, Endpoint, HashOn, Locality, Mesh, Name, Policy, Priority,
    Publisher, Table, encode, file_words, priority_tag,
};
use xds_runtime::pod::{Pod, names};
use xds_runtime::resource::Health;
use xds_runtime::shm::{self, map_write};
use xds_runtime::state::{FIRST_SLOTS, SlotAllocator, SlotKind, State, endpoint_tag, named_tag, state_words};

const VIP: &str = "10.96.0.10";
const ENDPOINTS: [&str; 3] = ["127.0.1.1", "127.0.1.2", "127.0.1.3"];
/// Nobody listens here.
const DEAD: &str = "127.0.1.9";

/// A behaviour, and what checks it.
type Check = (&'static str, fn(&Fixture));

fn main() {
    let library = library();
    if let Err(why) = enter_namespace() {
        println!("skipped: a user and network namespace is needed: {why}");
        return;
    }
    let mesh = Fixture::new(library);
    let checks: [Check; 12] = [
        ("a_program_without_configuration_is_left_alone", without_configuration),
        ("connections_to_a_vip_reach_every_endpoint", spread),
        ("a_peer_is_the_address_that_was_dialled_even_after_exec", peer),
        ("a_refused_endpoint_costs_the_program_nothing", refused),
        ("when_all_refuse_the_program_gets_the_real_error", all_refuse),
        ("a_non_blocking_connect_goes_to_an_endpoint", non_blocking),
        ("a_v4_mapped_socket_reaches_a_v4_endpoint", mapped),
        ("a_mesh_name_resolves_with_every_hint", hints),
        ("older_lookups_resolve_too", older_lookups),
        ("a_vip_has_its_services_name", reverse),
        ("shadow_mode_and_the_switch_change_nothing", switched_off),
        ("a_cancelled_connect_and_lookup_end_the_thread_alone", cancelled),
    ];
    for (name, check) in checks {
        check(&mesh);
        println!("ok {name}");
    }
}

fn enter_namespace() -> Result<(), String> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // SAFETY: single-threaded here; descriptors stay shared with nobody.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }.map_err(|error| error.to_string())?;
    // Root in there, so that exec keeps the right to set the loopback up.
    for (file, text) in
        [("uid_map", format!("0 {uid} 1")), ("setgroups", "deny".into()), ("gid_map", format!("0 {gid} 1"))]
    {
        std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| error.to_string())?;
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().map_err(|error| error.to_string())?;
    if up.success() { Ok(()) } else { Err("ip link set lo up failed".into()) }
}

/// A published mesh with backends that answer with their own address.
struct Fixture {
    library: PathBuf,
    run_dir: tempfile::TempDir,
    pod: Pod,
    _term: std::sync::Arc<std::sync::Mutex<Term>>,
}

fn variables(run_dir: &str) -> [(&'static str, String); 4] {
    [
        ("LDMESH_XDS", "http://127.0.0.1:1".into()),
        ("LDMESH_RUN_DIR", run_dir.into()),
        ("LDMESH_LEAD", "never".into()),
        ("LDMESH_READY_TIMEOUT", "200ms".into()),
    ]
}

/// The library under test: the one in `$LDMESH_TARGET_DIR`, else built now (cargo builds no cdylib for a test).
fn library() -> PathBuf {
    if let Some(folder) = std::env::var_os("LDMESH_TARGET_DIR") {
        return PathBuf::from(folder).join("libldmesh.so");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Of the same packages as the tests of CI: with features of another selection everything would be compiled again.
    let selection = ["--workspace", "--exclude", "ctests", "--lib", "--tests"];
    let built = Command::new(cargo).args(["build", "--quiet"]).args(selection).status();
    assert!(built.unwrap().success(), "the library does not build");
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("libldmesh.so")
}

fn cluster(allocator: &mut SlotAllocator, name: &str, endpoints: &[&str]) -> Cluster {
    let hash = shm::hash_bytes(name.as_bytes());
    let endpoint = |allocator: &mut SlotAllocator, ip: &str| {
        let ip: IpAddr = ip.parse().unwrap();
        Endpoint {
            address: (ip, 8080).into(),
            weight: 1,
            health: Health::Healthy,
            takes_mtls: false,
            slot: allocator.slot(endpoint_tag(hash, shm::WordAddr::new(ip), 8080)),
        }
    };
    let endpoints = endpoints.iter().map(|ip| endpoint(allocator, ip)).collect();
    let locality = Locality { name: String::new(), weight: 1, slot: None, endpoints };
    Cluster {
        name: name.into(),
        owner: None,
        policy: Policy::RoundRobin,
        balancing: Balancing::default(),
        priorities: Some(vec![Priority {
            localities: vec![locality],
            slot: allocator.slot(priority_tag(hash, 0)),
            table: Table::None,
        }]),
        slot: allocator.slot(named_tag(SlotKind::Cluster, hash)),
        connect_timeout: Duration::from_secs(1),
        max_connections: None,
        keepalive: None,
        panic_threshold: 50.0,
        overprovisioning_factor: 140,
        locality_weighted: false,
        outlier: None,
    }
}

impl Fixture {
    fn new(library: PathBuf) -> Self {
        let run_dir = tempfile::tempdir().unwrap();
        let settings = Settings::from_env(variables(run_dir.path().to_str().unwrap()));
        let pod = Pod::attach(Box::leak(Box::new(settings))).unwrap();
        let dir = pod.run_dir().unwrap();
        let make = |name: &str, words: usize| {
            let fd = dir.create_file(name, words as u64 * 8).unwrap().unwrap();
            map_write(fd.as_fd(), words).unwrap()
        };
        let state = State::format(make(names::STATE, state_words(FIRST_SLOTS)), pod.boot()).unwrap();
        let mut slots = SlotAllocator::recover(state);
        let mesh = mesh(&mut slots);
        let content = encode(&mesh).unwrap();
        let term = pod.control().take_lead(shm::now()).unwrap();
        let id = ImageId { term: term.epoch(), sequence: 0 };
        let words = make(names::FileName::image(id).as_str(), file_words(content.len()));
        Publisher::format(words, pod.boot(), id.term, 0).unwrap().publish(&content).unwrap();
        pod.control().set_image(id);
        pod.control().heard(shm::now());
        pod.control().announce(shm::now());
        for ip in ENDPOINTS {
            serve(ip);
        }
        let term = std::sync::Arc::new(std::sync::Mutex::new(term));
        let beating = term.clone();
        std::thread::spawn(move || {
            // The leader's heartbeat; ends with the process.
            while beating.lock().unwrap().beat(shm::now()).is_ok() {
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        Self { library, run_dir, pod, _term: term }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LD_PRELOAD", &self.library);
        command.envs(variables(self.run_dir.path().to_str().unwrap()));
        command
    }

    /// What a Python program prints under the library.
    #[track_caller]
    fn python(&self, script: &str) -> String {
        self.python_with(&[], script)
    }

    #[track_caller]
    fn python_with(&self, variables: &[(&str, &str)], script: &str) -> String {
        let mut command = self.command("python3");
        command.envs(variables.iter().copied()).args(["-c", &format!("import socket,os,errno\n{script}")]);
        printed(command.output().unwrap())
    }
}

#[track_caller]
fn printed(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    assert_eq!(errors, "");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Answers each connection with the address it listens on.
fn serve(ip: &'static str) {
    let listener = TcpListener::bind((ip, 8080)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.write_all(ip.as_bytes());
        }
    });
}

fn mesh(slots: &mut SlotAllocator) -> Mesh {
    let destination = |address: &str, cluster: u32, name: u32| Destination {
        address: address.parse().unwrap(),
        port: 80,
        action: Action::Clusters { shares: vec![(cluster, 1)], hash: HashOn::Nothing },
        name: Some(name),
        rules_left_out: String::new(),
    };
    let name = |name: &str, addresses: &[&str], headless| Name {
        name: name.into(),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        headless,
    };
    Mesh {
        names: vec![
            name("greeter.shop.example", &[VIP], false),
            name("flaky.shop.example", &["10.96.0.11"], false),
            name("dead.shop.example", &["10.96.0.12"], false),
            name("db.shop.example", &["10.1.0.2", "10.1.0.1", "fd00::1"], true),
        ],
        destinations: vec![destination(VIP, 0, 0), destination("10.96.0.11", 1, 1), destination("10.96.0.12", 2, 2)],
        prefixes: vec![],
        clusters: vec![
            cluster(slots, "greeter", &ENDPOINTS),
            cluster(slots, "flaky", &[DEAD, ENDPOINTS[0]]),
            cluster(slots, "dead", &[DEAD, "127.0.1.8"]),
        ],
        default_action: DefaultAction::Pass,
        own: Vec::new(),
        ..Mesh::default()
    }
}

const DIAL: &str =
    "def dial(a, p=80, f=socket.AF_INET):\n s=socket.socket(f)\n s.settimeout(None)\n s.connect((a,p))\n return s\n";

fn without_configuration(fixture: &Fixture) {
    let mut command = fixture.command("python3");
    command
        .env_remove("LDMESH_XDS")
        .args(["-c", "import socket\nprint(socket.socket().connect_ex(('10.96.0.10',80)))"]);
    assert_eq!(printed(command.output().unwrap()), libc::ENETUNREACH.to_string());
    assert!(fixture.command("/bin/true").status().unwrap().success());
}

fn spread(fixture: &Fixture) {
    let script = format!("{DIAL}print(sorted(dial('{VIP}').recv(99).decode() for _ in range(6)))");
    let twice: Vec<&str> = ENDPOINTS.iter().flat_map(|ip| [*ip, *ip]).collect();
    assert_eq!(fixture.python(&script).replace('\'', "\""), format!("{twice:?}"));
}

fn peer(fixture: &Fixture) {
    let script = format!(
        "{DIAL}s=dial('{VIP}')\nprint(s.getpeername(), socket.socket(fileno=os.dup(s.fileno())).getpeername(), flush=True)\n\
         os.set_inheritable(s.fileno(),True)\n\
         os.execvp('python3',['python3','-c','import socket;print(socket.socket(fileno=%d).getpeername())'%s.fileno()])"
    );
    assert_eq!(fixture.python(&script), format!("('{VIP}', 80) ('{VIP}', 80)\n('{VIP}', 80)"));
}

fn refused(fixture: &Fixture) {
    let script = format!("{DIAL}print({{dial('10.96.0.11').recv(99) for _ in range(6)}})");
    assert_eq!(fixture.python(&script), "{b'127.0.1.1'}");
    // A timeout the program set is still there.
    let script = "import struct\nt=struct.pack('ll',3,500000)\n\
        for _ in range(3):\n s=socket.socket()\n s.setsockopt(1,21,t)\n s.connect(('10.96.0.11',80))\n \
        assert s.getsockopt(1,21,16)==t, s.getsockopt(1,21,16)\nprint('kept')";
    assert_eq!(fixture.python(script), "kept");
}

fn all_refuse(fixture: &Fixture) {
    let script = "s=socket.socket()\nprint(s.connect_ex(('10.96.0.12',80)))";
    assert_eq!(fixture.python(script), libc::ECONNREFUSED.to_string());
    let state = fixture.pod.state().unwrap();
    let hash = shm::hash_bytes(b"dead");
    let tag = named_tag(SlotKind::Cluster, hash);
    let slot = (0..64).find_map(|index| state.slot(index, tag)).unwrap();
    assert_eq!(slot.active(), 0, "failed connections are not counted as live");
}

fn non_blocking(fixture: &Fixture) {
    let script = format!(
        "import select\ns=socket.socket()\ns.setblocking(False)\nprint(s.connect_ex(('{VIP}',80))==errno.EINPROGRESS)\n\
         select.select([],[s],[])\nprint(s.getsockopt(1,4), s.connect_ex(('{VIP}',80)), s.getpeername())\n\
         s.setblocking(True)\nprint(s.recv(99)[:8])"
    );
    assert_eq!(fixture.python(&script), format!("True\n0 0 ('{VIP}', 80)\nb'127.0.1.'"));
    // Asking again about a connection changes nothing; a socket that was disconnected is connected anew.
    let script = format!(
        "import ctypes\ns=socket.socket()\ns.connect(('{VIP}',80))\n\
         print(s.connect_ex(('{VIP}',80))==errno.EISCONN, s.getpeername())\n\
         ctypes.CDLL(None).connect(s.fileno(), bytes(16), 16)\n\
         print(s.connect_ex(('{VIP}',80)), s.getpeername(), s.recv(99)[:8])"
    );
    assert_eq!(fixture.python(&script), format!("True ('{VIP}', 80)\n0 ('{VIP}', 80) b'127.0.1.'"));
}

fn mapped(fixture: &Fixture) {
    let script = format!("{DIAL}s=dial('::ffff:{VIP}',80,socket.AF_INET6)\nprint(s.recv(99)[:8], s.getpeername()[:2])");
    assert_eq!(fixture.python(&script), format!("b'127.0.1.' ('::ffff:{VIP}', 80)"));
}

fn hints(fixture: &Fixture) {
    let show = "def g(*a,**k):\n try: return [(x[3],x[4][:2]) for x in socket.getaddrinfo(*a,type=1,**k)]\n except socket.gaierror as e: return e.errno\n";
    #[track_caller]
    fn check(fixture: &Fixture, show: &str, call: &str, expected: &str) {
        assert_eq!(fixture.python(&format!("{show}print({call})")), expected, "{call}");
    }
    check(fixture, show, "g('Greeter.Shop.Example',80)", &format!("[('', ('{VIP}', 80))]"));
    check(fixture, show, "g('greeter.shop.example.','http')", &format!("[('', ('{VIP}', 80))]"));
    check(
        fixture,
        show,
        "g('greeter.shop.example',80,flags=socket.AI_CANONNAME)",
        &format!("[('greeter.shop.example', ('{VIP}', 80))]"),
    );
    check(fixture, show, "g('greeter.shop.example',80,family=socket.AF_INET6)", "-5");
    check(
        fixture,
        show,
        "g('greeter.shop.example',80,family=socket.AF_INET6,flags=socket.AI_V4MAPPED)",
        &format!("[('', ('::ffff:{VIP}', 80))]"),
    );
    check(fixture, show, "g('greeter.shop.example',80,flags=socket.AI_ADDRCONFIG)", &format!("[('', ('{VIP}', 80))]"));
    check(fixture, show, "g('greeter.shop.example',80,flags=socket.AI_NUMERICHOST)", "-2");
    check(fixture, show, "g('greeter.shop.example','no-such-service')", "-8");
    check(
        fixture,
        show,
        "g('db.shop.example',5)",
        "[('', ('10.1.0.2', 5)), ('', ('10.1.0.1', 5)), ('', ('fd00::1', 5))]",
    );
    check(fixture, show, "g('db.shop.example',5,family=socket.AF_INET6)", "[('', ('fd00::1', 5))]");
    check(fixture, show, "g('localhost',80,family=socket.AF_INET)", "[('', ('127.0.0.1', 80))]");
    check(fixture, show, "g(None,80,family=socket.AF_INET)", "[('', ('127.0.0.1', 80))]");
}

fn older_lookups(fixture: &Fixture) {
    let script = "print(socket.gethostbyname('greeter.shop.example'), socket.gethostbyname_ex('db.shop.example'))";
    assert_eq!(fixture.python(script), format!("{VIP} ('db.shop.example', [], ['10.1.0.2', '10.1.0.1'])"));
}

fn reverse(fixture: &Fixture) {
    let script = format!(
        "n=socket.getnameinfo\nprint(n(('{VIP}',80),0), n(('{VIP}',80),socket.NI_NUMERICHOST)[0])\n\
         print(socket.gethostbyaddr('{VIP}'), n(('127.0.0.1',80),socket.NI_NUMERICSERV))"
    );
    let expected =
        format!("('greeter.shop.example', 'http') {VIP}\n('greeter.shop.example', [], ['{VIP}']) ('localhost', '80')");
    assert_eq!(fixture.python(&script), expected);
}

fn switched_off(fixture: &Fixture) {
    use xds_runtime::control::Switch;
    let script = format!("print(socket.socket().connect_ex(('{VIP}',80)))");
    let unreachable = libc::ENETUNREACH.to_string();
    assert_eq!(fixture.python_with(&[("LDMESH_MODE", "shadow")], &script), unreachable);
    assert_eq!(fixture.python_with(&[("LDMESH_EXCLUDE", "10.96.0.0/16")], &script), unreachable);
    assert_eq!(fixture.python_with(&[("LDMESH_EXCLUDE_EXE", "python3*")], &script), unreachable);
    fixture.pod.control().set_switch(Switch::Off);
    assert_eq!(fixture.python(&script), unreachable);
    fixture.pod.control().set_switch(Switch::On);
    assert_eq!(fixture.python(&script), "0");
}

fn cancelled(fixture: &Fixture) {
    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("cancel.c"), folder.path().join("cancel"));
    std::fs::write(&source, include_str!("cancel.c")).unwrap();
    let compiled = Command::new("cc").arg(&source).arg("-pthread").arg("-o").arg(&binary).status().unwrap();
    assert!(compiled.success());
    assert_eq!(printed(fixture.command(binary.to_str().unwrap()).output().unwrap()), "cancelled\ncancelled\nalive");
}
