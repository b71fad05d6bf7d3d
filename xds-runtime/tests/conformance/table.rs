//! Each policy's distribution over 100,000 picks.

use std::collections::BTreeMap;
use std::time::Duration;

use xds_runtime::resource::*;

use crate::rig::*;

const PICKS: u32 = 100_000;
/// Heading of the last column.
const PICKED: &str = "thousands of picks, by endpoint";
const LEAST_REQUEST: LbPolicy = LbPolicy::LeastRequest { choice_count: 2, active_request_bias: 1.0 };
const RING: LbPolicy = LbPolicy::RingHash { minimum_ring_size: 1024, maximum_ring_size: 1 << 23, murmur2: false };
const MAGLEV: LbPolicy = LbPolicy::Maglev { table_size: 65_537 };

/// What is expected of the endpoints' counts.
enum Expected {
    /// So many exactly.
    Exactly(Vec<(u16, u64)>),
    /// Shares, relative to their sum.
    Shares(Vec<(u16, f64)>),
}
use Expected::{Exactly, Shares};

struct Row {
    policy: &'static str,
    setting: &'static str,
    rig: Rig,
    expected: Expected,
}

/// Pearson's statistic, and the bound it has to keep: the 99.9 % quantile for k shares is under 2 k + 12 up to k = 100.
fn chi_square(tally: &Tally, shares: &[(u16, f64)]) -> (f64, f64) {
    let picks: u64 = tally.values().sum();
    let whole: f64 = shares.iter().map(|(_, share)| share).sum();
    let mut statistic = 0.0;
    for (port, share) in shares {
        let expected = picks as f64 * share / whole;
        let seen = tally.get(port).copied().unwrap_or(0) as f64;
        statistic += (seen - expected).powi(2) / expected;
    }
    (statistic, 2.0 * shares.len() as f64 + 12.0)
}

impl Row {
    /// Draws: its line of the table, and what is wrong.
    fn run(mut self) -> (String, Option<String>) {
        let tally = self.rig.tally(PICKS);
        let (found, good) = match &self.expected {
            Exactly(counts) => ("exact".to_owned(), tally == counts.iter().copied().collect()),
            Shares(shares) => {
                let (statistic, bound) = chi_square(&tally, shares);
                let known = tally.keys().all(|port| shares.iter().any(|(expected, _)| expected == port));
                (format!("{statistic:6.1} of {bound}"), known && statistic < bound)
            }
        };
        let seen: Vec<String> = tally.values().map(|count| format!("{:.1}", *count as f64 / 1000.0)).collect();
        let line = format!("| {:13} | {:44} | {:14} | {} |", self.policy, self.setting, found, seen.join(" "));
        (line, (!good).then(|| format!("{}, {}: {tally:?}", self.policy, self.setting)))
    }
}

fn slow_start(mut cluster: Cluster) -> Cluster {
    let window = Duration::from_secs(60);
    cluster.balancing.slow_start = Some(SlowStart { window, aggression: 2.0, min_weight_percent: 10.0 });
    cluster
}

fn staged(mut cluster: Cluster) -> Cluster {
    let selector = Selector { keys: ["stage".to_owned()].into(), fallback: None, single_host: false };
    cluster.balancing.subsets = Some(Box::new(Subsets {
        fallback: Fallback::Nothing,
        default_subset: Metadata::new(),
        selectors: vec![selector],
        locality_weight_aware: false,
        scale_locality_weight: false,
        panic_mode_any: false,
        list_as_any: false,
        allow_redundant_keys: false,
    }));
    if let Discovery::Static(assignment) = &mut cluster.discovery {
        let endpoints = assignment.localities.iter_mut().flat_map(|locality| &mut locality.endpoints);
        for (nth, endpoint) in endpoints.enumerate() {
            *endpoint = carrying(&[("stage", if nth % 2 == 0 { "prod" } else { "dev" })], endpoint.clone());
        }
    }
    cluster
}

