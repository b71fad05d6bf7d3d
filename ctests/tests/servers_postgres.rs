//! PostgreSQL's clients in the mesh: psql and libpq, with one host and with several.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;

use ctests::{Cell, Finished, Manifest, Pod, Port, Postgres, Running, Service, Works, can_map_users, skipped};

/// `db` over both servers, `db-a` and `db-b` over one each.
fn mesh() -> Manifest {
    let service = |name, vip, endpoints: &[&str]| {
        Service::new(name, "default", &[vip], endpoints).ports(&[Port::new("tcp-postgres", 5432, 5432)])
    };
    Manifest::of(&[
        service("db", "10.96.0.40", &["127.0.4.1", "127.0.4.2"]),
        service("db-a", "10.96.0.41", &["127.0.4.1"]),
        service("db-b", "10.96.0.42", &["127.0.4.2"]),
    ])
}

/// Two servers that know their names; the first takes no writes.
fn servers(pod: &Pod) -> (Running, Running) {
    let first = Postgres::new(pod, "a", false);
    first.init().success();
    Finished::of(pod.command("cp").arg("-a").args(["a", "b"].map(|name| pod.folder().join(name)))).success();
    let second = Postgres::new(pod, "b", false);
    (
        first.start("127.0.4.1", &["cluster_name=a", "default_transaction_read_only=on"]),
        second.start("127.0.4.2", &["cluster_name=b"]),
    )
}

#[test]
fn psql_and_libpq_are_balanced_and_go_through_the_hosts_of_a_list() {
    if !can_map_users() {
        return skipped("only root can map several users");
    }
    let (psql_cell, libpq_cell) = (Cell::application("psql"), Cell::application("libpq, several hosts"));
    let pod = Pod::new();
    let (a, _b) = servers(&pod);
    let _control_plane = pod.serve(&mesh());
    let psql = |hosts: &str, attributes: &str| {
        let conninfo = format!("host={hosts} user=postgres dbname=postgres target_session_attrs={attributes}");
        let answer = Finished::of(pod.mesh("psql").args(["-XAt", "-c", "show cluster_name"]).arg(conninfo));
        answer.success().to_owned()
    };
    let libpq = |hosts: &str, attributes: &str| {
        let conninfo = format!("host={hosts} user=postgres dbname=postgres target_session_attrs={attributes}");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps/postgres/libpq.py");
        let answer = Finished::of(pod.mesh("/usr/bin/python3").arg(script).arg(conninfo));
        answer.success().to_owned()
    };
    let both = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    assert_eq!((0..16).map(|_| psql("db", "any")).collect::<BTreeSet<_>>(), both);
    for hosts in ["db-a,db-b", "db-b,db-a"] {
        assert_eq!(psql(hosts, "read-write"), "b");
        assert_eq!(psql(hosts, "read-only"), "a");
        assert_eq!(libpq(hosts, "read-write"), "host=db-b answered=b");
        assert_eq!(libpq(hosts, "read-only"), "host=db-a answered=a");
    }
    drop(a);
    // The service has another endpoint; the list has another host.
    for _ in 0..16 {
        assert_eq!(psql("db", "any"), "b");
    }
    assert_eq!(psql("db-a,db-b", "any"), "b");
    assert_eq!(libpq("db-a,db-b", "any"), "host=db-b answered=b");
    psql_cell.is(Works::Balanced, "over 2 servers; a killed one costs no failed connect");
    libpq_cell.is(Works::Balanced, "host=db-a,db-b with target_session_attrs; the next host when one is dead");
}
