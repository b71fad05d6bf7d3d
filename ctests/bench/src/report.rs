//! A document of what was measured: tables, plots, budgets, and how to repeat it.

mod budgets;
mod figure;
mod machine;
mod plot;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::hooks;
use crate::results::Results;
use figure::{Unit, shown};
pub use machine::versions;

/// All parts that were measured.
pub struct Measured {
    hooks: Results,
    side_by_side: Results,
    names: Results,
    programs: Results,
    scale: Results,
}

/// A column of a table: its heading, the figure, how it is shown.
type Column = (&'static str, &'static str, Unit);

const LATENCY: &[Column] = &[
    ("p50", "p50_ns", Unit::Time),
    ("p99", "p99_ns", Unit::Time),
    ("p99.9", "p999_ns", Unit::Time),
    ("processor, all processes", "processor_ns", Unit::Time),
];
const BULK: &[Column] =
    &[("throughput", "bytes_per_second", Unit::Throughput), ("processor per answer", "processor_ns", Unit::Time)];
const MEMORY: &[Column] = &[
    ("client", "client_kib", Unit::Memory),
    ("helpers, before", "others_before_kib", Unit::Memory),
    ("helpers, with the connections", "others_kib", Unit::Memory),
];
const START: &[Column] = &[("p50", "p50_ns", Unit::Time), ("p99", "p99_ns", Unit::Time)];

const HOOK: &[Column] =
    &[("through the hook", "p50_ns", Unit::Time), ("libc", "libc_ns", Unit::Time), ("added", "added_ns", Unit::Time)];
const SYSTEM_CALL: &[Column] = &[("together", "p50_ns", Unit::Time)];

const FIRST_LOAD: &[Column] = &[
    ("largest message", "largest_message_bytes", Unit::Bytes),
    ("all messages", "sent_bytes", Unit::Bytes),
    ("leader's processor time", "leader_cpu_ns", Unit::Time),
    ("last byte to image", "publish_ns", Unit::Time),
    ("image", "image_bytes", Unit::Bytes),
    ("leader at its peak", "peak_kib", Unit::Memory),
    ("leader, private, steady", "steady_private_kib", Unit::Memory),
];
const FIRST_USE: &[Column] =
    &[("median", "p50_ns", Unit::Time), ("longest", "max_ns", Unit::Time), ("changes", "count", Unit::Count)];
const CHURN: &[Column] = &[
    ("leader, of one processor", "leader_cores", Unit::Cores),
    ("publishes a second", "publishes_per_second", Unit::Count),
    ("leader, private", "private_kib", Unit::Memory),
    ("reads repeated", "retry_share", Unit::Cores),
];
const PROCESSES: &[Column] = &[
    ("push to first use", "first_use_ns", Unit::Time),
    ("leader, of one processor", "leader_cores", Unit::Cores),
    ("leader, private", "leader_private_kib", Unit::Memory),
    ("one program, private", "program_private_kib", Unit::Memory),
];
const STREAMS: &[Column] = &[
    ("streams", "streams", Unit::Count),
    ("sent by the control plane", "sent_bytes", Unit::Bytes),
    ("received", "received_bytes", Unit::Bytes),
];

/// Writes the document, and its plots into a folder beside it that has its name.
pub fn write(folder: &Path, document: &Path) -> Result<()> {
    let measured = Measured {
        hooks: Results::read(folder, "hooks")?,
        side_by_side: Results::read(folder, "side-by-side")?,
        names: Results::read(folder, "names")?,
        programs: Results::read(folder, "programs")?,
        scale: Results::read(folder, "scale")?,
    };
    let plots = document.with_extension("");
    fs::create_dir_all(&plots).with_context(|| plots.display().to_string())?;
    let parts = [
        head(&measured)?,
        hooks(&measured.hooks),
        side_by_side(&measured, &plots)?,
        names(&measured),
        programs(&measured),
        scale(&measured.scale),
    ];
    let text = parts.concat();
    fs::write(document, text).with_context(|| document.display().to_string())
}

