//! The leader's share of outlier detection: what happens at each cluster's interval, and connects that hang.
//!
//! ```text
//! interval over --> volumes since the last, per endpoint --> success rate, failure percentage --> ejections
//!              \--> multipliers of endpoints that have been back for an interval shrink
//! ```
//! All of it stands in STATE (what was seen at the last interval, when that was), so a successor goes on where its
//! predecessor stopped. Rows of failures are not looked at here: whoever counts a failure acts on it.

use std::collections::HashSet;

use crate::image::{Cluster, Mesh};
use crate::lb::Seeded;
use crate::outlier::{
    Census, Detector, Ejected, Settings, Verdict, Volume, by_failure_percentage, by_success_rate, count_failure, eject,
};
use crate::shm::{Millis, WordAddr, hash_bytes, hash_words};
use crate::state::{Connection, Member, Slot, SlotKind, State, endpoint_tag, named_tag};

/// Intervals end at most this often: a shorter one says nothing and costs a core.
const INTERVAL_LEAST_MS: Millis = 10;

/// When intervals end.
pub struct Outliers {
    next: Option<Millis>,
    entropy: Seeded,
}

impl Outliers {
    /// `seed` decides what chance decides.
    pub fn new(seed: u64) -> Self {
        Self { next: None, entropy: Seeded(hash_words(&[seed])) }
    }

    /// When the next interval ends, in the clock's time; `None` = no cluster has outlier detection.
    pub const fn next_due(&self) -> Option<Millis> {
        self.next
    }

    /// Takes over those clusters of a mesh that were compiled: tells slots where they are, and begins intervals.
    pub fn compiled(&mut self, mesh: &Mesh, clusters: impl Iterator<Item = u32>, state: State, now: Millis) {
        for index in clusters {
            let Some(cluster) = mesh.clusters.get(index as usize) else { continue };
            let Some(slot) = cluster_slot(cluster, state) else { continue };
            slot.set_index(index);
            match cluster.outlier {
                // What was counted before it had outlier detection is no part of its first interval.
                Some(_) if slot.swept() == 0 => {
                    slot.set_swept(now.max(1));
                    for (_, slot) in Endpoints::of(cluster, state).counted {
                        let _: Volume = slot.take_volume();
                    }
                }
                Some(_) => {}
                None => slot.set_swept(0),
            }
        }
        self.schedule(mesh, state, now);
    }

    /// Ends the intervals that are over.
    pub fn sweep(&mut self, mesh: &Mesh, state: State, now: Millis) {
        for (cluster, settings) in detecting(mesh) {
            let Some(slot) = cluster_slot(cluster, state) else { continue };
            if due(&slot, settings) <= now {
                slot.set_swept(now);
                self.end_interval(&Endpoints::of(cluster, state), settings, state, now);
            }
        }
        self.schedule(mesh, state, now);
    }

    fn schedule(&mut self, mesh: &Mesh, state: State, now: Millis) {
        let due = detecting(mesh).filter_map(|(cluster, settings)| Some(due(&cluster_slot(cluster, state)?, settings)));
        self.next = due.min().map(|due| due.max(now.saturating_add(INTERVAL_LEAST_MS)));
    }

