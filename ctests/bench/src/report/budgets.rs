//! What we promised ourselves, and what was measured.

use super::Measured;
use crate::results::Results;

/// A promise: what it is of, in words; the bounds of the figure, and the figure.
struct Budget {
    what: &'static str,
    promised: &'static str,
    within: fn(f64) -> bool,
    measured: Option<f64>,
    shown: fn(f64) -> String,
}

/// A row for each budget, with whether it holds.
pub fn table(measured: &Measured) -> String {
    let mut text = String::from("| budget | promised | measured | |\n| --- | --- | ---: | --- |\n");
    for budget in all(measured) {
        let (figure, holds) = match budget.measured {
            Some(figure) => {
                ((budget.shown)(figure), if (budget.within)(figure) { "holds" } else { "**does not hold**" })
            }
            None => ("-".to_owned(), "not measured"),
        };
        text.push_str(&format!("| {} | {} | {figure} | {holds} |\n", budget.what, budget.promised));
    }
    text.push('\n');
    text
}

fn all(measured: &Measured) -> Vec<Budget> {
    let ratio = |work: &str, way: &str| measured.side_by_side.ratio(work, way, "direct", "p50_ns");
    let times: fn(f64) -> String = |ratio| format!("{ratio:.3}");
    vec![
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
            what: "a connection for each request, against direct",
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
            what: "`getaddrinfo` of a mesh name, against the DNS server",
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
    ]
}

/// The median, over the rounds, of what one way takes more than another.
fn more(results: &Results, work: &str, way: &str, base: &str) -> Option<f64> {
    let ratio = results.ratio(work, way, base, "p50_ns")?;
    Some((ratio - 1.0) * results.median(work, base, "p50_ns")?)
}
