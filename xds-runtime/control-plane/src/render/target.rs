//! Names of clusters, and which clusters a service has.

use std::num::NonZeroU16;

use super::Proxy;
use crate::model::{Mesh, Policy, Port, Rule, Service};

/// The cluster that goes where the program dialled.
pub(super) const PASSTHROUGH: &str = "PassthroughCluster";
/// The cluster that goes nowhere.
pub(super) const BLACK_HOLE: &str = "BlackHoleCluster";
/// The cluster of connections into the workload.
pub(super) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// Istio's name of an outbound cluster.
pub(super) fn cluster_name(port: NonZeroU16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// One cluster of a service.
pub(super) struct Target<'a> {
    pub service: &'a Service,
    pub port: &'a Port,
    /// Empty for the whole service.
    pub subset: &'a str,
    rule: Option<&'a Rule>,
}

impl<'a> Target<'a> {
    pub fn name(&self) -> String {
        cluster_name(self.port.number, self.subset, &self.service.host)
    }

    /// The policy of the service's DestinationRule for this cluster.
    pub fn policy(&self) -> Policy<'a> {
        let subset = (!self.subset.is_empty()).then_some(self.subset);
        self.rule.map_or_else(Policy::default, |rule| rule.policy(subset, self.port.number))
    }

    /// Whether an endpoint with these labels belongs to the subset.
    pub fn selects(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        let subset = self.rule.and_then(|rule| rule.spec.subsets.iter().find(|subset| subset.name == self.subset));
        subset.is_none_or(|subset| subset.labels.iter().all(|(key, value)| labels.get(key) == Some(value)))
    }
}

/// Every cluster of every service, as a client in the proxy's namespace sees them.
pub(super) fn targets<'a>(mesh: &'a Mesh, proxy: &Proxy) -> impl Iterator<Item = Target<'a>> {
    mesh.services.values().flat_map(move |service| {
        let rule = mesh.rule(service, &proxy.namespace);
        service.ports.iter().flat_map(move |port| {
            let subsets = rule.into_iter().flat_map(|rule| rule.spec.subsets.iter().map(|subset| subset.name.as_str()));
            std::iter::once("").chain(subsets).map(move |subset| Target { service, port, subset, rule })
        })
    })
}

/// The policy of one port of a service.
pub(super) fn policy<'a>(mesh: &'a Mesh, proxy: &Proxy, service: &'a Service, port: &Port) -> Policy<'a> {
    mesh.rule(service, &proxy.namespace).map_or_else(Policy::default, |rule| rule.policy(None, port.number))
}
