//! The endpoints of a cluster: by EDS, inline or by DNS.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::Input;
use super::subset::Selection;
use crate::image::{self, Priority};
use crate::lb::MAX_PRIORITIES;
use crate::resource::{
    Cluster, Discovery, Dns, DnsFamily, DnsRefresh, Endpoint, EndpointAddress, Health, LoadAssignment, Locality,
    LocalityEndpoints,
};

/// What a cluster's endpoints were gathered from.
#[derive(Default)]
pub(super) struct Gathered<'a> {
    /// `None`: they were not received yet.
    pub priorities: Option<Vec<Priority>>,
    /// EDS name.
    pub eds: Option<&'a str>,
    /// Of the assignment.
    pub overprovisioning: Option<u32>,
    /// What hash policies know endpoints by that are not known by their address.
    pub hash_keys: HashMap<SocketAddr, &'a str>,
    /// Endpoints that were left out because they are draining.
    pub draining: u32,
}

/// Gathers those endpoints that are selected. They are in a stable order, slots are not given yet.
pub(super) fn gather<'a>(
    input: &Input<'a>,
    cluster: &'a Cluster,
    selection: &Selection,
    hostnames: &mut BTreeMap<String, DnsRefresh>,
    notes: &mut BTreeSet<String>,
) -> Gathered<'a> {
    let gathered = Gathered { priorities: Some(Vec::new()), ..Gathered::default() };
    let mut gatherer = Gatherer { input, selection, hostnames, notes, gathered };
    gatherer.cluster(cluster);
    let mut gathered = gatherer.gathered;
    if let Some(priorities) = &mut gathered.priorities {
        if priorities.len() > MAX_PRIORITIES as usize {
            notes.insert(format!("cluster {}: priorities beyond {MAX_PRIORITIES} were left out", cluster.name));
        }
        priorities.truncate(MAX_PRIORITIES as usize);
        if matches!(selection, Selection::Carrying { single_host: true, .. }) {
            keep_one(priorities);
        }
    }
    gathered
}

/// Keeps the first endpoint of all.
fn keep_one(priorities: &mut [Priority]) {
    let localities = priorities.iter_mut().flat_map(|priority| &mut priority.localities);
    let mut room = 1;
    for locality in localities {
        locality.endpoints.truncate(room);
        room -= locality.endpoints.len();
    }
}

struct Gatherer<'a, 'b> {
    input: &'b Input<'a>,
    selection: &'b Selection,
    hostnames: &'b mut BTreeMap<String, DnsRefresh>,
    notes: &'b mut BTreeSet<String>,
    gathered: Gathered<'a>,
}

