//! Ring hash and Maglev tables, as Envoy builds them.
//!
//! A host's share is its weight; where localities are weighted, its weight within its locality times the locality's
//! weight. The hosts of a table are those that the control plane calls healthy, or in panic all that do not drain; who is ejected is looked at when a connection is made. Keys of a host are its address and port,
//! unless the endpoint's metadata names another key.

use std::collections::HashMap;
use std::net::SocketAddr;

use xxhash_rust::xxh64::xxh64;

use crate::image::{Endpoint, Locality, Priority, Table};
use crate::resource::{Health, LbPolicy};

/// Seed of Envoy's MurmurHash2.
const MURMUR_SEED: u64 = 0xc70f_6907;

/// A host of a table: its place in the priority, its key, its share of the whole (all add up to 1 at most).
struct Host {
    index: u32,
    key: String,
    share: f64,
}

/// Which priorities of a cluster are in panic, as the control plane describes them: `lb::priority` has the arithmetic.
pub(super) fn in_panic(priorities: &[Priority], overprovisioning: u32, threshold: f64) -> Vec<bool> {
    let counts = priorities.iter().map(|priority| {
        let all = || priority.localities.iter().flat_map(|locality| &locality.endpoints);
        let count = |health| all().filter(|endpoint| endpoint.health == health).count() as u64;
        [count(Health::Healthy), count(Health::Degraded), count(Health::Unhealthy)]
    });
    let counts: Vec<[u64; 3]> = counts.collect();
    let available = |[healthy, degraded, unhealthy]: &[u64; 3]| {
        let total = healthy + degraded + unhealthy;
        let percent = |count: u64| (count * u64::from(overprovisioning)).checked_div(total).unwrap_or(0).min(100);
        percent(*healthy) + percent(*degraded)
    };
    let enough = counts.iter().map(available).sum::<u64>() >= 100;
    let panics = |[healthy, degraded, unhealthy]: &[u64; 3]| {
        let (good, total) = (healthy + degraded, healthy + degraded + unhealthy);
        !enough && good as f64 * 100.0 / (total.max(1) as f64) < threshold
    };
    counts.iter().map(panics).collect()
}

/// The table of one priority; [`Table::None`] for a policy that does not hash, and without hosts.
pub(super) fn table(
    policy: &LbPolicy,
    localities: &[Locality],
    weighted: bool,
    panics: bool,
    keys: &HashMap<SocketAddr, &str>,
) -> Table {
    match policy {
        LbPolicy::RingHash { minimum_ring_size, maximum_ring_size, murmur2 } => {
            let hash = if *murmur2 { |key: &[u8]| murmur64a(key, MURMUR_SEED) } else { |key: &[u8]| xxh64(key, 0) };
            ring(&hosts(localities, weighted, panics, keys), *minimum_ring_size, *maximum_ring_size, hash)
        }
        LbPolicy::Maglev { table_size } => maglev(&hosts(localities, weighted, panics, keys), *table_size),
        _ => Table::None,
    }
}

fn hosts(localities: &[Locality], weighted: bool, panics: bool, keys: &HashMap<SocketAddr, &str>) -> Vec<Host> {
    let takes =
        |endpoint: &Endpoint| endpoint.health == Health::Healthy || panics && endpoint.health != Health::Draining;
    let sum_of = |locality: &Locality| -> f64 {
        locality.endpoints.iter().filter(|endpoint| takes(endpoint)).map(|endpoint| f64::from(endpoint.weight)).sum()
    };
    let weight_of = |locality: &Locality| if weighted { f64::from(locality.weight) } else { sum_of(locality) };
    // A locality without healthy hosts counts (Envoy): the shares of the others are not all there is.
    let whole: f64 = localities.iter().filter(|locality| !locality.endpoints.is_empty()).map(weight_of).sum();
    let mut hosts = Vec::new();
    let mut index = 0;
    for locality in localities {
        let (own, sum) = (weight_of(locality) / whole, sum_of(locality));
        for endpoint in &locality.endpoints {
            let share = own * f64::from(endpoint.weight) / sum;
            if takes(endpoint) && share > 0.0 {
                let key = keys.get(&endpoint.address).map_or_else(|| endpoint.address.to_string(), |key| (*key).into());
                hosts.push(Host { index, key, share });
            }
            index += 1;
        }
    }
    hosts
}

/// Each host is on the ring as often as it weighs, the lightest in proportion to the minimum size.
fn ring(hosts: &[Host], minimum: u64, maximum: u64, hash: impl Fn(&[u8]) -> u64) -> Table {
    let lightest = hosts.iter().map(|host| host.share).fold(f64::INFINITY, f64::min);
    if !lightest.is_finite() {
        return Table::None;
    }
    let scale = ((lightest * minimum as f64).ceil() / lightest).min(maximum as f64);
    let mut entries = Vec::with_capacity(scale.ceil() as usize);
    let (mut target, mut placed) = (0.0, 0.0);
    for host in hosts {
        target += scale * host.share;
        let mut nth = 0_u64;
        while placed < target {
            entries.push((hash(format!("{}_{nth}", host.key).as_bytes()), host.index));
            nth += 1;
            placed += 1.0;
        }
    }
    entries.sort_unstable();
    Table::Ring(entries)
}

/// Hosts take places in turn, heavier ones more often, each in the order of its own permutation of the table.
fn maglev(hosts: &[Host], size: u64) -> Table {
    struct Turn {
        index: u32,
        offset: u64,
        skip: u64,
        share: f64,
        target: f64,
        next: u64,
    }
    const EMPTY: u32 = u32::MAX;
    let heaviest = hosts.iter().map(|host| host.share).fold(0.0, f64::max);
    if heaviest == 0.0 {
        return Table::None;
    }
    let turn = |host: &Host| {
        let key = host.key.as_bytes();
        let (offset, skip) = (xxh64(key, 0) % size, xxh64(key, 1) % size.saturating_sub(1).max(1) + 1);
        Turn { index: host.index, offset, skip, share: host.share, target: 0.0, next: 0 }
    };
    // In the order of their keys, as Envoy has it: who comes first takes what others would have taken.
    let mut hosts: Vec<&Host> = hosts.iter().collect();
    hosts.sort_by(|a, b| a.key.cmp(&b.key));
    let mut turns: Vec<Turn> = hosts.into_iter().map(turn).collect();
    let mut table = vec![EMPTY; size as usize];
    let mut left = table.len();
    let mut round = 1.0;
    while left > 0 {
        for turn in &mut turns {
            if round * turn.share < turn.target {
                continue;
            }
            turn.target += heaviest;
            // Its skip and the table's size have no common divisor: it comes by every place.
            let place = loop {
                let at = (turn.offset + turn.skip * turn.next) % size;
                turn.next += 1;
                match table.get_mut(at as usize) {
                    Some(place) if *place == EMPTY => break place,
                    _ => {}
                }
            };
            *place = turn.index;
            left -= 1;
            if left == 0 {
                break;
            }
        }
        round += 1.0;
    }
    Table::Maglev(table)
}

/// MurmurHash64A of Austin Appleby, with whole words read as little-endian.
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const SHIFT: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> SHIFT;
        hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0_u8; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> SHIFT;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> SHIFT)
}

#[cfg(test)]
mod tests;
