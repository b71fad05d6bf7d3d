//! Servers that have nothing to do with the mesh, preloaded in a pod that has one: they do what they do without the
//! library, and nothing of ours is to be seen in them or left by them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;
use std::time::Duration;

use ctests::process::Process;
use ctests::{
    Cell, Finished, Manifest, Mode, Pod, Postgres, Running, Works, can_map_users, skipped, wait_for, wait_until,
};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);

/// What can be told of a process from outside: its title, the names of its threads and where its descriptors lead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    title: String,
    threads: Vec<String>,
    descriptors: Vec<String>,
}

fn see(process: Process) -> Seen {
    let name = |path: String| path.split(['[', '#']).next().unwrap_or_default().to_owned();
    let mut descriptors: Vec<_> =
        process.descriptors().into_iter().map(|(_, leads_to)| name(leads_to.display().to_string())).collect();
    descriptors.sort();
    // Sorted names, each once: jemalloc's and MariaDB's own pools have as many threads as they happen to need.
    let mut threads = process.threads();
    threads.dedup();
    Seen { title: process.command_line(), threads, descriptors }
}

/// What processes look like once nothing changes in them any more (a client's connection is being closed).
#[track_caller]
fn steady(pod: &Pod, mesh: bool, processes: impl Fn() -> Vec<Process>) -> Vec<Seen> {
    let mut last = Vec::new();
    let mut same = 0;
    let seen = wait_for(
        "steady processes",
        PATIENCE,
        || pod.dump(),
        || {
            let mut now: Vec<_> = processes().into_iter().map(see).collect();
            now.sort();
            same = if now == last { same + 1 } else { 0 };
            last = now;
            (same == 20).then(|| last.clone())
        },
    );
    let is_loaded = |one: &Process| one.mapped_files().iter().any(|file| file.ends_with("/libldmesh.so"));
    assert!(processes().iter().all(|one| is_loaded(one) == mesh), "{}", pod.dump());
    seen
}

/// A victim's life, without and with the library, each in a fresh pod with a mesh.
#[track_caller]
fn check_unchanged<T: PartialEq + std::fmt::Debug>(live: impl Fn(&Pod, bool) -> T) {
    let lived = [false, true].map(|mesh| {
        let pod = Pod::new();
        let _backends = pod.greeters(Mode::Http, 1);
        let control_plane = pod.serve(&Manifest::greeter(1));
        let lived = live(&pod, mesh);
        assert!(pod.run_dir().read_dir().unwrap().next().is_none(), "{}", pod.dump());
        assert!(pod.agents().is_empty(), "{}", pod.dump());
        assert_eq!(control_plane.stats().streams_total(), 0);
        // Nothing compared names the pod's folder, which differs.
        format!("{lived:#?}").replace(pod.folder().to_str().unwrap(), "FOLDER")
    });
    let [without, with] = lived;
    assert!(with == without, "without the library: {without}\nwith it: {with}");
}

fn victim(pod: &Pod, mesh: bool, program: &str) -> Command {
    if mesh { pod.mesh(program) } else { pod.command(program) }
}

#[test]
fn a_redis_server_lives_as_without_the_library() {
    let cell = Cell::application("Redis server (no mesh traffic)");
    check_unchanged(|pod, mesh| {
        let start = || -> Running {
            let mut redis = victim(pod, mesh, "redis-server");
            redis.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir"]).arg(pod.folder());
            pod.server(&mut redis, "127.0.0.1:6379")
        };
        let cli = |line: &str| Finished::of(pod.command("redis-cli").args(line.split(' '))).success().to_owned();
        let server = start();
        let mut said: Vec<_> = ["set a 1", "incr a", "rpush list x y z", "lrange list 0 -1", "bgsave"].map(cli).into();
        let saved = || cli("info persistence").contains("rdb_bgsave_in_progress:0");
        wait_until("the save", PATIENCE, || pod.dump(), saved);
        said.push(cli("bgrewriteaof"));
        wait_until(
            "the rewrite",
            PATIENCE,
            || pod.dump(),
            || {
                let persistence = cli("info persistence");
                persistence.contains("aof_rewrite_in_progress:0") && persistence.contains("aof_rewrite_scheduled:0")
            },
        );
        let persistence = cli("info persistence");
        let of_status = |line: &&str| line.contains("_status:");
        said.extend(persistence.lines().filter(of_status).map(str::to_owned));
        let seen = steady(pod, mesh, || vec![server.process()]);
        server.signal(Signal::TERM);
        let first = server.finish();
        let again = start();
        said.extend(["get a", "lrange list 0 -1"].map(cli));
        again.signal(Signal::TERM);
        (said, seen, first.status, again.finish().status, first.stderr)
    });
    cell.is(Works::Unchanged, "commands, background save and rewrite by fork, restart; threads, descriptors, files");
}

