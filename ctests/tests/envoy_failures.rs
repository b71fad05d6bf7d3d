//! The same YAML served to a real Envoy, as a TCP proxy, and to ldmesh: which endpoints are ejected after how many
//! failures, how many of them, for how long, and where connections go meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ctests::{Answers, Comparison, Envoy, Greeters, Manifest, Pod, TcpProxy, Twin, TwinEndpoint, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);
/// How many endpoints one connection tries with Envoy; ldmesh goes on to others by itself.
const ATTEMPTS: u32 = 3;

/// A service under test, with some endpoints that refuse.
struct Case {
    twin: Twin,
    endpoints: Vec<TwinEndpoint>,
    rule: String,
    attempts: u32,
}

impl Case {
    fn new(number: u8, name: &str, endpoints: usize, detection: &str) -> Self {
        let rule = format!("loadBalancer: {{simple: ROUND_ROBIN}}, outlierDetection: {{{detection}}}");
        Self {
            twin: Twin::new(name, number),
            endpoints: vec![TwinEndpoint::default(); endpoints],
            rule,
            attempts: ATTEMPTS,
        }
    }

    /// With endpoints in these localities; the client's is the empty one.
    fn in_localities(mut self, localities: &[&'static str]) -> Self {
        let of = |locality: &&'static str| TwinEndpoint { locality, ..TwinEndpoint::default() };
        self.endpoints = localities.iter().map(of).collect();
        self
    }

    fn proxy(&self) -> TcpProxy {
        TcpProxy { attempts: self.attempts, ..self.twin.proxy() }
    }

    fn cluster(&self) -> String {
        self.twin.cluster("")
    }
}

/// A pod in which both have the cases, from one control plane, and every endpoint accepts.
struct Rig<'pod> {
    pod: &'pod Pod,
    envoy: Envoy<'pod>,
    greeters: Greeters,
    _control_plane: ctests::ControlPlane<'pod>,
}

impl<'pod> Rig<'pod> {
    fn new(pod: &'pod Pod, cases: &[Case]) -> Self {
        let mut greeters = pod.many_greeters();
        let mut manifest = Manifest::default();
        for case in cases {
            (0..case.endpoints.len()).for_each(|nth| case.twin.listen(&mut greeters, nth));
            manifest = case.twin.documents(manifest, &case.rule, &case.endpoints, &[]);
        }
        let control_plane = pod.serve(&manifest);
        let proxies: Vec<_> = cases.iter().map(Case::proxy).collect();
        let envoy = pod.envoy(1, &proxies);
        let rig = Self { pod, envoy, greeters, _control_plane: control_plane };
        // The mesh is known, and nobody has failed.
        for case in cases {
            let answer = case.twin.through_ldmesh(1).in_mesh(pod);
            assert!((0..case.endpoints.len()).any(|nth| answer.0 == [case.twin.endpoint(nth)]), "{answer:?}");
        }
        rig
    }

    fn refuse(&mut self, case: &Case, endpoints: std::ops::Range<usize>) {
        endpoints.for_each(|nth| self.greeters.refuse(&case.twin.endpoint(nth)));
    }

    fn listen(&mut self, case: &Case, endpoints: std::ops::Range<usize>) {
        endpoints.for_each(|nth| case.twin.listen(&mut self.greeters, nth));
    }
}

/// One of the two that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Envoy,
    Ldmesh,
}

const BOTH: [Side; 2] = [Side::Envoy, Side::Ldmesh];

impl Side {
    fn dial(self, rig: &Rig<'_>, case: &Case, count: usize) -> Answers {
        match self {
            Self::Envoy => case.twin.through_envoy(count).plainly(rig.pod),
            Self::Ldmesh => case.twin.through_ldmesh(count).in_mesh(rig.pod),
        }
    }

    /// The failures of each endpoint, by address, and whether it is ejected.
    fn endpoints(self, rig: &Rig<'_>, case: &Case) -> Vec<(Ipv4Addr, u64, bool)> {
        let cluster = case.cluster();
        match self {
            Self::Envoy => {
                let hosts = rig.envoy.hosts(&cluster);
                hosts.into_iter().map(|host| (host.address, host.connect_failures, host.ejected)).collect()
            }
            Self::Ldmesh => {
                let endpoints = rig.pod.mesh_endpoints(&cluster);
                endpoints.into_iter().map(|one| (one.address, one.connect_failures, one.ejected)).collect()
            }
        }
    }

