//! Endpoints changed and nothing else: their clusters are compiled again, and the rest of the mesh stays.

use std::collections::BTreeSet;

use super::clusters::{Clusters, each_slot};
use super::{Compiled, Input};
use crate::image;
use crate::quick::QuickSet;
use crate::resource::Discovery;
use crate::shm::hash_bytes;

/// Up to so many clusters are always compiled one by one.
const FEW: usize = 16;
/// Above this share of the clusters of a mesh, all of it takes no longer.
const SHARE: usize = 4;

/// Takes the assignments of these EDS names over into what was compiled of the same input but for them; gives the places
/// of their clusters. `None`: they are many, more depends on them than one cluster, or there are too few slots; compile
/// it all.
pub fn update_endpoints(
    compiled: &mut Compiled,
    input: &Input<'_>,
    names: &BTreeSet<String>,
    slots: &mut dyn FnMut(u64) -> Option<u32>,
) -> Option<Vec<u32>> {
    // Endpoints of no destination's cluster are in no mesh.
    let place = |name: &String| compiled.by_endpoints.get(&hash_bytes(name.as_bytes())).copied();
    let changed: Option<Vec<(&String, u32)>> =
        names.iter().filter_map(|name| Some(place(name)?.map(|place| (name, place)))).collect();
    let changed = changed?;
    if changed.len() > FEW.max(compiled.mesh.clusters.len() / SHARE) {
        return None;
    }
    let mut places = Vec::with_capacity(changed.len());
    for (name, place) in changed {
        let (built, live_tags) = compile_again(compiled, input, name, place, slots)?;
        let cluster = compiled.mesh.clusters.get_mut(place as usize)?;
        each_slot(cluster, &mut |_, tag| {
            compiled.live_tags.remove(&tag);
        });
        compiled.live_tags.extend(live_tags);
        *cluster = built;
        places.push(place);
    }
    Some(places)
}

fn compile_again(
    compiled: &Compiled,
    input: &Input<'_>,
    name: &str,
    place: u32,
    slots: &mut dyn FnMut(u64) -> Option<u32>,
) -> Option<(image::Cluster, QuickSet<u64>)> {
    let former = compiled.mesh.clusters.get(place as usize)?;
    let cluster = input.clusters.get(&former.name)?;
    // With zones, a cluster depends on that of the node.
    let plain = cluster.discovery == Discovery::Eds(name.to_owned())
        && cluster.balancing.subsets.is_none()
        && former.owner.is_none()
        && input.local_cluster.is_none();
    if !plain {
        return None;
    }
    let (mut notes, mut full) = (BTreeSet::new(), false);
    let mut slot = |tag| {
        let slot = slots(tag);
        full |= slot.is_none();
        slot
    };
    let alone = Clusters::new(input, &mut slot, &mut notes).alone(cluster)?;
    let prefix = format!("cluster {}:", cluster.name);
    let first = compiled.notes.partition_point(|note| *note < prefix);
    let noted = compiled.notes.iter().skip(first).take_while(|note| note.starts_with(&prefix));
    (!full && noted.eq(&notes)).then_some(alone)
}
