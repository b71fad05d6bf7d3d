//! Programs below system call filters: a container's, and one that a program puts on itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, c_program, wait_until};

fn led_by(lead: &str) -> Pod {
    Pod::builder().env("LDMESH_LEAD", lead).build()
}

/// The first program of a pod, below a container's profile, finds a service by whoever leads there; nothing is said.
#[track_caller]
fn check_container(profile: &str, lead: &str, found: bool) {
    let pod = led_by(lead);
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let mut lookup = pod.mesh(c_program("under_seccomp"));
    let lookup = Finished::of(lookup.arg(profile).arg(c_program("lookup")).args(["greeter", "80", "inet"]));
    assert_eq!(lookup.stdout.contains("addr=10.96.0.10"), found, "{profile}, LDMESH_LEAD={lead}: {lookup}");
    assert_eq!(lookup.stderr, "", "{profile}, LDMESH_LEAD={lead}");
    let mut plain = pod.mesh(c_program("under_seccomp"));
    let plain = Finished::of(plain.arg(profile).arg(c_program("dial")).args(["127.0.1.1", "8080"]));
    assert!(plain.success().contains("backend=greeter-1"), "{profile}, LDMESH_LEAD={lead}: {plain}");
}

#[test]
fn below_dockers_profile_an_agent_or_a_thread_leads() {
    check_container("docker", "agent", true);
    check_container("docker", "thread", true);
}

#[test]
fn below_a_profile_that_knows_no_newer_calls_an_agent_leads_and_a_thread_does_not() {
    check_container("old_docker", "agent", true);
    // Neither close_range nor unshare: there is no descriptor table for a thread of its own.
    let pod = Pod::builder().env("LDMESH_LEAD", "thread").build();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let mut lookup = pod.mesh(c_program("under_seccomp"));
    let lookup = Finished::of(lookup.arg("old_docker").arg(c_program("lookup")).args(["greeter", "80", "inet"]));
    assert!(lookup.stdout.starts_with("code=EAI_AGAIN") && lookup.stderr.is_empty(), "{lookup}");
}

#[test]
fn a_program_that_is_killed_for_any_call_but_a_clients_own_stays_in_the_mesh() {
    let pod = led_by("agent");
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    let plain = Finished::of(pod.command(c_program("under_seccomp")).args(["killing", "127.0.1.1", "8080"]));
    assert_eq!(plain.success(), "before=greeter-1 after=greeter-1");
    let mesh = Finished::of(pod.mesh(c_program("under_seccomp")).args(["killing", "10.96.0.10", "80"]));
    mesh.success();
    for visit in ["before", "after"] {
        assert!(mesh.field(visit).unwrap().starts_with("greeter-"), "{mesh}");
    }
}

#[test]
fn below_such_a_filter_a_closed_connection_makes_room() {
    let pod = led_by("agent");
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1).limited(1));
    // Each of its twenty visits finds the cluster full, and asks the kernel.
    let mesh = Finished::of(pod.mesh(c_program("under_seccomp")).args(["killing", "10.96.0.10", "80"]));
    assert_eq!(mesh.success(), "before=greeter-1 after=greeter-1");
}

#[test]
fn a_program_without_netlink_is_refused_until_the_leader_sees_what_is_closed() {
    let pod = led_by("agent");
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1).limited(1));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80", "inet"])).success();
    let turns = |pod: &Pod| {
        let mut command = pod.mesh(c_program("under_seccomp"));
        let program = c_program("takes_turns");
        Finished::of(command.arg("no_netlink").arg(program).args(["10.96.0.10", "80", "1", "20", "client"]))
    };
    let count = |from: &Finished, key: &str| from.field(key).unwrap().parse::<u32>().unwrap();
    let first = turns(&pod);
    first.success();
    assert!(count(&first, "made") >= 1 && count(&first, "refused") > 0, "{first}");
    assert_eq!((count(&first, "failed"), first.stderr.as_str()), (0, ""), "{first}");
    let made = || count(&turns(&pod), "made") > 0;
    wait_until("the leader makes room", Duration::from_secs(5), || pod.dump(), made);
}