    fn ejected(self, rig: &Rig<'_>, case: &Case) -> Vec<Ipv4Addr> {
        self.endpoints(rig, case).into_iter().filter(|one| one.2).map(|one| one.0).collect()
    }

    fn dump(self, rig: &Rig<'_>, case: &Case) -> String {
        format!("{self:?}: {:?}\n{}", self.endpoints(rig, case), rig.pod.dump())
    }

    #[track_caller]
    fn wait_for_ejected(self, rig: &Rig<'_>, case: &Case, endpoints: &[usize], dials: bool) {
        let wanted: Vec<_> = endpoints.iter().map(|nth| case.twin.address(*nth)).collect();
        let settled = || {
            if dials {
                self.dial(rig, case, 1);
            }
            self.ejected(rig, case) == wanted
        };
        wait_until("the endpoints that are to be ejected are", SOON, || self.dump(rig, case), settled);
    }

    /// Dials until the answers come from these endpoints, each of them and no other: Envoy's workers hear of changes
    /// within a second.
    #[track_caller]
    fn wait_for_answers(self, rig: &Rig<'_>, case: &Case, endpoints: &[usize]) {
        let wanted: Vec<_> = endpoints.iter().map(|nth| case.twin.endpoint(*nth)).collect();
        let settled = || {
            let answers = self.dial(rig, case, 80);
            answers.tally().into_keys().eq(wanted.iter().map(String::as_str))
        };
        wait_until("the right endpoints answer", SOON, || self.dump(rig, case), settled);
    }
}

/// Dials one by one until an endpoint that refuses is ejected; at how many failures that was.
#[track_caller]
fn failures_until_ejected(side: Side, rig: &Rig<'_>, case: &Case, expected: u64) -> u64 {
    loop {
        side.dial(rig, case, 1);
        let (address, failures, ejected) = side.endpoints(rig, case)[0];
        assert_eq!(address, case.twin.address(0));
        if failures >= expected && !ejected {
            // Envoy's main thread ejects, a moment after its worker counted.
            side.wait_for_ejected(rig, case, &[0], false);
            return failures;
        }
        if ejected {
            return failures;
        }
    }
}

#[test]
fn an_endpoint_is_ejected_after_the_same_number_of_failures() {
    let cases = [
        ("default", "maxEjectionPercent: 100", 5),
        ("consecutive-5xx", "consecutive5xxErrors: 3, maxEjectionPercent: 100", 3),
        ("gateway", "consecutiveGatewayErrors: 2, consecutive5xxErrors: 7, maxEjectionPercent: 100", 2),
        (
            "split",
            "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4, consecutive5xxErrors: 2, \
             maxEjectionPercent: 100",
            4,
        ),
        ("split-default", "splitExternalLocalOriginErrors: true, consecutive5xxErrors: 2, maxEjectionPercent: 100", 5),
        ("not-split", "consecutiveLocalOriginFailures: 2, consecutive5xxErrors: 6, maxEjectionPercent: 100", 6),
    ];
    let built: Vec<_> = (1..).zip(cases).map(|(number, (name, rule, _))| Case::new(number, name, 3, rule)).collect();
    let pod = Pod::new();
    let mut rig = Rig::new(&pod, &built);
    println!("{:20} {:>8} {:>8} {:>8}", "failures", "Envoy", "ldmesh", "expected");
    for (case, (name, _, expected)) in built.iter().zip(cases) {
        rig.refuse(case, 0..1);
        let [envoy, ldmesh] = BOTH.map(|side| failures_until_ejected(side, &rig, case, expected));
        println!("{name:20} {envoy:>8} {ldmesh:>8} {expected:>8}");
        assert_eq!((envoy, ldmesh), (expected, expected), "{name}");
        for side in BOTH {
            side.wait_for_answers(&rig, case, &[1, 2]);
        }
    }
}

