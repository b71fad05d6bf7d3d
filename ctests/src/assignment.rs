//! Endpoints as a control plane may describe them and Kubernetes cannot: EDS with health, priorities and weights.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use envoy_types::pb::envoy::config::core::v3::{
    Address, HealthStatus, Locality, SocketAddress, address, socket_address,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::google::protobuf::UInt32Value;
use prost::Message;

use crate::Manifest;

/// An endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// Where it is, port 8080.
    pub address: Ipv4Addr,
    /// Its weight.
    pub weight: u32,
    /// What the control plane says of it.
    pub health: HealthStatus,
    /// The priority that it is in.
    pub priority: u32,
    /// The zone that it is in.
    pub zone: &'static str,
}

/// A `ClusterLoadAssignment`.
#[derive(Debug, Clone)]
pub struct Assignment {
    cluster: String,
    members: Vec<Member>,
    zones: BTreeMap<&'static str, u32>,
}

impl Assignment {
    /// The endpoints of a cluster; zones weigh as their members do.
    pub fn new(cluster: &str, members: &[Member]) -> Self {
        Self { cluster: cluster.to_owned(), members: members.to_vec(), zones: BTreeMap::new() }
    }

    /// Weights of zones.
    pub fn zones(mut self, weights: &[(&'static str, u32)]) -> Self {
        self.zones.extend(weights.iter().copied());
        self
    }

    fn message(&self) -> ClusterLoadAssignment {
        let mut groups: BTreeMap<(u32, &str), Vec<&Member>> = BTreeMap::new();
        for member in &self.members {
            groups.entry((member.priority, member.zone)).or_default().push(member);
        }
        let locality = |((priority, zone), members): ((u32, &str), Vec<&Member>)| LocalityLbEndpoints {
            locality: Some(Locality { region: "region".to_owned(), zone: zone.to_owned(), sub_zone: String::new() }),
            priority,
            load_balancing_weight: weight(
                self.zones.get(zone).copied().unwrap_or_else(|| members.iter().map(|member| member.weight).sum()),
            ),
            lb_endpoints: members.into_iter().map(endpoint).collect(),
            ..Default::default()
        };
        ClusterLoadAssignment {
            cluster_name: self.cluster.clone(),
            endpoints: groups.into_iter().map(locality).collect(),
            ..Default::default()
        }
    }
}

fn weight(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn endpoint(member: &Member) -> LbEndpoint {
    let socket = SocketAddress {
        address: member.address.to_string(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(8080)),
        ..Default::default()
    };
    let address = Some(Address { address: Some(address::Address::SocketAddress(socket)) });
    LbEndpoint {
        health_status: member.health.into(),
        load_balancing_weight: weight(member.weight),
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint { address, ..Default::default() })),
        ..Default::default()
    }
}

impl Manifest {
    /// With these endpoints for a cluster. They take the place of those that its service would give.
    pub fn and_assignment(self, assignment: &Assignment) -> Self {
        let bytes = assignment.message().encode_to_vec();
        self.and_resource("envoy.config.endpoint.v3.ClusterLoadAssignment", &assignment.cluster, &bytes)
    }
}
