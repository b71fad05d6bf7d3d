//! Typed resources to an image: what a connection to each address and port means.
//!
//! ```text
//! listeners --+-- concrete address ------------------> destination (VIP, port)
//!             +-- wildcard: route domains that are IPs -> destination (VIP, port)
//!             +-- wildcard: prefix ranges ------------> prefix (or destination, when it is one address)
//!             +-- wildcard: the rest -----------------> destination (any, port)
//!             +-- virtualOutbound --------------------> default action
//! name table ----> names        clusters + endpoints (+ DNS answers) ----> the clusters that destinations name
//! ```
//! A pure function: the same input gives the same mesh, in one pass over it. Where endpoints changed and nothing else, so
//! does [`update_endpoints`], in less time. Only clusters that some destination leads to are compiled. Nothing is dropped in silence: what is left out is in [`Compiled::notes`].

mod aggregate;
mod balancing;
mod chains;
mod clusters;
mod destinations;
mod endpoints;
mod matching;
mod names;
mod outlier;
mod routes;
mod subset;
mod tables;
mod update;
mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::config::NameList;
use crate::image::Mesh;
use crate::quick::{QuickMap, QuickSet};
use crate::resource::{Cluster, DnsRefresh, Listener, LoadAssignment, Locality, NameTable, RouteConfiguration};
use crate::shm::hash_words;
use clusters::Clusters;
use destinations::Destinations;
pub use update::update_endpoints;

/// What is compiled: the accepted resources by name, and what is known about this node.
pub struct Input<'a> {
    /// LDS.
    pub listeners: &'a BTreeMap<String, Box<Listener>>,
    /// RDS.
    pub routes: &'a BTreeMap<String, RouteConfiguration>,
    /// CDS.
    pub clusters: &'a BTreeMap<String, Box<Cluster>>,
    /// EDS, by resource name.
    pub endpoints: &'a BTreeMap<String, LoadAssignment>,
    /// NDS.
    pub names: Option<&'a NameTable>,
    /// DNS answers for [`Compiled::hostnames`]; a name without an entry was not answered yet, one with an empty
    /// entry has no address.
    pub resolved: &'a BTreeMap<String, Vec<IpAddr>>,
    /// The pod's own addresses: never a destination.
    pub own_addresses: &'a [IpAddr],
    /// Where the leader reached the control plane: refused by no policy, whoever dials it.
    pub control_plane: Option<IpAddr>,
    /// Services whose connections pass where their HTTP rules depend on the request.
    pub exact_http: &'a NameList,
    /// The node's locality. The control plane has already put it into priorities and weights; zone-aware routing
    /// compares it.
    pub locality: Locality,
    /// The node's own cluster (node metadata `LOCAL_CLUSTER_NAME`): without it nothing is routed by zone.
    pub local_cluster: Option<&'a str>,
}

/// A compiled mesh and what the leader has to do for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// The mesh.
    pub mesh: Mesh,
    /// Tags of every slot the mesh names (and of those it would name were STATE not full).
    pub live_tags: QuickSet<u64>,
    /// [`crate::shm::WordAddr::wanted_key`] of a destination's address to the EDS resources it leads to, sorted.
    /// Key 0 (no address has it) holds those that prefixes and wildcards lead to: they are always wanted.
    pub wanted: BTreeMap<u64, Vec<String>>,
    /// Host names to resolve for DNS clusters, and how often.
    pub hostnames: BTreeMap<String, DnsRefresh>,
    /// RDS names to subscribe: those whose routes decide a destination.
    pub route_names: BTreeSet<String>,
    /// What was left out and why, for `status`.
    pub notes: Vec<String>,
    /// The hash of each EDS name to the cluster of the mesh that has its endpoints; `None` = there are several.
    by_endpoints: QuickMap<u64, Option<u32>>,
}

/// Key of [`Compiled::wanted`] under which what is always wanted is found.
pub const ALWAYS_WANTED: u64 = 0;

/// Compiles. `slots` gives the STATE slot of a tag, `None` when there is none left.
pub fn compile(input: &Input<'_>, slots: &mut dyn FnMut(u64) -> Option<u32>) -> Compiled {
    let mut notes = BTreeSet::new();
    let names = names::select(input.names, &mut notes);
    let mut clusters = Clusters::new(input, slots, &mut notes).with_room();
    let mut destinations = Destinations::new(input, &names);
    chains::compile(input, &mut clusters, &mut destinations);

    let mut compiled = Compiled::default();
    for destination in &destinations.exact {
        let always = destination.address.is_unspecified();
        let key = if always { ALWAYS_WANTED } else { destinations::wanted_key(destination.address) };
        clusters.want(&destination.action, compiled.wanted.entry(key).or_default());
    }
    for prefix in &destinations.prefixes {
        clusters.want(&prefix.action, compiled.wanted.entry(ALWAYS_WANTED).or_default());
    }
    compiled.wanted.entry(ALWAYS_WANTED).or_default().extend(clusters.local_endpoints());
    compiled.wanted.retain(|_, names| {
        names.sort_unstable();
        names.dedup();
        names.shrink_to_fit();
        !names.is_empty()
    });
    compiled.by_endpoints = clusters.by_endpoints();
    let Clusters { built, live_tags, hostnames, .. } = clusters;
    let names = names::compile(&names, &mut destinations, &built, &mut notes);
    compiled.live_tags = live_tags;
    compiled.hostnames = hostnames;
    compiled.route_names = destinations.route_names;
    compiled.mesh = Mesh {
        names,
        destinations: destinations.exact,
        prefixes: destinations.prefixes,
        clusters: built,
        default_action: destinations.default_action,
        own: left_alone(input),
        seed: seed(input.own_addresses),
    };
    compiled.notes = notes.into_iter().collect();
    compiled
}

/// The pod's own addresses, and then the control plane's. (Without any of its own, nobody would tell which is which.)
fn left_alone(input: &Input<'_>) -> Vec<IpAddr> {
    let mut addresses = input.own_addresses.to_vec();
    if !addresses.is_empty() {
        addresses.extend(input.control_plane.filter(|ip| !input.own_addresses.contains(ip)));
    }
    addresses
}

/// Where this pod begins its schedules.
fn seed(own_addresses: &[IpAddr]) -> u64 {
    own_addresses.iter().fold(0, |seed, ip| hash_words(&[seed, destinations::wanted_key(*ip)]))
}

#[cfg(test)]
mod tests;
