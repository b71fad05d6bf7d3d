//! Nothing changes where the mesh is not used: CPython's own network and process tests come out the same with and
//! without the library, test by test.
//!
//! Each suite runs in a pod of its own in each mode, some side by side (they mostly wait). Where a test came out
//! otherwise the whole suite runs [`ROUNDS`] times more, with and without: the test counts as different when the
//! mode never showed an outcome that is seen without the library. What was dropped so is printed as flaky.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ctests::{CONTROL_PLANE_URL, Finished, Manifest, Pod, artifacts, c_library};

/// Debian's `libpython3.11-testsuite`, the slow ones first.
const SUITES: [&str; 9] = [
    "test_asyncio",
    "test_multiprocessing_fork",
    "test_signal",
    "test_socket",
    "test_subprocess",
    "test_ssl",
    "test_os",
    "test_httplib",
    "test_urllib2_localnet",
];
/// AF_VSOCK is not of the pod: its tests hang where there is a hypervisor that does not answer.
const LEFT_OUT: [&str; 2] = ["*Vsock*", "*VSOCK*"];
const PYTHON: &str = "/usr/bin/python3.11";
const SIDE_BY_SIDE: usize = 6;
const ROUNDS: usize = 2;
const DEADLINE: Duration = Duration::from_secs(560);

/// A way to run the suites.
struct Mode<'a> {
    name: &'a str,
    preload: Option<&'a Path>,
    environment: &'a [(&'a str, &'a str)],
    /// With a control plane that serves nothing.
    mesh: bool,
}

const WITHOUT: Mode<'static> = Mode { name: "without", preload: None, environment: &[], mesh: false };

/// Test -> how it came out.
type Outcomes = BTreeMap<String, &'static str>;

/// Runs a suite.
#[track_caller]
fn run(mode: &Mode, suite: &str) -> Outcomes {
    let pod = Pod::new();
    let control_plane = mode.mesh.then(|| pod.serve(&Manifest::default()));
    let python = || {
        let mut python = pod.command(PYTHON);
        python.envs(mode.environment.iter().copied()).current_dir(pod.folder());
        if let Some(library) = mode.preload {
            python.env("LD_PRELOAD", library);
        }
        python
    };
    if let Some(library) = mode.preload {
        check_loaded(python(), library);
    }
    if mode.mesh {
        // The suite begins with the configuration of an empty mesh, not without one.
        let lookup = "import socket\ntry: socket.getaddrinfo('not.in.the.mesh', 80)\nexcept OSError: pass";
        Finished::of(python().args(["-c", lookup])).success();
    }
    let report = pod.folder().join("report.xml");
    let mut command = python();
    command.args(["-m", "test", "--timeout", "540", "--junit-xml"]).arg(&report);
    command.arg("--tempdir").arg(pod.folder());
    command.args(LEFT_OUT.iter().flat_map(|pattern| ["-i", pattern]));
    command.arg(suite);
    let finished = Finished::of_within(&mut command, DEADLINE);
    if let Some(control_plane) = control_plane {
        assert!(control_plane.stats().streams_total() > 0, "the mesh was never asked: {}", pod.dump());
    }
    let report = std::fs::read_to_string(&report).unwrap_or_else(|_| panic!("{} {suite}: {finished}", mode.name));
    let outcomes = parse(&report);
    assert!(!outcomes.is_empty(), "{} {suite}: {finished}", mode.name);
    outcomes
}

#[track_caller]
fn check_loaded(mut python: Command, library: &Path) {
    let maps = Finished::of(python.args(["-c", "print(open('/proc/self/maps').read())"]));
    let name = library.file_name().unwrap().to_str().unwrap();
    assert!(maps.success().contains(name), "{} is not loaded: {maps}", library.display());
}

/// Reads what `--junit-xml` wrote: text in it is escaped, so a tag is a tag.
fn parse(report: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for case in report.split("<testcase ").skip(1) {
        let name = case.split_once("name=\"").and_then(|(_, rest)| rest.split_once('"')).expect("a name").0;
        let outcome = [("<error", "error"), ("<failure", "failure"), ("<skipped", "skipped")]
            .iter()
            .find_map(|(tag, outcome)| case.contains(tag).then_some(*outcome))
            .unwrap_or("passed");
        // A test with subtests may be there more than once; its worst outcome comes first in the alphabet.
        let worst = outcomes.entry(name.to_owned()).or_insert(outcome);
        *worst = outcome.min(worst);
    }
    outcomes
}

