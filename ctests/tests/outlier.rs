//! Outlier detection: what some processes of a pod suffer from an endpoint keeps it from all of them for a while.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use ctests::{Backend, Finished, Manifest, Mode, Pod, Port, Running, Service, c_program, wait_for, wait_until};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

const VIP: &str = "10.96.0.10";
const NOBODY: [u8; 0] = [];

/// The greeter on port 8080 of its VIP and of its endpoints, in turn, with this outlier detection.
fn greeter(count: u8, detection: &str) -> Manifest {
    let endpoints: Vec<_> = (1..=count).map(address).collect();
    let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
    let service = Service::new("greeter", "default", &[VIP], &endpoints).ports(&[Port::new("tcp", 8080, 8080)]);
    Manifest::of(&[service]).and(&format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: greeter, namespace: default}}\n\
         spec:\n  host: greeter.default.svc.cluster.local\n  trafficPolicy:\n    loadBalancer: {{simple: ROUND_ROBIN}}\n    \
         connectionPool: {{tcp: {{connectTimeout: 1s}}}}\n    outlierDetection: {{{detection}}}\n"
    ))
}

fn address(nth: u8) -> String {
    format!("127.0.1.{nth}")
}

fn backend(pod: &Pod, mode: Mode, nth: u8) -> Backend {
    pod.backend_of(mode, &format!("{}:8080", address(nth)), &format!("greeter-{nth}"))
}

