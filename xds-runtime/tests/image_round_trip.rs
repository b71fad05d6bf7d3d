//! What is encoded is what a view says, and what is corrupt harms nobody.
#![allow(clippy::unwrap_used)] // a test: what fails here is to be seen

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use xds_runtime::image::*;
use xds_runtime::lb::{Call, Seeded, choose};
use xds_runtime::outlier::Settings;
use xds_runtime::resource::{Cidr, Health};
use xds_runtime::shm::{WordAddr, Words};

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        3 => any::<[u8; 4]>().prop_map(IpAddr::from),
        1 => any::<[u8; 16]>().prop_map(IpAddr::from),
        1 => Just(IpAddr::from([0; 4])),
    ]
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![Just(Health::Healthy), Just(Health::Degraded), Just(Health::Unhealthy), Just(Health::Draining)]
}

fn slot() -> impl Strategy<Value = Option<u32>> {
    proptest::option::of(0_u32..1000)
}

fn priority() -> impl Strategy<Value = Priority> {
    let endpoint = (address(), any::<u16>(), 1_u32.., health(), any::<bool>(), slot()).prop_map(
        |(ip, port, weight, health, takes_mtls, slot)| Endpoint {
            address: (ip, port).into(),
            weight,
            health,
            takes_mtls,
            slot,
        },
    );
    let locality = ("[a-z/]{0,20}", any::<u32>(), slot(), proptest::collection::vec(endpoint, 0..5))
        .prop_map(|(name, weight, slot, endpoints)| Locality { name, weight, slot, endpoints });
    let localities = proptest::collection::vec(locality, 0..3);
    (slot(), localities).prop_map(|(slot, localities)| Priority { slot, localities, table: Table::None })
}

/// A table for policies that hash; entries need not name endpoints that are there.
fn with_tables(mut cluster: Cluster, entries: &[(u64, u32)]) -> Cluster {
    for priority in cluster.priorities.iter_mut().flatten().filter(|_| !entries.is_empty()) {
        priority.table = match cluster.policy {
            Policy::RingHash => Table::Ring(entries.to_vec()),
            Policy::Maglev => Table::Maglev(entries.iter().map(|(_, endpoint)| *endpoint).collect()),
            _ => Table::None,
        };
    }
    cluster
}

fn balancing() -> impl Strategy<Value = Balancing> {
    let slow_start = (1_u32.., 1_u32.., 0_u32..=10_000).prop_map(|(window_ms, aggression_thousandths, min_weight)| {
        SlowStart { window_ms, aggression_thousandths, min_weight }
    });
    let zone_aware = (any::<u32>(), slot(), 0_u32..=100, any::<u32>(), any::<bool>(), slot()).prop_map(
        |(local, own, routing_enabled, min_cluster_size, by_weight, force_local)| ZoneAware {
            local,
            own,
            routing_enabled,
            min_cluster_size,
            by_weight,
            force_local,
        },
    );
    let (slow_start, zone_aware) = (proptest::option::of(slow_start), proptest::option::of(zone_aware));
    let factor = proptest::option::of(100_u32..);
    (slow_start, zone_aware, any::<bool>(), factor, any::<bool>(), slot()).prop_map(
        |(slow_start, zone_aware, full_scan, hash_balance_factor, fail_on_panic, otherwise)| Balancing {
            slow_start,
            zone_aware,
            full_scan,
            hash_balance_factor,
            fail_on_panic,
            otherwise,
        },
    )
}

