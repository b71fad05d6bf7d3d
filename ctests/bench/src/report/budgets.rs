//! What we promised ourselves, and what was measured.

use super::Measured;
use super::figure::{Unit, shown};
use crate::hooks;
use crate::results::Results;

/// The mesh that the budgets of large meshes are of.
const LARGE: &str = "10,000 x 10";

const QUESTIONS: &str = "4 system calls: a socket's questions";
const TIMEOUT: &str = "4 system calls: connect timeout";
const CHECKS: &str = "2 system calls: hosts, resolv.conf";

const CONNECT_OF_THE_MESH: &str = "connect hook, of the mesh, over libc's connect and the hook's system calls";
const CONNECTION_PER_REQUEST: &str = "a connection for each request, against direct";
const AGAINST_DNS: &str = "`getaddrinfo` of a short mesh name, against the DNS server";
const LEADER_STEADY: &str = "private memory of a leader, 10,000 x 10, steady";
const LEADER_PEAK: &str = "the same at its peak, beyond the largest message";
const PUBLISH: &str = "its publish, from the last byte";
const FIRST_LOAD: &str = "its full first load, the leader's processor time";
const FIRST_USE: &str = "one endpoint changed among 100,000, push to first use";
const CHURN: &str = "1,000 endpoint changes a second, the leader's share of one processor";

/// A promise: what it is of, in words; the bounds of the figure, and the figure.
struct Budget {
    what: &'static str,
    promised: &'static str,
    within: fn(f64) -> bool,
    measured: Option<f64>,
    shown: fn(f64) -> String,
}

/// Where the time or the memory goes that keeps a budget from being held.
const WHY: &[(&str, &str)] = &[
    (
        CONNECT_OF_THE_MESH,
        "two looks into the image, a draw among two candidates, cursors and counts of the pod in atomics, a wish, the mark \
         of the crash breaker, and the connection's record in shared memory: some 4,500 instructions \
         (`docs/instructions.tsv`)",
    ),
    (
        CONNECTION_PER_REQUEST,
        "the hook's system calls and its own work, as above, and the agent's look-ups of what was closed, on the same \
         processors",
    ),
    (
        AGAINST_DNS,
        "half of a look-up are the checks of `/etc/hosts` and `resolv.conf`, which libc makes as well, and the server is on \
         the same machine with nothing else to do",
    ),
    (
        LEADER_STEADY,
        "every cluster, listener, route, name and assignment is kept as it was understood, to compile from and to tell \
         changes by, with the digest of each, and the journal's index",
    ),
    (LEADER_PEAK, "a message is there whole, and beside it what was understood of it"),
    (
        PUBLISH,
        "the last message is decoded when it is whole, and then the whole mesh is compiled and encoded; the largest is that \
         of all endpoints",
    ),
    (FIRST_LOAD, "most of it is decoding (`decode` in `docs/instructions.tsv`), by prost"),
    (
        FIRST_USE,
        "the clusters concerned are compiled alone, but the image is encoded, written and copied whole each time",
    ),
    (CHURN, "as above, ten times a second"),
];

/// A row for each budget, with whether it holds; and where it goes, for those that do not.
pub fn table(measured: &Measured) -> String {
    let mut text = String::from("| budget | promised | measured | |\n| --- | --- | ---: | --- |\n");
    let mut reasons = String::new();
    for budget in all(measured) {
        let (figure, holds) = match budget.measured {
            Some(figure) if (budget.within)(figure) => ((budget.shown)(figure), "holds"),
            Some(figure) => {
                if let Some((what, why)) = WHY.iter().find(|(what, _)| *what == budget.what) {
                    reasons.push_str(&format!("- {what}: {why}.\n"));
                }
                ((budget.shown)(figure), "**does not hold**")
            }
            None => ("-".to_owned(), "not measured"),
        };
        text.push_str(&format!("| {} | {} | {figure} | {holds} |\n", budget.what, budget.promised));
    }
    text.push('\n');
    if !reasons.is_empty() {
        text.push_str(&format!("Where it goes:\n{reasons}\n"));
    }
    text
}

