//! Consistent hashing: tables of an independent implementation, the share of each endpoint, and what moves.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use xds_runtime::image::Table;
use xds_runtime::resource::*;

use crate::rig::*;

/// The share of all keys that a rig's table gives each endpoint, by port.
pub fn shares(rig: &Rig) -> Vec<(u16, f64)> {
    let priority = &rig.mesh.clusters[0].priorities.as_ref().unwrap()[0];
    let ports: Vec<u16> =
        priority.localities.iter().flat_map(|l| &l.endpoints).map(|endpoint| endpoint.address.port()).collect();
    let mut shares: BTreeMap<u16, f64> = BTreeMap::new();
    let mut add = |index: u32, share: f64| *shares.entry(ports[index as usize]).or_default() += share;
    match &priority.table {
        Table::None => panic!("no table"),
        Table::Maglev(entries) => entries.iter().for_each(|index| add(*index, 1.0 / entries.len() as f64)),
        Table::Ring(entries) => {
            // A key leads to the next entry, past the last one to the first.
            let mut before = entries.last().unwrap().0;
            for (hash, index) in entries {
                add(*index, hash.wrapping_sub(before) as f64 / 2_f64.powi(64));
                before = *hash;
            }
        }
    }
    shares.into_iter().collect()
}

fn at(address: &str, weight: u32) -> Endpoint {
    let address = EndpointAddress::Socket(address.parse().unwrap());
    Endpoint { address, weight, ..host(1) }
}

/// `compile/tables/vectors.py` wrote them: the endpoints of 500 sources' keys.
#[test]
fn picks_are_those_of_an_independent_implementation() {
    let all: Value = serde_json::from_str(include_str!("../../src/compile/tables/vectors.json")).unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let cases = all["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 45);
    for case in cases {
        let hosts: Vec<(&str, u32)> = case["hosts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|host| (host[0].as_str().unwrap(), number(&host[1]) as u32))
            .collect();
        let policy = match case["policy"].as_str().unwrap() {
            "ring" => LbPolicy::RingHash {
                minimum_ring_size: number(&case["minimum"]),
                maximum_ring_size: number(&case["maximum"]),
                murmur2: case["hash"] == "murmur2",
            },
            _ => LbPolicy::Maglev { table_size: number(&case["size"]) },
        };
        let endpoints = hosts.iter().map(|(address, weight)| at(address, *weight)).collect();
        let mut rig = Rig::new(vec![flat(policy.clone(), endpoints)]);
        for (n, digit) in (0_u16..).zip(case["picks"].as_str().unwrap().chars()) {
            let source = IpAddr::from([10, 1, (n / 250) as u8, (n % 250) as u8]);
            let expected: SocketAddr = hosts[digit.to_digit(10).unwrap() as usize].0.parse().unwrap();
            assert_eq!(rig.address_from(Some(source)), Some(expected), "{policy:?} {hosts:?} from {source}");
        }
    }
}

/// The endpoints of many keys.
fn led_to(policy: &LbPolicy, ports: &[u16]) -> Vec<u16> {
    let endpoints = ports.iter().map(|port| host(*port)).collect();
    let mut rig = Rig::new(vec![flat(policy.clone(), endpoints)]);
    (0..20_000_u32).map(|n| rig.pick_from(Some((0x0a00_0000 + n).to_be_bytes().into())).unwrap()).collect()
}

/// The share of the keys of endpoints that stayed which moved all the same, when the third of ten endpoints went.
fn moved(policy: &LbPolicy) -> f64 {
    let all: Vec<u16> = (1..=10).collect();
    let rest: Vec<u16> = all.iter().copied().filter(|port| *port != 3).collect();
    let (before, after) = (led_to(policy, &all), led_to(policy, &rest));
    let stayed = || before.iter().zip(&after).filter(|(was, _)| **was != 3);
    assert!(after.iter().all(|port| *port != 3));
    stayed().filter(|(was, is)| was != is).count() as f64 / stayed().count() as f64
}

/// A ring has a whole number of entries for each endpoint, and at least its minimum in all: with one endpoint less the
/// others may have more of them, which take keys from each other.
#[test]
fn with_as_many_entries_for_each_no_key_moves_but_those_of_the_endpoint_that_goes() {
    let ring = |minimum_ring_size| LbPolicy::RingHash { minimum_ring_size, maximum_ring_size: 1 << 23, murmur2: false };
    // 2 entries each, for ten endpoints and for nine.
    let (same, default) = (moved(&ring(18)), moved(&ring(1024)));
    let maglev = moved(&LbPolicy::Maglev { table_size: 65_537 });
    println!("keys of nine endpoints that move when a tenth goes:");
    println!("ring of 2 entries each {same:.4}, of 103 and then 114 each {default:.4}, Maglev {maglev:.4}");
    assert_eq!(same, 0.0);
    // 11 of 114 entries are new.
    assert!(default < 11.0 / 114.0 + 0.03, "{default}");
    assert!(maglev < 0.03, "{maglev}");
}
