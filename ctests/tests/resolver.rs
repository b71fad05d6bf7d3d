//! Raw queries of the DNS (res_query and its kin), getaddrinfo_a, and what freeaddrinfo gets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use ctests::{Finished, Manifest, Pod, Service, c_program, portable_library, skipped};

/// A pod whose nameserver is the program under test.
fn pod() -> Pod {
    let search = "search default.svc.cluster.local svc.cluster.local cluster.local";
    let options = "options ndots:5 timeout:1 attempts:1";
    Pod::builder().resolv_conf(&format!("{search}\nnameserver 127.0.0.1\n{options}\n")).build()
}

fn mesh() -> Manifest {
    Manifest::of(&[
        Service::new("greeter", "default", &["10.96.0.10"], &["127.0.1.1"]),
        Service::new("dual", "default", &["10.96.0.30", "2001:db8:96::30"], &["127.0.1.1"]),
        Service::new("db", "default", &[], &["127.0.3.1", "127.0.3.2"]),
    ])
}

const GREETER: &str = "greeter.default.svc.cluster.local";
const DUAL: &str = "dual.default.svc.cluster.local";
const FUNCTIONS: [&str; 16] = [
    "query",
    "search",
    "nquery",
    "nsearch",
    "querydomain",
    "nquerydomain",
    "send",
    "nsend",
    "old-query",
    "old-search",
    "old-nquery",
    "old-nsearch",
    "old-querydomain",
    "old-nquerydomain",
    "old-send",
    "old-nsend",
];

fn query(pod: &Pod, arguments: &[&str]) -> Finished {
    let answer = Finished::of(pod.mesh(c_program("resolver")).args(arguments));
    answer.success();
    answer
}

/// The records of an answer that the nameserver was not asked for.
#[track_caller]
fn check_records(pod: &Pod, arguments: &[&str], question: &str, expected: &[&str]) {
    let answer = query(pod, arguments);
    let records: Vec<_> = answer.stdout.split_whitespace().filter_map(|word| word.strip_prefix("record=")).collect();
    assert_eq!(records, expected, "{arguments:?}: {answer}");
    assert_eq!(answer.field("question"), Some(question), "{arguments:?}: {answer}");
    // A response, recursion desired and available; one question, so many answers.
    let header = format!("8180{:04x}{:04x}00000000", 1, expected.len());
    assert_eq!(answer.field("header"), Some(header.as_str()), "{arguments:?}: {answer}");
    assert_eq!(answer.field("asked"), Some("0"), "{arguments:?}: {answer}");
}

/// The call comes to what it comes to without the library, and the nameserver is asked as often.
#[track_caller]
fn check_same_as_without(pod: &Pod, arguments: &[&str]) -> String {
    let without = Finished::of(pod.command(c_program("resolver")).args(arguments));
    assert_eq!(query(pod, arguments).stdout, without.success().to_owned() + "\n", "{arguments:?}");
    without.stdout
}

#[test]
fn each_function_answers_the_addresses_of_a_service() {
    let pod = pod();
    let _control_plane = pod.serve(&mesh());
    for function in FUNCTIONS {
        check_records(&pod, &[function, GREETER, "A"], GREETER, &["1:10.96.0.10"]);
        check_records(&pod, &[function, DUAL, "AAAA"], DUAL, &["28:2001:db8:96::30"]);
    }
    let headless = "db.default.svc.cluster.local";
    check_records(&pod, &["query", headless, "A"], headless, &["1:127.0.3.1", "1:127.0.3.2"]);
}

#[test]
fn a_family_that_the_service_lacks_is_no_data() {
    let pod = pod();
    let _control_plane = pod.serve(&mesh());
    for function in FUNCTIONS {
        let answer = query(&pod, &[function, GREETER, "AAAA"]);
        // A query fails with NO_DATA (4), in its state too; who sends a message gets the message.
        let is_message = function.ends_with("send");
        let has_state = !is_message && function.trim_start_matches("old-").starts_with('n');
        assert_eq!(answer.field("length") == Some("-1"), !is_message, "{function}: {answer}");
        assert_eq!(answer.field("error"), Some(if is_message { "0" } else { "4" }), "{function}: {answer}");
        assert_eq!(answer.field("state"), Some(if has_state { "4" } else { "0" }), "{function}: {answer}");
        assert_eq!(answer.field("asked"), Some("0"), "{function}: {answer}");
        if is_message {
            assert_eq!(answer.field("header"), Some("81800001000000000000"), "{function}: {answer}");
        }
    }
}

