//! Names, in libc's order and with libc's meaning of every hint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use ctests::{Finished, Manifest, Pod, Port, Service, c_program};

fn mesh() -> Manifest {
    Manifest::of(&[
        Service::new("greeter", "default", &["10.96.0.10"], &["127.0.1.1"]),
        Service::new("greeter", "other", &["10.96.0.20"], &["127.0.2.1"]),
        Service::new("dual", "default", &["10.96.0.30", "2001:db8:96::30"], &["127.0.1.1"]),
        Service::new("db", "default", &[], &["127.0.3.1", "127.0.3.2"]),
    ])
}

fn lookup(pod: &Pod, arguments: &[&str]) -> Finished {
    Finished::of(pod.mesh(c_program("lookup")).args(arguments))
}

/// The distinct addresses of the answer, in its order, with `AF_UNSPEC` unless a family is given.
#[track_caller]
fn check_addresses(pod: &Pod, arguments: &[&str], expected: &[&str]) {
    let answer = lookup(pod, arguments);
    let mut addresses: Vec<_> =
        answer.success().split_whitespace().filter_map(|word| word.strip_prefix("addr=")).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses, expected, "{arguments:?}: {answer}");
}

#[track_caller]
fn check_code(pod: &Pod, arguments: &[&str], expected: &str) {
    let answer = lookup(pod, arguments);
    assert_eq!(answer.field("code"), Some(expected), "{arguments:?}: {answer}");
}

/// The answer is what the program gets without the library.
#[track_caller]
fn check_same_as_without(pod: &Pod, arguments: &[&str]) {
    let without = Finished::of(pod.command(c_program("lookup")).args(arguments));
    let with = lookup(pod, arguments);
    let lines = |finished: &Finished| finished.stdout.replace(" errno=77", "");
    assert_eq!(lines(&with), lines(&without), "{arguments:?}");
    assert_eq!(with.status.code(), without.status.code(), "{arguments:?}");
}

#[test]
fn every_form_that_the_search_list_makes_finds_the_service() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&mesh());
    for name in [
        "greeter",
        "GREETER",
        "greeter.default",
        "greeter.default.svc",
        "greeter.default.svc.cluster.local",
        "greeter.default.svc.cluster.local.",
    ] {
        check_addresses(&pod, &[name, "80", "stream"], &["10.96.0.10"]);
    }
    for name in ["greeter.other", "greeter.other.svc", "greeter.other.svc.cluster.local"] {
        check_addresses(&pod, &[name, "80", "stream"], &["10.96.0.20"]);
    }
}

#[test]
fn a_name_is_whole_labels_and_a_final_dot_ends_the_search() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&mesh());
    for name in ["greet", "greeter2", "reeter", "greeter.defaul", "greeter.", "greeter.other."] {
        check_same_as_without(&pod, &[name, "80", "stream"]);
    }
}

#[test]
fn a_short_form_needs_its_suffix_in_the_search_list() {
    let pod =
        Pod::builder().resolv_conf("search other.svc.cluster.local\nnameserver 10.96.0.53\noptions ndots:1\n").build();
    let _control_plane = pod.serve(&mesh());
    check_addresses(&pod, &["greeter", "80", "stream"], &["10.96.0.20"]);
    check_same_as_without(&pod, &["greeter.default", "80", "stream"]);
    check_addresses(&pod, &["greeter.default.svc.cluster.local", "80"], &["10.96.0.10"]);
}

#[test]
fn the_hosts_file_comes_first_and_is_read_again_when_it_changes() {
    let pod = Pod::builder().hosts("127.0.0.1 localhost\n192.0.2.9 greeter\n").build();
    let _control_plane = pod.serve(&mesh());
    check_addresses(&pod, &["greeter", "80", "stream"], &["192.0.2.9"]);
    check_addresses(&pod, &["greeter.other", "80", "stream"], &["10.96.0.20"]);
    std::fs::write(pod.folder().join("hosts"), "127.0.0.1 localhost\n").unwrap();
    check_addresses(&pod, &["greeter", "80", "stream"], &["10.96.0.10"]);
}

