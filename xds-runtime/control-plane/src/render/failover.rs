//! `failoverPriority`: endpoints that share more of the client's labels, in order, come first.

use std::collections::{BTreeMap, BTreeSet};

use super::Proxy;
use super::endpoint::Group;
use crate::model::Locality;

/// Splits localities by how many of the labels (from the first on, up to the first that differs) each endpoint has
/// in common with the client. An entry `key=value` stands for a client that has this value. A client without labels
/// changes nothing (istiod).
pub(super) fn by_labels(groups: Vec<Group>, priorities: &[String], proxy: &Proxy) -> Vec<Group> {
    let own = with_locality(proxy.labels.clone(), &proxy.locality);
    if own.is_empty() {
        return groups;
    }
    let wanted: Vec<(&str, Option<&str>)> = priorities
        .iter()
        .map(|entry| match entry.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (entry.as_str(), own.get(entry).map(String::as_str)),
        })
        .collect();
    let mut split: Vec<Group> = Vec::new();
    for group in groups {
        let mut parts: BTreeMap<usize, Group> = BTreeMap::new();
        for (endpoint, labels) in group.endpoints.into_iter().zip(group.labels) {
            let labels = with_locality(labels, &group.locality);
            let shared =
                wanted.iter().take_while(|(key, value)| labels.get(*key).map(String::as_str) == *value).count();
            let part = parts.entry(priorities.len() - shared).or_insert_with_key(|rank| Group {
                locality: group.locality.clone(),
                priority: u32::try_from(*rank).unwrap_or(u32::MAX),
                weight: 0,
                endpoints: Vec::new(),
                labels: Vec::new(),
            });
            part.weight = part.weight.saturating_add(endpoint.load_balancing_weight.map_or(1, |weight| weight.value));
            part.endpoints.push(endpoint);
        }
        split.extend(parts.into_values());
    }
    without_gaps(&mut split);
    split
}

/// Priorities start at 0 and have no gaps.
pub(super) fn without_gaps(groups: &mut [Group]) {
    let used: BTreeSet<u32> = groups.iter().map(|group| group.priority).collect();
    for group in groups {
        group.priority = used.range(..group.priority).count().try_into().unwrap_or(u32::MAX);
    }
}

/// The labels that istiod adds for where something runs.
fn with_locality(mut labels: BTreeMap<String, String>, locality: &Locality) -> BTreeMap<String, String> {
    let place = [
        ("topology.kubernetes.io/region", &locality.region),
        ("topology.kubernetes.io/zone", &locality.zone),
        ("topology.istio.io/subzone", &locality.sub_zone),
    ];
    for (key, value) in place {
        if !value.is_empty() {
            labels.insert(key.to_owned(), value.clone());
        }
    }
    labels
}