fn outlier() -> impl Strategy<Value = Option<Settings>> {
    proptest::option::of(proptest::array::uniform9(any::<u64>()).prop_map(Settings::of))
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let policy = prop_oneof![
        Just(Policy::RoundRobin),
        Just(Policy::Random),
        Just(Policy::RingHash),
        Just(Policy::Maglev),
        proptest::collection::vec(any::<u32>(), 0..4).prop_map(Policy::Aggregate),
        (2_u32..9, 0_u32..4000).prop_map(|(choice_count, bias)| Policy::LeastRequest {
            choice_count,
            active_request_bias: f64::from(bias) / 1000.0
        }),
        "[A-Z_]{0,12}".prop_map(|name| Policy::Pass(PassReason::Unsupported, name)),
    ];
    (
        ("[ -~]{0,40}", policy, proptest::option::of(proptest::collection::vec(priority(), 0..3)), slot(), balancing()),
        (0_u64..100_000, slot(), 0_u32..=100, 100_u32..300, any::<bool>(), outlier()),
    )
        .prop_map(
            |(
                (name, policy, priorities, slot, balancing),
                (timeout, max_connections, panic, factor, locality_weighted, outlier),
            )| {
                Cluster {
                    name,
                    owner: None,
                    policy,
                    balancing,
                    priorities,
                    slot,
                    connect_timeout: Duration::from_millis(timeout),
                    max_connections,
                    keepalive: max_connections.map(|n| Keepalive {
                        probes: u8::try_from(n % 128).ok().filter(|n| *n > 0),
                        idle: Some(32_767),
                        interval: u16::try_from(n).ok().filter(|n| *n > 0),
                    }),
                    panic_threshold: f64::from(panic),
                    overprovisioning_factor: factor,
                    locality_weighted,
                    outlier,
                }
            },
        )
}

fn mesh() -> impl Strategy<Value = Mesh> {
    let name = ("[a-z0-9.-]{0,40}", proptest::collection::vec(address(), 0..4), any::<bool>())
        .prop_map(|(name, addresses, headless)| Name { name, addresses, headless });
    let action = || {
        prop_oneof![
            (proptest::collection::vec((any::<Index>(), 0_u32..100), 1..4), any::<bool>()).prop_map(Ok),
            Just(Err(Action::Refuse)),
            Just(Err(Action::Pass(PassReason::NeedsBytes))),
            proptest::collection::btree_map("(\\.?[a-c](\\.[a-c]){0,2})?", 0_u32..3, 1..6).prop_map(|names| {
                let action = |to| match to {
                    0 => Action::Refuse,
                    share => Action::Clusters { shares: vec![(0, share)], hash: HashOn::SourceIp },
                };
                let name = |(pattern, to)| ServerName { pattern, action: action(to) };
                Err(Action::ServerNames(names.into_iter().map(name).collect()))
            }),
        ]
    };
    let entries = proptest::collection::vec((any::<u64>(), 0_u32..8), 0..9);
    let clusters = (cluster(), entries).prop_map(|(cluster, entries)| with_tables(cluster, &entries));
    let destination = (address(), any::<u16>(), action(), any::<Index>(), "[ -~]{0,20}");
    let prefix = (address(), any::<u8>(), any::<u16>(), action());
    (
        proptest::collection::vec(name, 0..12),
        proptest::collection::vec(clusters, 1..6),
        proptest::collection::vec(destination, 0..12),
        proptest::collection::vec(prefix, 0..4),
        (any::<bool>(), any::<u64>()),
    )
        .prop_map(|(mut names, clusters, destinations, prefixes, (refuse, seed))| {
            let mut seen = BTreeSet::new();
            names.retain(|name| seen.insert(name.name.clone()));
            let action = |found: Result<(Vec<(Index, u32)>, bool), Action>| match found {
                Ok((all, hashes)) => {
                    let index = |at: Index| at.index(clusters.len()) as u32;
                    let mut all: Vec<_> = all.into_iter().map(|(at, weight)| (index(at), weight)).collect();
                    all[0].1 += 1;
                    let hash = if hashes { HashOn::SourceIp } else { HashOn::Nothing };
                    Action::Clusters { shares: all, hash }
                }
                Err(action) => action,
            };
            let mut taken = BTreeSet::new();
            let destinations = destinations
                .into_iter()
                .filter(|(address, port, ..)| {
                    let wildcard = address.is_unspecified() || *address == IpAddr::from([0; 16]);
                    taken.insert((if wildcard { IpAddr::from([0; 4]) } else { WordAddr::new(*address).ip() }, *port))
                })
                .map(|(address, port, found, name, rules_left_out)| {
                    let name = (!names.is_empty()).then(|| name.index(names.len()) as u32);
                    Destination { address, port, action: action(found), name, rules_left_out }
                })
                .collect();
            let prefixes = prefixes
                .into_iter()
                .map(|(address, length, port, found)| {
                    let length = length % if address.is_ipv4() { 33 } else { 129 };
                    PrefixDestination { prefix: Cidr { address, length }, port, action: action(found) }
                })
                .collect();
            let default_action = if refuse { DefaultAction::Refuse } else { DefaultAction::Pass };
            Mesh { names, destinations, prefixes, clusters: clusters.clone(), default_action, own: Vec::new(), seed }
        })
}

