//! Redis in the mesh: its command line, and a replica that follows what the mesh chose.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use ctests::{Cell, Finished, Manifest, Pod, Port, Running, Service, Works, wait_until};

/// `redis.default.svc`, 10.96.0.30:6379, at 127.0.3.1 to .`count`.
fn mesh(members: &[u8]) -> Manifest {
    let endpoints: Vec<_> = members.iter().map(|n| format!("127.0.3.{n}")).collect();
    let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
    let redis = Service::new("redis", "default", &["10.96.0.30"], &endpoints);
    Manifest::of(&[redis.ports(&[Port::new("tcp-redis", 6379, 6379)])])
}

/// A server that is none of the mesh's, at 127.0.3.`n`, which knows who it is.
fn master(pod: &Pod, n: u8) -> Running {
    let address = format!("127.0.3.{n}");
    let server = start(pod, pod.command("redis-server"), &address, &[]);
    assert_eq!(cli(pod, &address, &["set", "who", &format!("master-{n}")]), "OK");
    server
}

fn start(pod: &Pod, mut command: std::process::Command, address: &str, more: &[&str]) -> Running {
    // A master waits 5 s for more replicas before it serves the first, unless it is told not to.
    command.args(["--bind", address, "--save", "", "--repl-diskless-sync-delay", "0", "--dir"]).arg(pod.folder());
    pod.server(command.args(more), &format!("{address}:6379"))
}

/// What a server at an address of its own says.
fn cli(pod: &Pod, address: &str, words: &[&str]) -> String {
    Finished::of(pod.command("redis-cli").args(["-h", address]).args(words)).success().to_owned()
}

#[test]
fn redis_cli_is_balanced_over_the_servers_of_the_service() {
    let cell = Cell::application("redis-cli");
    let pod = Pod::new();
    let _masters = [1, 2, 3].map(|n| master(&pod, n));
    let _control_plane = pod.serve(&mesh(&[1, 2, 3]));
    let who = || {
        let answer = Finished::of(pod.mesh("redis-cli").args(["-h", "redis.default.svc", "get", "who"]));
        answer.success().to_owned()
    };
    let answers: BTreeSet<_> = (0..30).map(|_| who()).collect();
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["master-1", "master-2", "master-3"]);
    cell.is(Works::Balanced, "by name, over 3 servers");
}

#[test]
fn a_replica_follows_a_master_that_the_mesh_chose_and_another_one_when_it_dies() {
    let cell = Cell::application("Redis replica");
    let pod = Pod::new();
    let mut masters: Vec<_> = [1, 2].map(|n| master(&pod, n)).into();
    let _control_plane = pod.serve(&mesh(&[1, 2]));
    let replica = "127.0.3.9";
    let of = ["--replicaof", "redis.default.svc", "6379"];
    let _replica = start(&pod, pod.mesh("redis-server"), replica, &of);
    let follows = || cli(&pod, replica, &["get", "who"]);
    wait_until("the replica has a master", Duration::from_secs(10), || pod.dump(), || !follows().is_empty());
    let first = follows();
    assert!(first.starts_with("master-"), "{first}");
    let other = if first == "master-1" { "master-2" } else { "master-1" };
    drop(masters.remove(if first == "master-1" { 0 } else { 1 }));
    wait_until("the other master", Duration::from_secs(15), || pod.dump(), || follows() == other);
    cell.is(Works::Balanced, "follows the endpoint that the mesh chose; reconnects to another when that one dies");
}
