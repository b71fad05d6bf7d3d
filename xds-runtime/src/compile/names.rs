//! The name table to names.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use crate::config::is_automatic;
use crate::image::{Action, Cluster, Name, Policy};
use crate::quick::QuickMap;
use crate::resource::{NameInfo, NameTable};
use crate::shm::WordAddr;

use super::destinations::Destinations;

/// The names of the mesh, sorted.
pub(super) struct Names<'a> {
    pub table: BTreeMap<&'a str, &'a NameInfo>,
    /// The first name of each address, as its place in the table.
    pub by_address: QuickMap<WordAddr, u32>,
}

/// Selects the names that resolve: fully qualified ones, and further host names of the mesh. Short forms of a
/// name are left to the reader's search list.
pub(super) fn select<'a>(table: Option<&'a NameTable>, notes: &mut BTreeSet<String>) -> Names<'a> {
    let mut selected = BTreeMap::new();
    for (name, info) in table.iter().flat_map(|table| &table.names) {
        if name.contains('*') {
            notes.insert(format!("name {name}: wildcard names are not resolved"));
            continue;
        }
        selected.insert(name.as_str(), info);
    }
    for (name, info) in table.iter().flat_map(|table| &table.names) {
        for further in info.alt_hosts.iter().filter(|further| !is_short_form(further, name)) {
            selected.entry(further.as_str()).or_insert(info);
        }
    }
    let mut by_address = QuickMap::default();
    for (index, info) in (0..).zip(selected.values()) {
        for ip in &info.addresses {
            by_address.entry(WordAddr::new(*ip)).or_insert(index);
        }
    }
    Names { table: selected, by_address }
}

fn is_short_form(name: &str, full: &str) -> bool {
    full.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) || name.contains('*')
}

/// The names of the image, and puts their places there into the destinations. A Kubernetes service is headless when no
/// address of it is balanced.
///
/// A name whose every address is one that Istio made up is left to libc where the mesh leads none of them anywhere: the
/// kernel could not, and the name's own addresses may be in DNS.
pub(super) fn compile(
    names: &Names<'_>,
    destinations: &mut Destinations<'_>,
    clusters: &[Cluster],
    notes: &mut BTreeSet<String>,
) -> Vec<Name> {
    let balanced = |ip| destinations.by_address.get(&WordAddr::new(ip)).is_some_and(|found| found.balanced);
    let headless = |info: &NameInfo| info.registry == "Kubernetes" && !info.addresses.iter().any(|ip| balanced(*ip));
    let led: HashSet<IpAddr> = destinations
        .exact
        .iter()
        .filter(|destination| is_automatic(destination.address) && leads_on(&destination.action, clusters))
        .map(|destination| destination.address)
        .collect();
    let nowhere = |ip: &IpAddr| is_automatic(*ip) && !led.contains(ip);
    let mut compiled = Vec::with_capacity(names.table.len());
    let mut places = Vec::with_capacity(names.table.len());
    for (&name, info) in &names.table {
        let addresses = info.addresses.clone();
        if !addresses.is_empty() && addresses.iter().all(nowhere) {
            notes.insert(format!("name {name}: nothing leads its automatic address anywhere, so DNS answers"));
            places.push(None);
            continue;
        }
        places.push(u32::try_from(compiled.len()).ok());
        compiled.push(Name { name: name.to_owned(), addresses, headless: headless(info) });
    }
    for destination in &mut destinations.exact {
        let place = |selected| places.get(usize::try_from(selected).ok()?).copied().flatten();
        destination.name = destination.name.and_then(place);
    }
    compiled
}

/// Whether connections may get farther than the kernel would take them.
fn leads_on(action: &Action, clusters: &[Cluster]) -> bool {
    let passes = |&(index, _): &(u32, u32)| {
        let cluster = usize::try_from(index).ok().and_then(|index| clusters.get(index));
        cluster.is_none_or(|cluster| matches!(cluster.policy, Policy::Pass(..)))
    };
    match action {
        Action::Clusters { shares, .. } => !shares.iter().all(passes),
        Action::ServerNames(names) => names.iter().any(|name| leads_on(&name.action, clusters)),
        Action::Pass(_) => false,
        Action::Refuse => true,
    }
}
