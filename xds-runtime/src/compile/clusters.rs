//! Clusters: those that destinations lead to, in the order in which they were first named.

use std::collections::{BTreeMap, BTreeSet};

use super::Input;
use super::endpoints::{Gathered, gather};
use super::subset::{self, Selected, Selection};
use super::{aggregate, balancing, outlier, tables, zones};
use crate::image::{self, Action, HashOn, PassReason, Policy, Priority, priority_tag};
use crate::lb::MAX_PRIORITIES;
use crate::quick::{QuickMap, QuickSet};
use crate::resource::{
    Cluster, Discovery, DnsRefresh, LbPolicy, Metadata, TcpKeepalive, UpstreamTls, WeightedCluster, in_words,
};
use crate::shm::{WordAddr, hash_bytes};
use crate::state::{SlotKind, endpoint_tag, locality_tag, named_tag};

/// Istio's cluster that refuses: static, without endpoints.
const BLACK_HOLE: &str = "BlackHoleCluster";
/// Istio's cluster for the address that was dialled.
const PASSTHROUGH: &str = "PassthroughCluster";
/// Envoy's default, percent.
const OVERPROVISIONING: u32 = 140;

pub(super) struct Clusters<'a, 'b> {
    input: &'b Input<'a>,
    slots: &'b mut dyn FnMut(u64) -> Option<u32>,
    notes: &'b mut BTreeSet<String>,
    /// By name, and what follows it for a subset.
    index: QuickMap<(&'a str, String), u32>,
    /// EDS names of each built cluster.
    eds: Vec<Vec<&'a str>>,
    /// The node's own cluster, if some other is routed by zone.
    local: Option<u32>,
    pub built: Vec<image::Cluster>,
    pub live_tags: QuickSet<u64>,
    pub hostnames: BTreeMap<String, DnsRefresh>,
}

/// What a cluster's name leads to.
enum Lead<'a> {
    Cluster(&'a Cluster),
    Pass(PassReason),
    Refuse,
}

impl<'a, 'b> Clusters<'a, 'b> {
    pub fn new(
        input: &'b Input<'a>,
        slots: &'b mut dyn FnMut(u64) -> Option<u32>,
        notes: &'b mut BTreeSet<String>,
    ) -> Self {
        Self {
            input,
            slots,
            notes,
            index: QuickMap::default(),
            eds: Vec::new(),
            local: None,
            built: Vec::new(),
            live_tags: QuickSet::default(),
            hostnames: BTreeMap::new(),
        }
    }

    /// Makes room for all endpoints of the mesh at once. Not for a single cluster: it walks through all of them.
    pub fn with_room(mut self) -> Self {
        let localities = self.input.endpoints.values().flat_map(|assignment| &assignment.localities);
        self.live_tags.reserve(localities.map(|locality| locality.endpoints.len()).sum());
        self
    }

    pub fn note(&mut self, note: String) {
        self.notes.insert(note);
    }

    /// Whether the HTTP rules of a service must hold for each request.
    pub fn is_exact(&self, service: &str) -> bool {
        self.input.exact_http.matches(service)
    }

    /// What a connection to one of these clusters means.
    pub fn action(&mut self, weighted: &'a [WeightedCluster], hash: HashOn) -> Action {
        let mut loaded = weighted.iter().filter(|cluster| cluster.weight > 0);
        let (Some(first), second) = (loaded.next(), loaded.next()) else {
            return Action::Pass(PassReason::NoCluster);
        };
        if second.is_none() {
            return match self.lead(&first.name) {
                Lead::Pass(reason) => Action::Pass(reason),
                Lead::Refuse => Action::Refuse,
                Lead::Cluster(cluster) => {
                    Action::Clusters { shares: vec![(self.build(cluster, &first.metadata), 1)], hash }
                }
            };
        }
        let loaded = weighted.iter().filter(|cluster| cluster.weight > 0);
        let shares = loaded.map(|share| (self.share(share), share.weight)).collect();
        Action::Clusters { shares, hash }
    }

    /// Adds the EDS names that an action leads to.
    pub fn want(&self, action: &Action, names: &mut Vec<String>) {
        let shares = match action {
            Action::Clusters { shares, .. } => shares,
            Action::ServerNames(by_name) => return by_name.iter().for_each(|name| self.want(&name.action, names)),
            Action::Pass(_) | Action::Refuse => return,
        };
        for eds in shares.iter().filter_map(|(index, _)| self.eds.get(*index as usize)) {
            names.extend(eds.iter().map(|name| (*name).to_owned()));
        }
    }

    /// Compiles all of one cluster by itself.
    pub fn alone(mut self, cluster: &'a Cluster) -> Option<(image::Cluster, QuickSet<u64>)> {
        self.build_selected(cluster, &Selected::default());
        Some((self.built.pop()?, self.live_tags))
    }

