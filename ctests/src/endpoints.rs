//! What `ldmesh status` tells of the endpoints of a cluster.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::Pod;
use crate::wait::must;

/// An endpoint as the pod sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshEndpoint {
    /// Its address.
    pub address: Ipv4Addr,
    /// Ejected by outlier detection.
    pub ejected: bool,
    /// Connections that failed.
    pub connect_failures: u64,
    /// Connections that count as open.
    pub active: u64,
}

impl Pod {
    /// The endpoints of a cluster, by address; none while no leader has it.
    #[track_caller]
    pub fn mesh_endpoints(&self, cluster: &str) -> Vec<MeshEndpoint> {
        must(endpoints(&self.status(), cluster))
    }

    /// The addresses of a cluster's endpoints that are ejected now.
    #[track_caller]
    pub fn mesh_ejected(&self, cluster: &str) -> Vec<Ipv4Addr> {
        self.mesh_endpoints(cluster).into_iter().filter(|one| one.ejected).map(|one| one.address).collect()
    }
}

fn endpoints(status: &Value, cluster: &str) -> Result<Vec<MeshEndpoint>> {
    let clusters = status["clusters"].as_array().context("no clusters")?;
    let found = clusters.iter().find(|one| one["name"] == cluster);
    let mut endpoints = Vec::new();
    for endpoint in found.and_then(|found| found["endpoints"].as_array()).into_iter().flatten() {
        let number = |key: &str| endpoint[key].as_u64().with_context(|| format!("no {key}"));
        let address: SocketAddrV4 = endpoint["address"].as_str().context("no address")?.parse()?;
        endpoints.push(MeshEndpoint {
            address: *address.ip(),
            ejected: !endpoint["ejected_for"].is_null(),
            connect_failures: number("failures")?,
            active: number("active")?,
        });
    }
    endpoints.sort_by_key(|endpoint| endpoint.address);
    Ok(endpoints)
}
