//! Listeners and their filter chains: which chain a connection that has not sent a byte yet would take.
//!
//! A chain may ask for what a connection attempt cannot tell: an ALPN (Istio sniffs HTTP that way) or a TLS server
//! name. Sniffing chains give way to the chain for everything else. Chains for TLS names decide only when
//! all lead to the same place; else the connection passes as [`PassReason::NeedsBytes`].

use std::net::{IpAddr, SocketAddr};

use crate::image::{Action, DefaultAction, HashOn, PassReason};
use crate::resource::{
    ChainMatch, Cidr, Direction, FilterChain, HashPolicy, HttpRoutes, Listener, NetworkFilter, RouteConfiguration,
};

use super::Input;
use super::clusters::Clusters;
use super::destinations::Destinations;
use super::routes;

/// The name of Istio's catch-all listener.
const CATCH_ALL: &str = "virtualOutbound";

/// Compiles every outbound listener: concrete addresses first, for they win over wildcards.
pub(super) fn compile<'a>(input: &Input<'a>, clusters: &mut Clusters<'a, '_>, out: &mut Destinations<'_>) {
    let outbound = || input.listeners.values().filter(|listener| listener.direction != Direction::Inbound);
    let addresses = |listener: &'a Listener| listener.address.iter().chain(&listener.additional_addresses);
    for wildcard in [false, true] {
        for listener in outbound().filter(|listener| listener.name != CATCH_ALL) {
            for address in addresses(listener).filter(|address| address.ip().is_unspecified() == wildcard) {
                Scoped { input, clusters, out, listener, address: *address }.compile();
            }
        }
    }
    out.sort_prefixes();
    if let Some(listener) = outbound().find(|listener| listener.name == CATCH_ALL) {
        let open = |chain: &&FilterChain| chain.matches == ChainMatch::default();
        let last = listener.chains.iter().rfind(open).or(listener.default_chain.as_ref());
        if let Some(FilterChain { filter: NetworkFilter::TcpProxy(proxy), .. }) = last
            && clusters.action(&proxy.clusters, HashOn::Nothing) == Action::Refuse
        {
            out.default_action = DefaultAction::Refuse;
        }
    }
}

/// One listener at one of its addresses.
struct Scoped<'s, 'a, 'b, 'c> {
    input: &'s Input<'a>,
    clusters: &'s mut Clusters<'a, 'b>,
    out: &'s mut Destinations<'c>,
    listener: &'a Listener,
    address: SocketAddr,
}

/// Chains that share a prefix (`None`: they name none).
type Scopes<'a> = Vec<(Option<Cidr>, Vec<&'a FilterChain>)>;

