//! Calls that connect in other ways than a plain connect does, and connects from contexts in which little is allowed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;
use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, c_program, wait_until};

const VIP: &str = "10.96.0.10";

/// A pod that knows the greeter, by a lookup and connects that waited for it.
#[track_caller]
fn ready(pod: &Pod) {
    let known = || Finished::of(pod.mesh(c_program("dial")).args([VIP, "80"])).status.success();
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    wait_until("the greeter answers", Duration::from_secs(5), || pod.dump(), known);
}

/// Where the mesh, and not the kernel, refuses.
#[track_caller]
fn ready_to_refuse(pod: &Pod) {
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    let refused =
        || Finished::of(pod.mesh(c_program("dial")).args([VIP, "80"])).field("connect") == Some("ECONNREFUSED");
    wait_until("the greeter refuses", Duration::from_secs(5), || pod.dump(), refused);
}

fn run(command: &mut Command, arguments: &[&str]) -> Finished {
    Finished::of(command.args(arguments))
}

/// The endpoint's line of `ldmesh status`.
fn endpoint(pod: &Pod, address: &str) -> String {
    let status = Finished::of(&mut pod.ldmesh(&["status"]));
    status.success().lines().find(|line| line.contains(address)).unwrap_or_default().to_owned()
}

#[track_caller]
fn check_opened(pod: &Pod, how: &str) {
    let answer = run(&mut pod.mesh(c_program("fast_open")), &[how, VIP, "80"]);
    answer.success();
    assert_eq!(answer.field("open").map(|open| open == "5" || open == "EINPROGRESS"), Some(true), "{how}: {answer}");
    assert_eq!(answer.field("backend"), Some("greeter-1"), "{how}: {answer}");
    assert_eq!(answer.field("peer"), Some("10.96.0.10:80"), "{how}: {answer}");
    // Once, whatever was refused before.
    assert_eq!(answer.field("echo"), Some("ping"), "{how}: {answer}");
    assert_eq!(answer.stdout.matches("ping").count(), 1, "{how}: {answer}");
}

#[test]
fn a_send_that_connects_goes_to_an_endpoint_and_its_data_arrives_once() {
    let pod = Pod::new();
    let _greeter = pod.greeters(Mode::Echo, 1);
    let _refusing = pod.backend_of(Mode::Refuse, "127.0.1.2:8080", "refuses");
    let _control_plane = pod.serve(&Manifest::greeter(2));
    ready(&pod);
    // Without and with data in the SYN: 1 = clients may, 2 = servers, 0x604 = without cookie and option.
    for setting in ["1", "1543"] {
        let set = format!("net.ipv4.tcp_fastopen={setting}");
        run(&mut pod.command("sysctl"), &["-q", "-w", &set]).success();
        for how in ["sendto", "sendmsg", "syscall", "nonblocking", "sendto", "sendmsg"] {
            // A SYN with data that a non-blocking send got rid of cannot be sent again elsewhere.
            if (how, setting) != ("nonblocking", "1543") {
                check_opened(&pod, how);
            }
        }
    }
}

