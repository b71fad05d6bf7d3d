//! The same work on every way, one after the other, round by round.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use ctests::Pod;
use ctests::process::Process;

use crate::place::Place;
use crate::results::{Figures, Results};
use crate::ways::Way;
use crate::{Effort, load, ways};

/// A piece of work that every way is given.
struct Work {
    name: &'static str,
    /// The arguments of `load`, without the address.
    arguments: &'static [&'static str],
    /// How much longer than others one measurement takes.
    longer: u32,
}

const WORKS: &[Work] = &[
    Work { name: "keep-alive", arguments: &["keep-alive"], longer: 1 },
    Work { name: "connect", arguments: &["connect"], longer: 1 },
    Work { name: "storm", arguments: &["storm", "--connections", "200"], longer: 1 },
    Work { name: "bulk", arguments: &["bulk", "--path", "/large"], longer: 2 },
];
/// Connections that are open and idle.
const IDLE: &str = "1000";

/// Measures on loopback, and between two networks.
pub fn measure(effort: Effort, only: &[String]) -> Result<Results> {
    let mut results = Results::default();
    let (pod, node_pod) = (Pod::new(), Pod::new());
    let (near, near_node) = (Place::loopback(&pod), Place::loopback(&node_pod));
    measure_at("loopback", &near, &near_node, effort, only, &mut results)?;
    let (pod, node_pod) = (Pod::new(), Pod::new());
    let (far, far_node) = (Place::two_networks(&pod), Place::two_networks(&node_pod));
    measure_at("two networks", &far, &far_node, effort, only, &mut results)?;
    Ok(results)
}

/// `node_place` is for the node's rules: with them, the kernel tracks every connection of a network.
fn measure_at(
    name: &str,
    place: &Place<'_>,
    node_place: &Place<'_>,
    effort: Effort,
    only: &[String],
    results: &mut Results,
) -> Result<()> {
    let _servers = (ways::servers(place), ways::servers(node_place));
    let envoys = ways::envoys(place);
    let mut all = vec![ways::direct(place), ways::ldmesh(place)];
    all.extend(envoys.ways());
    all.extend([ways::haproxy(place), ways::nginx_stream(place), ways::proxychains(place)]);
    if name == "loopback" {
        // It knows addresses of 127.0.0.0/24 only.
        all.push(ways::socket_wrapper(place));
    }
    all.push(ways::kube_proxy(node_place));
    // A filter that fits no name of its kind leaves that kind whole.
    let fits = |name: &str| only.iter().any(|text| name.contains(text.as_str()));
    if all.iter().any(|way| fits(way.name)) {
        all.retain(|way| fits(way.name));
    }
    let some_works = WORKS.iter().any(|work| fits(work.name));
    for work in WORKS.iter().filter(|work| !some_works || fits(work.name)) {
        for round in 0..effort.rounds() {
            for way in &all {
                let figures = once(way, work, effort).with_context(|| format!("{}: {}", work.name, way.name));
                match figures {
                    Ok(figures) => results.add(&format!("{name}/{}", work.name), way.name, round, figures),
                    Err(error) if way.is_ours() => return Err(error),
                    // That others cannot do it is a result, too.
                    Err(error) => eprintln!("{round:>3} {error:#}"),
                }
            }
        }
    }
    for way in all.iter().filter(|_| !some_works) {
        let figures = idle(way).with_context(|| format!("idle: {}", way.name))?;
        results.add(&format!("{name}/idle"), way.name, 0, figures);
    }
    Ok(())
}

fn once(way: &Way<'_>, work: &Work, effort: Effort) -> Result<Figures> {
    let mut client = way.client(&load()?);
    client.args(work.arguments).arg(&way.at);
    let time = effort.time() * work.longer;
    let before = processors(&way.place.processes());
    let mut figures = run(client.args(["--for", &time.as_millis().to_string()]))?;
    let others = processors(&way.place.processes()).saturating_sub(before);
    let count = figures.get("count").copied().context("no count")?;
    let own = figures.get("processor_ns").copied().context("no processor time")?;
    // What the client cost to load and to end is not in its own figure.
    figures.insert("processor_ns".into(), (own + others as f64) / count);
    Ok(figures)
}

/// Runs `load` to its end and reads its line.
pub fn run(client: &mut Command) -> Result<Figures> {
    let done = client.output().with_context(|| format!("{client:?}"))?;
    ensure!(done.status.success(), "{}: {}", done.status, String::from_utf8_lossy(&done.stderr));
    Ok(serde_json::from_slice(&done.stdout)?)
}

fn processors(of: &[Process]) -> u64 {
    of.iter().map(|one| one.processor_nanoseconds()).sum()
}

/// Memory of everybody but the servers, as it is with idle connections, beside what it is without.
fn idle(way: &Way<'_>) -> Result<Figures> {
    let before = Memory::of(way, None);
    let mut client = way.client(&load()?);
    let child = client.args(["idle", &way.at, "--connections", IDLE]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    if line.is_empty() {
        let mut why = String::new();
        child.stderr.take().context("no errors")?.read_to_string(&mut why)?;
        bail!("{why}");
    }
    let mut figures: Figures = serde_json::from_str(&line)?;
    let during = Memory::of(way, Some(Process(child.id())));
    drop(child.stdin.take());
    child.wait()?;
    figures.insert("client_kib".into(), during.client);
    figures.insert("others_kib".into(), during.others);
    figures.insert("others_before_kib".into(), before.others);
    Ok(figures)
}

struct Memory {
    client: f64,
    others: f64,
}

impl Memory {
    /// `client` is told apart. Of the others, those count that are there for this way.
    fn of(way: &Way<'_>, client: Option<Process>) -> Self {
        let kib = |one: Process| one.proportional_kib().unwrap_or_default() as f64;
        let others =
            way.helpers().into_iter().filter(|one| Some(*one) != client).map(kib).fold(0.0, |sum, kib| sum + kib);
        Memory { client: client.map_or(0.0, kib), others }
    }
}
