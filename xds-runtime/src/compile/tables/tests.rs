use serde_json::Value;

use super::*;

/// The vectors of `vectors.py`.
fn vectors() -> (Vec<u64>, Vec<Value>) {
    let all: Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    let keys = all["keys"].as_array().unwrap().iter().map(number).collect();
    (keys, all["cases"].as_array().unwrap().clone())
}

/// A number as text: JSON's own are too small.
fn number(text: &Value) -> u64 {
    text.as_str().map_or_else(|| text.as_u64().unwrap(), |text| text.parse().unwrap())
}

fn localities(hosts: &Value) -> Vec<Locality> {
    let endpoint = |host: &Value| Endpoint {
        address: host[0].as_str().unwrap().parse().unwrap(),
        weight: number(&host[1]) as u32,
        health: Health::Healthy,
        takes_mtls: false,
        slot: None,
    };
    let endpoints = hosts.as_array().unwrap().iter().map(endpoint).collect();
    vec![Locality { name: String::new(), weight: 1, slot: None, endpoints }]
}

/// Where keys lead, as a line of digits.
fn picks(table: &Table, keys: &[u64]) -> String {
    let pick = |key: &u64| match table {
        Table::None => panic!("no table"),
        Table::Ring(entries) => {
            let at = entries.partition_point(|(hash, _)| hash < key);
            entries[at % entries.len()].1
        }
        Table::Maglev(entries) => entries[(key % entries.len() as u64) as usize],
    };
    keys.iter().map(|key| pick(key).to_string()).collect()
}

#[test]
fn tables_are_those_of_an_independent_implementation() {
    let (keys, cases) = vectors();
    assert_eq!(cases.len(), 45);
    for case in &cases {
        let localities = localities(&case["hosts"]);
        let policy = match case["policy"].as_str().unwrap() {
            "ring" => LbPolicy::RingHash {
                minimum_ring_size: number(&case["minimum"]),
                maximum_ring_size: number(&case["maximum"]),
                murmur2: case["hash"] == "murmur2",
            },
            _ => LbPolicy::Maglev { table_size: number(&case["size"]) },
        };
        let table = table(&policy, &localities, false, false, &HashMap::new());
        assert_eq!(picks(&table, &keys), case["picks"].as_str().unwrap(), "{policy:?} {}", case["hosts"]);
        match table {
            Table::None => panic!("no table"),
            Table::Ring(entries) => {
                assert_eq!(entries.len() as u64, number(&case["size"]), "{policy:?}");
                let first: Vec<u64> = entries.iter().take(3).map(|(hash, _)| *hash).collect();
                assert_eq!(first, case["first"].as_array().unwrap().iter().map(number).collect::<Vec<_>>());
            }
            Table::Maglev(entries) => {
                for (index, count) in (0..).zip(case["counts"].as_array().unwrap()) {
                    let found = entries.iter().filter(|entry| **entry == index).count();
                    assert_eq!(found as u64, number(count), "{policy:?}");
                }
            }
        }
    }
}

fn healthy(addresses: &[&str]) -> Vec<Endpoint> {
    let endpoint = |address: &&str| Endpoint {
        address: address.parse().unwrap(),
        weight: 1,
        health: Health::Healthy,
        takes_mtls: false,
        slot: None,
    };
    addresses.iter().map(endpoint).collect()
}

const MAGLEV: LbPolicy = LbPolicy::Maglev { table_size: 65_537 };
const RING: LbPolicy = LbPolicy::RingHash { minimum_ring_size: 1024, maximum_ring_size: 1 << 20, murmur2: false };

fn locality(weight: u32, endpoints: Vec<Endpoint>) -> Locality {
    Locality { name: String::new(), weight, slot: None, endpoints }
}

/// The share of each endpoint in a Maglev table, in percent.
fn shares(table: &Table, count: u32) -> Vec<usize> {
    let Table::Maglev(entries) = table else { panic!("no Maglev table") };
    (0..count).map(|index| (entries.iter().filter(|e| **e == index).count() * 100 + 32_768) / entries.len()).collect()
}

