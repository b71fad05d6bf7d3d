//! What a control plane does all day: endpoints come and go, istiod dies and comes back, and so does everything it
//! knows.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use ctests::{Mode, Pod, Running, c_program};
use rustix::process::Signal;

use super::*;

/// The service `shop` with these endpoints, 10.244.1.N.
fn shop(endpoints: &[u8]) -> String {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|n| json!({"addresses": [format!("10.244.1.{n}")], "conditions": {"ready": true}}))
        .collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "shop", "namespace": "default", "labels": {"kubernetes.io/service-name": "shop"}},
        "ports": [{"name": "tcp", "port": 7000}], "endpoints": endpoints,
    });
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: shop, namespace: default}}\n\
         spec: {{clusterIP: 10.96.3.1, ports: [{{name: tcp, port: 7000}}]}}\n---\n{slice}\n"
    )
}

/// A program that connects without end and tells whom it reaches, and when.
struct Watcher {
    _program: Running,
    _keep: Option<ChildStdin>,
    seen: Receiver<(u64, String)>,
}

impl Watcher {
    fn start(pod: &Pod) -> Self {
        let mut command = pod.mesh(c_program("watches"));
        command.args(["10.96.3.1", "7000"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (told, seen) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let (at, name) = line.split_once(' ').unwrap();
                if told.send((at.parse().unwrap(), name.to_owned())).is_err() {
                    break;
                }
            }
        });
        Self { _keep: child.stdin.take(), _program: Running::of(child), seen }
    }

    /// Waits until it reaches `name`; gives when, in microseconds since the epoch.
    #[track_caller]
    fn wait_for(&self, name: &str) -> u64 {
        loop {
            let (at, seen) = self.seen.recv_timeout(SOON).unwrap_or_else(|_| panic!("{name} is not reached"));
            if seen == name {
                return at;
            }
        }
    }
}

fn now_us() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

#[test]
fn a_changed_endpoint_is_used_within_1500_ms_of_the_change_and_mostly_10_ms_of_the_push() {
    if !has_istio() {
        return;
    }
    const CHANGES: usize = 10;
    let pod = Pod::in_cluster();
    let _backends = [1, 2].map(|n| pod.backend_of(Mode::Echo, &format!("10.244.1.{n}:7000"), &format!("shop-{n}")));
    let (kubernetes, _istiod) = istio(&pod, "{}");
    kubernetes.apply(&shop(&[1]));
    wait_until(
        "the service is known",
        SOON,
        || pod.dump(),
        || {
            let _ = who(&pod, "http://shop:7000/");
            explain(&pod, "shop:7000").contains("10.244.1.1:7000")
        },
    );
    let watcher = Watcher::start(&pod);
    watcher.wait_for("shop-1");

    // When bytes of the control plane arrive at the leader.
    let log = pod.folder().join("leader.strace");
    let leader = pod.agents().pop().unwrap();
    let mut strace = pod.command("strace");
    strace.args(["-f", "-qq", "-ttt", "-e", "trace=recvfrom", "-p", &leader.0.to_string(), "-o"]).arg(&log);
    let strace = Running::start(&mut strace);
    wait_until(
        "strace follows the leader",
        SOON,
        || pod.dump(),
        || leader.status("TracerPid").is_some_and(|tracer| tracer != "0"),
    );

    let (mut used, mut after_change) = (Vec::new(), Vec::new());
    for n in 0..CHANGES {
        let to = if n % 2 == 0 { 2 } else { 1 };
        let begun = now_us();
        kubernetes.apply(&shop(&[to]));
        let at = watcher.wait_for(&format!("shop-{to}"));
        used.push((begun, at));
        after_change.push((at - begun) / 1000);
    }
    strace.signal(Signal::INT);
    strace.finish();

    // The first that came after the change began and is longer than a frame of HTTP/2's own.
    let arrivals: Vec<u64> = std::fs::read_to_string(&log).unwrap().lines().filter_map(arrival).collect();
    let mut after_push: Vec<u64> = used
        .iter()
        .map(|&(begun, at)| at.saturating_sub(*arrivals.iter().find(|&&arrived| arrived > begun).unwrap()))
        .collect();
    println!("ms from `kubectl apply` to the first connection: {after_change:?}");
    println!("us from the push's arrival to the first connection: {after_push:?}");
    // The first bytes may have been those of another push, so the median counts.
    after_push.sort_unstable();
    assert!(after_change.iter().all(|&took| took < 1500), "{after_change:?} ms");
    assert!(after_push[CHANGES / 2] < 10_000, "{after_push:?} us");
}

/// The microseconds of a `recvfrom` that got more than 100 bytes.
fn arrival(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(' ')?;
    let (at, call) = rest.trim_start().split_once(' ')?;
    let got: usize = call.rsplit_once("= ")?.1.trim().parse().ok()?;
    let (seconds, micros) = at.split_once('.')?;
    (got > 100).then_some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
}

#[test]
fn istiod_dies_and_comes_back_and_nobody_notices() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let _backends = [1, 2, 3].map(|n| pod.backend(&format!("10.244.1.{n}:7000"), &format!("shop-{n}")));
    let (kubernetes, mut istiod) = istio(&pod, "{}");
    kubernetes.apply(&shop(&[1]));
    check_answers(&pod, "http://shop:7000/", "shop-1");
    for round in 0..3 {
        istiod.kill();
        // The last good endpoints serve on; a change waits.
        let to = 2 + round % 2;
        kubernetes.apply(&shop(&[to]));
        let last = if round == 0 { 1 } else { 2 + (round + 1) % 2 };
        for _ in 0..20 {
            assert_eq!(who(&pod, "http://shop:7000/"), format!("shop-{last}"));
        }
        istiod.start();
        check_answers(&pod, "http://shop:7000/", &format!("shop-{to}"));
    }
    wait_until("SYNCED", SOON, || format!("{:#}", istiod.syncz()), || istiod.is_synced("app-0.default"));
    assert_eq!(istiod.syncz().as_array().unwrap().len(), 1, "one stream a pod: {:#}", istiod.syncz());
    assert_eq!(pod.agents().len(), 1);
}

#[test]
fn a_hundred_changes_of_endpoints_end_with_the_last_ones() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let _backends = [1, 2, 3, 4].map(|n| pod.backend(&format!("10.244.1.{n}:7000"), &format!("shop-{n}")));
    let (kubernetes, istiod) = istio(&pod, "{}");
    kubernetes.apply(&shop(&[1]));
    check_answers(&pod, "http://shop:7000/", "shop-1");
    for n in 0..100_u8 {
        // Now and then nobody is left.
        let all: &[u8] = if n % 10 == 9 { &[] } else { &[1 + n % 4, 1 + (n + 1) % 4] };
        kubernetes.apply(&shop(all));
    }
    kubernetes.apply(&shop(&[4]));
    // One of the changes before led to this one, too.
    let settled = || {
        let shop = explain(&pod, "shop:7000");
        shop.contains("10.244.1.4:") && (1..4).all(|n| !shop.contains(&format!("10.244.1.{n}:")))
    };
    wait_until("the last endpoints alone", SOON, || explain(&pod, "shop:7000"), settled);
    check_answers(&pod, "http://shop:7000/", "shop-4");
    wait_until("SYNCED", SOON, || format!("{:#}", istiod.syncz()), || istiod.is_synced("app-0.default"));
}