#[test]
fn the_own_host_name_is_not_the_service_of_the_same_name() {
    let pod = Pod::builder().hostname("greeter").build();
    let _control_plane = pod.serve(&mesh());
    check_addresses(&pod, &["greeter", "80", "stream"], &["10.244.0.2"]);
    check_addresses(&pod, &["greeter.default", "80", "stream"], &["10.96.0.10"]);
}

#[test]
fn a_family_that_the_service_lacks_is_no_data_or_mapped() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&mesh());
    check_code(&pod, &["greeter", "80", "inet6"], "EAI_NODATA");
    check_addresses(&pod, &["greeter", "80", "inet6", "v4mapped"], &["::ffff:10.96.0.10"]);
    check_addresses(&pod, &["dual", "80", "inet6"], &["2001:db8:96::30"]);
    check_addresses(&pod, &["dual", "80", "inet"], &["10.96.0.30"]);
    check_addresses(&pod, &["dual", "80"], &["10.96.0.30", "2001:db8:96::30"]);
    check_addresses(&pod, &["greeter", "80", "addrconfig"], &["10.96.0.10"]);
    check_addresses(&pod, &["greeter", "80", "nohints"], &["10.96.0.10"]);
}

#[test]
fn the_canonical_name_is_the_full_one() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&mesh());
    for name in ["greeter", "greeter.default.svc"] {
        let answer = lookup(&pod, &[name, "80", "stream", "canonname"]);
        let canon = answer.field("canon");
        assert_eq!(canon, Some("greeter.default.svc.cluster.local"), "{answer}");
    }
    let without = lookup(&pod, &["greeter", "80", "stream"]);
    assert_eq!(without.field("canon"), Some("-"), "{without}");
}

#[test]
fn each_socket_type_is_an_entry_as_libc_gives_them() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&mesh());
    let shape = |arguments: &[&str]| {
        let answer = lookup(&pod, arguments);
        let text = answer.success().to_owned();
        let fields = |line: &str| {
            let words = line.split(' ').filter(|word| !word.starts_with("addr="));
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        text.lines().skip(1).map(fields).collect::<Vec<_>>()
    };
    for hints in [&["80"][..], &["80", "stream"], &["80", "dgram"], &["-", "tcp"], &["-", "raw"]] {
        let of = |name| [&[name], hints].concat();
        assert_eq!(shape(&of("greeter")), shape(&of("10.96.0.10")), "{hints:?}");
    }
}

#[test]
fn the_service_gives_the_port_and_a_wrong_one_libcs_error() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&mesh());
    let named = lookup(&pod, &["greeter", "http", "stream"]);
    assert_eq!(named.field("port"), Some("80"), "{named}");
    check_code(&pod, &["greeter", "no-such-service", "stream"], "EAI_SERVICE");
    check_code(&pod, &["greeter", "http", "stream", "numericserv"], "EAI_NONAME");
    let none = lookup(&pod, &["greeter", "-", "stream"]);
    assert_eq!(none.field("port"), Some("0"), "{none}");
}

#[test]
fn what_is_not_the_meshs_is_as_without_the_library() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&mesh());
    for arguments in [
        &["-", "80", "stream"][..],
        &["-", "80", "stream", "passive"],
        &["-", "-"],
        &["greeter", "80", "numerichost"],
        &["10.96.0.10", "80", "stream", "canonname"],
        &["2001:db8:96::30", "80"],
        &["localhost", "80", "stream"],
        &["app-0", "80", "stream"],
        &["unknown.example", "80", "stream"],
        &["", "80"],
        &["greeter..default", "80"],
    ] {
        check_same_as_without(&pod, arguments);
    }
    let long = "a".repeat(300);
    check_same_as_without(&pod, &[&long, "80"]);
}

