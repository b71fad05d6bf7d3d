//! Listeners and their filter chains: what a connection means that has not sent a byte yet.
//!
//! A chain may ask for what a connection attempt cannot tell: an ALPN (Istio sniffs HTTP that way) or a TLS server
//! name (see [`super::matching`]). Where chains lead to different places by server name, the destination's action is one
//! for each name, and the process that resolved a name knows it; without one the connection passes as
//! [`PassReason::NeedsBytes`].

use std::net::SocketAddr;

use crate::image::{Action, DefaultAction, HashOn, PassReason, ServerName};
use crate::resource::{
    ChainMatch, Direction, FilterChain, HashPolicy, HttpRoutes, Listener, NetworkFilter, RouteConfiguration,
};

use super::Input;
use super::clusters::Clusters;
use super::destinations::Destinations;
use super::matching::{self, Speaks};
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
        let last = listener.chains.iter().rfind(open).or(listener.default_chain.as_deref());
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

impl<'a> Scoped<'_, 'a, '_, '_> {
    fn compile(&mut self) {
        let (address, port) = (self.address.ip(), self.address.port());
        if !address.is_unspecified() && !self.out.is_free(address, port) {
            return;
        }
        let mut scopes = matching::by_destination(&self.listener.chains, self.address);
        if !scopes.iter().any(|(prefix, _)| prefix.is_none()) {
            scopes.push((None, Vec::new()));
        }
        for (prefix, chains) in &mut scopes {
            self.leave_out_terminating(chains);
            if prefix.is_none() && address.is_unspecified() {
                self.route_destinations(chains);
            }
            let Some((action, rules)) = self.decide(chains) else { continue };
            match prefix {
                Some(prefix) => self.out.claim_prefix(*prefix, port, action, rules),
                None if address.is_unspecified() => {
                    let (action, rules) = of_no_service(chains, action, rules);
                    self.out.claim(address, port, action, rules);
                }
                None => self.out.claim(address, port, action, rules),
            }
        }
    }

    fn leave_out_terminating(&mut self, chains: &mut Vec<&'a FilterChain>) {
        if chains.iter().any(|chain| chain.terminates_tls) {
            self.clusters.note(format!("listener {}: a chain that terminates TLS was left out", self.listener.name));
            chains.retain(|chain| !chain.terminates_tls);
        }
    }

    /// What a connection means that one of these chains, or else the default chain, takes.
    fn decide(&mut self, chains: &[&'a FilterChain]) -> Option<(Action, String)> {
        let plain = self.spoken(chains, Speaks::Plain);
        if !chains.iter().any(|chain| matching::asks_for_tls(&chain.matches)) {
            // Whether TLS is spoken decides nothing but who sniffs HTTP.
            return plain.or_else(|| self.spoken(chains, Speaks::Tls(None)));
        }
        const NEEDS_BYTES: Action = Action::Pass(PassReason::NeedsBytes);
        let other = match (plain, self.spoken(chains, Speaks::Tls(None))) {
            (Some(plain), Some(tls)) if plain != tls => Some((NEEDS_BYTES, "whether TLS is spoken".to_owned())),
            (plain, tls) => plain.or(tls),
        };
        let names = matching::server_names(chains);
        if names.is_empty() {
            return other;
        }
        let mut left_out = Vec::new();
        let mut actions = Vec::with_capacity(names.len() + 1);
        for name in names {
            let (action, rules) = self.spoken(chains, Speaks::Tls(Some(name))).unwrap_or((NEEDS_BYTES, String::new()));
            if !rules.is_empty() {
                left_out.push(format!("{name}: {rules}"));
            }
            // `*.example` is told from `example` by its dot.
            actions.push(ServerName { pattern: name.strip_prefix('*').unwrap_or(name).to_owned(), action });
        }
        if let Some((action, rules)) = other {
            left_out.extend((!rules.is_empty()).then_some(rules));
            actions.push(ServerName { pattern: String::new(), action });
        }
        let first = actions.first()?.action.clone();
        if actions.iter().all(|name| name.action == first) {
            return Some((first, left_out.join("; ")));
        }
        Some((Action::ServerNames(actions), left_out.join("; ")))
    }

    /// What a connection means that speaks so.
    fn spoken(&mut self, chains: &[&'a FilterChain], speaks: Speaks<'_>) -> Option<(Action, String)> {
        let default = self.listener.default_chain.as_deref();
        // On every address, HTTP routes decide only for the addresses they name; the rest is the default chain's.
        let named_only = |chain: &&FilterChain| {
            default.is_some() && self.address.ip().is_unspecified() && matches!(chain.filter, NetworkFilter::Http(_))
        };
        let taken = matching::select(chains, speaks, self.input.own_addresses, default);
        let taken = taken.filter(|chain| !named_only(chain)).or(default)?;
        self.filter(&taken.filter)
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
        let all = chains.iter().copied().chain(self.listener.default_chain.as_deref());
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

/// What a connection means to an address that only a listener on every address takes. Where HTTP is sniffed there,
/// it goes by its Host, which for most addresses is none of the mesh, and anything else to one service.
fn of_no_service(chains: &[&FilterChain], action: Action, rules: String) -> (Action, String) {
    let sniffs = |chain: &&FilterChain| {
        !chain.matches.application_protocols.is_empty() && matches!(chain.filter, NetworkFilter::Http(_))
    };
    if matches!(action, Action::Clusters { .. }) && chains.iter().any(sniffs) {
        return (Action::Pass(PassReason::NeedsBytes), "whether HTTP is spoken".to_owned());
    }
    (action, rules)
}