fn arena(words: &[u64]) -> Vec<AtomicU64> {
    words.iter().map(|word| AtomicU64::new(*word)).collect()
}

fn read_action(view: &View<'_>, action: ActionView) -> Result<Action, Torn> {
    Ok(match action {
        ActionView::Clusters { count, first, hash } => {
            let shares = (0..count).map(|nth| view.weighted(first, nth)).collect::<Result<_, _>>()?;
            Action::Clusters { shares, hash }
        }
        ActionView::Pass(reason) => Action::Pass(reason),
        ActionView::Refuse => Action::Refuse,
        ActionView::ServerNames(names) => {
            let read = |nth| -> Result<ServerName, Torn> {
                let (pattern, action) = view.server_name_at(&names, nth)?;
                Ok(ServerName { pattern: view.string(pattern)?, action: read_action(view, action)? })
            };
            let mut names: Vec<_> = (0..view.server_name_count(&names)).map(read).collect::<Result<_, _>>()?;
            names.sort_by(|one, other| one.pattern.cmp(&other.pattern));
            Action::ServerNames(names)
        }
    })
}

/// A cluster, read back in full.
fn read_cluster(view: &View<'_>, index: u32) -> Result<Cluster, Torn> {
    let cluster = view.cluster(index)?;
    let mut priorities = Vec::new();
    for nth in 0..cluster.priority_count() {
        let priority = view.priority(&cluster, nth)?;
        let mut localities = Vec::new();
        let mut all = Vec::new();
        for nth in 0..priority.locality_count() {
            let locality = view.locality(&priority, nth)?;
            let endpoints: Vec<_> =
                (0..locality.set.len()).map(|nth| view.endpoint(&locality.set, nth)).collect::<Result<_, _>>()?;
            all.extend(endpoints.clone());
            let endpoint = |e: EndpointView| Endpoint {
                address: e.address.socket(e.port),
                weight: e.weight,
                health: e.health,
                takes_mtls: e.takes_mtls,
                slot: e.slot,
            };
            localities.push(Locality {
                name: view.string(locality.name)?,
                weight: locality.weight,
                slot: locality.set.slot,
                endpoints: endpoints.into_iter().map(endpoint).collect(),
            });
        }
        let whole: Vec<_> =
            (0..priority.set.len()).map(|nth| view.endpoint(&priority.set, nth)).collect::<Result<_, _>>()?;
        assert_eq!(whole, all, "a priority's set is that of its localities");
        let healthy = whole.iter().filter(|e| e.health == Health::Healthy).count();
        assert_eq!(view.health(&priority.set)?.healthy as usize, healthy);
        let entries = 0..priority.table_len();
        let table = match cluster.policy {
            _ if entries.is_empty() => Table::None,
            PolicyView::Maglev => {
                Table::Maglev(entries.map(|nth| view.maglev_entry(&priority, nth)).collect::<Result<_, _>>()?)
            }
            _ => Table::Ring(entries.map(|nth| view.ring_entry(&priority, nth)).collect::<Result<_, _>>()?),
        };
        priorities.push(Priority { slot: priority.set.slot, localities, table });
    }
    let policy = match cluster.policy {
        PolicyView::RoundRobin => Policy::RoundRobin,
        PolicyView::Random => Policy::Random,
        PolicyView::Refuse => Policy::Refuse,
        PolicyView::RingHash => Policy::RingHash,
        PolicyView::Maglev => Policy::Maglev,
        PolicyView::Aggregate { first, count } => {
            let members = (0..count).map(|nth| Ok(view.weighted(first, nth)?.0)).collect::<Result<_, _>>()?;
            Policy::Aggregate(members)
        }
        PolicyView::LeastRequest { choice_count, bias_thousandths } => {
            Policy::LeastRequest { choice_count, active_request_bias: f64::from(bias_thousandths) / 1000.0 }
        }
        PolicyView::Pass(reason, name) => Policy::Pass(reason, view.string(name)?),
    };
    Ok(Cluster {
        name: view.string(cluster.name)?,
        owner: None,
        policy,
        balancing: view.balancing(&cluster)?,
        priorities: cluster.endpoints_known.then_some(priorities),
        slot: cluster.slot,
        connect_timeout: Duration::from_millis(cluster.connect_timeout_ms.into()),
        max_connections: cluster.max_connections,
        keepalive: cluster.keepalive,
        panic_threshold: f64::from(cluster.panic_threshold) / 100.0,
        overprovisioning_factor: cluster.overprovisioning_factor,
        locality_weighted: cluster.locality_weighted,
        outlier: view.outlier(&cluster)?,
    })
}

