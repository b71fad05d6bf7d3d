//! Programs that change their own user, root, namespaces, limits or rights, before their first connect or after it.
//!
//! A service's ClusterIP works without the library too: a stand-in for kube-proxy answers there and calls itself
//! `kernel`. So each change is seen with and without the library, by the same program with the same arguments.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use ctests::{Backend, Finished, Manifest, Mode, Pod, Running, c_program};

/// Who answers after a change.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    /// The mesh goes on.
    Mesh,
    /// The process has no way to the mesh: as without the library.
    Passes,
}

/// The pod's VIP answers by itself, as where kube-proxy is.
fn kernel_answers(pod: &Pod) -> Backend {
    pod.ip("route add local 10.96.0.0/16 dev lo\n");
    pod.backend_of(Mode::Echo, "10.96.0.10:80", "kernel")
}

fn pod(lead: &str) -> Pod {
    let pod = Pod::builder().env("LDMESH_LEAD", lead).build();
    // Root to change to: readable by every user, and empty.
    std::fs::create_dir(pod.folder().join("root")).unwrap();
    pod
}

/// Runs each change with and without the library, all at once.
#[track_caller]
fn check(pod: &Pod, changes: &[(&str, After)]) {
    let _kernel = kernel_answers(pod);
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    // The leader is there: what is looked at here is the process that changes.
    Finished::of(pod.mesh(c_program("dial")).args(["10.96.0.10", "80"])).success();
    let program = c_program("changes_itself");
    let root = pod.folder().join("root");
    let started: Vec<_> = changes
        .iter()
        .map(|(change, after)| {
            let change = change.replace("ROOT", root.to_str().unwrap());
            let plain = Running::start(pod.command(&program).args([&change, "10.96.0.10", "80"]));
            let mesh = Running::start(pod.mesh(&program).args([&change, "10.96.0.10", "80"]));
            (change, *after, plain, mesh)
        })
        .collect();
    for (change, after, plain, mesh) in started {
        let (plain, mesh) = (plain.finish(), mesh.finish());
        plain.success();
        assert!(mesh.status.success(), "{change}: {mesh}");
        assert_eq!(mesh.field("change"), plain.field("change"), "{change}: {mesh}");
        let expected = match plain.field("after") {
            Some("kernel") if after == After::Mesh => Some("greeter-1"),
            other => other,
        };
        assert_eq!(mesh.field("after"), expected, "{change}: {mesh}\nwithout: {plain}");
        assert_eq!(mesh.stderr, plain.stderr, "{change}");
    }
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 0, "something was left in the new root");
}

#[test]
fn a_process_that_changes_itself_after_its_first_connect_stays_in_the_mesh() {
    use After::{Mesh, Passes};
    check(
        &pod("agent"),
        &[
            ("setuid=1234", Mesh),
            ("setgid=1234", Mesh),
            ("seteuid=1234", Mesh),
            ("seteuid=1234,seteuid=0,seteuid=1234,seteuid=0", Mesh),
            ("capabilities", Mesh),
            ("chroot=ROOT", Mesh),
            ("chroot=ROOT,setuid=1234", Mesh),
            ("newuser", Mesh),
            ("newns", Mesh),
            ("newnet", Passes),
            ("newuser,newnet", Passes),
            ("setns=/proc/self/ns/net", Mesh),
            ("dumpable=0", Mesh),
            ("no_new_privs=1", Mesh),
            ("subreaper=1", Mesh),
            ("nofile=3", Passes),
            ("nofile=20", Mesh),
            ("nproc=0", Mesh),
            ("fsize=0", Mesh),
            ("core=0,memlock=0", Mesh),
        ],
    );
}

#[test]
fn a_process_that_changes_itself_before_its_first_connect_works_as_without_us() {
    use After::{Mesh, Passes};
    check(
        &pod("agent"),
        &[
            ("early:setuid=1234", Mesh),
            ("early:setgid=1234", Mesh),
            ("early:seteuid=1234", Mesh),
            ("early:capabilities", Mesh),
            ("early:chroot=ROOT", Passes),
            ("early:newuser", Mesh),
            ("early:newns", Mesh),
            ("early:newnet", Passes),
            ("early:dumpable=0", Mesh),
            ("early:no_new_privs=1", Mesh),
            ("early:subreaper=1", Mesh),
            ("early:nofile=3", Passes),
            ("early:nproc=0", Mesh),
            ("early:fsize=0", Mesh),
            ("early:core=0,memlock=0", Mesh),
            ("early:setuid=1234,dumpable=0", Mesh),
        ],
    );
}

/// The kernel makes no user namespace for a process of several threads. An agent is a process of its own.
#[test]
fn a_process_whose_thread_leads_can_make_no_user_namespace_and_one_with_an_agent_can() {
    for (lead, said) in [("thread", "EINVAL"), ("agent", "OK")] {
        let pod = pod(lead);
        let _backends = pod.greeters(Mode::Echo, 1);
        let _control_plane = pod.serve(&Manifest::greeter(1));
        let mut changes = pod.mesh(c_program("changes_itself"));
        let changed = Finished::of(changes.args(["newuser", "greeter", "80"]));
        changed.success();
        let [before, change, after] = ["before", "change", "after"].map(|key| changed.field(key).unwrap());
        assert_eq!((before, change, after), ("greeter-1", said, "greeter-1"), "LDMESH_LEAD={lead}: {changed}");
        assert_eq!(pod.agents().is_empty(), lead == "thread", "LDMESH_LEAD={lead}\n{}", pod.dump());
    }
}
