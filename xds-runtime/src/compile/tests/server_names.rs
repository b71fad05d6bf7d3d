//! Listeners whose chains are told apart by TLS server name.

use super::*;
use crate::image::ServerName;

fn by_server_name(names: &[&str], to: &str) -> FilterChain {
    let matches = ChainMatch {
        server_names: names.iter().map(|name| (*name).into()).collect(),
        transport_protocol: "tls".into(),
        ..ChainMatch::default()
    };
    matching(matches, tcp(&[(to, 1)]))
}

/// What a connection means that asks for a name, by the name of its cluster.
#[track_caller]
fn check_name(compiled: &Compiled, address: &str, name: &str, expected: Result<&str, PassReason>) {
    let Some(Action::ServerNames(names)) = destination(compiled, address).map(|found| &found.action) else {
        panic!("not by server name: {:?}", destination(compiled, address));
    };
    let pattern = |pattern: &str| names.iter().find(|found| found.pattern == pattern);
    let below = || name.match_indices('.').find_map(|(at, _)| pattern(&name[at..]));
    let found = pattern(name).or_else(below).or_else(|| pattern(""));
    let found = match found.map(|found| &found.action) {
        Some(Action::Clusters { shares, .. }) => Ok(compiled.mesh.clusters[shares[0].0 as usize].name.as_str()),
        Some(Action::Pass(reason)) => Err(*reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(found, expected, "{name}");
}

#[test]
fn server_names_that_lead_apart_are_told_by_name_and_those_that_agree_are_not() {
    let world = |other: &str, default| {
        let chains = vec![by_server_name(&["a.example"], "a"), by_server_name(&["b.example"], other)];
        World::default().eds(&["a", "b"]).listener("0.0.0.0_443", "0.0.0.0:443", chains, default).compile()
    };
    check_clusters(&world("a", None), "0.0.0.0:443", &[("a", 1)]);
    let compiled = world("b", Some(passthrough()));
    check_name(&compiled, "0.0.0.0:443", "a.example", Ok("a"));
    check_name(&compiled, "0.0.0.0:443", "b.example", Ok("b"));
    check_name(&compiled, "0.0.0.0:443", "c.example", Err(PassReason::OriginalDestination));
    let one_name = world("a", Some(passthrough()));
    check_name(&one_name, "0.0.0.0:443", "b.example", Ok("a"));
    check_name(&one_name, "0.0.0.0:443", "example", Err(PassReason::OriginalDestination));
    // Without a default chain nobody takes another name.
    let Some(Action::ServerNames(names)) = destination(&world("b", None), "0.0.0.0:443").map(|d| d.action.clone())
    else {
        panic!("not by server name");
    };
    assert_eq!(names.iter().map(|name| name.pattern.as_str()).collect::<Vec<_>>(), ["a.example", "b.example"]);
    assert_eq!(compiled.wanted[&ALWAYS_WANTED], ["a", "b"], "the endpoints of each are subscribed");
}

#[test]
fn the_most_specific_server_name_counts_whatever_the_order_of_the_chains() {
    let chains = vec![
        by_server_name(&["*.example"], "any"),
        by_server_name(&["*.b.example"], "below"),
        by_server_name(&["a.b.example", "a.example"], "exact"),
    ];
    let compiled = World::default()
        .eds(&["any", "below", "exact"])
        .listener("10.0.0.1_443", "10.0.0.1:443", chains, None)
        .compile();
    let check = |name, expected| check_name(&compiled, "10.0.0.1:443", name, expected);
    check("a.b.example", Ok("exact"));
    check("x.b.example", Ok("below"));
    check("y.x.b.example", Ok("below"));
    check("b.example", Ok("any"));
    check("a.example", Ok("exact"));
}

#[test]
fn a_chain_for_any_tls_takes_the_names_that_no_chain_has_and_plain_text_goes_its_own_way() {
    let tls = ChainMatch { transport_protocol: "tls".into(), ..ChainMatch::default() };
    let chains = vec![by_server_name(&["a.example"], "a"), matching(tls.clone(), tcp(&[("other", 1)]))];
    let world = |default| {
        World::default().eds(&["a", "other", "plain"]).listener("10.0.0.1_443", "10.0.0.1:443", chains.clone(), default)
    };
    let compiled = world(None).compile();
    check_name(&compiled, "10.0.0.1:443", "a.example", Ok("a"));
    check_name(&compiled, "10.0.0.1:443", "b.example", Ok("other"));
    let compiled = world(Some(chain(tcp(&[("plain", 1)])))).compile();
    check_name(&compiled, "10.0.0.1:443", "a.example", Ok("a"));
    check_name(&compiled, "10.0.0.1:443", "b.example", Err(PassReason::NeedsBytes));
    let chains = vec![matching(tls, tcp(&[("other", 1)]))];
    let compiled = World::default()
        .eds(&["other", "plain"])
        .listener("10.0.0.1_443", "10.0.0.1:443", chains, Some(chain(tcp(&[("plain", 1)]))))
        .compile();
    check_action(&compiled, "10.0.0.1:443", &Action::Pass(PassReason::NeedsBytes));
    assert_eq!(destination(&compiled, "10.0.0.1:443").unwrap().rules_left_out, "whether TLS is spoken");
}

#[test]
fn a_prefix_has_server_names_of_its_own() {
    let within = |names: &[&str], prefix: &str, to: &str| {
        let cidr = Cidr { address: prefix.parse().unwrap(), length: 16 };
        let mut chain = by_server_name(names, to);
        chain.matches.prefix_ranges = vec![cidr];
        chain
    };
    let chains = vec![within(&["a.example"], "10.1.0.0", "a"), within(&["b.example"], "10.1.2.3", "b")];
    let compiled =
        World::default().eds(&["a", "b"]).listener("0.0.0.0_443", "0.0.0.0:443", chains, Some(passthrough())).compile();
    let [prefix] = compiled.mesh.prefixes.as_slice() else { panic!("{:?}", compiled.mesh.prefixes) };
    assert_eq!(prefix.prefix, Cidr { address: "10.1.0.0".parse().unwrap(), length: 16 });
    let Action::ServerNames(names) = &prefix.action else { panic!("{:?}", prefix.action) };
    let patterns: Vec<_> = names.iter().map(|ServerName { pattern, .. }| pattern.as_str()).collect();
    assert_eq!(patterns, ["a.example", "b.example", ""]);
}