/// Addresses lose the difference between v4 and its mapped form.
fn folded(mut cluster: Cluster) -> Cluster {
    let localities = cluster.priorities.iter_mut().flatten().flat_map(|priority| &mut priority.localities);
    for endpoint in localities.flat_map(|locality| &mut locality.endpoints) {
        endpoint.address = WordAddr::new(endpoint.address.ip()).socket(endpoint.address.port());
    }
    cluster
}

proptest! {
    #[test]
    fn a_view_says_what_was_encoded(mesh in mesh()) {
        let words = arena(&encode(&mesh).unwrap());
        let view = View::new(Words::new(&words));
        prop_assert_eq!(view.name_count().unwrap() as usize, mesh.names.len());
        for (index, name) in (0..).zip(&mesh.names) {
            let found = view.name(name.name.as_bytes()).unwrap().expect("the name is found");
            prop_assert_eq!((found.index, found.headless), (index, name.headless));
            prop_assert_eq!(&view.string(found.text).unwrap(), &name.name);
            let addresses: Vec<_> = (0..found.address_count()).map(|nth| view.address(&found, nth).unwrap()).collect();
            prop_assert_eq!(addresses, name.addresses.iter().map(|ip| WordAddr::new(*ip)).collect::<Vec<_>>());
        }
        for ip in mesh.names.iter().flat_map(|name| &name.addresses) {
            let first = mesh.names.iter().position(|name| {
                name.addresses.iter().any(|other| WordAddr::new(*other) == WordAddr::new(*ip))
            });
            prop_assert_eq!(view.name_of(WordAddr::new(*ip)).unwrap().map(|name| name.index as usize), first);
        }
        for destination in &mesh.destinations {
            let wildcard = destination.address.is_unspecified();
            let at = if wildcard { WordAddr { hi: 0, lo: 0 } } else { WordAddr::new(destination.address) };
            let found = view.destination(at, destination.port).unwrap().expect("the destination is found");
            prop_assert_eq!(&read_action(&view, found.action).unwrap(), &destination.action);
            prop_assert_eq!(found.name, destination.name);
            prop_assert_eq!(&view.string(found.rules_left_out).unwrap(), &destination.rules_left_out);
        }
        prop_assert_eq!(view.cluster_count().unwrap() as usize, mesh.clusters.len());
        for (index, cluster) in (0..).zip(&mesh.clusters) {
            prop_assert_eq!(read_cluster(&view, index).unwrap(), folded(cluster.clone()));
        }
        prop_assert_eq!(view.default_action(WordAddr { hi: 1, lo: 1 }).unwrap(), mesh.default_action);
        prop_assert_eq!(view.seed().unwrap(), mesh.seed);
        prop_assert!(view.name(b"no such name!").unwrap().is_none());
    }

    #[test]
    fn the_most_specific_prefix_that_comes_first_decides(last in any::<u8>(), port in 1_u16..) {
        let prefix = |address: [u8; 4], length, action| PrefixDestination {
            prefix: Cidr { address: address.into(), length },
            port,
            action,
        };
        let mesh = Mesh {
            prefixes: vec![
                prefix([10, 1, 2, 128], 25, Action::Refuse),
                prefix([10, 1, 2, 0], 24, Action::Pass(PassReason::NeedsTls)),
            ],
            ..Mesh::default()
        };
        let words = arena(&encode(&mesh).unwrap());
        let view = View::new(Words::new(&words));
        let action = |ip: [u8; 4], port| {
            view.destination(WordAddr::new(ip.into()), port).unwrap().map(|found| found.action)
        };
        let expected = if last >= 128 { ActionView::Refuse } else { ActionView::Pass(PassReason::NeedsTls) };
        prop_assert_eq!(action([10, 1, 2, last], port), Some(expected));
        prop_assert_eq!(action([10, 1, 3, last], port), None);
        prop_assert_eq!(action([10, 1, 2, last], port - 1), None);
    }

    #[test]
    fn the_most_specific_server_name_decides(
        patterns in proptest::collection::btree_set("(\\.?[ab](\\.[ab]){0,3})?", 1..12),
        name in "[ab](\\.[ab]){0,4}",
    ) {
        let patterns: Vec<_> = patterns.into_iter().collect();
        let action = |nth| Action::Clusters { shares: vec![(nth, 1)], hash: HashOn::Nothing };
        let names = (0..).zip(&patterns).map(|(nth, p)| ServerName { pattern: p.clone(), action: action(nth) }).collect();
        let address = IpAddr::from([10, 0, 0, 1]);
        let rules_left_out = String::new();
        let found = Destination { address, port: 443, action: Action::ServerNames(names), name: None, rules_left_out };
        let words = arena(&encode(&Mesh { destinations: vec![found], ..Mesh::default() }).unwrap());
        let view = View::new(Words::new(&words));
        let ActionView::ServerNames(view_names) =
            view.destination(WordAddr::new(address), 443).unwrap().unwrap().action else { panic!("not by name") };
        let found = view.by_server_name(&view_names, name.as_bytes()).unwrap();
        // The longest of those that fit: an exact one is longer than any below.
        let fits = |p: &&String| p.is_empty() || **p == name || (p.starts_with('.') && name.ends_with(p.as_str()));
        let expected = patterns.iter().filter(fits).max_by_key(|p| p.len());
        let nth = |p| patterns.iter().position(|other| other == p).unwrap() as u32;
        prop_assert_eq!(
            found.map(|found| read_action(&view, found).unwrap()),
            expected.map(|p| action(nth(p)))
        );
    }

    #[test]
    fn corrupt_words_harm_nobody(mesh in mesh(), wrong in proptest::collection::vec((any::<Index>(), any::<u64>(), 0_u32..64), 1..8)) {
        let mut content = encode(&mesh).unwrap();
        for (at, word, shift) in wrong {
            let at = at.index(content.len());
            content[at] = word >> shift;
        }
        let words = arena(&content);
        let view = View::new(Words::new(&words));
        for destination in &mesh.destinations {
            let at = WordAddr::new(destination.address);
            let _ = choose(&view, None, &Call { address: at, port: destination.port, source: &|| None, now: 0, avoid: &[] }, &mut Seeded(1));
            let _ = view.name_of(at);
            if let Ok(Some(DestinationView { action: ActionView::ServerNames(names), .. })) = view.destination(at, destination.port) {
                let _ = view.by_server_name(&names, b"a.b.c");
            }
        }
        for name in &mesh.names {
            let _ = view.name(name.name.as_bytes());
        }
        for index in 0..mesh.clusters.len() as u32 {
            let _ = view.cluster(index).and_then(|cluster| view.string(cluster.name));
        }
    }
}