impl<'a> Gatherer<'a, '_> {
    fn cluster(&mut self, cluster: &'a Cluster) {
        match &cluster.discovery {
            Discovery::Eds(name) => {
                self.gathered.eds = Some(name);
                match self.input.endpoints.get(name) {
                    Some(assignment) => self.assignment(cluster, assignment, None),
                    None => self.gathered.priorities = None,
                }
            }
            Discovery::Static(inline) => self.assignment(cluster, inline, None),
            Discovery::StrictDns(inline, dns) => self.assignment(cluster, inline, Some((**dns, usize::MAX))),
            // The first address only.
            Discovery::LogicalDns(inline, dns) => self.assignment(cluster, inline, Some((**dns, 1))),
            Discovery::OriginalDst | Discovery::Aggregate(_) | Discovery::Unsupported(_) => {}
        }
    }

    /// Appends an assignment's priorities; `dns` is how host names are looked up, and for how many addresses each
    /// counts at most.
    fn assignment(&mut self, cluster: &Cluster, assignment: &'a LoadAssignment, dns: Option<(Dns, usize)>) {
        let (dns, addresses_per_name) = dns.unwrap_or_default();
        self.gathered.overprovisioning = Some(assignment.overprovisioning_factor);
        for setting in &assignment.unsupported {
            self.notes.insert(format!("cluster {}: {setting} is not honoured", cluster.name));
        }
        let mut tiers: BTreeMap<u32, Priority> = BTreeMap::new();
        let (mut unanswered, mut found) = (false, false);
        for group in &assignment.localities {
            let mut endpoints = Vec::with_capacity(group.endpoints.len());
            let mut left_out = 0;
            let list_as_any = cluster.balancing.subsets.as_ref().is_some_and(|subsets| subsets.list_as_any);
            for endpoint in &group.endpoints {
                if !self.selection.takes(endpoint, list_as_any) {
                    left_out += 1;
                    continue;
                }
                if endpoint.health == Health::Draining {
                    self.gathered.draining = self.gathered.draining.saturating_add(1);
                    self.notes.insert(format!("cluster {}: draining endpoints were left out", cluster.name));
                    continue;
                }
                if endpoint.is_gateway {
                    let why = "endpoints behind a TLS gateway of another network were left out";
                    self.notes.insert(format!("cluster {}: {why}", cluster.name));
                    continue;
                }
                let hash_key = hash_key(cluster, endpoint);
                let hash_keys = &mut self.gathered.hash_keys;
                let mut add = |address| {
                    let weight = endpoint.weight.max(1);
                    if let Some(key) = hash_key {
                        hash_keys.insert(address, key);
                    }
                    endpoints.push(image::Endpoint {
                        address,
                        weight,
                        health: endpoint.health,
                        takes_mtls: endpoint.tls_mode_istio,
                        slot: None,
                    });
                };
                match &endpoint.address {
                    EndpointAddress::Socket(address) => add(*address),
                    EndpointAddress::Hostname(name, port) => {
                        match self.hostnames.get_mut(&**name) {
                            Some(refresh) => *refresh = refresh.with(dns.refresh),
                            None => {
                                self.hostnames.insert(name.to_string(), dns.refresh);
                            }
                        }
                        match self.input.resolved.get(&**name) {
                            Some(ips) => {
                                let ips = of_family(ips, dns.family).take(addresses_per_name);
                                ips.for_each(|ip| add(SocketAddr::new(ip, *port)));
                            }
                            None => unanswered = true,
                        }
                    }
                    EndpointAddress::Internal(name) => {
                        self.notes.insert(format!("cluster {}: internal address {name} was left out", cluster.name));
                    }
                }
            }
            endpoints.sort_unstable_by_key(|endpoint| endpoint.address);
            endpoints.dedup_by_key(|endpoint| endpoint.address);
            found |= !endpoints.is_empty();
            tiers.entry(group.priority).or_default().localities.push(locality(cluster, group, endpoints, left_out));
        }
        if unanswered && !found {
            self.gathered.priorities = None;
        }
        if let Some(priorities) = &mut self.gathered.priorities {
            let count = tiers.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
            priorities.reserve_exact(count as usize);
            // Those that nobody has are empty (Envoy).
            priorities.extend((0..count).map(|nth| tiers.remove(&nth).unwrap_or_default()));
        }
    }
}

/// The addresses of a name that count.
fn of_family(ips: &[IpAddr], family: DnsFamily) -> impl Iterator<Item = IpAddr> {
    let (has_v4, has_v6) = (ips.iter().any(IpAddr::is_ipv4), ips.iter().any(IpAddr::is_ipv6));
    let (v4, v6) = match family {
        DnsFamily::Auto => (!has_v6, true),
        DnsFamily::V4Only => (true, false),
        DnsFamily::V6Only => (false, true),
        DnsFamily::V4Preferred => (true, !has_v4),
        DnsFamily::All => (true, true),
    };
    ips.iter().copied().filter(move |ip| if ip.is_ipv4() { v4 } else { v6 })
}

/// What hash policies know an endpoint by, unless it is its address.
fn hash_key<'a>(cluster: &Cluster, endpoint: &'a Endpoint) -> Option<&'a str> {
    let details = endpoint.details.as_deref();
    let own = details.map(|details| details.hostname.as_str()).filter(|hostname| !hostname.is_empty());
    let hostname = match &endpoint.address {
        _ if !cluster.hash_hostnames => None,
        EndpointAddress::Hostname(name, _) => own.or(Some(name)),
        _ => own,
    };
    details.and_then(|details| details.hash_key.as_deref()).or(hostname).filter(|key| !key.is_empty())
}

/// A locality with some of its endpoints, of which `left_out` are not in the subset.
fn locality(
    cluster: &Cluster,
    group: &LocalityEndpoints,
    endpoints: Vec<image::Endpoint>,
    left_out: usize,
) -> image::Locality {
    // With locality weights in force, a locality that states none gets none (Envoy).
    let unstated = u32::from(!cluster.locality_weighted);
    let mut weight = group.weight.unwrap_or(unstated);
    if left_out > 0 && cluster.balancing.subsets.as_ref().is_some_and(|subsets| subsets.scale_locality_weight) {
        let whole = endpoints.len() + left_out;
        weight = (f64::from(weight) * endpoints.len() as f64 / whole as f64).round() as u32;
    }
    image::Locality { name: locality_name(&group.locality), weight, slot: None, endpoints }
}

/// `region/zone/sub_zone`, without empty ends.
pub(super) fn locality_name(locality: &Locality) -> String {
    let Locality { region, zone, sub_zone } = locality;
    let mut name = [region, "/", zone, "/", sub_zone].concat();
    name.truncate(name.trim_end_matches('/').len());
    name
}
