//! The same YAML served to a real Envoy, as a TCP proxy, and to ldmesh: who gets which share of 10,000 connections.
//!
//! The bound of a comparison of shares is a chi-square of one in a million (`Comparison`). With one worker, turns are
//! counted; consistent hashes agree exactly, source by source (400 of them).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ctests::HealthStatus::{Degraded, Draining, Healthy, Unhealthy};
use ctests::{
    Assignment, Comparison, Envoy, HealthStatus, Manifest, Member, Pod, TcpProxy, Twin, TwinEndpoint, wait_until,
};

const CONNECTIONS: usize = 10_000;
const SOURCES: usize = 400;
/// The first of the addresses that consistent hashes are asked for.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 40, 0, 1);

/// An endpoint of a policy.
#[derive(Clone, Copy)]
struct Spot {
    weight: u32,
    zone: &'static str,
    version: &'static str,
    health: HealthStatus,
    priority: u32,
}

const SPOT: Spot = Spot { weight: 1, zone: "", version: "", health: Healthy, priority: 0 };

/// A service with a policy, and what it should do.
struct Policy {
    name: &'static str,
    /// A DestinationRule's `trafficPolicy`, in one line.
    rule: &'static str,
    spots: Vec<Spot>,
    /// Whether the endpoints are told by EDS, because YAML cannot.
    raw: bool,
    zones: &'static [(&'static str, u32)],
    /// Weights of the versions `v1`, `v2`..., by a VirtualService.
    versions: &'static [u32],
    expected: Option<Vec<f64>>,
    /// With turns, each endpoint has its share to the connection; by how many Envoy may miss it.
    turns: Option<u64>,
    on_purpose: Option<Vec<f64>>,
}

impl Policy {
    fn new(name: &'static str, rule: &'static str, spots: &[Spot]) -> Self {
        let spots = spots.to_vec();
        Self { name, rule, spots, raw: false, zones: &[], versions: &[], expected: None, turns: None, on_purpose: None }
    }

    /// The endpoints' shares, of any whole.
    fn shares(mut self, shares: &[f64]) -> Self {
        self.expected = Some(shares.to_vec());
        self
    }

    /// The shares, to the connection; Envoy may miss them by so many.
    fn turns(self, shares: &[f64], envoy_misses: u64) -> Self {
        Self { turns: Some(envoy_misses), ..self.shares(shares) }
    }

    /// The shares with ldmesh, where `docs/decisions.md` says why they differ.
    fn but_with_ldmesh(mut self, shares: &[f64]) -> Self {
        self.on_purpose = Some(shares.to_vec());
        self
    }

    fn by_eds(mut self) -> Self {
        self.raw = true;
        self
    }

    fn zones(mut self, weights: &'static [(&'static str, u32)]) -> Self {
        self.zones = weights;
        self.by_eds()
    }

    fn versions(mut self, weights: &'static [u32]) -> Self {
        self.versions = weights;
        self
    }

    fn hashes(&self) -> bool {
        self.rule.contains("useSourceIp")
    }
}

struct Placed<'a> {
    policy: &'a Policy,
    twin: Twin,
}