/// A service of ten endpoints in three zones, with all that a control plane says of it.
fn service(nth: u32) -> (Name, Destination, Cluster) {
    let name = format!("service-{nth}.team-{}.svc.cluster.local", nth / 100);
    let vip = IpAddr::from((0x0a60_0000 + nth).to_be_bytes());
    let endpoint = |slot: u32| Endpoint {
        address: ((0x0a80_0000 + slot).to_be_bytes(), 8080).into(),
        weight: 1,
        health: Health::Healthy,
        takes_mtls: slot.is_multiple_of(2),
        slot: Some(slot),
    };
    let locality = |zone: u32| Locality {
        name: format!("region/zone-{zone}"),
        weight: 1,
        slot: None,
        endpoints: (0..10).filter(|n| n % 3 == zone).map(|n| endpoint(nth * 10 + n)).collect(),
    };
    let cluster = Cluster {
        name: format!("outbound|80||{name}"),
        owner: None,
        policy: Policy::LeastRequest { choice_count: 2, active_request_bias: 1.0 },
        balancing: Balancing::default(),
        priorities: Some(vec![Priority { slot: None, localities: (0..3).map(locality).collect(), table: Table::None }]),
        slot: Some(nth),
        connect_timeout: Duration::from_secs(10),
        max_connections: None,
        keepalive: None,
        panic_threshold: 0.0,
        overprovisioning_factor: 140,
        locality_weighted: false,
        outlier: None,
    };
    let action = Action::Clusters { shares: vec![(nth, 1)], hash: HashOn::Nothing };
    let destination = Destination { address: vip, port: 80, action, name: Some(nth), rules_left_out: String::new() };
    (Name { name, addresses: vec![vip], headless: false }, destination, cluster)
}

