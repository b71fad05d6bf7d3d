//! The clusters that an aggregate is made of.

use std::collections::BTreeSet;

use super::Input;
use crate::resource::{Cluster, Discovery};

/// Aggregates inside aggregates beyond this depth are left out.
const MAX_DEPTH: usize = 8;

/// The clusters with endpoints of their own, in order, each once (gRFC A37): those of an aggregate inside are taken in
/// its place.
pub(super) fn members<'a>(input: &Input<'a>, aggregate: &'a Cluster, notes: &mut BTreeSet<String>) -> Vec<&'a Cluster> {
    let mut walk = Walk { input, notes, seen: BTreeSet::new(), members: Vec::new() };
    walk.visit(aggregate, 0);
    walk.members
}

struct Walk<'a, 'b> {
    input: &'b Input<'a>,
    notes: &'b mut BTreeSet<String>,
    /// Names of the clusters that were visited: aggregates may name each other.
    seen: BTreeSet<&'a str>,
    members: Vec<&'a Cluster>,
}

impl<'a> Walk<'a, '_> {
    fn visit(&mut self, cluster: &'a Cluster, depth: usize) {
        if !self.seen.insert(&cluster.name) {
            return;
        }
        let Discovery::Aggregate(names) = &cluster.discovery else {
            self.members.push(cluster);
            return;
        };
        for name in names {
            match self.input.clusters.get(name) {
                Some(member) if depth < MAX_DEPTH => self.visit(member, depth + 1),
                _ => {
                    self.notes.insert(format!("cluster {}: {name} was not received or is too deep", cluster.name));
                }
            }
        }
    }
}
