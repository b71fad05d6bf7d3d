//! Servers with forked workers that call a service: gunicorn, PHP-FPM.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ctests::process::Process;
use ctests::{Cell, Finished, Manifest, Mode, Pod, Running, Works, can_map_users, gunicorn, skipped, wait_until};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);
const NO_PYTHON: &str = "there is no Python of 3.12 or newer";

/// What a set of requests saw of a field.
fn seen(answers: &[Finished], field: &str) -> BTreeSet<String> {
    answers.iter().map(|answer| answer.field(field).unwrap_or_else(|| panic!("{answer}")).to_owned()).collect()
}

fn all_greeters() -> BTreeSet<String> {
    (1..=3).map(|n| format!("greeter-{n}")).collect()
}

fn start_gunicorn(pod: &Pod, program: &Path, lead: &str) -> Running {
    let mut gunicorn = pod.mesh(program);
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps/gunicorn");
    gunicorn.args(["--workers", "8", "--preload", "--bind", "127.0.0.1:8000", "--chdir"]).arg(app).arg("app:app");
    // Python hides what it deprecates from all but the main module.
    gunicorn
        .env("PYTHONWARNINGS", "always::DeprecationWarning")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LDMESH_LEAD", lead);
    pod.server(&mut gunicorn, "127.0.0.1:8000")
}

/// Requests until every backend was seen, then the workers that answered.
#[track_caller]
fn check_balanced(pod: &Pod) {
    let ask = || Finished::of(pod.command("curl").args(["-sS", "--max-time", "5", "http://127.0.0.1:8000/"]));
    let answers: Vec<_> = (0..24).map(|_| ask()).collect();
    assert_eq!(seen(&answers, "backend"), all_greeters());
    assert!(seen(&answers, "worker").len() > 1);
}

fn workers(pod: &Pod, master: Process) -> BTreeSet<Process> {
    let parent = master.0.to_string();
    pod.processes().into_iter().filter(|one| one.status("PPid").as_ref() == Some(&parent)).collect()
}

#[test]
fn gunicorns_prefork_workers_are_balanced_and_python_warns_of_no_thread() {
    let Some(program) = gunicorn() else { return skipped(NO_PYTHON) };
    let cell = Cell::application("gunicorn");
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 3);
    let _control_plane = pod.serve(&Manifest::greeter(3));
    let gunicorn = start_gunicorn(&pod, &program, "auto");
    let master = gunicorn.process();
    let all_there = || workers(&pod, master).len() == 8;
    wait_until("8 workers", PATIENCE, || pod.dump(), all_there);
    check_balanced(&pod);
    let killed = *workers(&pod, master).first().unwrap();
    killed.signal(Signal::KILL).unwrap();
    wait_until("8 workers again", PATIENCE, || pod.dump(), || !killed.is_alive() && all_there());
    check_balanced(&pod);
    assert_eq!(master.status("Threads").as_deref(), Some("1"));
    gunicorn.signal(Signal::TERM);
    let ended = gunicorn.finish();
    assert!(!ended.stderr.contains("Warning"), "{ended}");
    cell.is(Works::Balanced, "8 workers forked after a call, none warned of (a leading thread is: LDMESH_LEAD=thread)");
}

#[test]
fn python_warns_of_a_leading_thread() {
    let Some(program) = gunicorn() else { return skipped(NO_PYTHON) };
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 3);
    let _control_plane = pod.serve(&Manifest::greeter(3));
    let gunicorn = start_gunicorn(&pod, &program, "thread");
    check_balanced(&pod);
    gunicorn.signal(Signal::TERM);
    let ended = gunicorn.finish();
    assert!(ended.stderr.contains("multi-threaded, use of fork() may lead to deadlocks"), "{ended}");
}

/// The newest php-fpm, whose name ends in its version.
fn php_fpm() -> PathBuf {
    let mut all: Vec<_> = std::fs::read_dir("/usr/sbin").unwrap().flatten().map(|entry| entry.path()).collect();
    all.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm")));
    all.sort();
    all.pop().expect("scripts/test.sh installs php-fpm")
}

#[test]
fn php_fpms_workers_attach_as_their_user() {
    if !can_map_users() {
        return skipped("only root can map several users");
    }
    let cell = Cell::application("PHP-FPM");
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 3);
    let _control_plane = pod.serve(&Manifest::greeter(3));
    let (config, script) = (pod.config("php/fpm.conf", &[]), pod.config("php/call.php", &[]));
    let fpm =
        pod.server(pod.mesh(php_fpm()).args(["--nodaemonize", "-n", "--fpm-config"]).arg(config), "127.0.0.1:9000");
    let request = || {
        let mut client = pod.command("cgi-fcgi");
        client.args(["-bind", "-connect", "127.0.0.1:9000"]);
        client.env("REQUEST_METHOD", "GET").env("SCRIPT_FILENAME", &script);
        let answer = Finished::of(&mut client);
        answer.success();
        answer
    };
    let check = || {
        let answers: Vec<_> = (0..24).map(|_| request()).collect();
        assert_eq!(seen(&answers, "backend"), all_greeters());
        assert_eq!(seen(&answers, "backend2"), all_greeters());
    };
    check();
    assert!(pod.run_dir().join("33").is_dir(), "{}", pod.dump());
    let is_of_user = |one: &Process| one.status("Uid").is_some_and(|ids| ids.starts_with("33\t"));
    assert!(pod.agents().iter().any(is_of_user), "{}", pod.dump());
    let before = workers(&pod, fpm.process());
    assert!(before.len() == 3 && before.iter().all(is_of_user), "{}", pod.dump());
    before.first().unwrap().signal(Signal::KILL).unwrap();
    let replaced = || workers(&pod, fpm.process()).difference(&before).next().is_some();
    wait_until("another worker", PATIENCE, || pod.dump(), replaced);
    check();
    cell.is(Works::Balanced, "workers call as www-data, by a leader of that user; killed worker");
}