fn services(count: u32) -> Mesh {
    let mut mesh = Mesh::default();
    for (name, destination, cluster) in (0..count).map(service) {
        mesh.names.push(name);
        mesh.destinations.push(destination);
        mesh.clusters.push(cluster);
    }
    mesh
}

#[test]
fn a_cluster_that_is_called_by_a_name_of_the_mesh_is_told_by_its_whole_name() {
    let mut mesh = services(3);
    let name = mesh.names[0].name.clone();
    for (cluster, name) in
        mesh.clusters.iter_mut().zip([format!("outbound|80|v1|{name}"), name.clone(), format!("|{name}.")])
    {
        cluster.name = name;
    }
    let words = arena(&encode(&mesh).unwrap());
    let view = View::new(Words::new(&words));
    for (index, cluster) in (0..).zip(&mesh.clusters) {
        assert_eq!(read_cluster(&view, index).unwrap(), *cluster);
        let (found, mut room) = (view.cluster(index).unwrap().name, [0; 16]);
        assert_eq!(view.text(found, &mut room).unwrap(), &cluster.name.as_bytes()[..16], "what fits of it");
    }
}

/// The budget of an image: 5 MB for 10,000 services.
#[test]
fn a_service_of_ten_endpoints_takes_500_bytes_at_most() {
    let bytes = |services_count| encode(&services(services_count)).unwrap().len() * 8;
    let each = (bytes(2000) - bytes(1000)) / 1000;
    assert!(each <= 500, "{each} bytes");
}
