//! Programs whose limits leave no room for us: they do what they do without the library.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use ctests::{Backend, Finished, Manifest, Mode, Pod, c_program};

/// The pod's VIP answers by itself, as where kube-proxy is; it calls itself `kernel`.
fn kernel_answers(pod: &Pod) -> Backend {
    pod.ip("route add local 10.96.0.0/16 dev lo\n");
    pod.backend_of(Mode::Echo, "10.96.0.10:80", "kernel")
}

fn led_by(lead: &str) -> Pod {
    Pod::builder().env("LDMESH_LEAD", lead).build()
}

/// `dial` below a limit, as `prlimit` names it.
fn limited(mut command: Command, limit: &str) -> Finished {
    let dial = c_program("dial");
    let limit = format!("--{limit}");
    Finished::of(command.arg(limit).arg(dial).args(["10.96.0.10", "80"]))
}

/// Goes through limits of descriptors from below what a program needs to start up; gives whom each one reached.
#[track_caller]
fn check_few_descriptors(pod: &Pod) -> Vec<String> {
    let mut reached = Vec::new();
    for limit in 3..=10 {
        let limit = format!("nofile={limit}:{limit}");
        let plain = limited(pod.command("prlimit"), &limit);
        let mesh = limited(pod.mesh("prlimit"), &limit);
        assert_eq!(mesh.status, plain.status, "{limit}: {mesh}\nwithout: {plain}");
        if plain.status.success() {
            assert_eq!(mesh.stderr, "", "{limit}");
            reached.push(mesh.field("backend").unwrap().to_owned());
        }
    }
    assert!(reached.len() >= 4, "{reached:?}");
    reached
}

#[test]
fn with_few_descriptors_a_program_connects_whenever_it_does_without_us() {
    let pod = Pod::new();
    let _kernel = kernel_answers(&pod);
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    check_few_descriptors(&pod);
}

#[test]
fn with_few_descriptors_a_program_finds_the_leader_that_is_there() {
    let pod = led_by("agent");
    let _kernel = kernel_answers(&pod);
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    Finished::of(pod.mesh(c_program("dial")).args(["10.96.0.10", "80"])).success();
    let reached = check_few_descriptors(&pod);
    assert_eq!(reached.last().unwrap(), "greeter-1", "{reached:?}");
}

#[test]
fn an_agent_has_the_descriptors_that_its_program_does_without() {
    let pod = led_by("agent");
    let _backends = pod.greeters(Mode::Echo, 1);
    let control_plane = pod.serve(&Manifest::greeter(1));
    let mut lookup = pod.mesh("prlimit");
    lookup.arg("--nofile=8:1024").arg(c_program("lookup")).args(["greeter", "80", "inet", "stream"]);
    let lookup = Finished::of(&mut lookup);
    assert_eq!(lookup.field("addr"), Some("10.96.0.10"), "{lookup}");
    let [agent] = pod.agents()[..] else { panic!("no agent\n{}", pod.dump()) };
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", agent.0)).unwrap();
    let files: Vec<_> = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split(' ').collect();
    assert_eq!(files.iter().filter(|&&word| word == "1024").count(), 2, "{limits}");
    assert_eq!(control_plane.stats().streams_total(), 1);
}

#[test]
fn a_user_without_processes_left_has_neither_agent_nor_thread_and_everything_passes() {
    if !ctests::can_map_users() {
        return ctests::skipped("only root can map several users");
    }
    for lead in ["auto", "agent", "thread"] {
        let pod = Pod::builder().env("LDMESH_LEAD", lead).build();
        let _kernel = kernel_answers(&pod);
        let _backends = pod.greeters(Mode::Echo, 1);
        let _control_plane = pod.serve(&Manifest::greeter(1));
        for limit in ["nproc=0", "nproc=1"] {
            let mesh = limited(pod.mesh_as(1234, "prlimit"), limit);
            assert!(mesh.success().contains("backend=kernel"), "LDMESH_LEAD={lead}, {limit}: {mesh}");
            assert_eq!(mesh.stderr, "");
            let mut lookup = pod.mesh_as(1234, "prlimit");
            lookup.arg(format!("--{limit}")).arg(c_program("lookup")).args(["greeter", "80", "inet"]);
            assert!(Finished::of(&mut lookup).stdout.starts_with("code=EAI_AGAIN"), "LDMESH_LEAD={lead}, {limit}");
        }
        assert_eq!(pod.agents(), []);
    }
}

#[test]
fn the_first_program_of_a_pod_may_have_no_room_for_files() {
    for lead in ["agent", "thread"] {
        let pod = Pod::builder().env("LDMESH_LEAD", lead).build();
        let _kernel = kernel_answers(&pod);
        let _backends = pod.greeters(Mode::Echo, 1);
        let _control_plane = pod.serve(&Manifest::greeter(1));
        for limit in ["fsize=0", "fsize=4096", "fsize=100000"] {
            let mesh = limited(pod.mesh("prlimit"), limit);
            let reached = mesh.success().split_whitespace().find(|word| word.starts_with("backend="));
            assert!(
                matches!(reached, Some("backend=kernel" | "backend=greeter-1")),
                "LDMESH_LEAD={lead}, {limit}: {mesh}"
            );
            let mut lookup = pod.mesh("prlimit");
            lookup.arg(format!("--{limit}")).arg(c_program("lookup")).args(["greeter", "80", "inet"]);
            let lookup = Finished::of(&mut lookup);
            // In the mesh, or as without us: this pod's nameserver does not answer.
            let known = ["OK", "EAI_AGAIN", "EAI_NONAME"];
            assert!(
                lookup.field("code").is_some_and(|code| known.contains(&code)),
                "LDMESH_LEAD={lead}, {limit}: {lookup}"
            );
        }
    }
}

#[test]
fn a_program_of_a_thousand_threads_that_all_connect_is_balanced() {
    let pod = led_by("agent");
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    let threads = Finished::of(pod.mesh(c_program("a_thousand_threads")).args(["greeter", "80"]));
    assert_eq!(threads.success(), "reached=1000", "{threads}");
}
