//! The name table to names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::image::Name;
use crate::resource::{NameInfo, NameTable};
use crate::shm::WordAddr;

use super::destinations::Addressed;

/// The names of the mesh, sorted: their index in the image is their place here.
pub(super) struct Names<'a> {
    pub table: BTreeMap<&'a str, &'a NameInfo>,
    /// The first name of each address.
    pub by_address: HashMap<WordAddr, u32>,
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
    let mut by_address = HashMap::new();
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

/// The names of the image. A Kubernetes service is headless when no address of it is balanced.
pub(super) fn compile(names: &Names<'_>, destinations: &HashMap<WordAddr, Addressed>) -> Vec<Name> {
    let balanced = |ip| destinations.get(&WordAddr::new(ip)).is_some_and(|found| found.balanced);
    let headless = |info: &NameInfo| info.registry == "Kubernetes" && !info.addresses.iter().any(|ip| balanced(*ip));
    let name = |(name, info): (&&str, &&NameInfo)| Name {
        name: (*name).to_owned(),
        addresses: info.addresses.clone(),
        headless: headless(info),
    };
    names.table.iter().map(name).collect()
}