#[test]
fn a_postgresql_server_lives_as_without_the_library() {
    if !can_map_users() {
        return skipped("only root can map several users");
    }
    let cell = Cell::application("PostgreSQL server (no mesh traffic)");
    check_unchanged(|pod, mesh| {
        let postgres = Postgres::new(pod, "data", mesh);
        let initdb = postgres.init();
        let start = || postgres.start("127.0.0.1", &["autovacuum=off"]);
        let psql = |query: &str| {
            let mut psql = pod.command("psql");
            Finished::of(psql.args(["-XAt", "-h", "127.0.0.1", "-U", "postgres", "-c", query]))
        };
        let server = start();
        let mut said: Vec<String> = [
            "create table t as select generate_series(1, 1000) as n",
            "select count(*), sum(n) from t",
            "checkpoint",
            "set max_parallel_workers_per_gather = 2; select count(*) from t a, t b where a.n < b.n",
            "select error from t",
        ]
        .map(|query| psql(query).to_string())
        .map(|said| said.lines().skip(1).collect::<Vec<_>>().join("\n"))
        .into();
        // A backend that is killed takes all others with it; the postmaster recovers.
        let sleeper = Running::start(pod.command("psql").args([
            "-XAt",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-c",
            "select pg_sleep(60)",
        ]));
        let title = "SELECT";
        let part = |title: &str| {
            postgres.processes(&server).into_iter().find(|one| one.command_line().trim_end().ends_with(title))
        };
        let backend = wait_for("a backend that works", PATIENCE, || pod.dump(), || part(title));
        let checkpointer = part("checkpointer");
        assert!(checkpointer.is_some(), "{}", pod.dump());
        backend.signal(Signal::KILL).unwrap();
        said.push(sleeper.finish().status.to_string());
        let count = || psql("select count(*) from t");
        // Before the postmaster sees what happened, it still answers.
        let recovered =
            || part("checkpointer").is_some_and(|one| Some(one) != checkpointer) && count().status.success();
        wait_until("recovery", PATIENCE, || pod.dump(), recovered);
        said.push(count().success().to_owned());
        let seen = steady(pod, mesh, || postgres.processes(&server));
        server.signal(Signal::INT);
        let first = server.finish();
        let again = start();
        said.push(count().success().to_owned());
        again.signal(Signal::INT);
        (initdb.stdout, initdb.stderr, said, seen, first.status, again.finish().status)
    });
    cell.is(Works::Unchanged, "initdb, queries, recovery of a killed backend, restart; threads, descriptors, files");
}

#[test]
fn a_mariadb_server_lives_as_without_the_library() {
    let cell = Cell::application("MariaDB server (no mesh traffic)");
    check_unchanged(|pod, mesh| {
        let data = format!("--datadir={}/data", pod.folder().display());
        let common = ["--no-defaults", "--user=root", &data, "--loose-innodb-flush-method=nosync"];
        let mut install = victim(pod, mesh, "mariadb-install-db");
        install.args(common).args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        let installed = Finished::of_within(&mut install, Duration::from_secs(60)).status;
        let start = || {
            let mut server = victim(pod, mesh, "mariadbd");
            let socket = format!("--socket={}/socket", pod.folder().display());
            server.args(common).args(["--bind-address=127.0.0.1", "--log-warnings=0", &socket]);
            pod.server(&mut server, "127.0.0.1:3306")
        };
        let query = |query: &str| {
            let mut client = pod.command("mariadb");
            let asked = Finished::of(client.args(["--no-defaults", "-NB", "-h127.0.0.1", "-uroot", "-e", query]));
            (asked.status, asked.stdout, asked.stderr)
        };
        let server = start();
        let mut said: Vec<_> = [
            "create database d; create table d.t (n int primary key) engine=innodb",
            "insert into d.t select seq from d.seq_1_to_1000",
            "select count(*), sum(n) from d.t",
            "select error from d.t",
        ]
        .map(query)
        .into();
        let seen = steady(pod, mesh, || vec![server.process()]);
        server.signal(Signal::KILL);
        server.finish();
        let again = start();
        said.push(query("select count(*) from d.t"));
        again.signal(Signal::TERM);
        (installed, said, seen, again.finish().status)
    });
    cell.is(Works::Unchanged, "installation, queries, recovery after a kill; threads, descriptors, files");
}

#[test]
fn sshd_lives_as_without_the_library() {
    let cell = Cell::application("sshd (no mesh traffic)");
    check_unchanged(|pod, mesh| {
        let key = pod.folder().join("key");
        let mut keygen = pod.command("ssh-keygen");
        Finished::of(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key)).success();
        Finished::of(pod.command("mkdir").args(["-p", "/run/sshd"])).success();
        let config = pod.config("sshd/sshd_config", &[]);
        let server =
            pod.server(victim(pod, mesh, "/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(config), "127.0.0.1:2222");
        let ssh = |command: &str| {
            let mut ssh = pod.command("ssh");
            ssh.args([
                "-F",
                "none",
                "-p",
                "2222",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ]);
            let finished = Finished::of(ssh.arg("-q").arg("-i").arg(&key).args(["root@127.0.0.1", command]));
            (finished.status, finished.stdout, finished.stderr)
        };
        let said =
            ["id", "printenv | grep -v SSH_ | sort", "ls /proc/self/fd", "seq 1 20000 | cksum", "exit 3"].map(ssh);
        (said, steady(pod, mesh, || vec![server.process()]))
    });
    cell.is(Works::Unchanged, "logins by key, what commands print; threads, descriptors, files");
}

#[test]
fn a_shell_loop_runs_as_without_the_library() {
    let cell = Cell::application("cron-like shell loop (no mesh traffic)");
    check_unchanged(|pod, mesh| {
        let script = "i=0; while [ $i -lt 60 ]; do i=$((i + 1)); echo $i | sed 's/$/ times/' | tail -n 1; \
                      (exit $i); echo $?; ls /proc/self/fd | wc -l; sleep 0 & wait $!; done; ls /proc/none";
        let finished = Finished::of(victim(pod, mesh, "sh").args(["-c", script]));
        (finished.status, finished.stdout, finished.stderr)
    });
    cell.is(Works::Unchanged, "output, exit statuses and descriptors of 60 rounds of pipes and children");
}