impl<'a> Scoped<'_, 'a, '_, '_> {
    fn compile(&mut self) {
        let (address, port) = (self.address.ip(), self.address.port());
        if !address.is_unspecified() && !self.out.is_free(address, port) {
            return;
        }
        let scopes = self.scopes();
        let mut whole_was_seen = false;
        for (prefix, chains) in &scopes {
            whole_was_seen |= prefix.is_none();
            if prefix.is_none() && address.is_unspecified() {
                self.route_destinations(chains);
            }
            if let Some((action, rules)) = self.decide(chains) {
                match prefix {
                    Some(prefix) => self.out.claim_prefix(*prefix, port, action, rules),
                    None => self.out.claim(address, port, action, rules),
                }
            }
        }
        if !whole_was_seen && let Some((action, rules)) = self.decide(&[]) {
            self.out.claim(address, port, action, rules);
        }
    }

    /// The chains that connections to this address may take, by prefix.
    fn scopes(&mut self) -> Scopes<'a> {
        let mut scopes: Scopes<'a> = Vec::new();
        for chain in &self.listener.chains {
            let matches = &chain.matches;
            let other_port = matches.destination_port.is_some_and(|port| port != self.address.port());
            let from = &matches.source_prefix_ranges;
            let other_source = !from.is_empty()
                && !self.input.own_addresses.iter().any(|own| from.iter().any(|cidr| within(*own, *cidr)));
            if other_port || other_source {
                continue;
            }
            if chain.terminates_tls {
                self.clusters
                    .note(format!("listener {}: a chain that terminates TLS was left out", self.listener.name));
                continue;
            }
            let mut add = |scope| match scopes.iter_mut().find(|(seen, _)| *seen == scope) {
                Some((_, chains)) => chains.push(chain),
                None => scopes.push((scope, vec![chain])),
            };
            if matches.prefix_ranges.is_empty() {
                add(None);
            } else if self.address.ip().is_unspecified() {
                matches.prefix_ranges.iter().for_each(|prefix| add(Some(*prefix)));
            } else if matches.prefix_ranges.iter().any(|prefix| within(self.address.ip(), *prefix)) {
                add(None);
            }
        }
        scopes
    }

    /// What a connection means that one of these chains, or else the default chain, takes.
    fn decide(&mut self, chains: &[&'a FilterChain]) -> Option<(Action, String)> {
        let is_tls =
            |chain: &&&FilterChain| !chain.matches.server_names.is_empty() || chain.matches.transport_protocol == "tls";
        let sniffs = |chain: &&&FilterChain| !chain.matches.application_protocols.is_empty();
        let plain = chains.iter().find(|chain| !is_tls(chain) && !sniffs(chain)).copied();
        let sniffed = chains.iter().find(|chain| !is_tls(chain) && sniffs(chain)).copied();
        let default = self.listener.default_chain.as_ref();
        // On every address, HTTP routes decide only for the addresses they name; the rest is the default chain's.
        let named_only = |chain: &&FilterChain| {
            default.is_some() && self.address.ip().is_unspecified() && matches!(chain.filter, NetworkFilter::Http(_))
        };
        let plain = plain.filter(|chain| !named_only(chain)).or(default).or(sniffed);
        let decided = plain.and_then(|chain| self.filter(&chain.filter));
        let mut tls = chains.iter().filter(is_tls).peekable();
        if tls.peek().is_none() {
            return decided;
        }
        let mut names = Vec::new();
        let mut actions: Vec<_> = decided.into_iter().collect();
        for chain in tls {
            names.extend(chain.matches.server_names.iter().map(String::as_str));
            actions.push(self.filter(&chain.filter).unwrap_or((Action::Pass(PassReason::NeedsBytes), String::new())));
        }
        let first = actions.pop()?;
        if actions.iter().all(|action| *action == first) {
            return Some(first);
        }
        const SHOWN: usize = 8;
        let more = if names.len() > SHOWN { ", .." } else { "" };
        names.truncate(SHOWN);
        Some((Action::Pass(PassReason::NeedsBytes), format!("server name {}{more}", names.join(", "))))
    }

    /// Where a terminal filter leads; the text names HTTP rules that were left out.
    fn filter(&mut self, filter: &'a NetworkFilter) -> Option<(Action, String)> {
        match filter {
            NetworkFilter::TcpProxy(proxy) => {
                let left_out =
                    if let HashPolicy::Unsupported(needs) = &proxy.hash { needs.clone() } else { String::new() };
                Some((self.clusters.action(&proxy.clusters, routes::hash_on(&proxy.hash)), left_out))
            }
            NetworkFilter::Http(source) => {
                let Some(routes) = self.routes(source) else {
                    return (!self.address.ip().is_unspecified())
                        .then(|| (Action::Pass(PassReason::NoCluster), "routes not received yet".to_owned()));
                };
                let host = routes::virtual_host(routes, self.address, self.out.names)?;
                Some(routes::action(host, self.clusters))
            }
            NetworkFilter::Unsupported(name) => {
                self.clusters.note(format!("listener {}: filter {name} is not supported", self.listener.name));
                Some((Action::Pass(PassReason::Unsupported), name.clone()))
            }
        }
    }

    /// The destinations that the domains of a wildcard listener's routes name.
    fn route_destinations(&mut self, chains: &[&'a FilterChain]) {
        let all = chains.iter().copied().chain(&self.listener.default_chain);
        let sources: Vec<_> = all
            .filter_map(|chain| match &chain.filter {
                NetworkFilter::Http(source) => Some(source),
                _ => None,
            })
            .collect();
        for source in sources {
            let Some(routes) = self.routes(source) else { continue };
            for host in &routes.virtual_hosts {
                let port = self.address.port();
                let mut decided = None;
                for ip in routes::addresses(host, port, self.out.names) {
                    if self.out.is_free(ip, port) {
                        let (action, rules): (Action, String) =
                            decided.get_or_insert_with(|| routes::action(host, self.clusters)).clone();
                        self.out.claim(ip, port, action, rules);
                    }
                }
            }
        }
    }

    fn routes(&mut self, source: &'a HttpRoutes) -> Option<&'a RouteConfiguration> {
        match source {
            HttpRoutes::Inline(routes) => Some(routes),
            HttpRoutes::Rds(name) => {
                self.out.route_names.insert(name.clone());
                self.input.routes.get(name)
            }
            HttpRoutes::Unsupported(name) => {
                self.clusters.note(format!("listener {}: routes by {name} are not supported", self.listener.name));
                None
            }
        }
    }
}

fn within(address: IpAddr, prefix: Cidr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.length.min(128))).unwrap_or(0);
    address.is_ipv4() == prefix.address.is_ipv4() && bits(address) & mask == bits(prefix.address) & mask
}