    fn end_interval(&mut self, endpoints: &Endpoints, settings: &Settings, state: State, now: Millis) {
        let (mut members, mut volumes) = (Vec::new(), Vec::new());
        for (member, slot) in &endpoints.counted {
            // Of an ejected one the interval is taken, too: it comes back with none.
            let volume: Volume = slot.take_volume();
            if !slot.is_ejected(now) {
                members.push(*member);
                volumes.push(volume);
            }
        }
        let by_rate = by_success_rate(&settings.success_rate, &volumes);
        self.eject_all(endpoints, settings, settings.success_rate_detector(), &members, &by_rate, state, now);
        let by_percentage = by_failure_percentage(&settings.failure_percentage, &volumes);
        let detector = settings.failure_percentage_detector();
        self.eject_all(endpoints, settings, detector, &members, &by_percentage, state, now);
        for (_, slot) in &endpoints.counted {
            let back_since = slot.ejected_until();
            if back_since != 0 && now.saturating_sub(back_since) >= settings.interval && back_since <= now {
                slot.shrink_multiplier();
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a step of end_interval")]
    fn eject_all(
        &mut self,
        endpoints: &Endpoints,
        settings: &Settings,
        detector: Detector,
        members: &[Member],
        outliers: &[usize],
        state: State,
        now: Millis,
    ) {
        for member in outliers.iter().filter_map(|at| members.get(*at)) {
            let mut census = || Some(endpoints.census(now));
            let verdict = eject(&state, member, settings, detector, &mut census, now, &mut self.entropy);
            if let Verdict::Ejected(until) = verdict {
                log::info!("an endpoint is ejected for {} ms: {detector}", until.saturating_sub(now));
            }
        }
    }

    /// A connect that nobody waits for any more failed: counted as its process would have.
    pub fn failed(&mut self, mesh: &Mesh, state: State, member: &Member, now: Millis) -> Option<Ejected> {
        let cluster = cluster_of(mesh, state, member);
        let mut census = || Some(Endpoints::of(cluster?, state).census(now));
        let settings = cluster.and_then(|cluster| cluster.outlier.as_ref());
        count_failure(&state, member, settings, &mut census, now, &mut self.entropy)
    }
}

/// How long a connection may take to be established: its cluster's connect timeout.
pub fn connect_timeout(mesh: &Mesh, state: State, connection: &Connection) -> Option<Millis> {
    let timeout = cluster_of(mesh, state, &connection.member())?.connect_timeout;
    Some(Millis::try_from(timeout.as_millis()).unwrap_or(Millis::MAX))
}

fn detecting(mesh: &Mesh) -> impl Iterator<Item = (&Cluster, &Settings)> {
    mesh.clusters.iter().filter_map(|cluster| Some((cluster, cluster.outlier.as_ref()?)))
}

fn due(slot: &Slot<'_>, settings: &Settings) -> Millis {
    slot.swept().saturating_add(settings.interval)
}

fn cluster_tag(cluster: &Cluster) -> u64 {
    named_tag(SlotKind::Cluster, hash_bytes(cluster.name.as_bytes()))
}

fn cluster_slot(cluster: &Cluster, state: State) -> Option<Slot<'static>> {
    state.slot(cluster.slot?, cluster_tag(cluster))
}

/// The cluster of a member, where its slot says that it is.
fn cluster_of<'a>(mesh: &'a Mesh, state: State, member: &Member) -> Option<&'a Cluster> {
    let index = member.cluster(&state)?.index()?;
    mesh.clusters.get(index as usize).filter(|cluster| cluster_tag(cluster) == member.cluster_tag)
}

/// The endpoints of a cluster, each once.
struct Endpoints {
    counted: Vec<(Member, Slot<'static>)>,
    hosts: u32,
}

impl Endpoints {
    fn of(cluster: &Cluster, state: State) -> Self {
        let hash = hash_bytes(cluster.name.as_bytes());
        let mut seen = HashSet::new();
        let (mut counted, mut hosts) = (Vec::new(), 0_u32);
        let localities = cluster.priorities.iter().flatten().flat_map(|priority| &priority.localities);
        for endpoint in localities.flat_map(|locality| &locality.endpoints) {
            hosts = hosts.saturating_add(1);
            let tag = endpoint_tag(hash, WordAddr::new(endpoint.address.ip()), endpoint.address.port());
            let Some((index, slot)) = endpoint.slot.and_then(|index| Some((index, state.slot(index, tag)?))) else {
                continue;
            };
            if seen.insert(index) {
                let member = Member {
                    endpoint_slot: Some(index),
                    endpoint_tag: tag,
                    cluster_slot: cluster.slot,
                    cluster_tag: cluster_tag(cluster),
                };
                counted.push((member, slot));
            }
        }
        Self { counted, hosts }
    }

    fn census(&self, now: Millis) -> Census {
        let ejected = self.counted.iter().filter(|(_, slot)| slot.is_ejected(now)).count();
        Census { hosts: self.hosts, ejected: u32::try_from(ejected).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests;
