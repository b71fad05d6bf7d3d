//! The soak: 200 threads that look up, connect, fork and close at random, while everything around them comes and goes.
//!
//! One minute in CI; `scripts/soak.sh 10m` runs it as long as one likes. `LDMESH_SOAK_SEED` repeats a run's choices.
//! The victim (`ctests/c/soak.c`) judges each call by what its service allows; the harness judges growth.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chaos;
mod report;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chaos::{Chaos, SERVICES};
use ctests::process::Process;
use ctests::{Finished, Pod, c_program, wait_for, wait_until};
use report::{Outcomes, Sample, Samples};
use serde_json::Value;

const THREADS: u32 = 200;
/// How often memory and descriptors are looked at.
const LOOK: Duration = Duration::from_secs(1);

struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `LDMESH_SOAK`: `90`, `90s` or `10m`.
fn length() -> Duration {
    let text = std::env::var("LDMESH_SOAK").unwrap_or_else(|_| "60".to_owned());
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(&text), 1),
    };
    Duration::from_secs(number.parse::<u64>().expect("LDMESH_SOAK is no number of seconds or minutes") * unit)
}

fn seed() -> u64 {
    match std::env::var("LDMESH_SOAK_SEED") {
        Ok(seed) => seed.parse().expect("LDMESH_SOAK_SEED is no number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    }
}

/// Connections that the slots of clusters and endpoints count, and records.
fn counted(status: &Value) -> u64 {
    let clusters = status["clusters"].as_array().unwrap();
    let endpoints = clusters.iter().flat_map(|cluster| cluster["endpoints"].as_array().unwrap());
    let active = |one: &Value| one["active"].as_u64().unwrap();
    clusters.iter().map(active).sum::<u64>()
        + endpoints.map(active).sum::<u64>()
        + status["state"]["connections"].as_u64().unwrap()
}

#[test]
fn for_as_long_as_it_takes_no_call_fails_that_the_network_did_not_fail_and_nothing_grows() {
    let (length, seed) = (length(), seed());
    println!("soak: {THREADS} threads for {length:?}, LDMESH_SOAK_SEED={seed}");
    // A machine under load may take long to bring up the first leader; what is measured begins after it.
    let pod = Pod::new();
    let mut chaos = Chaos::start(&pod, seed);
    for service in &SERVICES {
        let lookup = Finished::of(pod.mesh(c_program("lookup")).args([service.name, "80", "inet"]));
        assert!(lookup.success().contains(service.vip), "{lookup}");
    }
    let mut command = pod.mesh(c_program("soak"));
    command.args([&length.as_secs().to_string(), &THREADS.to_string(), &seed.to_string()]).arg(chaos.retired());
    command.args(SERVICES.iter().map(chaos::Service::argument)).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut victim = Victim(command.spawn().unwrap());
    let process = Process(victim.0.id());
    let mut lines = BufReader::new(victim.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("soaking"));

    let started = Instant::now();
    let mut samples = Samples::default();
    while started.elapsed() < length {
        let elapsed = started.elapsed();
        // In its second half the leader lives on, so that its own growth shows, too.
        chaos.step(elapsed < length / 2);
        if samples.is_due(elapsed, LOOK) {
            let slots = if samples.is_due(elapsed, 10 * LOOK) { slots(&pod) } else { None };
            samples.add(Sample::take(elapsed, &pod, process, slots));
        }
        // The pace of the changes, not a proof of anything.
        std::thread::sleep(Duration::from_millis(25));
    }
    chaos.calm();
    let told: Vec<String> = lines.by_ref().take_while(|line| line != "done").collect();
    let took = started.elapsed();
    let outcomes = Outcomes::parse(&told);
    println!("{}", outcomes.table(took));
    println!("{}", chaos.summary());
    println!("{}", samples.table());

    assert_eq!(outcomes.wrong, Some(0), "the lines above that say WRONG\n{}", pod.dump());
    assert!(took < length + Duration::from_secs(25), "the threads took {took:?} to end");
    outcomes.check_that_everything_happened();
    chaos.check_that_everything_happened();
    samples.check_growth(length);
    wait_until(
        "every connection is uncounted",
        Duration::from_secs(20),
        || format!("{:#}", pod.status()),
        || counted(&pod.status()) == 0,
    );
    drop(victim.0.stdin.take());
    let ended = || victim.0.try_wait().unwrap();
    let ended = wait_for("the victim's end", Duration::from_secs(5), || pod.dump(), ended);
    assert!(ended.success(), "{ended}");
    let left: Vec<_> = pod.processes().into_iter().filter(|one| one.command_line().contains("ctests/soak")).collect();
    assert!(left.is_empty(), "children were left: {left:?}\n{}", pod.dump());
}

/// Slots of STATE in use; `None` while the image changes too fast to be listed.
fn slots(pod: &Pod) -> Option<u64> {
    let status = Finished::of(&mut pod.ldmesh(&["status", "--json"]));
    serde_json::from_str::<Value>(&status.stdout).ok()?["state"]["slots_used"].as_u64()
}