    /// For each EDS name (by its hash), the cluster that has its endpoints; `None` = there are several.
    pub fn by_endpoints(&self) -> QuickMap<u64, Option<u32>> {
        let mut found = QuickMap::with_capacity_and_hasher(self.built.len(), Default::default());
        for (index, names) in (0..).zip(&self.eds) {
            for name in names {
                let several = found.contains_key(&hash_bytes(name.as_bytes()));
                found.insert(hash_bytes(name.as_bytes()), (!several).then_some(index));
            }
        }
        found
    }

    /// The EDS names of the node's own cluster, if zones need them.
    pub fn local_endpoints(&self) -> impl Iterator<Item = String> {
        let eds = self.local.and_then(|index| self.eds.get(index as usize));
        eds.into_iter().flatten().map(|name| (*name).to_owned())
    }

    fn lead(&mut self, name: &str) -> Lead<'a> {
        match self.input.clusters.get(name) {
            None if name == BLACK_HOLE => Lead::Refuse,
            None if name == PASSTHROUGH => Lead::Pass(PassReason::OriginalDestination),
            None => {
                self.note(format!("cluster {name} is named but was not received"));
                Lead::Pass(PassReason::NoCluster)
            }
            Some(cluster) => match &cluster.discovery {
                Discovery::OriginalDst => {
                    self.note_unsupported(cluster);
                    Lead::Pass(PassReason::OriginalDestination)
                }
                Discovery::Static(none)
                    if name == BLACK_HOLE && none.localities.iter().all(|l| l.endpoints.is_empty()) =>
                {
                    Lead::Refuse
                }
                _ => Lead::Cluster(cluster),
            },
        }
    }

    /// The index of a cluster that has a share of a destination.
    fn share(&mut self, share: &'a WeightedCluster) -> u32 {
        let name = share.name.as_str();
        let policy = match self.lead(name) {
            Lead::Cluster(cluster) => return self.build(cluster, &share.metadata),
            Lead::Pass(reason) => Policy::Pass(reason, name.to_owned()),
            Lead::Refuse => Policy::Refuse,
        };
        self.register(name, String::new(), |_| (passing(name, policy), Vec::new()))
    }

    /// The index of what a route that asks for `asked` means by a cluster.
    fn build(&mut self, cluster: &'a Cluster, asked: &Metadata) -> u32 {
        if let Discovery::Aggregate(_) = cluster.discovery {
            let members = aggregate::members(self.input, cluster, self.notes);
            // Each member may have subsets.
            let subsets = members.iter().any(|member| member.balancing.subsets.is_some());
            let suffix = if subsets && !asked.is_empty() { format!(" [{}]", in_words(asked)) } else { String::new() };
            let built_name = format!("{}{suffix}", cluster.name);
            return self.register(&cluster.name, suffix, |clusters| {
                clusters.compile_aggregate(built_name, cluster, &members, asked)
            });
        }
        let Some(subsets) = &cluster.balancing.subsets else {
            return self.build_selected(cluster, &Selected::default());
        };
        let selected = subset::select(self.input, cluster, subsets, asked);
        self.build_selected(cluster, &selected)
    }

    fn build_selected(&mut self, cluster: &'a Cluster, selected: &Selected) -> u32 {
        if cluster.outlier_detection.is_some() && selected.selection != Selection::All {
            // Detection is the whole's: the leader counts its endpoints and no subset's.
            self.build_selected(cluster, &Selected::default());
        }
        let any = selected.else_any.then(|| self.build_selected(cluster, &Selected::default()));
        let suffix = selected.selection.suffix() + if any.is_some() { " or any" } else { "" };
        self.register(&cluster.name, suffix.clone(), |clusters| {
            let (mut built, eds) = clusters.compile(cluster, &selected.selection);
            if !suffix.is_empty() {
                built.name.push_str(&suffix);
                built.owner = Some(cluster.name.clone());
            }
            built.balancing.otherwise = any;
            clusters.route_by_zone(cluster, &mut built);
            clusters.give_slots(&mut built);
            (built, eds)
        })
    }

