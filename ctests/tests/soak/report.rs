//! What the soak tells: calls by kind and outcome, and memory, descriptors and files over time.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use ctests::Pod;
use ctests::process::Process;

/// What the victim counted.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// By kind and service, then outcome.
    counts: BTreeMap<(String, String), BTreeMap<String, u64>>,
    /// Calls that must not have ended as they did.
    pub wrong: Option<u64>,
}

impl Outcomes {
    /// Reads the victim's `count` and `wrong` lines.
    pub fn parse(lines: &[String]) -> Self {
        let mut outcomes = Self::default();
        for line in lines {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["count", kind, service, outcome, number] => {
                    let of = outcomes.counts.entry((kind.to_owned(), service.to_owned())).or_default();
                    of.insert(outcome.to_owned(), number.parse().unwrap());
                }
                ["wrong", number] => outcomes.wrong = Some(number.parse().unwrap()),
                _ => panic!("the victim said {line}"),
            }
        }
        outcomes
    }

    fn of(&self, kind: &str, service: Option<&str>, outcome: Option<&str>) -> u64 {
        let rows = self.counts.iter().filter(|((k, s), _)| k == kind && service.is_none_or(|service| s == service));
        rows.flat_map(|(_, counts)| counts)
            .filter(|(o, _)| outcome.is_none_or(|outcome| *o == outcome))
            .map(|o| o.1)
            .sum()
    }

    /// Calls per kind and service, by outcome.
    pub fn table(&self, took: Duration) -> String {
        let mut text = format!("{:<20} {:<8} {:>8} {:>8}  outcomes\n", "call", "service", "calls", "a second");
        for ((kind, service), counts) in &self.counts {
            let all: u64 = counts.values().sum();
            let rate = all as f64 / took.as_secs_f64();
            let list: Vec<_> = counts.iter().map(|(outcome, number)| format!("{outcome} {number}")).collect();
            let _ = writeln!(text, "{kind:<20} {service:<8} {all:>8} {rate:>8.1}  {}", list.join(", "));
        }
        text
    }

    /// A soak in which nothing failed because nothing happened is none.
    #[track_caller]
    pub fn check_that_everything_happened(&self) {
        for (kind, service, outcome) in [
            ("getaddrinfo", "solid", "OK"),
            ("gethostbyname_r", "solid", "OK"),
            ("unknown_name", "solid", "EAI-3"),
            ("connect", "solid", "OK"),
            ("connect", "moody", "ECONNREFUSED"),
            ("connect", "hang", "EINPROGRESS"),
            ("connect", "mixed", "OK"),
            ("connect_nonblocking", "hang", "EAGAIN"),
            ("read_name", "reset", "ECONNRESET"),
            ("echo", "slow", "OK"),
            ("fork", "solid", "OK"),
        ] {
            assert!(self.of(kind, Some(service), Some(outcome)) > 0, "no {kind} to {service} ended with {outcome}");
        }
        // A record gives way to a newer one only in a full bucket.
        let (all, lost) = (self.of("getpeername", None, None), self.of("getpeername", None, Some("ENDPOINT")));
        assert!(lost * 100 <= all, "{lost} of {all} connections lost their record");
    }
}

/// One look at the pod.
#[derive(Debug, Clone)]
pub struct Sample {
    elapsed: Duration,
    victim: Usage,
    agent: Option<(Process, Usage)>,
    files: u64,
    files_kib: u64,
    slots: Option<u64>,
}

/// What a process has.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    kib: u64,
    descriptors: u64,
    mappings: u64,
}

impl Usage {
    fn of(process: Process) -> Option<Self> {
        Some(Self {
            kib: process.resident_kib()?,
            descriptors: process.descriptors().len() as u64,
            mappings: process.mapping_count() as u64,
        })
    }
}

impl Sample {
    pub fn take(elapsed: Duration, pod: &Pod, victim: Process, slots: Option<u64>) -> Self {
        let agent = pod.agents().into_iter().find_map(|agent| Some((agent, Usage::of(agent)?)));
        let (files, files_kib) = used(&pod.run_dir());
        Self { elapsed, victim: Usage::of(victim).expect("the victim runs"), agent, files, files_kib, slots }
    }
}

