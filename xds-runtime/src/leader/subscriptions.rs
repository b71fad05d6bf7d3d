//! What to subscribe, and when enough of it is there: decisions without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::resources::Resources;
use crate::compile::ALWAYS_WANTED;
use crate::resource::ResourceType;

/// A control plane that serves no name table is not waited for longer than this.
const NAMES_PATIENCE: Duration = Duration::from_secs(1);
/// Nor for routes and endpoints that were asked for.
const BY_NAME_PATIENCE: Duration = Duration::from_secs(2);
/// Nor are the endpoints of clusters that something in use leads to since a change.
pub const WARM_PATIENCE: Duration = Duration::from_secs(1);

/// EDS names that the wishes lead to.
pub fn endpoint_names(wishes: impl Iterator<Item = u64>, leads_to: &BTreeMap<u64, Vec<String>>) -> BTreeSet<String> {
    wishes.chain(std::iter::once(ALWAYS_WANTED)).filter_map(|key| leads_to.get(&key)).flatten().cloned().collect()
}

/// Whether everything a wish leads to is in `settled`. What leads nowhere is answered by that.
pub fn is_answered(key: u64, leads_to: &BTreeMap<u64, Vec<String>>, settled: &BTreeSet<String>) -> bool {
    leads_to.get(&key).is_none_or(|names| names.iter().all(|name| settled.contains(name)))
}

/// Whether everything that is in use would have endpoints after a publish, as Envoy warms a cluster before it uses it.
/// `served`: the wishes that the published image answers.
pub fn is_warm(served: &BTreeSet<u64>, leads_to: &BTreeMap<u64, Vec<String>>, resources: &Resources) -> bool {
    let names = served.iter().filter_map(|key| leads_to.get(key)).flatten();
    names.into_iter().all(|name| resources.is_settled(ResourceType::Endpoint, name))
}

/// Whether a first publish would be a complete state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Publish.
    Ready,
    /// Wait for the control plane.
    Wait,
    /// Wait for it, at most this long since clusters and listeners were there.
    WaitUntil(Duration),
}

/// Decides about the first publish of a term. `waited`: since clusters and listeners are there.
pub fn readiness(
    resources: &Resources,
    routes: &BTreeSet<String>,
    endpoints: &BTreeSet<String>,
    waited: Duration,
) -> Readiness {
    if !resources.is_ready(ResourceType::Cluster) || !resources.is_ready(ResourceType::Listener) {
        return Readiness::Wait;
    }
    let settled = |kind, names: &BTreeSet<String>| names.iter().all(|name| resources.is_settled(kind, name));
    if waited < NAMES_PATIENCE && !resources.is_ready(ResourceType::NameTable) {
        return Readiness::WaitUntil(NAMES_PATIENCE);
    }
    let by_name = settled(ResourceType::Route, routes) && settled(ResourceType::Endpoint, endpoints);
    if waited < BY_NAME_PATIENCE && !by_name {
        return Readiness::WaitUntil(BY_NAME_PATIENCE);
    }
    Readiness::Ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ads::Event;

    fn map() -> BTreeMap<u64, Vec<String>> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        BTreeMap::from([(0, names(&["always"])), (7, names(&["a", "b"])), (8, names(&["b"]))])
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn answered(kinds: &[ResourceType]) -> Resources {
        let mut resources = Resources::default();
        for kind in kinds {
            resources.apply(Event::Answered { kind: *kind, version: String::new() }, 1);
        }
        resources
    }

    #[test]
    fn what_is_served_is_warm_when_each_of_its_clusters_is_settled() {
        let mut resources = Resources::default();
        let served = BTreeSet::from([7]);
        assert!(!is_warm(&served, &map(), &resources));
        assert!(is_warm(&BTreeSet::new(), &map(), &resources), "nobody uses them yet");
        for name in ["a", "b"] {
            resources.apply(Event::Missing { kind: ResourceType::Endpoint, name: name.to_owned() }, 1);
        }
        assert!(is_warm(&served, &map(), &resources), "what does not exist is not waited for");
        assert!(is_warm(&BTreeSet::from([9]), &map(), &resources), "what leads nowhere is warm");
    }

    #[test]
    fn endpoints_are_subscribed_for_what_is_wanted_and_nothing_else() {
        assert_eq!(endpoint_names([8, 99].into_iter(), &map()), set(&["always", "b"]));
    }

    #[test]
    fn a_wish_is_answered_when_all_it_leads_to_is_settled() {
        assert!(!is_answered(7, &map(), &set(&["a"])));
        assert!(is_answered(7, &map(), &set(&["a", "b"])));
        assert!(is_answered(99, &map(), &set(&[])), "an address that the mesh does not know");
    }

    #[test]
    fn nothing_is_published_without_clusters_and_listeners() {
        let only_clusters = answered(&[ResourceType::Cluster]);
        assert_eq!(readiness(&only_clusters, &set(&[]), &set(&[]), Duration::from_secs(99)), Readiness::Wait);
    }

    #[test]
    fn a_control_plane_without_name_table_costs_a_second() {
        let resources = answered(&[ResourceType::Cluster, ResourceType::Listener]);
        let at = |waited| readiness(&resources, &set(&[]), &set(&[]), waited);
        assert_eq!(at(Duration::ZERO), Readiness::WaitUntil(NAMES_PATIENCE));
        assert_eq!(at(NAMES_PATIENCE), Readiness::Ready);
    }

    #[test]
    fn endpoints_that_do_not_come_hold_nobody_up_for_ever() {
        let resources = answered(&[ResourceType::Cluster, ResourceType::Listener, ResourceType::NameTable]);
        let at = |waited| readiness(&resources, &set(&[]), &set(&["a"]), waited);
        assert_eq!(at(Duration::ZERO), Readiness::WaitUntil(BY_NAME_PATIENCE));
        assert_eq!(at(BY_NAME_PATIENCE), Readiness::Ready);
    }
}