#[test]
fn other_names_and_other_records_are_as_without_the_library() {
    let pod = pod();
    let _control_plane = pod.serve(&mesh());
    for function in FUNCTIONS {
        let known = check_same_as_without(&pod, &[function, "elsewhere.a.b.c.d.example", "A"]);
        assert!(known.contains("record=1:192.0.2.9"), "{function}: {known}");
        check_same_as_without(&pod, &[function, "nowhere.a.b.c.d.example", "A"]);
    }
    for arguments in [
        &["query", GREETER, "TXT"][..],
        &["send", GREETER, "TXT"],
        &["query", GREETER, "SRV"],
        &["query", GREETER, "ANY"],
        &["query", GREETER, "A", "1024", "3"],
        &["query", GREETER, "A", "11"],
        &["send", GREETER, "A", "11"],
        &["query", GREETER, "A", "-1"],
        &["query", "greeter", "A"],
        &["query", "9.9.96.10.in-addr.arpa", "PTR"],
        &["query", "1.3.0.127.in-addr.arpa", "PTR"],
    ] {
        check_same_as_without(&pod, arguments);
    }
}

#[test]
fn a_search_finds_what_the_search_list_makes() {
    // Neither the hosts file nor the own name has a say in the DNS.
    let search = "search default.svc.cluster.local svc.cluster.local\nnameserver 127.0.0.1\noptions ndots:5\n";
    let pod = Pod::builder().hostname("greeter").hosts("192.0.2.1 greeter dual\n").resolv_conf(search).build();
    let _control_plane = pod.serve(&mesh());
    for function in ["search", "nsearch", "old-search", "old-nsearch"] {
        for name in ["greeter", "Greeter.default", "greeter.default.svc.cluster.local."] {
            check_records(&pod, &[function, name, "A"], GREETER, &["1:10.96.0.10"]);
        }
        check_same_as_without(&pod, &[function, "greeter.", "A"]);
    }
}

#[test]
fn a_cluster_address_has_its_services_name() {
    let pod = pod();
    let _control_plane = pod.serve(&mesh());
    let v6 = "0.3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    for function in ["query", "nsearch", "old-search", "send"] {
        let v4 = "10.0.96.10.in-addr.arpa";
        check_records(&pod, &[function, v4, "PTR"], v4, &["12:greeter.default.svc.cluster.local"]);
        check_records(&pod, &[function, v6, "PTR"], v6, &["12:dual.default.svc.cluster.local"]);
    }
}

#[test]
fn a_room_too_small_gets_the_beginning_and_the_whole_length() {
    let pod = pod();
    let _control_plane = pod.serve(&mesh());
    for function in ["query", "nsend"] {
        let whole = query(&pod, &[function, GREETER, "A"]);
        for size in ["12", "20", "55", "66"] {
            let cut = query(&pod, &[function, GREETER, "A", size]);
            assert_eq!(cut.field("length"), whole.field("length"), "{cut}");
            // The same, cut off.
            let header = cut.field("header");
            assert!(header.is_none() || header == Some("83800001000100000000"), "{size}: {cut}");
        }
    }
}

/// What getaddrinfo_a came to: its own line, then one per name.
fn lookup_async(pod: &Pod, mode: &str, notify: &str, names: &[&str]) -> Vec<String> {
    let arguments = [&[mode, notify], names].concat();
    let done = Finished::of(pod.mesh(c_program("lookup_async")).args(&arguments));
    done.success().lines().map(str::to_owned).collect()
}