/// Files and KiB below a folder.
fn used(folder: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let mut sum = (0, 0);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (files, kib) = match entry.metadata() {
            Ok(data) if data.is_dir() => used(&entry.path()),
            Ok(data) => (1, data.blocks() / 2),
            Err(_) => (0, 0),
        };
        sum = (sum.0 + files, sum.1 + kib);
    }
    sum
}

/// The looks in order.
#[derive(Debug, Default)]
pub struct Samples(Vec<Sample>);

/// A slot that nothing names any more rests this long.
const QUARANTINE: Duration = Duration::from_secs(60);

/// What is compared, and how much more the end may have: a tenth and this.
type Measure = (&'static str, fn(&Sample) -> Option<u64>, u64);

const MEASURES: [Measure; 9] = [
    ("victim KiB", |sample| Some(sample.victim.kib), 512),
    ("victim descriptors", |sample| Some(sample.victim.descriptors), 20),
    ("victim mappings", |sample| Some(sample.victim.mappings), 4),
    ("agent KiB", |sample| sample.agent.map(|(_, usage)| usage.kib), 512),
    ("agent descriptors", |sample| sample.agent.map(|(_, usage)| usage.descriptors), 2),
    ("agent mappings", |sample| sample.agent.map(|(_, usage)| usage.mappings), 4),
    ("files", |sample| Some(sample.files), 2),
    ("files KiB", |sample| Some(sample.files_kib), 256),
    ("slots", |sample| sample.slots, 150),
];

impl Samples {
    pub fn is_due(&self, elapsed: Duration, interval: Duration) -> bool {
        let beats = |time: Duration| time.as_millis() / interval.as_millis();
        self.0.last().is_none_or(|last| beats(elapsed) != beats(last.elapsed))
    }

    pub fn add(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// The median of a measure over some part of the soak.
    fn median(&self, of: fn(&Sample) -> Option<u64>, from: Duration, to: Duration) -> Option<u64> {
        let within = self.0.iter().filter(|sample| (from..to).contains(&sample.elapsed));
        let mut found: Vec<u64> = within.filter_map(of).collect();
        found.sort_unstable();
        found.get(found.len() / 2).copied()
    }

    /// Each measure at six times.
    pub fn table(&self) -> String {
        let end = self.0.last().map_or(Duration::ZERO, |last| last.elapsed) + Duration::from_millis(1);
        let mut text = format!("{:<20}", "median in part");
        for part in 1..=6 {
            let _ = write!(text, " {part:>7}/6");
        }
        for (name, of, _) in MEASURES {
            let _ = write!(text, "\n{name:<20}");
            for part in 0..6 {
                let found = self.median(of, end * part / 6, end * (part + 1) / 6);
                let _ = write!(text, " {:>9}", found.map_or("-".to_owned(), |found| found.to_string()));
            }
        }
        text
    }

    /// After the first third (a minute at most) nothing grows; of the leader, after the last take-over; of the slots,
    /// once the first of them were out of their quarantine of a minute, which a short soak does not live to see.
    #[track_caller]
    pub fn check_growth(&self, length: Duration) {
        let warm = (length / 3).min(Duration::from_secs(60));
        for (name, of, slack) in MEASURES {
            let from = match name {
                "slots" if length < 3 * QUARANTINE => continue,
                "slots" => 2 * QUARANTINE,
                // The first look at a leader that was not killed any more may see it young.
                name if name.starts_with("agent") => length * 6 / 10,
                _ => warm,
            };
            let part = (length - from) / 4;
            let first = self.median(of, from, from + part);
            let last = self.median(of, length - part, length);
            let (Some(first), Some(last)) = (first, last) else { panic!("no look at {name}\n{}", self.table()) };
            assert!(last <= first + first / 10 + slack, "{name} grew from {first} to {last}\n{}", self.table());
        }
    }
}