#[test]
fn a_connect_whose_syn_leaves_with_the_first_write_is_no_success_of_the_endpoint_yet() {
    let pod = Pod::new();
    let _refusing = pod.greeters(Mode::Refuse, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready_to_refuse(&pod);
    run(&mut pod.command("sysctl"), &["-q", "-w", "net.ipv4.tcp_fastopen=1543"]).success();
    let before = endpoint(&pod, "127.0.1.1:8080");
    assert!(before.contains("in a row") && !before.contains("(0 in a row)"), "{before}");
    let answer = run(&mut pod.mesh(c_program("fast_open")), &["deferred", VIP, "80"]);
    assert_eq!(answer.field("connected"), Some("0"), "{answer}");
    let after = endpoint(&pod, "127.0.1.1:8080");
    assert!(!after.contains("(0 in a row)"), "counted as a success: {before} -> {after}");
}

#[test]
fn a_deferred_connect_reaches_an_endpoint() {
    let pod = Pod::new();
    let _greeter = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready(&pod);
    run(&mut pod.command("sysctl"), &["-q", "-w", "net.ipv4.tcp_fastopen=1543"]).success();
    let answer = run(&mut pod.mesh(c_program("fast_open")), &["deferred", VIP, "80"]);
    assert_eq!(answer.field("connected"), Some("0"), "{answer}");
    assert_eq!(answer.field("peer"), Some("10.96.0.10:80"), "{answer}");
    assert_eq!(answer.field("echo"), Some("ping"), "{answer}");
}

#[test]
fn a_connect_by_its_number_is_a_connect_and_other_numbers_are_untouched() {
    let pod = Pod::new();
    let _greeter = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready(&pod);
    let answer = run(&mut pod.mesh(c_program("system_calls")), &[VIP, "80"]);
    answer.success();
    for (key, expected) in [
        ("connect", "OK"),
        ("errno", "77"),
        ("backend", "greeter-1"),
        ("peer", "10.96.0.10:80"),
        ("mmap", "1"),
        ("unknown", "-1"),
        ("null", "-1"),
        ("sent", "5"),
        ("got", "5"),
        ("echo", "ping"),
        ("pid", "1"),
    ] {
        assert_eq!(answer.field(key), Some(expected), "{key}: {answer}");
    }
    assert!(answer.stdout.contains("unknown=-1 error=ENOSYS"), "{answer}");
    assert!(answer.stdout.contains("null=-1 error=EFAULT"), "{answer}");
}

#[test]
fn a_non_blocking_connect_that_failed_is_counted_once_the_program_knows() {
    let pod = Pod::new();
    let _refusing = pod.greeters(Mode::Refuse, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready_to_refuse(&pod);
    let failures = |line: &str| -> u64 {
        let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|word| *word == "failures").unwrap_or_else(|| panic!("no failures in {line}"));
        words[at - 1].parse().unwrap()
    };
    let before = failures(&endpoint(&pod, "127.0.1.1:8080"));
    for _ in 0..3 {
        let answer = run(&mut pod.mesh(c_program("dial_nonblocking")), &[VIP, "80"]);
        assert_eq!(answer.field("so_error"), Some("ECONNREFUSED"), "{answer}");
    }
    let after = endpoint(&pod, "127.0.1.1:8080");
    assert_eq!(failures(&after), before + 3, "{after}");
    assert!(after.contains(" 0 active"), "{after}");
}

#[test]
fn the_first_connect_may_come_from_a_handler_that_interrupted_malloc() {
    let pod = Pod::new();
    let _greeter = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let log = pod.folder().join("log");
    let program = c_program("handler_in_malloc");
    // Nobody made the run directory yet, and no agent runs: the very first connect makes and starts both.
    let first = run(&mut pod.mesh(&program), &[VIP, "80"]);
    first.success();
    assert!(!pod.agents().is_empty(), "{first}");
    ready(&pod);
    for level in ["off", "trace"] {
        let mut command = pod.mesh(&program);
        command.env("LDMESH_LOG", level).env("LDMESH_LOG_FILE", &log);
        let answer = run(&mut command, &[VIP, "80"]);
        answer.success();
        assert_eq!(answer.field("blocking"), Some("OK"), "{answer}");
        assert_eq!(answer.field("nonblocking"), Some("EINPROGRESS"), "{answer}");
        assert_eq!(answer.field("so_error"), Some("0"), "{answer}");
        assert_eq!(answer.field("backend"), Some("greeter-1"), "{answer}");
        assert_eq!(answer.field("peer"), Some("10.96.0.10:80"), "{answer}");
    }
    assert!(std::fs::read_to_string(&log).unwrap().contains("127.0.1.1:8080"));
}

#[test]
fn a_vfork_child_that_connects_leaves_its_parent_as_it_was() {
    let pod = Pod::new();
    let _greeter = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready(&pod);
    for uid in ["0", "1000"] {
        let answer = run(&mut pod.mesh(c_program("vfork_connects")), &[VIP, "80", uid]);
        answer.success();
        assert_eq!(answer.field("status"), Some("0"), "{answer}");
        assert_eq!(answer.field("threads"), Some("1"), "{answer}");
        assert_eq!(answer.field("backend"), Some("greeter-1"), "{answer}");
        assert_eq!(answer.field("peer"), Some("10.96.0.10:80"), "{answer}");
    }
    // The child had no folder of its user, and made none.
    assert!(!pod.run_dir().join("1000").exists());
}

#[test]
fn signals_at_a_high_rate_fail_no_call_and_a_jump_out_of_one_leaves_nothing_behind() {
    let pod = Pod::new();
    let _greeter = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready(&pod);
    for how in ["stay", "jump"] {
        let answer = run(&mut pod.mesh(c_program("signals_at_rate")), &[VIP, "80", how]);
        answer.success();
        let number = |key: &str| answer.field(key).unwrap().parse::<u64>().unwrap();
        assert!(number("good") > 10 && number("signals") > 100, "{answer}");
        assert_eq!(number("bad"), 0, "{answer}");
        assert_eq!(number("jumps") > 0, how == "jump", "{answer}");
        assert_eq!(answer.field("cancel"), Some("enabled"), "{answer}");
        assert_eq!(answer.field("backend"), Some("greeter-1"), "{answer}");
    }
}

#[test]
fn a_program_may_exit_during_its_first_connect() {
    let pod = Pod::new();
    let _greeter = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready(&pod);
    for microseconds in (0..40).map(|step| step * 50) {
        run(&mut pod.mesh(c_program("exit_during_connect")), &[VIP, "80", &microseconds.to_string()]).success();
    }
}

#[test]
fn without_memory_every_call_has_an_outcome() {
    // A file that takes more memory than the library has for itself.
    let large: String = (0..3000).map(|nth| format!("10.9.{}.{} neighbour-{nth}\n", nth / 250, nth % 250)).collect();
    for hosts in [String::new(), large] {
        let pod = Pod::builder().hosts(&format!("127.0.0.1 localhost\n{hosts}")).build();
        let _greeter = pod.greeters(Mode::Echo, 1);
        let _control_plane = pod.serve(&Manifest::greeter(1));
        ready(&pod);
        let answer = run(&mut pod.mesh(c_program("out_of_memory")), &[VIP, "80"]);
        answer.success();
        assert_eq!(answer.field("alive"), Some("1"), "{answer}");
    }
}

#[test]
fn a_thread_with_the_smallest_stack_makes_the_first_connect() {
    let pod = Pod::new();
    let _greeter = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    ready(&pod);
    let answer = run(&mut pod.mesh(c_program("small_stack")), &[VIP, "80"]);
    answer.success();
    assert_eq!(answer.field("backend"), Some("greeter-1"), "{answer}");
}

#[test]
fn a_thread_with_the_smallest_stack_looks_up_and_connects_whenever_it_does_without_us() {
    for lead in ["agent", "thread"] {
        let hosts = "127.0.0.1 localhost\n127.0.1.1 neighbour\n";
        let pod = Pod::builder().env("LDMESH_LEAD", lead).hosts(hosts).build();
        let _greeter = pod.greeters(Mode::Echo, 1);
        let _control_plane = pod.serve(&Manifest::greeter(1));
        let program = c_program("small_stack_lookup");
        // The pod's first: it starts the leader, too. Without us glibc asks a nameserver, and dies for want of stack.
        let first = run(&mut pod.mesh(&program), &["greeter", "80"]);
        assert_eq!(first.field("visit"), Some("greeter-1"), "LDMESH_LEAD={lead}: {first}");
        for [name, port, outside, inside] in [
            ["neighbour", "8080", "greeter-1", "greeter-1"],
            ["127.0.1.1", "8080", "greeter-1", "greeter-1"],
            ["nobody.example", "80", "unknown", "unknown"],
            [VIP, "80", "ENETUNREACH", "greeter-1"],
        ] {
            let without = run(&mut pod.command(&program), &[name, port]);
            assert_eq!(without.field("visit"), Some(outside), "{name}: {without}");
            let with = run(&mut pod.mesh(&program), &[name, port]);
            assert_eq!(with.field("visit"), Some(inside), "LDMESH_LEAD={lead}, {name}: {with}");
        }
    }
}

#[test]
fn a_hook_leaves_most_of_the_smallest_stack() {
    // Of 16 KiB, in a release build (docs/decisions.md: the way of a connect takes more than the 2 KiB once asked for).
    const IN_THE_WAY: usize = 2 << 10;
    const DECIDING: usize = 6 << 10;
    // Below a limit of one, each connect finds the cluster full of the one before it, and asks the kernel.
    for manifest in [Manifest::greeter(2), Manifest::greeter(2).limited(1)] {
        let pod = Pod::new();
        let _greeters = pod.greeters(Mode::Echo, 2);
        let _control_plane = pod.serve(&manifest);
        ready(&pod);
        let measured = |command: &mut Command| run(command.env("LD_BIND_NOW", "1"), &[VIP, "80"]);
        let (with, without) =
            (measured(&mut pod.mesh(c_program("stack_use"))), measured(&mut pod.command(c_program("stack_use"))));
        let mut table = String::new();
        let mut is_within = true;
        let passing = ["pass", "peer", "send", "so_error"].map(|call| (call, IN_THE_WAY));
        let redirected = ["attach", "connect", "by_number", "fast_open", "nonblocking"].map(|call| (call, DECIDING));
        for (call, limit) in passing.into_iter().chain(redirected) {
            let bytes = |from: &Finished| from.field(call).unwrap().parse::<usize>().unwrap();
            let own = bytes(&with).saturating_sub(bytes(&without));
            table.push_str(&format!("  {call}: {own} bytes\n"));
            is_within &= own <= limit;
        }
        println!("stack of the hooks beside the real calls:\n{table}");
        assert!(is_within, "\n{table}");
    }
}