fn all(measured: &Measured) -> Vec<Budget> {
    let ratio = |work: &str, way: &str| measured.side_by_side.ratio(work, way, "direct", "p50_ns");
    let scale = |work: &str, way: &str, figure: &str| measured.scale.median(work, way, figure);
    let kib: fn(f64) -> String = |figure| shown(figure, Unit::Memory);
    let time: fn(f64) -> String = |figure| shown(figure, Unit::Time);
    let times: fn(f64) -> String = |ratio| format!("{ratio:.3}");
    let hook = |case: &str, figure: &str| measured.hooks.median(hooks::CALLS, case, figure);
    let beside = |calls: &[&str]| -> Option<f64> {
        calls.iter().map(|calls| measured.hooks.median(hooks::SYSTEM_CALLS, calls, "p50_ns")).sum()
    };
    let less = |all: Option<f64>, calls: &[&str]| Some(all? - beside(calls)?);
    vec![
        Budget {
            what: "connect hook, not of the mesh, over libc's connect",
            promised: "under 60 ns",
            within: |more| more < 60.0,
            measured: hook("connect, not of the mesh", "added_ns"),
            shown: time,
        },
        Budget {
            what: CONNECT_OF_THE_MESH,
            promised: "under 200 ns",
            within: |more| more < 200.0,
            measured: less(hook("connect, of the mesh", "added_ns"), &[QUESTIONS, TIMEOUT]),
            shown: time,
        },
        Budget {
            what: "`getaddrinfo` of a mesh name, without its checks of two files",
            promised: "under 1 µs",
            within: |time| time < 1000.0,
            measured: less(hook("getaddrinfo, of the mesh", "p50_ns"), &[CHECKS]),
            shown: time,
        },
        Budget {
            what: "keep-alive request, against direct",
            promised: "1.00 ± 0.02",
            within: |ratio| (0.98..=1.02).contains(&ratio),
            measured: ratio("loopback/keep-alive", "ldmesh"),
            shown: times,
        },
        Budget {
            what: "the same, Envoy's",
            promised: "above 5",
            within: |ratio| ratio > 5.0,
            measured: ratio("loopback/keep-alive", "Envoy, HTTP"),
            shown: times,
        },
        Budget {
            what: CONNECTION_PER_REQUEST,
            promised: "at most 1.05",
            within: |ratio| ratio <= 1.05,
            measured: ratio("loopback/connect", "ldmesh"),
            shown: times,
        },
        Budget {
            what: "the same, Envoy's",
            promised: "above 6",
            within: |ratio| ratio > 6.0,
            measured: ratio("loopback/connect", "Envoy, HTTP"),
            shown: times,
        },
        Budget {
            what: AGAINST_DNS,
            promised: "at least 50 times faster",
            within: |times| times >= 50.0,
            measured: measured.names.ratio("name/greeter", "DNS server", "ldmesh", "p50_ns"),
            shown: |times| format!("{times:.0}"),
        },
        Budget {
            what: "the same of a full name, for which the search list makes four queries of one",
            promised: "at least 50 times faster",
            within: |times| times >= 50.0,
            measured: measured.names.ratio("name/greeter.default.svc.cluster.local", "DNS server", "ldmesh", "p50_ns"),
            shown: |times| format!("{times:.0}"),
        },
        Budget {
            what: "start of a program that never connects",
            promised: "under 150 µs more",
            within: |more| more < 150_000.0,
            measured: more(&measured.programs, "exec/true", "ldmesh", "direct"),
            shown: |more| format!("{:.0} µs", more / 1000.0),
        },
        Budget {
            what: "private memory of a program that never connects",
            promised: "0.5 MB",
            within: |kib| kib <= 500.0,
            measured: scale("scale/program", "never connects", "private_kib"),
            shown: kib,
        },
        Budget {
            what: "private memory of a reader, 1,000 services",
            promised: "1 MB",
            within: |kib| kib <= 1000.0,
            measured: scale("scale/program", "reader of 1,000 services", "private_kib"),
            shown: kib,
        },
        Budget {
            what: LEADER_STEADY,
            promised: "20 MB",
            within: |kib| kib <= 20e3,
            measured: scale("scale/first load", LARGE, "steady_private_kib"),
            shown: kib,
        },
        Budget {
            what: LEADER_PEAK,
            promised: "25 MB",
            within: |kib| kib <= 25e3,
            measured: scale("scale/first load", LARGE, "peak_kib")
                .zip(scale("scale/first load", LARGE, "largest_message_bytes"))
                .map(|(peak, message)| peak - message / 1024.0),
            shown: kib,
        },
        Budget {
            what: "image of 10,000 x 10",
            promised: "under 5 MB",
            within: |bytes| bytes < 5e6,
            measured: scale("scale/first load", LARGE, "image_bytes"),
            shown: |bytes| shown(bytes, Unit::Bytes),
        },
        Budget {
            what: PUBLISH,
            promised: "15 ms",
            within: |time| time <= 15e6,
            measured: scale("scale/first load", LARGE, "publish_ns"),
            shown: time,
        },
        Budget {
            what: FIRST_LOAD,
            promised: "under 400 ms",
            within: |time| time < 400e6,
            measured: scale("scale/first load", LARGE, "leader_cpu_ns"),
            shown: time,
        },
        Budget {
            what: FIRST_USE,
            promised: "under 10 ms",
            within: |time| time < 10e6,
            measured: scale("scale/first use", LARGE, "p50_ns"),
            shown: time,
        },
        Budget {
            what: CHURN,
            promised: "under 10 %",
            within: |share| share < 0.1,
            measured: scale("scale/churn", "1,000 a second in 10 pushes", "leader_cores"),
            shown: |share| shown(share, Unit::Cores),
        },
    ]
}

/// The median, over the rounds, of what one way takes more than another.
fn more(results: &Results, work: &str, way: &str, base: &str) -> Option<f64> {
    let ratio = results.ratio(work, way, base, "p50_ns")?;
    Some((ratio - 1.0) * results.median(work, base, "p50_ns")?)
}