#[test]
fn a_locality_s_weight_is_shared_by_its_endpoints() {
    let localities =
        [locality(3, healthy(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"])), locality(1, healthy(&["10.0.0.4:80"]))];
    let weighted = table(&MAGLEV, &localities, true, false, &HashMap::new());
    assert_eq!(shares(&weighted, 4), [25, 25, 25, 25]);
    let even = [locality(1, localities[0].endpoints.clone()), locality(1, localities[1].endpoints.clone())];
    assert_eq!(shares(&table(&MAGLEV, &even, true, false, &HashMap::new()), 4), [17, 17, 17, 50]);
    assert_eq!(shares(&table(&MAGLEV, &even, false, false, &HashMap::new()), 4), [25, 25, 25, 25]);
}

#[test]
fn only_healthy_endpoints_are_in_a_table_and_in_panic_all() {
    let mut endpoints = healthy(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"]);
    endpoints[0].health = Health::Unhealthy;
    endpoints[1].health = Health::Draining;
    let of = |endpoints: &[Endpoint], panics| {
        table(&MAGLEV, &[locality(1, endpoints.to_vec())], false, panics, &HashMap::new())
    };
    assert_eq!(shares(&of(&endpoints, false), 4), [0, 0, 50, 50]);
    assert_eq!(shares(&of(&endpoints, true), 4), [33, 0, 33, 33]);
    endpoints.iter_mut().skip(1).for_each(|endpoint| endpoint.health = Health::Draining);
    assert_eq!(of(&endpoints, false), Table::None);
    assert_eq!(shares(&of(&endpoints, true), 4), [100, 0, 0, 0]);
    endpoints[0].health = Health::Draining;
    assert_eq!(of(&endpoints, true), Table::None);
}

/// A priority of so many healthy, degraded and unhealthy endpoints.
fn priority(counts: [usize; 3]) -> Priority {
    let of = |(count, health): (usize, Health)| vec![Endpoint { health, ..healthy(&["10.0.0.1:80"])[0] }; count];
    let endpoints = counts.into_iter().zip([Health::Healthy, Health::Degraded, Health::Unhealthy]).flat_map(of);
    Priority { localities: vec![locality(1, endpoints.collect())], ..Priority::default() }
}

#[test]
fn panic_is_a_matter_of_all_priorities_and_of_degraded_endpoints_too() {
    let of = |counts: &[[usize; 3]], factor, threshold| {
        in_panic(&counts.iter().map(|counts| priority(*counts)).collect::<Vec<_>>(), factor, threshold)
    };
    assert_eq!(of(&[[1, 0, 3]], 140, 50.0), [true]);
    assert_eq!(of(&[[1, 0, 3], [4, 0, 0]], 140, 50.0), [false, false], "the second has room for all");
    assert_eq!(of(&[[1, 0, 3], [3, 0, 2]], 140, 50.0), [false, false], "35 and 84 percent");
    assert_eq!(of(&[[1, 0, 9], [3, 0, 2]], 140, 50.0), [true, false], "14 and 84 percent");
    assert_eq!(of(&[[1, 1, 2]], 140, 50.0), [false], "half is good");
    assert_eq!(of(&[[1, 0, 3]], 400, 50.0), [false], "what is left is enough for all");
    assert_eq!(of(&[[0, 0, 4], [0, 0, 0]], 140, 0.0), [false, false]);
    assert_eq!(of(&[[0, 0, 4], [0, 0, 0]], 140, 50.0), [true, true]);
}

#[test]
fn a_locality_without_healthy_endpoints_keeps_its_weight() {
    let mut ill = healthy(&["10.0.0.2:80"]);
    ill[0].health = Health::Unhealthy;
    let entries = |localities: &[Locality]| {
        let table = table(&RING, localities, true, false, &HashMap::new());
        let Table::Ring(entries) = table else { panic!("no ring") };
        entries.len()
    };
    // Its share of the whole is a quarter: so is its share of the ring's minimum.
    assert_eq!(entries(&[locality(1, healthy(&["10.0.0.1:80"])), locality(3, ill)]), 256);
    assert_eq!(entries(&[locality(1, healthy(&["10.0.0.1:80"])), locality(3, vec![])]), 1024);
}

#[test]
fn keys_of_a_lost_endpoint_move_and_few_others() {
    let (keys, _) = vectors();
    let all = healthy(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80"]);
    for (policy, limit) in [(RING, 0), (MAGLEV, 10)] {
        let picks = |endpoints: &[Endpoint]| {
            let text = picks(&table(&policy, &[locality(1, endpoints.to_vec())], false, false, &HashMap::new()), &keys);
            text.bytes().map(|digit| endpoints[usize::from(digit - b'0')].address).collect::<Vec<_>>()
        };
        let (before, after) = (picks(&all), picks(&all[1..]));
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != all[0].address && b != a).count();
        // A ring that lost a host has more entries of each other: those take some keys from one another, too.
        let grown = if policy == RING { keys.len() / 5 } else { 0 };
        assert!(moved <= limit + grown, "{policy:?}: {moved} of {} moved", keys.len());
    }
}

#[test]
fn a_key_from_the_metadata_stands_for_the_address() {
    let (keys, _) = vectors();
    let all = healthy(&["10.0.0.1:80", "10.0.0.2:80"]);
    let moved = healthy(&["10.9.0.1:80", "10.9.0.2:80"]);
    let of = |endpoints: &[Endpoint]| {
        let names = ["db-0", "db-1"];
        let known = endpoints.iter().zip(names).map(|(endpoint, name)| (endpoint.address, name)).collect();
        picks(&table(&RING, &[locality(1, endpoints.to_vec())], false, false, &known), &keys)
    };
    assert_eq!(of(&all), of(&moved), "the keys follow the names");
}
