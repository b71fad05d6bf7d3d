//! EDS: `ClusterLoadAssignment`s, with the priorities and weights of localities computed for the client.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};

use super::target::{Target, targets};
use super::wire::{address, u32_value};
use super::{Proxy, failover};
use crate::input::LocalityLb;
use crate::model::{Locality, Mesh, Resolution};

/// The assignments of every EDS cluster.
pub(super) fn assignments<'a>(mesh: &'a Mesh, proxy: &'a Proxy) -> impl Iterator<Item = ClusterLoadAssignment> {
    targets(mesh, proxy)
        .filter(|target| target.service.resolution == Resolution::Endpoints)
        .map(|target| assignment(&target, proxy))
}

/// The endpoints of one cluster.
pub(super) fn assignment(target: &Target<'_>, proxy: &Proxy) -> ClusterLoadAssignment {
    let mut groups = group_by_locality(target);
    let policy = target.policy();
    let settings = policy.load_balancer.and_then(|lb| lb.locality_lb_setting.as_ref());
    match settings {
        Some(settings) if settings.enabled == Some(false) => {}
        Some(settings) if !settings.distribute.is_empty() => distribute(&mut groups, settings, &proxy.locality),
        // Without outlier detection Envoy would never leave the first priority.
        Some(settings) if policy.outlier_detection.is_some() && !settings.failover_priority.is_empty() => {
            groups = failover::by_labels(groups, &settings.failover_priority, proxy);
        }
        settings if policy.outlier_detection.is_some() => fail_over(&mut groups, settings, &proxy.locality),
        _ => {}
    }
    ClusterLoadAssignment {
        cluster_name: target.name(),
        endpoints: groups.into_iter().map(Group::into_wire).collect(),
        ..Default::default()
    }
}

/// The endpoints of one locality.
pub(super) struct Group {
    pub locality: Locality,
    pub priority: u32,
    pub weight: u32,
    pub endpoints: Vec<LbEndpoint>,
    /// The labels of each of them.
    pub labels: Vec<BTreeMap<String, String>>,
}

impl Group {
    fn into_wire(self) -> LocalityLbEndpoints {
        let locality =
            core::Locality { region: self.locality.region, zone: self.locality.zone, sub_zone: self.locality.sub_zone };
        LocalityLbEndpoints {
            // istiod names the locality always, an unknown one with empty parts.
            locality: Some(locality),
            lb_endpoints: self.endpoints,
            load_balancing_weight: u32_value(self.weight),
            priority: self.priority,
            ..Default::default()
        }
    }
}

/// Groups in order of their localities; the weight of a locality is the sum of its endpoints' weights.
fn group_by_locality(target: &Target<'_>) -> Vec<Group> {
    let mut groups: BTreeMap<&Locality, Group> = BTreeMap::new();
    for instance in &target.service.instances {
        let Some(port) = instance.ports.get(&target.port.number) else {
            continue;
        };
        if !target.selects(&instance.labels) {
            continue;
        }
        let group = groups.entry(&instance.locality).or_insert_with(|| Group {
            locality: instance.locality.clone(),
            priority: 0,
            weight: 0,
            endpoints: Vec::new(),
            labels: Vec::new(),
        });
        group.weight = group.weight.saturating_add(instance.weight);
        group.labels.push(instance.labels.clone());
        group.endpoints.push(LbEndpoint {
            health_status: core::HealthStatus::Healthy.into(),
            load_balancing_weight: u32_value(instance.weight),
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(address(&instance.address.to_string(), port.get())),
                ..Default::default()
            })),
            ..Default::default()
        });
    }
    groups.into_values().collect()
}

/// Gives localities the weights that the setting for the client's locality names; the others get no endpoint.
fn distribute(groups: &mut [Group], settings: &LocalityLb, client: &Locality) {
    let Some(setting) = settings.distribute.iter().find(|setting| client.matches(&setting.from)) else {
        return;
    };
    let mut unmatched: BTreeSet<usize> = (0..groups.len()).collect();
    // The most specific patterns choose first.
    let mut patterns: Vec<(&String, &u32)> = setting.to.iter().collect();
    patterns.sort_by_key(|(pattern, _)| (pattern.contains('*'), std::cmp::Reverse(pattern.len())));
    for (pattern, share) in patterns {
        let covered =
            |(index, group): &(usize, &mut Group)| unmatched.contains(index) && group.locality.matches(pattern);
        let mut matched: Vec<(usize, &mut Group)> = groups.iter_mut().enumerate().filter(covered).collect();
        let total: u64 = matched.iter().map(|(_, group)| u64::from(group.weight)).sum();
        for (index, group) in &mut matched {
            unmatched.remove(index);
            // A pattern that covers several localities splits its share in proportion to their sizes.
            let scaled = (u64::from(group.weight) * u64::from(*share)).div_ceil(total.max(1));
            match u32::try_from(scaled) {
                Ok(weight) if weight > 0 => group.weight = weight,
                _ => group.endpoints.clear(),
            }
        }
    }
    for (index, group) in groups.iter_mut().enumerate() {
        if unmatched.contains(&index) {
            group.endpoints.clear();
        }
    }
}

/// Orders localities by nearness to the client: same sub-zone, zone, region, then the rest (a failover region first).
fn fail_over(groups: &mut [Group], settings: Option<&LocalityLb>, client: &Locality) {
    let failover = settings.and_then(|settings| settings.failover.iter().find(|entry| entry.from == client.region));
    for group in groups.iter_mut() {
        let own = &group.locality;
        group.priority = if own.region != client.region {
            if failover.is_some_and(|entry| entry.to != own.region) { 4 } else { 3 }
        } else if own.zone != client.zone {
            2
        } else {
            u32::from(own.sub_zone != client.sub_zone)
        };
    }
    failover::without_gaps(groups);
}