#[test]
fn getaddrinfo_a_answers_the_meshs_and_tells_once_when_all_are_done() {
    let pod = pod();
    let _control_plane = pod.serve(&mesh());
    let (ours, none) = ("greeter=0:10.96.0.10 cancel=EAI_ALLDONE", "nowhere=EAI_NONAME: cancel=EAI_ALLDONE");
    let (both, other) = ("db=0:127.0.3.1,127.0.3.2 cancel=EAI_ALLDONE", "elsewhere=0:192.0.2.9 cancel=EAI_ALLDONE");
    for (mode, notify, told) in [
        ("wait", "none", 0),
        ("wait", "signal", 0),
        ("nowait", "none", 0),
        ("nowait", "signal", 1),
        ("nowait", "thread", 1),
    ] {
        let head = |asked: u32| format!("code=0 told={told} asked={asked} list=unchanged");
        let alone = lookup_async(&pod, mode, notify, &["greeter", "-", "db"]);
        assert_eq!(alone, [&head(0), ours, both], "{mode} {notify}");
        let mixed = lookup_async(&pod, mode, notify, &["elsewhere", "greeter", "nowhere", "db"]);
        // Each candidate of the two others is asked for: three of the search list, and the name.
        let asked: u32 = mixed[0].split(' ').find_map(|word| word.strip_prefix("asked=")).unwrap().parse().unwrap();
        assert!((2..=8).contains(&asked), "{mixed:?}");
        assert_eq!(mixed, [&head(asked), other, ours, none, both], "{mode} {notify}");
        let nothing = lookup_async(&pod, mode, notify, &["-"]);
        assert_eq!(nothing, [head(0)], "{mode} {notify}");
    }
}

#[test]
fn getaddrinfo_a_gives_each_request_its_own_error() {
    let pod = pod();
    let _control_plane = pod.serve(&mesh());
    let answers = lookup_async(&pod, "nowait", "thread", &["wrong:greeter", "dual", "wrong:elsewhere"]);
    let without = Finished::of(pod.command(c_program("lookup_async")).args(["wait", "none", "wrong:elsewhere"]));
    let wrong = without.success().lines().nth(1).unwrap().to_owned();
    assert_eq!(
        answers[1..],
        [wrong.replace("elsewhere", "greeter"), "dual=0:10.96.0.30 cancel=EAI_ALLDONE".into(), wrong]
    );
}

#[test]
fn a_list_is_freed_by_libc_whole_or_in_parts() {
    let pod = pod();
    let _control_plane = pod.serve(&mesh());
    let musl = pod.folder().join("lookup_many");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/c/lookup_many.c");
    let built = Command::new("musl-gcc").args(["-O1", source, "-o"]).arg(&musl).status();
    // Entries of an address: of each socket type; musl has no raw one.
    let mut programs = vec![(c_program("lookup_many"), 3)];
    match built {
        Ok(status) if status.success() => programs.push((musl, 2)),
        _ => skipped("no musl-gcc; lists were freed by glibc alone"),
    }
    let library = portable_library(pod.folder());
    for (program, types) in programs {
        for (name, addresses) in [("greeter", 1), ("db", 2)] {
            for options in [&[][..], &["canonname"], &["canonname", "shuffled"]] {
                let mut command = pod.mesh(&program);
                let done = Finished::of(command.env("LD_PRELOAD", &library).arg(name).args(options));
                let what = format!("{} {name} {options:?}: {done}", program.display());
                done.success();
                assert_eq!(done.field("nodes"), Some((types * addresses).to_string().as_str()), "{what}");
                if !options.is_empty() {
                    let full = format!("{name}.default.svc.cluster.local");
                    assert_eq!(done.field("canon"), Some(full.as_str()), "{what}");
                }
                // A name of each of 5,000 lists would be 240 KiB.
                let grown: i64 = done.field("grown").unwrap().parse().unwrap();
                assert!(grown < 200, "{what}");
            }
        }
    }
}

#[test]
fn php_sees_a_services_records() {
    let pod = pod();
    let _control_plane = pod.serve(&mesh());
    let script = "foreach ([DNS_A, DNS_AAAA] as $type)
        foreach (dns_get_record('dual.default.svc.cluster.local', $type) as $record)
            echo $record['host'], ' ', $record['ip'] ?? $record['ipv6'], ' ', $record['ttl'], PHP_EOL;
        echo checkdnsrr('greeter.default.svc.cluster.local', 'A') ? 'yes' : 'no';
        echo checkdnsrr('greeter.default.svc.cluster.local', 'AAAA') ? 'yes' : 'no';";
    let seen = Finished::of(pod.mesh("php").args(["-n", "-r", script]));
    let expected = format!("{DUAL} 10.96.0.30 5\n{DUAL} 2001:db8:96::30 5\nyesno");
    assert_eq!(seen.success(), expected, "{seen}");
}
