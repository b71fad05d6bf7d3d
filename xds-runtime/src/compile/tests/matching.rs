//! Chains in Envoy's order of specificity, not in the order of the list.

use super::*;

fn cidr(address: &str, length: u8) -> Cidr {
    Cidr { address: address.parse().unwrap(), length }
}

fn on(matches: ChainMatch, to: &str) -> FilterChain {
    matching(matches, tcp(&[(to, 1)]))
}

/// Which of these chains a connection to 10.1.2.3:443 takes, from a pod at 10.9.0.7; `None` = the default chain.
#[track_caller]
fn check(chains: Vec<FilterChain>, expected: Option<&str>) {
    for reversed in [false, true] {
        let mut chains = chains.clone();
        if reversed {
            chains.reverse();
        }
        let mut world = World::default().eds(&["a", "b", "c", "default"]).listener(
            "10.1.2.3_443",
            "10.1.2.3:443",
            chains,
            Some(chain(tcp(&[("default", 1)]))),
        );
        world.own = vec!["10.9.0.7".parse().unwrap()];
        check_clusters(&world.compile(), "10.1.2.3:443", &[(expected.unwrap_or("default"), 1)]);
    }
}

fn port(port: u16) -> ChainMatch {
    ChainMatch { destination_port: Some(port), ..ChainMatch::default() }
}

fn to(prefixes: &[Cidr]) -> ChainMatch {
    ChainMatch { prefix_ranges: prefixes.to_vec(), ..ChainMatch::default() }
}

fn from(prefixes: &[Cidr]) -> ChainMatch {
    ChainMatch { source_prefix_ranges: prefixes.to_vec(), ..ChainMatch::default() }
}

#[test]
fn a_chain_for_the_port_comes_before_one_for_every_port() {
    check(vec![on(ChainMatch::default(), "a"), on(port(443), "b"), on(port(80), "c")], Some("b"));
    check(vec![on(port(80), "c")], None);
    // There is no way back from the port to a chain that would have matched.
    let elsewhere = ChainMatch { destination_port: Some(443), ..to(&[cidr("192.0.2.0", 24)]) };
    check(vec![on(ChainMatch::default(), "a"), on(elsewhere, "b")], None);
}

#[test]
fn the_longest_destination_prefix_wins() {
    let (wide, narrow) = (to(&[cidr("10.0.0.0", 8)]), to(&[cidr("192.0.2.0", 24), cidr("10.1.0.0", 16)]));
    check(vec![on(wide.clone(), "a"), on(narrow, "b"), on(ChainMatch::default(), "c")], Some("b"));
    check(vec![on(wide, "a"), on(to(&[cidr("10.2.0.0", 16)]), "b")], Some("a"));
    check(vec![on(to(&[cidr("fd00::", 8)]), "a")], None);
}

#[test]
fn the_longest_source_prefix_wins_and_comes_last() {
    let (wide, narrow) = (from(&[cidr("10.0.0.0", 8)]), from(&[cidr("10.9.0.0", 24)]));
    check(vec![on(ChainMatch::default(), "c"), on(wide.clone(), "a"), on(narrow.clone(), "b")], Some("b"));
    check(vec![on(from(&[cidr("192.0.2.0", 24)]), "a"), on(ChainMatch::default(), "c")], Some("c"));
    let narrow_destination = ChainMatch { prefix_ranges: vec![cidr("10.1.2.3", 32)], ..wide };
    check(vec![on(narrow_destination, "a"), on(narrow, "b")], Some("a"));
}

#[test]
fn an_application_protocol_is_never_known_and_prunes_what_names_no_transport() {
    check(vec![on(ChainMatch::default(), "a"), sniffed(tcp(&[("b", 1)]))], None);
    let raw = ChainMatch { transport_protocol: "raw_buffer".into(), ..ChainMatch::default() };
    check(vec![on(ChainMatch::default(), "a"), on(raw, "b"), sniffed(tcp(&[("c", 1)]))], Some("b"));
}

#[test]
fn a_condition_that_is_not_evaluated_may_be_the_most_specific_one() {
    let unknown = NetworkFilter::Unsupported("filter_chain_match.source_ports".into());
    let chains = vec![on(ChainMatch::default(), "a"), chain(unknown)];
    let compiled = World::default().eds(&["a"]).listener("10.1.2.3_443", "10.1.2.3:443", chains, None).compile();
    check_action(&compiled, "10.1.2.3:443", &Action::Pass(PassReason::Unsupported));
    assert_eq!(destination(&compiled, "10.1.2.3:443").unwrap().rules_left_out, "filter_chain_match.source_ports");
}