#[test]
fn a_success_between_failures_starts_the_count_anew() {
    // With one endpoint there is nowhere to go on to: a connection fails once.
    let detection = "consecutive5xxErrors: 3, maxEjectionPercent: 100";
    let cases = [Case { attempts: 1, ..Case::new(1, "row", 1, detection) }];
    let [case] = &cases;
    let pod = Pod::new();
    let mut rig = Rig::new(&pod, &cases);
    for side in BOTH {
        let failures = |rig: &Rig<'_>| side.endpoints(rig, case)[0].1;
        for round in 1..=3 {
            rig.refuse(case, 0..1);
            side.dial(&rig, case, 2);
            wait_until("two failures", SOON, || side.dump(&rig, case), || failures(&rig) == 2 * round);
            rig.listen(case, 0..1);
            assert_eq!(side.dial(&rig, case, 1).0, [case.twin.endpoint(0)], "{side:?}");
            assert!(side.ejected(&rig, case).is_empty(), "{side:?}, round {round}");
        }
        rig.refuse(case, 0..1);
        side.dial(&rig, case, 3);
        side.wait_for_ejected(&rig, case, &[0], false);
        rig.listen(case, 0..1);
    }
}

/// Every endpoint refuses, so as many are ejected as may be.
#[test]
fn as_many_are_ejected_at_a_time_as_with_envoy() {
    // Of so many, at this percentage, so many: 100 * (ejected + 1) / all may not be more.
    let cases = [
        (1, "", 0),
        (1, "maxEjectionPercent: 100", 1),
        (3, "", 0),
        (3, "maxEjectionPercent: 33", 0),
        (3, "maxEjectionPercent: 34", 1),
        (3, "maxEjectionPercent: 66", 1),
        (3, "maxEjectionPercent: 67", 2),
        (3, "maxEjectionPercent: 100", 3),
        (10, "", 1),
        (10, "maxEjectionPercent: 9", 0),
        (10, "maxEjectionPercent: 19", 1),
        (10, "maxEjectionPercent: 20", 2),
        (10, "maxEjectionPercent: 50", 5),
        (10, "maxEjectionPercent: 100", 10),
    ];
    let build = |(number, (endpoints, percent, _)): (u8, (usize, &str, usize))| {
        Case::new(
            number,
            &format!("of-{endpoints}-{number}"),
            endpoints,
            &format!("consecutive5xxErrors: 2, {percent}"),
        )
    };
    let built: Vec<_> = (1..).zip(cases).map(build).collect();
    let pod = Pod::new();
    let mut rig = Rig::new(&pod, &built);
    println!("{:9} {:24} {:>8} {:>8} {:>8}", "endpoints", "detection", "Envoy", "ldmesh", "expected");
    for (case, (endpoints, percent, expected)) in built.iter().zip(cases) {
        rig.refuse(case, 0..endpoints);
        let [envoy, ldmesh] = BOTH.map(|side| {
            // Enough for several detections of each, ejected or not.
            let enough = || {
                side.dial(&rig, case, 10);
                let hosts = side.endpoints(&rig, case);
                hosts.iter().all(|(_, failures, ejected)| *ejected || *failures >= 6)
                    && side.ejected(&rig, case).len() >= expected
            };
            wait_until("enough failures", SOON, || side.dump(&rig, case), enough);
            side.ejected(&rig, case).len()
        });
        println!("{endpoints:9} {percent:24} {envoy:>8} {ldmesh:>8} {expected:>8}");
        assert_eq!((envoy, ldmesh), (expected, expected), "{percent} of {endpoints}");
    }
}

