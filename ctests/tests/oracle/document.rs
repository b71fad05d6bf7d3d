//! docs/oracle.md, made of the cases. `LDMESH_GOLDEN=update` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::cases::{Source, Why};
use super::outcome::Outcome;

const HEAD: &str = "\
# Istio's simulation as an oracle

Istio tests its configuration with a simulation: a call comes in, and the listener, route and cluster that Envoy would
choose come out. `ctests/oracle/*.yaml` has the outbound cases of `pilot/pkg/networking/core` (Istio 1.31 as of
2026-08-27), written from their meaning as objects for Kubernetes. `ctests/tests/oracle/` gives them to a real istiod
and compares, call by call, what `ldmesh explain` says of the same address. This page is made of the cases by that
test, which fails when the two differ.

`PassthroughCluster` is the same as a connection that passes; `BlackHoleCluster`, and the virtual host `block_all`,
the same as one that is refused. What is spoken is no input of a connect: calls of one address that differ in it alone
are one question to ldmesh, and each is counted, as Istio's tests count them. What TestPassthroughTraffic leaves open
(ports 81 and 82 of an entry without an address) is here as its comments say it.

Not here: cases of gateways and of inbound traffic, since ldmesh is at the calling side alone; the HTTPRoute variant
of the rules, since the Gateway API's definitions are not installed; the old allocator of automatic addresses.
";

fn meaning(why: Why) -> &'static str {
    match why {
        Why::Bytes => {
            "HTTP, TLS or neither, and the name asked for, are in the bytes, and the address is nobody's: only who \
             reads them can lead the call. This is left to the relay; until then the connection goes where DNS leads it"
        }
        Why::Dialled => {
            "the cluster has no endpoints of its own and leads to the address that was dialled (ORIGINAL_DST): \
             the connection goes there without it"
        }
        Why::Dns => {
            "Envoy looks the Host up in DNS and connects there: the program has looked it up itself, and the \
             connection goes to the address that it found"
        }
        Why::NoProxy => "the port is the sidecar's own, and a call of it would loop: here no proxy listens",
    }
}

#[track_caller]
pub fn check() {
    let wanted = text(&Source::all());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/oracle.md");
    if std::env::var_os("LDMESH_GOLDEN").is_some_and(|value| value == "update") {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/oracle.md is not what the cases say; LDMESH_GOLDEN=update writes it:\n{wanted}");
}

fn text(sources: &[Source]) -> String {
    let mut text = HEAD.to_owned();
    let mut apart: BTreeMap<Why, BTreeSet<String>> = BTreeMap::new();
    text.push_str(
        "\n| Istio's test | cases | calls | the cluster that Istio names | passes or is refused as there | apart |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    let (mut all_cases, mut all_calls, mut all_named, mut all_apart) = (0, 0, 0, 0);
    for source in sources {
        let (mut calls, mut named, mut differing) = (0, 0, 0);
        for case in &source.cases {
            for call in case.calls() {
                calls += 1;
                let Some((_, why)) = call.instead else {
                    named += usize::from(matches!(Outcome::expected(&call), Outcome::Cluster(_)));
                    continue;
                };
                differing += 1;
                let (name, protocol, istio) = (&case.name, call.protocol, call.istio.replace('|', "\\|"));
                let line = format!("| {name} | {} | {protocol} | {istio} | {} |", call.to, Outcome::expected(&call));
                apart.entry(why).or_default().insert(line);
            }
        }
        let (name, cases) = (source.source.rsplit(' ').next().unwrap(), source.cases.len());
        writeln!(text, "| {name} | {cases} | {calls} | {named} | {} | {differing} |", calls - differing - named)
            .unwrap();
        (all_cases, all_calls) = (all_cases + cases, all_calls + calls);
        (all_named, all_apart) = (all_named + named, all_apart + differing);
    }
    let rest = all_calls - all_apart - all_named;
    writeln!(text, "| all | {all_cases} | {all_calls} | {all_named} | {rest} | {all_apart} |").unwrap();
    for (why, lines) in apart {
        writeln!(text, "\n## Apart: {}\n", meaning(why)).unwrap();
        text.push_str("| case | to | as | Istio | ldmesh |\n| --- | --- | --- | --- | --- |\n");
        lines.into_iter().for_each(|line| writeln!(text, "{line}").unwrap());
    }
    text
}
