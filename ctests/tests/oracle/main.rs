//! Istio's simulation as an oracle: its own tests say which cluster a call gets; `ldmesh explain` says what a
//! connection gets, from a real istiod with the same configuration. The cases are `ctests/oracle/*.yaml`, written from
//! their meaning; docs/oracle.md is made of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod document;
mod outcome;
mod stage;

use cases::{Case, Source};
use stage::Stage;

/// Runs every case whose mesh has this outbound traffic policy, and tells all that differ.
#[track_caller]
fn check_cases(mode: &str) {
    if !ctests::has_istio() {
        return;
    }
    let pod = ctests::Pod::in_cluster();
    let sources = Source::all();
    let of_mode = |case: &&Case| case.mode() == mode;
    let mesh = sources.iter().flat_map(|source| &source.cases).find(of_mode).expect("no case").mesh.to_string();
    let stage = Stage::set(&pod, &mesh);
    let (mut calls, mut differing) = (0, Vec::new());
    for source in &sources {
        for case in source.cases.iter().filter(of_mode) {
            differing.extend(stage.play(source, case));
            calls += case.calls().count();
        }
    }
    println!("{calls} calls compared");
    assert!(calls > 0 && differing.is_empty(), "{} of {calls} calls:\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn calls_get_what_istio_says_where_every_destination_is_allowed() {
    check_cases("ALLOW_ANY");
}

#[test]
fn calls_get_what_istio_says_where_only_the_registry_is() {
    check_cases("REGISTRY_ONLY");
}

#[test]
fn calls_get_what_istio_says_where_unknown_hosts_are_looked_up() {
    check_cases("ALLOW_ANY_DYNAMIC_DNS");
}

#[test]
fn the_document_is_what_the_cases_say() {
    document::check();
}
