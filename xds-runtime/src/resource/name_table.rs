//! NDS: Istio's name table.
//!
//! The two messages are declared by hand: they have seven fields that have not changed since they exist, and a
//! build script with a proto compiler would be there for nothing else.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::invalid::{Invalid, Under};
use super::model::{NameInfo, NameTable};

/// `istio.networking.nds.v1.NameTable`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireTable {
    #[prost(map = "string, message", tag = "1")]
    pub table: HashMap<String, WireInfo>,
}

/// `istio.networking.nds.v1.NameTable.NameInfo`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireInfo {
    #[prost(string, repeated, tag = "1")]
    pub ips: Vec<String>,
    #[prost(string, tag = "2")]
    pub registry: String,
    #[prost(string, tag = "3")]
    pub shortname: String,
    #[prost(string, tag = "4")]
    pub namespace: String,
    #[prost(string, repeated, tag = "5")]
    pub alt_hosts: Vec<String>,
}

pub(super) fn convert(wire: WireTable) -> Result<NameTable, Invalid> {
    let mut names = BTreeMap::new();
    for (host, info) in wire.table {
        let info = name_info(info).under(&format!("table[{host:?}]"))?;
        names.insert(canonical(&host), info);
    }
    Ok(NameTable { names })
}

fn name_info(wire: WireInfo) -> Result<NameInfo, Invalid> {
    let mut addresses = Vec::with_capacity(wire.ips.len());
    for (i, ip) in wire.ips.iter().enumerate() {
        let ip: IpAddr =
            ip.parse().map_err(|_| Invalid::new(format!("ips[{i}]"), format!("{ip:?} is no IP address")))?;
        addresses.push(ip.to_canonical());
    }
    Ok(NameInfo {
        addresses,
        registry: wire.registry,
        shortname: wire.shortname,
        namespace: wire.namespace,
        alt_hosts: wire.alt_hosts.iter().map(|h| canonical(h)).collect(),
    })
}

/// Lower case, without a final dot.
fn canonical(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}