#[test]
fn a_headless_service_gives_every_endpoint() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&mesh());
    check_addresses(&pod, &["db", "8080", "stream"], &["127.0.3.1", "127.0.3.2"]);
}

#[test]
fn an_endpoint_is_answered_on_demand_where_its_ports_are_the_services() {
    let pod = Pod::builder().env("LDMESH_RESOLVE", "endpoint").build();
    let same = Service::new("same", "default", &["10.96.0.40"], &["127.0.4.1"]).ports(&[Port::new("tcp", 8080, 8080)]);
    let mixed = Service::new("mixed", "default", &["10.96.0.50"], &["127.0.4.1"])
        .ports(&[Port::new("tcp", 8080, 8080), Port::new("http", 80, 8081)]);
    let _control_plane = pod.serve(&Manifest::of(&[same, mixed]));
    check_addresses(&pod, &["same", "8080", "stream"], &["127.0.4.1"]);
    let name = lookup(&pod, &["same", "8080", "stream", "canonname"]);
    assert_eq!(name.field("canon"), Some("same.default.svc.cluster.local"), "{name}");
    check_addresses(&pod, &["mixed", "80", "stream"], &["10.96.0.50"]);
    let old = Finished::of(pod.mesh(c_program("hostent")).args(["byname", "same"]));
    assert_eq!(old.field("addrs"), Some("127.0.4.1"), "{old}");
}

#[test]
fn the_old_functions_answer_as_getaddrinfo_does() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&mesh());
    for function in ["byname", "byname_r", "byname2-4", "byname2_r-4"] {
        let answer = Finished::of(pod.mesh(c_program("hostent")).args([function, "greeter"]));
        answer.success();
        assert_eq!(answer.field("addrs"), Some("10.96.0.10"), "{function}: {answer}");
        let name = answer.field("name");
        assert_eq!(name, Some("greeter.default.svc.cluster.local"), "{function}: {answer}");
    }
    for function in ["byname2-6", "byname2_r-6"] {
        let answer = Finished::of(pod.mesh(c_program("hostent")).args([function, "dual"]));
        answer.success();
        assert_eq!(answer.field("addrs"), Some("2001:db8:96::30"), "{function}: {answer}");
        let none = Finished::of(pod.mesh(c_program("hostent")).args([function, "greeter"]));
        // NO_DATA: the name is known, an address of the family is not.
        assert_eq!(none.field("h_errno"), Some("4"), "{function}: {none}");
    }
    let small = Finished::of(pod.mesh(c_program("hostent")).args(["byname_r", "greeter", "16"]));
    assert_eq!(small.field("result"), Some("ERANGE"), "{small}");
}

#[test]
fn a_cluster_address_answers_with_its_services_name() {
    let pod = Pod::new();
    let _control_plane = pod.serve(&mesh());
    for function in ["nameinfo", "byaddr", "byaddr_r"] {
        for (address, name) in [("10.96.0.10", "greeter"), ("2001:db8:96::30", "dual")] {
            let mut reverse = pod.mesh(c_program("reverse"));
            let answer = Finished::of(reverse.args([function, address, "80"]));
            let full = format!("{name}.default.svc.cluster.local");
            assert_eq!(answer.field("name"), Some(full.as_str()), "{function}: {answer}");
        }
    }
    let both = Finished::of(pod.mesh(c_program("reverse")).args(["both", "10.96.0.10", "greeter"]));
    assert_eq!(both.field("one"), Some("0"), "programs compare what each says: {both}");
    let mut digits = pod.mesh(c_program("reverse"));
    let digits = Finished::of(digits.args(["nameinfo", "10.96.0.10", "80", "numerichost", "numericserv"]));
    assert_eq!(digits.field("name"), Some("10.96.0.10"), "{digits}");
    assert_eq!(digits.field("service"), Some("80"), "{digits}");
}