/// What holds for each policy that balances without a hash, while nobody is busy.
fn weighted_rows(policy: &'static str, of: &LbPolicy) -> Vec<Row> {
    let mut rows = Vec::new();
    let exact = *of == LbPolicy::RoundRobin;
    let counted = |shares: &[(u16, f64)], counts: &[(u16, u64)]| {
        if exact { Exactly(counts.to_vec()) } else { Shares(shares.to_vec()) }
    };
    let mut row = |setting, rig, expected| rows.push(Row { policy, setting, rig, expected });
    row(
        "5 endpoints",
        Rig::new(vec![flat(of.clone(), weighing(&[1; 5]))]),
        counted(&[1, 2, 3, 4, 5].map(|port| (port, 1.0)), &[1, 2, 3, 4, 5].map(|port| (port, 20_000))),
    );
    // Envoy's random policy has no weights of endpoints.
    let weights = if *of == LbPolicy::Random { [1.0; 3] } else { [1.0, 2.0, 5.0] };
    row(
        "weights 1, 2, 5",
        Rig::new(vec![flat(of.clone(), weighing(&[1, 2, 5]))]),
        counted(&[(1, weights[0]), (2, weights[1]), (3, weights[2])], &[(1, 12_500), (2, 25_000), (3, 62_500)]),
    );
    let localities = vec![zone(0, 0, 1, hosts(1, 2, 0, 0)), zone(1, 0, 3, hosts(11, 3, 0, 0))];
    let located = Cluster { locality_weighted: true, ..cluster("c", of.clone(), localities) };
    row(
        "localities of weight 1 (2 of them), 3 (3)",
        Rig::new(vec![located]),
        Shares(vec![(1, 1.5), (2, 1.5), (11, 3.0), (12, 3.0), (13, 3.0)]),
    );
    row(
        "subset of 2 among 4",
        {
            let asked = WeightedCluster { metadata: metadata(&[("stage", "prod")]), ..share("c", 1) };
            Rig::to(vec![staged(flat(of.clone(), weighing(&[1; 4])))], vec![asked])
        },
        counted(&[(1, 1.0), (3, 1.0)], &[(1, 50_000), (3, 50_000)]),
    );
    let primary = cluster("primary", of.clone(), vec![zone(0, 0, 1, hosts(1, 2, 0, 2))]);
    let members = [primary, cluster("secondary", of.clone(), vec![zone(0, 0, 1, hosts(11, 2, 0, 0))])];
    row(
        "aggregate, half of the first cluster ill",
        Rig::new([vec![aggregate(&members)], members.to_vec()].concat()),
        Shares(vec![(1, 35.0), (2, 35.0), (11, 15.0), (12, 15.0)]),
    );
    // Half of the called, a quarter of the callers: everything stays. 40 of 100 callers, 25 of 100 called: what
    // fits does, and the rest goes where there is room.
    let upstream =
        vec![zone(0, 0, 1, hosts(1, 2, 0, 0)), zone(1, 0, 1, hosts(11, 4, 0, 0)), zone(2, 0, 1, hosts(21, 2, 0, 0))];
    let callers = vec![
        zone(0, 0, 1, hosts(101, 4, 0, 0)),
        zone(1, 0, 1, hosts(111, 4, 0, 0)),
        zone(2, 0, 1, hosts(121, 2, 0, 0)),
    ];
    let callers = cluster("callers", LbPolicy::RoundRobin, callers);
    let each = |ports: std::ops::RangeInclusive<u16>, share: f64| {
        let count = f64::from(ports.end() - ports.start() + 1);
        ports.map(move |port| (port, share / count)).collect::<Vec<_>>()
    };
    row(
        "zones: 40/40/20 call, 25/50/25 are called",
        Rig::new(vec![cluster("c", of.clone(), upstream), callers]),
        Shares([each(1..=2, 62.5), each(11..=14, 25.0), each(21..=22, 12.5)].concat()),
    );
    let split = vec![share("a", 90), share("b", 10)];
    let two = ["a", "b"].map(|name| {
        let port = if name == "a" { 1 } else { 11 };
        cluster(name, of.clone(), vec![zone(0, 0, 1, hosts(port, 2, 0, 0))])
    });
    row(
        "clusters of weight 90, 10",
        Rig::to(two.to_vec(), split),
        Shares(vec![(1, 45.0), (2, 45.0), (11, 5.0), (12, 5.0)]),
    );
    if *of != LbPolicy::Random {
        // (age / window)^(1/2), and at least a tenth.
        let ages = [(1, 60_000), (2, 15_000), (3, 2_400), (4, 6)];
        row(
            "slow start at 60, 15, 2.4 and 0 s of 60 s",
            Rig::new(vec![slow_start(flat(of.clone(), weighing(&[1; 4])))]).aged(&ages),
            Shares(vec![(1, 1.0), (2, 0.5), (3, 0.2), (4, 0.1)]),
        );
        row(
            "slow start, weights 1, 4",
            Rig::new(vec![slow_start(flat(of.clone(), weighing(&[1, 4])))]).aged(&[(1, 60_000), (2, 15_000)]),
            Shares(vec![(1, 1.0), (2, 2.0)]),
        );
    }
    rows
}

