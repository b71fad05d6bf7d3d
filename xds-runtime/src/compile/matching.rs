//! Which filter chain takes a connection that has not sent a byte yet.
//!
//! Envoy prunes the chains of a listener in steps: destination port, destination address, server name, transport
//! protocol, application protocol, source address. In each step the most specific value that some chain names for the
//! connection stays, whatever comes later: there is no way back (`FilterChainMatch` in its API reference). A
//! connection that no chain is left for is the default chain's.
//!
//! A connection attempt tells its destination and its source. Whether TLS will be spoken, and for which server name, is
//! an assumption of the caller ([`Speaks`]); an application protocol is never known, so chains that name one give way
//! to the default chain, and are taken where there is none.

use std::net::{IpAddr, SocketAddr};

use crate::resource::{ChainMatch, Cidr, FilterChain, NetworkFilter};

/// What a connection is taken to speak.
#[derive(Clone, Copy)]
pub(super) enum Speaks<'a> {
    /// Anything but TLS.
    Plain,
    /// TLS, asking for the server name that these chains name; `None` = one that no chain names.
    Tls(Option<&'a str>),
}

/// Chains for one part of a listener's addresses (`None`: the rest of them).
pub(super) type Scope<'a> = (Option<Cidr>, Vec<&'a FilterChain>);

/// The steps for the destination: chains by prefix for a listener on every address, else those for its address.
pub(super) fn by_destination<'a>(chains: &'a [FilterChain], at: SocketAddr) -> Vec<Scope<'a>> {
    let here = |chain: &&FilterChain| chain.matches.destination_port == Some(at.port());
    let stated = chains.iter().any(|chain| here(&chain));
    let chains = || {
        let any = |chain: &&FilterChain| chain.matches.destination_port.is_none();
        chains.iter().filter(move |chain| if stated { here(chain) } else { any(chain) })
    };
    if at.ip().is_unspecified() {
        let mut scopes: Vec<Scope<'a>> = Vec::new();
        for chain in chains() {
            let prefixes = chain.matches.prefix_ranges.iter().map(|prefix| Some(masked(*prefix)));
            for scope in prefixes.chain(chain.matches.prefix_ranges.is_empty().then_some(None)) {
                match scopes.iter_mut().find(|(seen, _)| *seen == scope) {
                    Some((_, chains)) => chains.push(chain),
                    None => scopes.push((scope, vec![chain])),
                }
            }
        }
        return scopes;
    }
    let longest = |chain: &FilterChain| longest_within(&chain.matches.prefix_ranges, &[at.ip()]);
    let best = chains().filter_map(longest).max();
    let fits = |chain: &&FilterChain| match best {
        Some(best) => longest(chain) == Some(best),
        None => chain.matches.prefix_ranges.is_empty(),
    };
    vec![(None, chains().filter(fits).collect())]
}

/// The server names of chains, each once.
pub(super) fn server_names<'a>(chains: &[&'a FilterChain]) -> Vec<&'a str> {
    let mut names: Vec<_> = chains.iter().flat_map(|chain| &chain.matches.server_names).map(String::as_str).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names
}

/// The chain for a connection from one of these addresses, of those that [`by_destination`] left; `None` = no chain
/// takes it, and it is closed.
pub(super) fn select<'a>(
    chains: &[&'a FilterChain],
    speaks: Speaks<'_>,
    own: &[IpAddr],
    default: Option<&'a FilterChain>,
) -> Option<&'a FilterChain> {
    let (name, transport) = match speaks {
        Speaks::Plain => (None, "raw_buffer"),
        Speaks::Tls(name) => (name, "tls"),
    };
    let mut left: Vec<_> = chains
        .iter()
        .copied()
        .filter(|chain| match name {
            Some(name) => chain.matches.server_names.iter().any(|other| other == name),
            None => chain.matches.server_names.is_empty(),
        })
        .collect();
    let names_transport = |chain: &&FilterChain| chain.matches.transport_protocol == transport;
    let stated = left.iter().any(names_transport);
    left.retain(|chain| if stated { names_transport(chain) } else { chain.matches.transport_protocol.is_empty() });
    let (sniffing, open): (Vec<_>, Vec<_>) =
        left.into_iter().partition(|chain| !chain.matches.application_protocols.is_empty());
    by_source(&open, own).or(default).or_else(|| by_source(&sniffing, own))
}

/// The step for the source. A condition that cannot be evaluated may be the most specific one: such a chain is taken
/// before others, so that its name is what the destination says.
fn by_source<'a>(chains: &[&'a FilterChain], own: &[IpAddr]) -> Option<&'a FilterChain> {
    let longest = |chain: &FilterChain| longest_within(&chain.matches.source_prefix_ranges, own);
    let best = chains.iter().filter_map(|chain| longest(chain)).max();
    let fits = |chain: &&&FilterChain| match best {
        Some(best) => longest(chain) == Some(best),
        None => chain.matches.source_prefix_ranges.is_empty(),
    };
    let unknown = |chain: &&&FilterChain| matches!(chain.filter, NetworkFilter::Unsupported(_));
    chains.iter().filter(fits).find(unknown).or_else(|| chains.iter().find(fits)).copied()
}

/// True when connections may tell the chains of a match apart by TLS.
pub(super) fn asks_for_tls(matches: &ChainMatch) -> bool {
    !matches.server_names.is_empty() || matches.transport_protocol == "tls"
}

/// The length of the longest prefix that holds one of these addresses.
fn longest_within(prefixes: &[Cidr], addresses: &[IpAddr]) -> Option<u8> {
    let holds = |prefix: &&Cidr| addresses.iter().any(|address| within(*address, **prefix));
    prefixes.iter().filter(holds).map(|prefix| prefix.length).max()
}

fn within(address: IpAddr, prefix: Cidr) -> bool {
    let address = address.to_canonical();
    address.is_ipv4() == prefix.address.is_ipv4()
        && masked(Cidr { address, length: prefix.length }).address == masked(prefix).address
}

/// The prefix with nothing behind its length: equal prefixes are equal.
fn masked(prefix: Cidr) -> Cidr {
    let address = match prefix.address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.length.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.length.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    };
    Cidr { address, ..prefix }
}
