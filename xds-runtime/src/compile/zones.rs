//! What zone-aware routing needs to know of a cluster, the node's own cluster and the node's locality.

use super::Input;
use super::endpoints::locality_name;
use crate::image::{self, Cluster, Locality};
use crate::resource::ZoneAware;

/// The settings in the image; `None` where Envoy would balance plainly whatever the health: fewer than two localities
/// on a side, or none of the node's endpoints in its own. `local` is the index of the node's cluster `callers`.
pub(super) fn zone_aware(
    input: &Input<'_>,
    settings: &ZoneAware,
    called: &Cluster,
    local: u32,
    callers: &Cluster,
) -> Option<image::ZoneAware> {
    let first =
        |cluster: &Cluster| -> Option<Vec<Locality>> { Some(cluster.priorities.as_ref()?.first()?.localities.clone()) };
    let (called, callers) = (first(called)?, first(callers)?);
    let inhabited =
        |localities: &[Locality]| localities.iter().filter(|locality| !locality.endpoints.is_empty()).count();
    let home = locality_name(&input.locality);
    let at_home = |locality: &Locality| locality.name == home && !locality.endpoints.is_empty();
    let enough = inhabited(&called) >= 2 && (settings.force_local_zone.is_some() || inhabited(&callers) >= 2);
    if !enough || !callers.iter().any(at_home) {
        return None;
    }
    Some(image::ZoneAware {
        local,
        own: called.iter().position(at_home).and_then(|own| u32::try_from(own).ok()),
        // As Envoy rounds it.
        routing_enabled: settings.routing_enabled.round() as u32,
        min_cluster_size: u32::try_from(settings.min_cluster_size).unwrap_or(u32::MAX),
        by_weight: settings.by_weight,
        force_local: settings.force_local_zone,
    })
}