fn head(measured: &Measured) -> Result<String> {
    let (date, machine) = (&measured.side_by_side.date, machine::description()?);
    let versions: Vec<_> =
        measured.side_by_side.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    Ok(format!(
        "# Performance\n\n\
         What a mesh costs in ldmesh, beside what one would otherwise run. This page is made by `scripts/bench.sh`, which \
         measures all of it anew, on any machine with Debian's packages, without root's help beyond installing them; \
         `scripts/bench.sh --quick` shows in a minute or two that it works.\n\n\
         Measured on {date}: {machine}. {}.\n\n\
         Client, proxies and servers share the machine's processors. A processor that was idle takes a while to wake up, on \
         a virtual machine tens of microseconds, which every way pays at each step: it makes ratios of requests smaller than \
         they are on a busy node. Every figure is the median of rounds, in which all \
         ways take turns; every ratio is the median of the ratios within a round, to `direct`: a client that was given \
         the address of one server, without any mesh. Processor time is user and system time of every process that takes \
         part (client, proxies, server, ldmesh's agent) for one request.\n\n{}",
        versions.join(", "),
        budgets::table(measured)
    ))
}

fn hooks(results: &Results) -> String {
    let mut text = String::from(
        "## Hooks\n\nOne call in a program of the mesh, beside libc's own in the same process, in turn. A connect that is not \
         of the mesh is of a socket that is connected, which the kernel refuses at once; a connect of the mesh goes to a \
         listener in the same process. libc's `getaddrinfo` beside that of a mesh name is given digits; of what is not of \
         the mesh, both refuse the socket type.\n\n",
    );
    text.push_str(&table(results, hooks::CALLS, "", HOOK));
    text.push_str(
        "Most of what a connect of the mesh adds are system calls. Whether the socket is one of TCP, its cookie, whether its \
         SYN left, its own address are asked each time; where the cluster has another endpoint, a blocking connect is given \
         the cluster's connect timeout, which takes four more. A look-up asks whether two files changed. By themselves:\n\n",
    );
    text.push_str(&table(results, hooks::SYSTEM_CALLS, "", SYSTEM_CALL));
    text
}

fn side_by_side(measured: &Measured, plots: &Path) -> Result<String> {
    let results = &measured.side_by_side;
    let mut text = String::from(
        "## Connections\n\n\
         One service with three endpoints (one nginx with one worker). ldmesh: the client is preloaded and connects to \
         the service's address. Envoy (two workers, Istio's default), HAProxy and nginx run beside the client, which \
         connects to them straight; a sidecar proper is reached by the node's redirection on top of that. With mTLS there \
         is a second Envoy beside the server. kube-proxy's rules for one service are in a network of their own, whose \
         connections the kernel tracks from then on; a node has rules for every service. Clients reset their connections \
         at the end, or a client without a mesh would soon have no port left for its one server. A way that failed is left \
         out of that round: a SOCKS proxy may refuse connections of a storm.\n\n",
    );
    let works = [
        ("keep-alive", "Requests on one connection", LATENCY),
        ("connect", "A connection for each request", LATENCY),
        ("storm", "200 connections at one moment, one request each", LATENCY),
        ("bulk", "Answers of 64 MiB on one connection", BULK),
    ];
    for (place, heading) in [("loopback", "loopback"), ("two networks", "two networks of one node, as pods have them")]
    {
        for (work, what, columns) in works {
            let key = format!("{place}/{work}");
            text.push_str(&format!("### {what}: {heading}\n\n"));
            if columns == LATENCY {
                let name = format!("{work}-{}.svg", place.replace(' ', "-"));
                let ways = results.ways(&key);
                let bars: Vec<_> =
                    ways.iter().filter_map(|way| Some((*way, results.median(&key, way, "p50_ns")?))).collect();
                plot::bars(&plots.join(&name), &format!("{what} ({place}), median"), &bars)?;
                let folder = plots.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                text.push_str(&format!("![Bars: the medians of the table below]({folder}/{name})\n\n"));
            }
            text.push_str(&table(results, &key, "direct", columns));
        }
    }
    text.push_str(
        "## 1,000 idle connections\n\nProportional memory (PSS) on loopback. Helpers: the proxies, or ldmesh's agent. A \
         connection through a proxy is two, and each has buffers in the kernel as well.\n\n",
    );
    text.push_str(&table(results, "loopback/idle", "direct", MEMORY));
    Ok(text)
}