impl Placed<'_> {
    fn proxy(&self) -> TcpProxy {
        let mut proxy = self.twin.proxy();
        if !self.policy.versions.is_empty() {
            let subset = |(n, weight): (usize, &u32)| (self.twin.cluster(&format!("v{}", n + 1)), *weight);
            proxy.clusters = self.policy.versions.iter().enumerate().map(subset).collect();
        }
        proxy.hashes_source = self.policy.hashes();
        proxy
    }

    fn manifest(&self, before: Manifest) -> Manifest {
        let Policy { name, rule, spots, versions, .. } = self.policy;
        let endpoint = |spot: &Spot| TwinEndpoint { weight: spot.weight, locality: spot.zone, version: spot.version };
        let endpoints: Vec<_> = spots.iter().map(endpoint).collect();
        let subsets: Vec<_> = (1..=versions.len()).map(|n| format!("v{n}")).collect();
        let names: Vec<_> = subsets.iter().map(String::as_str).collect();
        let mut manifest = self.twin.documents(before, rule, &endpoints, &names);
        let host = self.twin.host();
        if !versions.is_empty() {
            let to = |(subset, weight): (&String, &u32)| {
                format!("{{destination: {{host: {host}, subset: {subset}}}, weight: {weight}}}")
            };
            let routes: Vec<_> = subsets.iter().zip(*versions).map(to).collect();
            manifest = manifest.and(&format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
                 spec: {{hosts: [{host}], tcp: [{{route: [{}]}}]}}\n",
                routes.join(", ")
            ));
        }
        if self.policy.raw {
            let member = |(nth, spot): (usize, &Spot)| Member {
                address: self.twin.address(nth),
                weight: spot.weight,
                health: spot.health,
                priority: spot.priority,
                zone: spot.zone,
            };
            let members: Vec<_> = spots.iter().enumerate().map(member).collect();
            let assignment = Assignment::new(&self.twin.cluster(""), &members).zones(self.policy.zones);
            manifest = manifest.and_assignment(&assignment);
        }
        manifest
    }

    /// The rows of the table, and whether both agree.
    fn compare(&self, pod: &Pod) -> (String, bool) {
        let (envoy, ldmesh) = if self.policy.hashes() {
            self.twin.both(pod, SOURCES, |dials| dials.from(FIRST_SOURCE))
        } else {
            self.twin.both(pod, CONNECTIONS, |dials| dials)
        };
        let names: Vec<String> = (0..self.policy.spots.len()).map(|nth| self.twin.endpoint(nth)).collect();
        let named = |shares: &Option<Vec<f64>>| {
            let shares = shares.as_ref()?;
            Some(names.iter().map(String::as_str).zip(shares.iter().copied()).collect())
        };
        let comparison = Comparison {
            policy: self.policy.name,
            envoy: &envoy,
            ldmesh: &ldmesh,
            expected: named(&self.policy.expected),
            on_purpose: named(&self.policy.on_purpose),
        };
        let mut text = comparison.table();
        if let (Some(shares), Some(misses)) = (&comparison.expected, self.policy.turns) {
            let whole: f64 = shares.values().sum();
            let count = |share: &f64| (CONNECTIONS as f64 * share / whole) as u64;
            let counts: BTreeMap<_, _> = shares.iter().map(|(name, share)| (*name, count(share))).collect();
            assert_eq!(counts.values().sum::<u64>(), CONNECTIONS as u64, "the shares are whole connections");
            let (of_envoy, of_ldmesh) = (envoy.tally(), ldmesh.tally());
            text.push_str(&format!("{:28} Envoy {of_envoy:?}, ldmesh {of_ldmesh:?}\n", ""));
            let near = |(one, other): (&u64, &u64)| one.abs_diff(*other) <= misses;
            let envoy_holds = of_envoy.keys().eq(counts.keys()) && of_envoy.values().zip(counts.values()).all(near);
            return (text, envoy_holds && of_ldmesh == counts);
        }
        if !self.policy.hashes() {
            return (text, comparison.holds());
        }
        let differ = envoy.0.iter().zip(&ldmesh.0).filter(|(one, other)| one != other).count();
        text.push_str(&format!("{:28} {differ} of {SOURCES} sources go elsewhere\n", ""));
        (text, differ == 0 && envoy.len() == ldmesh.len())
    }
}

/// A pod in which both have the policies, from one control plane.
fn check(workers: usize, policies: &[Policy]) {
    let pod = Pod::new();
    let place = |(number, policy)| Placed { policy, twin: Twin::new(policy.name, number) };
    let placed: Vec<_> = (1..).zip(policies).map(place).collect();
    let mut greeters = pod.many_greeters();
    for one in &placed {
        (0..one.policy.spots.len()).for_each(|nth| one.twin.listen(&mut greeters, nth));
    }
    let _control_plane = pod.serve(&placed.iter().fold(Manifest::default(), |manifest, one| one.manifest(manifest)));
    let proxies: Vec<_> = placed.iter().map(Placed::proxy).collect();
    let _envoy: Envoy = pod.envoy(workers, &proxies);
    let mut table = Comparison::head();
    let mut wrong = Vec::new();
    for one in &placed {
        let (rows, holds) = one.compare(&pod);
        table.push_str(&rows);
        if !holds {
            wrong.push(one.policy.name);
        }
    }
    println!("{workers} workers\n{table}");
    assert!(wrong.is_empty(), "Envoy and ldmesh differ: {wrong:?}\n{table}");
}