/// What depends on connections.
fn least_request_rows() -> Vec<Row> {
    let row = |setting, rig, expected| Row { policy: "least request", setting, rig, expected };
    let mut scanned = flat(LEAST_REQUEST, weighing(&[1; 5]));
    scanned.balancing.full_scan = true;
    let three = LbPolicy::LeastRequest { choice_count: 3, active_request_bias: 1.0 };
    let root = LbPolicy::LeastRequest { choice_count: 2, active_request_bias: 0.5 };
    vec![
        // The k-th busiest of n wins c draws with probability (k^c - (k-1)^c) / n^c.
        row(
            "0, 1, 2, 3 connections, 2 choices",
            Rig::new(vec![flat(LEAST_REQUEST, weighing(&[1; 4]))]).busy(&[(2, 1), (3, 2), (4, 3)]),
            Shares(vec![(1, 7.0), (2, 5.0), (3, 3.0), (4, 1.0)]),
        ),
        row(
            "0, 1, 2, 3 connections, 3 choices",
            Rig::new(vec![flat(three, weighing(&[1; 4]))]).busy(&[(2, 1), (3, 2), (4, 3)]),
            Shares(vec![(1, 37.0), (2, 19.0), (3, 7.0), (4, 1.0)]),
        ),
        row(
            "weights 1, 2, 4, 0, 3, 1 connections",
            Rig::new(vec![flat(LEAST_REQUEST, weighing(&[1, 2, 4]))]).busy(&[(2, 3), (3, 1)]),
            Shares(vec![(1, 1.0), (2, 0.5), (3, 2.0)]),
        ),
        row(
            "weights 1, 2, 4, bias 0.5",
            Rig::new(vec![flat(root, weighing(&[1, 2, 4]))]).busy(&[(2, 3), (3, 15)]),
            Shares(vec![(1, 1.0), (2, 1.0), (3, 1.0)]),
        ),
        row(
            "full scan, 4, 1, 2, 1, 1 connections",
            Rig::new(vec![scanned]).busy(&[(1, 4), (2, 1), (3, 2), (4, 1), (5, 1)]),
            Shares(vec![(2, 1.0), (4, 1.0), (5, 1.0)]),
        ),
    ]
}

/// Sources that all differ over a table of known shares.
fn hashing_rows(policy: &'static str, of: &LbPolicy) -> Vec<Row> {
    let settings = [("5 endpoints", &[1, 1, 1, 1, 1][..]), ("weights 1, 2, 5", &[1, 2, 5])];
    let row = |(setting, weights): (&'static str, &[u32])| {
        let rig = Rig::new(vec![flat(of.clone(), weighing(weights))]);
        let expected = Shares(crate::keys::shares(&rig));
        Row { policy, setting, rig, expected }
    };
    settings.map(row).into()
}

/// Prints a policy's table, whole, and fails for the rows that are not as expected.
#[track_caller]
fn check(rows: Vec<Row>) {
    let mut table = format!("| {:13} | {:44} | {:14} | {} |\n", "policy", "setting", "chi-square", PICKED);
    table += &format!("| {:-<13} | {:-<44} | {:-<14} | {:-<width$} |", "", "", "", "", width = PICKED.len());
    let mut wrong = Vec::new();
    for (line, fault) in rows.into_iter().map(Row::run) {
        table = table + "\n" + &line;
        wrong.extend(fault);
    }
    println!("{table}");
    assert!(wrong.is_empty(), "not as expected: {wrong:#?}");
}

#[test]
fn round_robin_gives_what_it_says() {
    check(weighted_rows("round robin", &LbPolicy::RoundRobin));
}

#[test]
fn least_request_gives_what_it_says() {
    check(weighted_rows("least request", &LEAST_REQUEST));
}

#[test]
fn random_gives_what_it_says() {
    check(weighted_rows("random", &LbPolicy::Random));
}

#[test]
fn least_request_follows_connections() {
    check(least_request_rows());
}

#[test]
fn ring_hash_gives_what_it_says() {
    check(hashing_rows("ring hash", &RING));
}

#[test]
fn maglev_gives_what_it_says() {
    check(hashing_rows("Maglev", &MAGLEV));
}

/// A test that cannot fail shows nothing.
#[test]
fn the_bound_tells_a_few_percent_from_none() {
    let tally: Tally = BTreeMap::from([(1, 51_000), (2, 49_000)]);
    let (statistic, bound) = chi_square(&tally, &[(1, 1.0), (2, 1.0)]);
    assert!(statistic > bound, "2 percent of 100,000 picks are no noise: {statistic} of {bound}");
    let (statistic, bound) = chi_square(&BTreeMap::from([(1, 50_200), (2, 49_800)]), &[(1, 1.0), (2, 1.0)]);
    assert!(statistic < bound, "{statistic} of {bound}");
}
