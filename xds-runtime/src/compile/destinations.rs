//! The destinations found so far: the first that claims an address and port has it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::image::{Action, DefaultAction, Destination, PassReason, PrefixDestination};
use crate::quick::{QuickMap, QuickSet};
use crate::resource::Cidr;
use crate::shm::WordAddr;

use super::Input;
use super::names::Names;

/// What the destinations of one address have in common.
#[derive(Clone, Copy, Default)]
pub(super) struct Addressed {
    /// At least one of them is more than the address that was dialled.
    pub balanced: bool,
}

pub(super) struct Destinations<'a> {
    pub names: &'a Names<'a>,
    own: QuickSet<WordAddr>,
    taken: QuickSet<(WordAddr, u16)>,
    pub exact: Vec<Destination>,
    pub prefixes: Vec<PrefixDestination>,
    pub by_address: QuickMap<WordAddr, Addressed>,
    pub route_names: BTreeSet<String>,
    pub default_action: DefaultAction,
}

impl<'a> Destinations<'a> {
    pub fn new(input: &Input<'_>, names: &'a Names<'a>) -> Self {
        Self {
            names,
            own: input.own_addresses.iter().map(|ip| WordAddr::new(*ip)).collect(),
            taken: QuickSet::default(),
            exact: Vec::new(),
            prefixes: Vec::new(),
            by_address: QuickMap::default(),
            route_names: BTreeSet::new(),
            default_action: DefaultAction::Pass,
        }
    }

    /// Whether an address and port may still be claimed; false for the pod's own addresses.
    pub fn is_free(&self, address: IpAddr, port: u16) -> bool {
        let key = key(address);
        !self.own.contains(&key) && !self.taken.contains(&(key, port))
    }

    /// Claims an address and port, unless somebody has it.
    pub fn claim(&mut self, address: IpAddr, port: u16, action: Action, rules_left_out: String) {
        if !self.is_free(address, port) {
            return;
        }
        let key = key(address);
        self.taken.insert((key, port));
        self.by_address.entry(key).or_default().balanced |= action != Action::Pass(PassReason::OriginalDestination);
        let name = self.names.by_address.get(&key).copied();
        self.exact.push(Destination { address, port, action, name, rules_left_out });
    }

    /// Claims a prefix; one that is a single address is a destination.
    pub fn claim_prefix(&mut self, prefix: Cidr, port: u16, action: Action, rules_left_out: String) {
        let whole = if prefix.address.is_ipv4() { 32 } else { 128 };
        if prefix.length >= whole {
            return self.claim(prefix.address, port, action, rules_left_out);
        }
        self.prefixes.push(PrefixDestination { prefix, port, action });
    }

    /// Puts longer prefixes first: the most specific one wins.
    pub fn sort_prefixes(&mut self) {
        let bits = |cidr: &Cidr| u16::from(cidr.length) + if cidr.address.is_ipv4() { 96 } else { 0 };
        self.prefixes.sort_by_key(|prefix| std::cmp::Reverse(bits(&prefix.prefix)));
    }
}

/// Unspecified in either family is one wildcard.
fn key(address: IpAddr) -> WordAddr {
    if address.is_unspecified() { WordAddr { hi: 0, lo: 0 } } else { WordAddr::new(address) }
}

/// The key under which processes mark an address.
pub(super) fn wanted_key(address: IpAddr) -> u64 {
    WordAddr::new(address).wanted_key()
}