const ROUND_ROBIN: &str = "loadBalancer: {simple: ROUND_ROBIN}";
const LEAST_REQUEST: &str = "loadBalancer: {simple: LEAST_REQUEST}";
const RANDOM: &str = "loadBalancer: {simple: RANDOM}";
const RING_HASH: &str = "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 1024}}}";
const MAGLEV: &str = "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}}";
/// Without panic: outlier detection sets the threshold, to 0 unless told.
const NO_PANIC: &str = "loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {}";
const PANIC_BELOW_HALF: &str = "loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {minHealthPercent: 50}";

fn weighing(weights: &[u32]) -> Vec<Spot> {
    weights.iter().map(|&weight| Spot { weight, ..SPOT }).collect()
}

/// Endpoints of one zone each, with what the control plane says of them.
fn of_health(health: &[HealthStatus]) -> Vec<Spot> {
    health.iter().map(|&health| Spot { health, ..SPOT }).collect()
}

/// Endpoints in the priorities 0, 1...
fn in_priorities(priorities: &[&[HealthStatus]]) -> Vec<Spot> {
    let of = |(priority, healths): (u32, &&[HealthStatus])| -> Vec<Spot> {
        of_health(healths).into_iter().map(|spot| Spot { priority, ..spot }).collect()
    };
    (0..).zip(priorities).flat_map(of).collect()
}