    fn register(
        &mut self,
        name: &'a str,
        suffix: String,
        compile: impl FnOnce(&mut Self) -> (image::Cluster, Vec<&'a str>),
    ) -> u32 {
        let key = (name, suffix);
        if let Some(index) = self.index.get(&key) {
            return *index;
        }
        let (built, eds) = compile(self);
        let index = u32::try_from(self.built.len()).unwrap_or(u32::MAX);
        self.index.insert(key, index);
        self.built.push(built);
        self.eds.push(eds);
        index
    }

    /// Zone-aware routing, where the node's own cluster is known and has endpoints in the node's locality.
    fn route_by_zone(&mut self, cluster: &Cluster, built: &mut image::Cluster) {
        let hashes = matches!(built.policy, Policy::RingHash | Policy::Maglev | Policy::Pass(..));
        built.balancing.fail_on_panic = !hashes && cluster.balancing.zone_aware.fail_traffic_on_panic;
        if hashes || built.locality_weighted {
            return;
        }
        // The node's cluster is balanced plainly itself.
        let Some(local) = self.input.local_cluster.and_then(|name| self.input.clusters.get(name)) else { return };
        if local.name == cluster.name {
            return;
        }
        let index = self.build_selected(local, &Selected::default());
        self.local = Some(index);
        let callers = self.built.get(index as usize);
        built.balancing.zone_aware = callers
            .and_then(|callers| zones::zone_aware(self.input, &cluster.balancing.zone_aware, built, index, callers));
    }

    /// A cluster with those of its endpoints that are selected; without slots.
    fn compile(&mut self, cluster: &'a Cluster, selection: &Selection) -> (image::Cluster, Vec<&'a str>) {
        self.note_unsupported(cluster);
        let policy = refusal(cluster).unwrap_or_else(|| policy(cluster));
        if let Policy::Pass(reason, name) = &policy {
            let reason = *reason;
            self.note(format!("cluster {}: left to the kernel ({reason:?}: {name})", cluster.name));
            if self.input.local_cluster != Some(&cluster.name) {
                return (passing(&cluster.name, policy), Vec::new());
            }
            // The node's own cluster is counted by zones, whether or not anybody may connect to it.
        }
        let Gathered { mut priorities, eds, overprovisioning, hash_keys, draining } =
            gather(self.input, cluster, selection, &mut self.hostnames, self.notes);
        let subsets = cluster.balancing.subsets.as_ref();
        let locality_weighted = cluster.locality_weighted && subsets.is_none_or(|s| s.locality_weight_aware);
        let overprovisioning_factor = overprovisioning.unwrap_or(OVERPROVISIONING);
        if let Some(priorities) = &mut priorities {
            let panics = tables::in_panic(priorities, overprovisioning_factor, cluster.panic_threshold);
            for (Priority { localities, table, .. }, panics) in priorities.iter_mut().zip(panics) {
                *table = tables::table(&cluster.policy, localities, locality_weighted, panics, &hash_keys);
            }
        }
        let built = image::Cluster {
            policy,
            balancing: balancing::balancing(&cluster.balancing),
            priorities,
            connect_timeout: cluster.connect_timeout,
            max_connections: cluster.max_connections,
            keepalive: self.keepalive(cluster),
            panic_threshold: cluster.panic_threshold,
            overprovisioning_factor,
            locality_weighted,
            outlier: cluster.outlier_detection.as_ref().map(|found| outlier::settings(found, draining)),
            ..passing(&cluster.name, Policy::Random)
        };
        (built, eds.into_iter().collect())
    }

    /// An aggregate is its members, as they are compiled for their own: the same slots, limits and policies. A member
    /// that cannot be had makes it one that cannot be had; one whose endpoints are not known yet is skipped, as
    /// Envoy skips clusters that are not warm.
    fn compile_aggregate(
        &mut self,
        name: String,
        cluster: &Cluster,
        clusters: &[&'a Cluster],
        asked: &Metadata,
    ) -> (image::Cluster, Vec<&'a str>) {
        self.note_unsupported(cluster);
        let (mut members, mut eds, mut known, mut room) = (Vec::new(), Vec::new(), false, MAX_PRIORITIES as usize);
        for member in clusters {
            let index = self.build(member, asked);
            let built = self.built.get(index as usize);
            if let Some(Policy::Pass(reason, detail)) = built.map(|built| &built.policy) {
                let policy = Policy::Pass(*reason, detail.clone());
                return (passing(&name, policy), Vec::new());
            }
            let priorities = built.and_then(|built| built.priorities.as_ref());
            known |= priorities.is_some();
            eds.extend(self.eds.get(index as usize).into_iter().flatten());
            match room.checked_sub(priorities.map_or(0, Vec::len)) {
                Some(left) => (room, _) = (left, members.push(index)),
                None => {
                    self.note(format!("cluster {}: priorities beyond {MAX_PRIORITIES} were left out", cluster.name))
                }
            }
        }
        let built = image::Cluster {
            priorities: known.then(Vec::new),
            panic_threshold: cluster.panic_threshold,
            ..passing(&name, Policy::Aggregate(members))
        };
        (built, eds)
    }

    fn note_unsupported(&mut self, cluster: &Cluster) {
        for setting in &cluster.unsupported {
            self.note(format!("cluster {}: {setting} is not honoured", cluster.name));
        }
    }

    /// A 0 turns keepalive off (Envoy); what Linux does not take is left to the system.
    fn keepalive(&mut self, cluster: &Cluster) -> Option<image::Keepalive> {
        /// MAX_TCP_KEEPCNT; MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL, seconds.
        const MOST: (u32, u32) = (127, 32_767);
        let TcpKeepalive { probes, time, interval } = cluster.keepalive?;
        if [probes, time, interval].contains(&Some(0)) {
            return None;
        }
        let fits = |value: Option<u32>, most| value.is_none_or(|value| value <= most);
        for (name, value, most) in [("probes", probes, MOST.0), ("time", time, MOST.1), ("interval", interval, MOST.1)]
        {
            if !fits(value, most) {
                self.note(format!("cluster {}: keepalive_{name} over {most} is not honoured", cluster.name));
            }
        }
        let narrow = |value: Option<u32>| value.filter(|value| *value <= MOST.1).and_then(|v| u16::try_from(v).ok());
        Some(image::Keepalive {
            probes: probes.filter(|probes| *probes <= MOST.0).and_then(|probes| u8::try_from(probes).ok()),
            idle: narrow(time),
            interval: narrow(interval),
        })
    }

    /// Gives slots to a cluster whose endpoints are known.
    fn give_slots(&mut self, cluster: &mut image::Cluster) {
        each_slot(cluster, &mut |slot, tag| *slot = self.slot(tag));
    }

    fn slot(&mut self, tag: u64) -> Option<u32> {
        self.live_tags.insert(tag);
        (self.slots)(tag)
    }
}

/// Every slot of a cluster whose endpoints are known, with its tag.
pub(super) fn each_slot(cluster: &mut image::Cluster, visit: &mut dyn FnMut(&mut Option<u32>, u64)) {
    let hash = hash_bytes(cluster.name.as_bytes());
    let owner = cluster.owner.as_ref().map_or(hash, |owner| hash_bytes(owner.as_bytes()));
    let turns = cluster.policy == Policy::RoundRobin;
    let weighted = cluster.locality_weighted || cluster.balancing.zone_aware.is_some();
    let Some(priorities) = &mut cluster.priorities else { return };
    visit(&mut cluster.slot, named_tag(SlotKind::Cluster, owner));
    for (nth, Priority { slot, localities, .. }) in (0..).zip(priorities) {
        if turns {
            visit(slot, priority_tag(hash, nth));
        }
        for locality in localities {
            if turns && weighted {
                visit(&mut locality.slot, locality_tag(hash, nth, hash_bytes(locality.name.as_bytes())));
            }
            for endpoint in &mut locality.endpoints {
                let address = WordAddr::new(endpoint.address.ip());
                visit(&mut endpoint.slot, endpoint_tag(owner, address, endpoint.address.port()));
            }
        }
    }
}

/// A cluster without endpoints of its own.
fn passing(name: &str, policy: Policy) -> image::Cluster {
    image::Cluster {
        name: name.to_owned(),
        owner: None,
        policy,
        balancing: image::Balancing::default(),
        priorities: None,
        slot: None,
        connect_timeout: std::time::Duration::from_secs(5),
        max_connections: None,
        keepalive: None,
        panic_threshold: 50.0,
        overprovisioning_factor: OVERPROVISIONING,
        locality_weighted: false,
        outlier: None,
    }
}

/// Why the endpoints of a cluster cannot be used at all.
fn refusal(cluster: &Cluster) -> Option<Policy> {
    if cluster.tls == UpstreamTls::Required {
        return Some(Policy::Pass(PassReason::NeedsTls, cluster.name.clone()));
    }
    match &cluster.discovery {
        Discovery::OriginalDst => Some(Policy::Pass(PassReason::OriginalDestination, cluster.name.clone())),
        Discovery::Unsupported(name) => Some(Policy::Pass(PassReason::Unsupported, name.clone())),
        _ => None,
    }
}

fn policy(cluster: &Cluster) -> Policy {
    let unsupported = |name: &str| Policy::Pass(PassReason::Unsupported, name.to_owned());
    match &cluster.policy {
        LbPolicy::RoundRobin => Policy::RoundRobin,
        LbPolicy::LeastRequest { choice_count, active_request_bias } => {
            Policy::LeastRequest { choice_count: *choice_count, active_request_bias: *active_request_bias }
        }
        LbPolicy::Random => Policy::Random,
        LbPolicy::RingHash { .. } => Policy::RingHash,
        LbPolicy::Maglev { .. } => Policy::Maglev,
        LbPolicy::ClusterProvided => unsupported("CLUSTER_PROVIDED"),
        LbPolicy::Unsupported(name) => unsupported(name),
    }
}