#[test]
fn while_endpoints_are_ejected_connections_go_where_they_go_with_envoy() {
    let keeps = "consecutive5xxErrors: 2, maxEjectionPercent: 100, baseEjectionTime: 300s";
    let local_and_remote = ["", "", "far/1", "far/1"];
    let cases = [
        Case::new(1, "failover", 4, keeps).in_localities(&local_and_remote),
        Case::new(2, "spill-over", 4, keeps).in_localities(&local_and_remote),
        Case::new(3, "panic", 4, &format!("{keeps}, minHealthPercent: 50")),
        Case::new(4, "half", 4, &format!("{keeps}, minHealthPercent: 50")),
        Case::new(5, "nobody", 2, keeps),
    ];
    // How many of the first endpoints are ejected, who then answers, and the shares.
    let outcomes: [(usize, &[usize], &[f64]); 5] = [
        (2, &[2, 3], &[1.0, 1.0]),
        (1, &[1, 2, 3], &[70.0, 15.0, 15.0]),
        (3, &[0, 1, 2, 3], &[1.0; 4]),
        (2, &[2, 3], &[1.0, 1.0]),
        (2, &[], &[]),
    ];
    let pod = Pod::new();
    let mut rig = Rig::new(&pod, &cases);
    let mut table = Comparison::head();
    for (case, (ejected, answering, shares)) in cases.iter().zip(outcomes) {
        // Local endpoints come first, and nobody but they is dialled at first.
        rig.refuse(case, 0..ejected);
        let gone: Vec<_> = (0..ejected).collect();
        for side in BOTH {
            side.wait_for_ejected(&rig, case, &gone, true);
        }
        rig.listen(case, 0..ejected);
        if answering.is_empty() {
            // Envoy accepts and closes; ldmesh leaves the connection to the kernel, which knows no way.
            let envoy = || case.twin.through_envoy(20).plainly(&pod).0.iter().all(|answer| answer == "closed");
            wait_until("Envoy has nobody left", SOON, || pod.dump(), envoy);
            let ldmesh = case.twin.through_ldmesh(20).in_mesh(&pod);
            assert!(ldmesh.0.iter().all(|answer| answer == "ENETUNREACH"), "{ldmesh:?}");
            continue;
        }
        for side in BOTH {
            side.wait_for_answers(&rig, case, answering);
        }
        let (envoy, ldmesh) = case.twin.both(&pod, 4000, |dials| dials);
        let names: Vec<_> = answering.iter().map(|nth| case.twin.endpoint(*nth)).collect();
        let expected = Some(names.iter().map(String::as_str).zip(shares.iter().copied()).collect());
        let host = case.twin.host();
        let comparison = Comparison { policy: &host, envoy: &envoy, ldmesh: &ldmesh, expected, on_purpose: None };
        table.push_str(&comparison.table());
        assert!(comparison.holds(), "{table}");
    }
    println!("{table}");
}

#[test]
fn ejections_last_as_long_as_with_envoy_and_longer_each_time() {
    const INTERVAL: Duration = Duration::from_millis(500);
    const BASE: Duration = Duration::from_secs(2);
    /// What Envoy's and our own sweeps may be late by.
    const LATE: Duration = Duration::from_secs(1);
    let detection = "consecutive5xxErrors: 1, maxEjectionPercent: 100, interval: 500ms, baseEjectionTime: 2s";
    let cases = [Case::new(1, "lasting", 2, detection)];
    let [case] = &cases;
    let pod = Pod::new();
    let mut rig = Rig::new(&pod, &cases);
    for nth in 1..=2 {
        rig.refuse(case, 0..1);
        // Between the last look that found no failure and the end of the one that found the endpoint ejected.
        let failures = |rig: &Rig<'_>, side: Side| side.endpoints(rig, case)[0].1;
        let so_far = BOTH.map(|side| failures(&rig, side));
        let mut none_yet = [Instant::now(); 2];
        let mut began = [None; 2];
        let both_began = || {
            for (i, side) in BOTH.into_iter().enumerate() {
                if began[i].is_some() {
                    continue;
                }
                let before = Instant::now();
                if failures(&rig, side) == so_far[i] {
                    none_yet[i] = before;
                }
                side.dial(&rig, case, 1);
                if side.ejected(&rig, case) == [case.twin.address(0)] {
                    began[i] = Some((none_yet[i], Instant::now()));
                }
            }
            Some((began[0]?, began[1]?))
        };
        let began = wait_for("both eject it", SOON, || pod.dump(), both_began);
        rig.listen(case, 0..1);
        // Between the beginning of the last look that found it ejected and the end of the first that did not.
        let mut still = [Instant::now(); 2];
        let mut ended = [None; 2];
        let both_ended = || {
            for (i, side) in BOTH.into_iter().enumerate() {
                let before = Instant::now();
                if ended[i].is_none() && side.ejected(&rig, case).is_empty() {
                    ended[i] = Some((still[i], Instant::now()));
                }
                still[i] = before;
            }
            Some((ended[0]?, ended[1]?))
        };
        let ended = wait_for("both take it back", SOON, || pod.dump(), both_ended);
        let seen = [(began.0, ended.0), (began.1, ended.1)];
        for (side, ((none_yet, ejected), (still, back))) in BOTH.into_iter().zip(seen) {
            let (shortest, longest) = (still.saturating_duration_since(ejected), back - none_yet);
            println!("ejection {nth}, {side:?}: {shortest:?} to {longest:?}");
            let least = BASE * nth;
            assert!(longest >= least, "ejection {nth}, {side:?}: ended after {longest:?} at most");
            assert!(shortest <= least + INTERVAL + LATE, "ejection {nth}, {side:?}: lasted {shortest:?} at least");
        }
        for side in BOTH {
            side.wait_for_answers(&rig, case, &[0, 1]);
        }
    }
}