fn names(measured: &Measured) -> String {
    let results = &measured.names;
    let mut text = String::from(
        "## Names\n\n`getaddrinfo` of a service's name with kubelet's `resolv.conf` (three search domains, `ndots:5`), by \
         Rust's standard library. The DNS server is CoreDNS, as clusters have it, but on loopback and with a file of one zone: a \
         cluster's is farther. ldmesh looks at `/etc/hosts` and `resolv.conf` each time whether they changed.\n\n",
    );
    for name in ["greeter", "greeter.default.svc.cluster.local", "10.96.0.10"] {
        text.push_str(&format!("`{name}`:\n\n"));
        text.push_str(&table(results, &format!("name/{name}"), "ldmesh", START));
    }
    text
}

fn programs(measured: &Measured) -> String {
    let results = &measured.programs;
    let mut text = String::from(
        "## Programs\n\nFrom the start of a program until its end was seen. `true` never connects; what differs is loading \
         a library. `curl` asks the service once.\n\n",
    );
    for (work, what) in [("exec/true", "`/bin/true`"), ("exec/curl", "`curl -o /dev/null http://ADDRESS/`")] {
        text.push_str(&format!("{what}:\n\n"));
        text.push_str(&table(results, work, "direct", START));
    }
    text
}

fn scale(results: &Results) -> String {
    let mut text = String::from(
        "## Large meshes\n\nThe control plane is a program that sends what istiod would (LDS, CDS, EDS, NDS), over \
         loopback; `10,000 x 10` are services and endpoints of each. The leader subscribes to the endpoints of what its pod \
         uses: `one wanted` is a pod that uses one service. In the other rows the pod uses all services, which none does.\n\n",
    );
    let works: [(&str, &str, &[Column]); 6] = [
        ("scale/first load", "The leader's first load", FIRST_LOAD),
        (
            "scale/first use",
            "One endpoint is replaced: from the push to the first connection at the new one",
            FIRST_USE,
        ),
        ("scale/churn", "Endpoints change, 10,000 services of 10", CHURN),
        ("scale/processes", "Programs in the pod, 10,000 services of 10", PROCESSES),
        ("scale/program", "A program's private memory", &[("private", "private_kib", Unit::Memory)]),
        (
            "scale/1,000 short programs",
            "What 1,000 short programs cost the control plane, 1,000 services of 10",
            STREAMS,
        ),
    ];
    for (work, what, columns) in works {
        text.push_str(&format!("{what}:\n\n"));
        text.push_str(&table(results, work, "", columns));
    }
    text.push_str("The streams of each program were measured with 20 of them; the row has 50 times that.\n");
    text
}

/// A row for each way; each figure with its ratio to that of `base`.
fn table(results: &Results, work: &str, base: &str, columns: &[Column]) -> String {
    let headings: String = columns.iter().map(|(heading, ..)| format!(" {heading} |")).collect();
    let mut text = format!("| |{headings}\n| --- |{}\n", " ---: |".repeat(columns.len()));
    for way in results.ways(work) {
        text.push_str(&format!("| {way} |"));
        for (_, figure, unit) in columns {
            let value = results.median(work, way, figure).map_or_else(|| "-".to_owned(), |value| shown(value, *unit));
            let ratio = results
                .ratio(work, way, base, figure)
                .filter(|_| way != base && matches!(unit, Unit::Time | Unit::Throughput));
            let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2})"));
            text.push_str(&format!(" {value}{ratio} |"));
        }
        text.push('\n');
    }
    text.push('\n');
    text
}