/// A preloaded program that does something for each line that it reads.
struct Told {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Told {
    #[track_caller]
    fn start(mut command: std::process::Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    #[track_caller]
    fn dialer(pod: &Pod) -> Self {
        let mut command = pod.mesh(c_program("dials_when_told"));
        command.args([VIP, "8080"]);
        Self::start(command)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// One connect: when it returned, and whom it reached or its error.
    #[track_caller]
    fn dial(&mut self) -> (i64, String) {
        writeln!(self.input.as_mut().unwrap(), "dial").unwrap();
        let line = self.line();
        let (at, how) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let how = how.trim_start_matches("backend=").trim_start_matches("connect=");
        (at.strip_prefix("at=").unwrap().parse().unwrap(), how.to_owned())
    }

    /// Dials until the mesh, not the kernel, answers for the VIP.
    #[track_caller]
    fn dial_into_mesh(&mut self, pod: &Pod) {
        wait_until("the mesh", Duration::from_secs(20), || pod.dump(), || self.dial().1 != "ENETUNREACH");
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The greeter's endpoints, by their number, as the status tells of them.
#[track_caller]
fn endpoints(pod: &Pod) -> Vec<Value> {
    let status = pod.status();
    let clusters = status["clusters"].as_array().unwrap();
    let greeter = clusters.iter().find(|cluster| cluster["name"].as_str().unwrap().contains("greeter")).unwrap();
    greeter["endpoints"].as_array().unwrap().clone()
}

fn is_ejected(endpoint: &Value) -> bool {
    !endpoint["ejected_for"].is_null()
}

/// The numbers of those that are ejected.
#[track_caller]
fn ejected(pod: &Pod) -> Vec<u8> {
    (1..).zip(endpoints(pod)).filter(|(_, endpoint)| is_ejected(endpoint)).map(|(nth, _)| nth).collect()
}

#[track_caller]
fn wait_for_ejection(pod: &Pod, nth: u8, mut meanwhile: impl FnMut()) {
    let out = || {
        meanwhile();
        ejected(pod) == [nth]
    };
    wait_until("the endpoint is ejected", Duration::from_secs(20), || pod.dump(), out);
}

fn now_us() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[test]
fn failures_that_two_processes_see_eject_an_endpoint_for_a_third_within_10_ms() {
    let pod = Pod::new();
    // Each connect meets both endpoints. Of two, half are one: the first to complete its row.
    let _refusing = [1, 2].map(|nth| backend(&pod, Mode::Refuse, nth));
    let detection = "consecutive5xxErrors: 4, baseEjectionTime: 60s, maxEjectionPercent: 50";
    let _control_plane = pod.serve(&greeter(2, detection));
    // The third makes no connect: it only asks which endpoint it should go to.
    let mut asks = pod.mesh(c_program("asks_without_pause"));
    asks.args(["greeter", "8080"]).env("LDMESH_RESOLVE", "endpoint");
    let mut third = Told::start(asks);
    assert_eq!(third.line(), "ready");
    let mut dialers = [(); 2].map(|()| Told::dialer(&pod));
    let mut last = 0;
    for nth in 0..4 {
        assert_eq!(ejected(&pod), NOBODY, "after {nth} failures");
        let (at, how) = dialers[nth % 2].dial();
        assert_eq!(how, "ECONNREFUSED");
        last = at;
    }
    wait_until("a while later", Duration::from_secs(5), || pod.dump(), || now_us() > last + 100_000);
    let out = ejected(&pod);
    assert_eq!(out.len(), 1, "{:?}", endpoints(&pod));
    drop(third.input.take());
    let (mut of_ejected, mut of_other) = (None, None);
    for _ in 0..2 {
        let line = third.line();
        let (found, time) = line.split_once(" last=").unwrap_or_else(|| panic!("{line:?}"));
        let time: i64 = time.parse().unwrap();
        let place = if found == format!("address={}", address(out[0])) { &mut of_ejected } else { &mut of_other };
        *place = Some(time - last);
    }
    let (of_ejected, of_other) = (of_ejected.unwrap(), of_other.unwrap());
    // By when the lookup began: what the scheduler adds to one that is under way is not the mesh's.
    println!("the third process was led to the endpoint until {of_ejected} us after the failure that ejected it");
    assert!(of_ejected <= 10_000, "{of_ejected} us");
    assert!(of_other > 100_000, "it asked on, and was led to the other one");
}

#[test]
fn an_ejection_ends_by_its_time_and_the_next_one_is_longer() {
    let pod = Pod::new();
    let _alive = backend(&pod, Mode::Echo, 2);
    let refusing = backend(&pod, Mode::Refuse, 1);
    let detection = "consecutive5xxErrors: 1, interval: 60s, baseEjectionTime: 2s, maxEjectionPercent: 50";
    let _control_plane = pod.serve(&greeter(2, detection));
    let mut dialer = Told::dialer(&pod);
    let mut began = now_us();
    dialer.dial_into_mesh(&pod);
    wait_for_ejection(&pod, 1, || {
        if ejected(&pod).is_empty() {
            began = now_us();
            dialer.dial();
        }
    });
    refusing.kill();
    let back = backend(&pod, Mode::Echo, 1);
    let reached = || Some(dialer.dial()).filter(|(_, whom)| whom == "greeter-1");
    let (at, _) = wait_for("it is back", Duration::from_secs(20), || pod.dump(), reached);
    let lasted = at - began;
    println!("ejected for {} ms", lasted / 1000);
    // Ejections are timed by the kernel's coarse clock, whose tick is at most 10 ms.
    assert!((1_990_000..10_000_000).contains(&lasted), "{lasted} us");
    assert_eq!(ejected(&pod), NOBODY);
    back.kill();
    let _refusing = backend(&pod, Mode::Refuse, 1);
    wait_for_ejection(&pod, 1, || drop(dialer.dial()));
    let endpoint = &endpoints(&pod)[0];
    assert_eq!(endpoint["ejections"], 2);
    assert!(endpoint["ejected_for"].as_u64().unwrap() > 2_000, "twice the base time: {endpoint}");
}

#[test]
fn processes_that_fail_at_once_eject_no_more_than_the_share() {
    let pod = Pod::new();
    let _refusing = [1, 2, 3, 4].map(|nth| backend(&pod, Mode::Refuse, nth));
    let detection = "consecutive5xxErrors: 1, baseEjectionTime: 60s, maxEjectionPercent: 50";
    let _control_plane = pod.serve(&greeter(4, detection));
    Told::dialer(&pod).dial_into_mesh(&pod);
    let mut dialers: Vec<_> = (0..8).map(|_| Told::dialer(&pod)).collect();
    for dialer in &mut dialers {
        // All at once: nobody's answer is awaited before the next one is told.
        dialer.input.as_mut().unwrap().write_all(&b"dial\n".repeat(50)).unwrap();
    }
    for dialer in &mut dialers {
        (0..50).for_each(|_| assert!(dialer.line().ends_with("connect=ECONNREFUSED")));
    }
    assert_eq!(ejected(&pod).len(), 2, "{:?}", endpoints(&pod));
}

#[test]
fn a_take_over_keeps_ejections() {
    let pod = Pod::new();
    let _alive = backend(&pod, Mode::Echo, 2);
    let refusing = backend(&pod, Mode::Refuse, 1);
    let detection = "consecutive5xxErrors: 2, baseEjectionTime: 60s, maxEjectionPercent: 50";
    let _control_plane = pod.serve(&greeter(2, detection));
    let mut dialer = Told::dialer(&pod);
    dialer.dial_into_mesh(&pod);
    wait_for_ejection(&pod, 1, || drop(dialer.dial()));
    refusing.kill();
    let _back = backend(&pod, Mode::Echo, 1);
    let former = pod.agents();
    former.iter().for_each(|agent| agent.signal(Signal::KILL).unwrap());
    let replaced = || {
        assert_eq!(dialer.dial().1, "greeter-2");
        pod.agents().iter().any(|agent| !former.contains(agent))
    };
    wait_until("another leader", Duration::from_secs(20), || pod.dump(), replaced);
    // What the new leader publishes is known by its generation.
    let published = || {
        let status = pod.status();
        status["image"]["term"].as_u64() > Some(1)
    };
    wait_until("its image", Duration::from_secs(20), || pod.dump(), published);
    for _ in 0..20 {
        assert_eq!(dialer.dial().1, "greeter-2");
    }
    let endpoint = &endpoints(&pod)[0];
    assert!(is_ejected(endpoint), "{endpoint}");
    assert_eq!(endpoint["ejected_by"], "consecutive 5xx");
}

#[test]
fn an_endpoint_that_hangs_is_ejected_by_connects_that_time_out() {
    let pod = Pod::new();
    let _alive = backend(&pod, Mode::Echo, 2);
    let _hanging = backend(&pod, Mode::Hang, 1);
    let detection = "consecutive5xxErrors: 2, baseEjectionTime: 60s, maxEjectionPercent: 50";
    let _control_plane = pod.serve(&greeter(2, detection));
    let mut dialer = Told::dialer(&pod);
    dialer.dial_into_mesh(&pod);
    wait_for_ejection(&pod, 1, || assert_eq!(dialer.dial().1, "greeter-2"));
    let failures = || endpoints(&pod)[0]["failures"].as_u64().unwrap();
    let before = failures();
    for _ in 0..20 {
        assert_eq!(dialer.dial().1, "greeter-2");
    }
    assert_eq!((before, failures()), (2, 2), "a connect met the endpoint that hangs");
    let explained = Finished::of(&mut pod.ldmesh(&["explain", "greeter:8080"]));
    for part in ["outlier   consecutive 5xx 2", "at most 50 % at a time", "EJECTED by consecutive 5xx for"] {
        assert!(explained.success().contains(part), "{part}: {explained}");
    }
    let status = Finished::of(&mut pod.ldmesh(&["status"]));
    assert!(status.success().contains("EJECTED for") && status.stdout.contains("by consecutive 5xx"), "{status}");
}

#[test]
fn an_endpoint_that_hangs_is_ejected_by_the_leader_where_programs_do_not_wait() {
    let pod = Pod::new();
    let _hanging = [1, 2].map(|nth| backend(&pod, Mode::Hang, nth));
    let detection = "consecutive5xxErrors: 2, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 50";
    let _control_plane = pod.serve(&greeter(2, detection));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "8080", "inet"])).success();
    // In turn: two connects each. They wait for 10 s, in poll.
    let dial = || Running::start(pod.mesh(c_program("dial_nonblocking")).args([VIP, "8080"]));
    let _dialers = [(); 4].map(|()| dial());
    let hang = || endpoints(&pod).iter().map(|endpoint| endpoint["failures"].as_u64().unwrap()).sum::<u64>() == 4;
    wait_until("four failures", Duration::from_secs(8), || pod.dump(), hang);
    assert_eq!(ejected(&pod).len(), 1, "{:?}", endpoints(&pod));
    // Looked at several times more, they count once.
    let later = now_us() + 1_500_000;
    wait_until("more looks", Duration::from_secs(5), || pod.dump(), || now_us() > later);
    assert!(hang(), "{:?}", endpoints(&pod));
}

#[test]
fn a_refusal_that_the_program_learns_from_so_error_counts() {
    let pod = Pod::new();
    let refusing = backend(&pod, Mode::Refuse, 1);
    let detection = "consecutive5xxErrors: 2, baseEjectionTime: 60s, maxEjectionPercent: 100";
    let _control_plane = pod.serve(&greeter(1, detection));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "8080", "inet"])).success();
    // With nowhere else to go, nothing is looked at before the program asks.
    for nth in 0..2 {
        assert_eq!(ejected(&pod), NOBODY, "after {nth} failures");
        let dial = Finished::of(pod.mesh(c_program("dial_nonblocking")).args([VIP, "8080"]));
        assert_eq!(dial.field("so_error"), Some("ECONNREFUSED"), "{dial}");
    }
    assert_eq!(ejected(&pod), [1]);
    assert_eq!(endpoints(&pod)[0]["failures"], 2);
    // Istio's outlier detection has no panic: without anybody left, the connect is the kernel's.
    drop(refusing);
    let dial = Finished::of(pod.mesh(c_program("dial")).args([VIP, "8080"]));
    assert_eq!(dial.field("connect"), Some("ENETUNREACH"), "{dial}");
}