fn in_zones(zones: &[(&'static str, HealthStatus)]) -> Vec<Spot> {
    zones.iter().map(|&(zone, health)| Spot { zone, health, ..SPOT }).collect()
}

#[test]
fn each_policy_shares_connections_as_envoy_does() {
    let versions: Vec<_> = ["v1", "v1", "v2", "v3"].map(|version| Spot { version, ..SPOT }).into();
    let policies = [
        Policy::new("round-robin", ROUND_ROBIN, &[SPOT; 4]).shares(&[1.0; 4]),
        Policy::new("round-robin-weighted", ROUND_ROBIN, &weighing(&[1, 2, 5])).shares(&[1.0, 2.0, 5.0]),
        Policy::new("least-request-idle", LEAST_REQUEST, &[SPOT; 4]).shares(&[1.0; 4]),
        Policy::new("random", RANDOM, &[SPOT; 4]).shares(&[1.0; 4]),
        // Weights of endpoints are not this policy's.
        Policy::new("random-weighted", RANDOM, &weighing(&[1, 2, 5])).shares(&[1.0; 3]),
        Policy::new("weighted-clusters", ROUND_ROBIN, &versions)
            .versions(&[80, 15, 5])
            .shares(&[40.0, 40.0, 15.0, 5.0]),
        Policy::new("subset", ROUND_ROBIN, &versions).versions(&[100]).shares(&[1.0, 1.0, 0.0, 0.0]),
    ];
    check(2, &policies);
}

/// While the first of four endpoints has many more connections than the others will get.
#[test]
fn least_request_avoids_a_busy_endpoint_as_envoy_does() {
    const HELD: usize = 100;
    const KEPT: usize = 240;
    let pod = Pod::new();
    let twin = Twin::new("least-request", 1);
    let mut greeters = pod.many_greeters();
    (0..4).for_each(|nth| twin.listen(&mut greeters, nth));
    let manifest = twin.documents(Manifest::default(), LEAST_REQUEST, &[TwinEndpoint::default(); 4], &[]);
    let _control_plane = pod.serve(&manifest);
    let envoy = pod.envoy(2, &[twin.proxy()]);
    let cluster = twin.cluster("");
    let through_envoy = twin.through_envoy(KEPT).holding(&twin.endpoint(0), HELD).start(|program| pod.command(program));
    let through_ldmesh = twin.through_ldmesh(KEPT).holding(&twin.endpoint(0), HELD).start(|program| pod.mesh(program));
    let held = [HELD as u64, 0, 0, 0];
    let of_envoy = || envoy.hosts(&cluster).iter().map(|host| host.active).collect::<Vec<_>>() == held;
    wait_until("Envoy counts what is held", Duration::from_secs(20), || pod.dump(), of_envoy);
    let of_ldmesh = || pod.mesh_endpoints(&cluster).iter().map(|one| one.active).collect::<Vec<_>>() == held;
    wait_until("ldmesh counts what is held", Duration::from_secs(20), || pod.dump(), of_ldmesh);
    let (envoy, ldmesh) = (through_envoy.go_on(), through_ldmesh.go_on());
    let names: Vec<_> = (0..4).map(|nth| twin.endpoint(nth)).collect();
    // Two choices out of four, with replacement: the busy one only when both are it.
    let expected = Some(names.iter().map(String::as_str).zip([1.0, 5.0, 5.0, 5.0]).collect());
    let comparison =
        Comparison { policy: "least-request-busy", envoy: &envoy, ldmesh: &ldmesh, expected, on_purpose: None };
    println!("{}{}", Comparison::head(), comparison.table());
    assert!(comparison.holds(), "{}", comparison.table());
}

#[test]
fn one_worker_takes_turns_to_the_connection_as_envoy_does() {
    let policies = [
        Policy::new("round-robin", ROUND_ROBIN, &[SPOT; 4]).turns(&[1.0; 4], 0),
        // A schedule of deadlines in floating point, entered anywhere: Envoy gives one to a neighbour now and then.
        Policy::new("round-robin-weighted", ROUND_ROBIN, &weighing(&[1, 2, 5])).turns(&[1.0, 2.0, 5.0], 1),
    ];
    check(1, &policies);
}

#[test]
fn zones_priorities_and_health_count_as_with_envoy() {
    const DISTRIBUTE: &str = "loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: \
                              {distribute: [{from: '*', to: {'a/*': 80, 'b/*': 20}}]}}";
    let policies = [
        Policy::new(
            "zones-distribute",
            DISTRIBUTE,
            &in_zones(&[("a/1", Healthy), ("a/1", Healthy), ("b/1", Healthy), ("b/1", Healthy)]),
        )
        .shares(&[40.0, 40.0, 10.0, 10.0]),
        // Half of zone a is healthy: 50 * 0.5 * 1.4 to 50.
        Policy::new(
            "zones-partly-healthy",
            ROUND_ROBIN,
            &in_zones(&[("a", Healthy), ("a", Unhealthy), ("b", Healthy), ("b", Healthy)]),
        )
        .zones(&[("a", 50), ("b", 50)])
        .shares(&[35.0, 0.0, 25.0, 25.0]),
        // 2 of 4 times 1.4: 70 % stay.
        Policy::new(
            "spill-over",
            NO_PANIC,
            &in_priorities(&[&[Healthy, Healthy, Unhealthy, Unhealthy], &[Healthy, Healthy]]),
        )
        .by_eds()
        .shares(&[35.0, 35.0, 0.0, 0.0, 15.0, 15.0]),
        Policy::new(
            "spill-over-twice",
            NO_PANIC,
            &in_priorities(&[
                &[Healthy, Unhealthy, Unhealthy, Unhealthy],
                &[Healthy, Unhealthy, Unhealthy, Unhealthy],
                &[Healthy],
            ]),
        )
        .by_eds()
        .shares(&[35.0, 0.0, 0.0, 0.0, 35.0, 0.0, 0.0, 0.0, 30.0]),
        Policy::new("failover", NO_PANIC, &in_priorities(&[&[Unhealthy, Unhealthy], &[Healthy, Healthy]]))
            .by_eds()
            .shares(&[0.0, 0.0, 1.0, 1.0]),
        // 35 + 35 is all there is, so it counts as the whole.
        Policy::new(
            "short-without-panic",
            NO_PANIC,
            &in_priorities(&[&[Healthy, Unhealthy, Unhealthy, Unhealthy], &[Healthy, Unhealthy, Unhealthy, Unhealthy]]),
        )
        .by_eds()
        .shares(&[50.0, 0.0, 0.0, 0.0, 50.0, 0.0, 0.0, 0.0]),
        // Every priority panics: by number of endpoints.
        Policy::new(
            "total-panic",
            PANIC_BELOW_HALF,
            &in_priorities(&[&[Healthy, Unhealthy, Unhealthy, Unhealthy], &[Healthy, Unhealthy, Unhealthy]]),
        )
        .by_eds()
        .shares(&[1.0; 7]),
        // 1 of 4 panics, 2 of 4 does not, together 105 %: enough, so nobody panics.
        Policy::new(
            "enough-elsewhere",
            PANIC_BELOW_HALF,
            &in_priorities(&[&[Healthy, Unhealthy, Unhealthy, Unhealthy], &[Healthy, Healthy, Unhealthy, Unhealthy]]),
        )
        .by_eds()
        .shares(&[35.0, 0.0, 0.0, 0.0, 32.5, 32.5, 0.0, 0.0]),
        Policy::new("panic", PANIC_BELOW_HALF, &of_health(&[Healthy, Unhealthy, Unhealthy])).by_eds().shares(&[1.0; 3]),
        // 3 of 5 times 1.4: 84 %, the rest to the degraded.
        Policy::new("degraded", NO_PANIC, &of_health(&[Healthy, Healthy, Healthy, Degraded, Degraded]))
            .by_eds()
            .shares(&[28.0, 28.0, 28.0, 8.0, 8.0]),
        Policy::new("draining", NO_PANIC, &in_priorities(&[&[Healthy, Healthy, Draining, Draining], &[Healthy]]))
            .by_eds()
            .shares(&[1.0, 1.0, 0.0, 0.0, 0.0]),
        Policy::new("draining-in-panic", PANIC_BELOW_HALF, &of_health(&[Healthy, Draining, Unhealthy, Unhealthy]))
            .by_eds()
            .shares(&[1.0; 4])
            .but_with_ldmesh(&[1.0, 0.0, 1.0, 1.0]),
    ];
    check(2, &policies);
}

#[test]
fn consistent_hashes_send_each_source_where_envoy_does() {
    let partly = of_health(&[Healthy, Unhealthy, Healthy, Healthy, Healthy]);
    let zones = in_zones(&[("a", Healthy), ("a", Healthy), ("b", Healthy), ("b", Healthy), ("b", Healthy)]);
    let policies = [
        Policy::new("ring-hash", RING_HASH, &[SPOT; 5]),
        Policy::new("ring-hash-weighted", RING_HASH, &weighing(&[1, 2, 5])),
        Policy::new("ring-hash-partly", RING_HASH, &partly).by_eds(),
        Policy::new("ring-hash-zones", RING_HASH, &zones).zones(&[("a", 70), ("b", 30)]),
        Policy::new("maglev", MAGLEV, &[SPOT; 5]),
        Policy::new("maglev-weighted", MAGLEV, &weighing(&[1, 2, 5])),
        Policy::new("maglev-partly", MAGLEV, &partly).by_eds(),
        Policy::new("maglev-zones", MAGLEV, &zones).zones(&[("a", 70), ("b", 30)]),
        Policy::new(
            "ring-hash-failover",
            "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 1024}}}, outlierDetection: {}",
            &in_priorities(&[&[Unhealthy, Unhealthy], &[Healthy, Healthy, Healthy]]),
        )
        .by_eds(),
        Policy::new(
            "maglev-spill-over",
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}}, outlierDetection: {}",
            &in_priorities(&[&[Healthy, Healthy, Unhealthy, Unhealthy], &[Healthy, Healthy]]),
        )
        .by_eds(),
    ];
    check(2, &policies);
}