/// A suite and the number of a mode.
type Job = (&'static str, usize);
/// All outcomes of each job that was run.
type Seen = BTreeMap<Job, Vec<Outcomes>>;

/// Runs jobs side by side and adds what came out.
fn run_all(modes: &[Mode], jobs: impl IntoIterator<Item = Job>, seen: &mut Seen) {
    let jobs: VecDeque<Job> = jobs.into_iter().collect();
    let (jobs, seen) = (Mutex::new(jobs), Mutex::new(seen));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                let next = || jobs.lock().unwrap().pop_front();
                while let Some((suite, mode)) = next() {
                    let started = Instant::now();
                    let outcomes = run(&modes[mode], suite);
                    let (name, count, took) = (modes[mode].name, outcomes.len(), started.elapsed());
                    println!("{suite:<26} {name:<8} {count:4} tests in {:5.1} s", took.as_secs_f32());
                    seen.lock().unwrap().entry((suite, mode)).or_default().push(outcomes);
                }
            });
        }
    });
}

/// The tests that come out otherwise in a mode than in the first one, [`WITHOUT`], in every run of it.
#[track_caller]
fn compare(modes: &[Mode], suites: &[&'static str]) -> Vec<String> {
    let mut seen = Seen::new();
    let others = || 1..modes.len();
    run_all(modes, suites.iter().flat_map(|&suite| (0..modes.len()).map(move |mode| (suite, mode))), &mut seen);
    let differing =
        |seen: &Seen, suite| others().filter(|&mode| !differences(seen, (suite, mode)).is_empty()).collect::<Vec<_>>();
    let again: Vec<Job> = suites
        .iter()
        .flat_map(|&suite| {
            let differing = differing(&seen, suite);
            let without = (!differing.is_empty()).then_some(0);
            without.into_iter().chain(differing).map(move |mode| (suite, mode))
        })
        .collect();
    let first: Vec<_> = again.iter().map(|&job| (job, differences(&seen, job))).collect();
    (0..ROUNDS).for_each(|_| run_all(modes, again.iter().copied(), &mut seen));
    let mut remaining = Vec::new();
    for (job, at_first) in first {
        let remain = differences(&seen, job);
        for test in at_first {
            let outcomes = |job: Job| seen[&job].iter().map(|run| run.get(&test).copied()).collect::<Vec<_>>();
            let line = format!("{test}: {} {:?}, without {:?}", modes[job.1].name, outcomes(job), outcomes((job.0, 0)));
            println!("{} {line}", if remain.contains(&test) { "DIFFERS" } else { "flaky" });
            remaining.extend(remain.contains(&test).then_some(line));
        }
    }
    remaining
}

/// The tests whose outcome in no run of a job was among those seen without the library.
fn differences(seen: &Seen, job: Job) -> BTreeSet<String> {
    let outcomes = |job: Job, test: &str| -> BTreeSet<Option<&str>> {
        seen[&job].iter().map(|run| run.get(test).copied()).collect()
    };
    let without = (job.0, 0);
    let tests = [without, job].into_iter().flat_map(|job| &seen[&job]).flat_map(BTreeMap::keys);
    tests.filter(|test| outcomes(job, test).is_disjoint(&outcomes(without, test))).cloned().collect()
}

#[test]
fn cpythons_own_tests_come_out_the_same_without_the_library_inert_off_and_in_an_empty_mesh() {
    let preload = Some(&*artifacts().library);
    let modes = [
        WITHOUT,
        Mode { name: "inert", preload, ..WITHOUT },
        Mode {
            name: "off",
            preload,
            environment: &[("LDMESH_XDS", CONTROL_PLANE_URL), ("LDMESH_MODE", "off")],
            ..WITHOUT
        },
        Mode { name: "empty", preload, environment: &[("LDMESH_XDS", CONTROL_PLANE_URL)], mesh: true },
    ];
    let differences = compare(&modes, &SUITES);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_library_that_harms_is_seen_by_the_comparison() {
    let harmful = c_library("refuses_some");
    let modes = [WITHOUT, Mode { name: "harmful", preload: Some(&harmful), ..WITHOUT }];
    assert_ne!(compare(&modes, &["test_urllib2_localnet"]), Vec::<String>::new());
}
