//! What happens to the victim: endpoints, their sets, the control plane and the leader come and go.
//!
//! The invariants that make the judgement exact: a service keeps an endpoint that never dies and never leaves its set,
//! unless its letters (see `ctests/c/soak.c`) allow what follows from that; names and VIPs never change.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ctests::{Backend, ControlPlane, Manifest, Mode, Pod, Port};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

/// Words of the victim's table for a service.
const ENDPOINTS: usize = 16;
/// A new set of endpoints comes after this long.
const PUSH: Duration = Duration::from_millis(250);

/// A service of the soak.
pub struct Service {
    pub name: &'static str,
    pub vip: &'static str,
    /// Its endpoints are `net`.1 to `net`.`count`, port 8080.
    net: &'static str,
    count: u8,
    /// The first ones, which never leave the set.
    stay: u8,
    /// Those from here on die and come back.
    mortal_from: u8,
    mode: Mode,
    /// What the victim allows.
    letters: &'static str,
}

const fn service(name: &'static str, vip: &'static str, net: &'static str, letters: &'static str) -> Service {
    Service { name, vip, net, count: 4, stay: 1, mortal_from: 5, mode: Mode::Echo, letters }
}

/// Every kind of endpoint.
pub const SERVICES: [Service; 8] = [
    // No endpoint ever dies; the set changes.
    service("solid", "10.96.0.11", "127.0.11", ""),
    // Endpoints die, too.
    Service { mortal_from: 2, ..service("steady", "10.96.0.12", "127.0.12", "nd") },
    // Each set names another address at which nobody ever listened.
    service("churn", "10.96.0.13", "127.0.13", "n"),
    // All of them die at times.
    Service { mortal_from: 1, ..service("moody", "10.96.0.14", "127.0.14", "nrd") },
    Service { mode: Mode::Reset, ..service("reset", "10.96.0.15", "127.0.15", "b") },
    Service { mode: Mode::Slow, ..service("slow", "10.96.0.16", "127.0.16", "") },
    // One endpoint answers, one refuses, one hangs.
    Service { count: 3, stay: 3, ..service("mixed", "10.96.0.17", "127.0.17", "nt") },
    Service { count: 2, stay: 2, mode: Mode::Hang, ..service("hang", "10.96.0.18", "127.0.18", "h") },
];

/// A connect timeout of 1 s.
fn impatient(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  host: {name}.default.svc.cluster.local\n  trafficPolicy:\n    connectionPool:\n      \
         tcp: {{connectTimeout: 1s}}\n"
    )
}

impl Service {
    /// As the victim is told.
    pub fn argument(&self) -> String {
        format!("{}={}={}.={}", self.name, self.vip, self.net, self.letters)
    }

    fn address(&self, nth: u8) -> String {
        format!("{}.{nth}", self.net)
    }

    fn mode_of(&self, nth: u8) -> Mode {
        match (self.name, nth) {
            ("mixed", 2) => Mode::Refuse,
            ("mixed", 3) => Mode::Hang,
            _ => self.mode,
        }
    }
}

/// splitmix64: repeatable from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn soon(&mut self, from: u64, to: u64) -> Instant {
        Instant::now() + Duration::from_millis(from + self.below(to - from))
    }
}

/// Everything around the victim.
pub struct Chaos<'pod> {
    pod: &'pod Pod,
    random: Random,
    /// By service and number.
    backends: Vec<Vec<Option<Backend>>>,
    control_plane: ControlPlane<'pod>,
    retired: PathBuf,
    table: File,
    in_set: Vec<[bool; ENDPOINTS]>,
    push_at: Instant,
    backend_at: Instant,
    control_plane_at: Instant,
    leader_at: Instant,
    pushes: u32,
    deaths: u32,
    restarts: u32,
    takeovers: u32,
}

impl<'pod> Chaos<'pod> {
    /// Starts every endpoint and the control plane.
    pub fn start(pod: &'pod Pod, seed: u64) -> Self {
        let backends = SERVICES.iter().map(|service| (1..=service.count).map(|n| start(pod, service, n)).collect());
        let retired = pod.folder().join("retired");
        let table = File::create(&retired).unwrap();
        table.set_len((ENDPOINTS * ENDPOINTS * 8) as u64).unwrap();
        let mut random = Random(seed);
        let in_set = vec![[true; ENDPOINTS]; SERVICES.len()];
        let control_plane = pod.serve(&manifest(&in_set, 1));
        Self {
            pod,
            backends: Vec::from_iter(backends),
            control_plane,
            retired,
            table,
            in_set,
            push_at: Instant::now(),
            backend_at: Instant::now(),
            control_plane_at: random.soon(3_000, 6_000),
            leader_at: random.soon(3_000, 8_000),
            random,
            pushes: 0,
            deaths: 0,
            restarts: 0,
            takeovers: 0,
        }
    }

    /// The file that tells the victim which endpoints left their sets, and when.
    pub fn retired(&self) -> &Path {
        &self.retired
    }

    /// Does what is due.
    pub fn step(&mut self, may_kill_the_leader: bool) {
        let now = Instant::now();
        if now >= self.push_at {
            self.push();
            self.push_at = now + PUSH;
        }
        if now >= self.backend_at {
            self.kill_or_start_a_backend();
            self.backend_at = self.random.soon(50, 300);
        }
        if now >= self.control_plane_at {
            self.kill_or_start_the_control_plane();
        }
        if now >= self.leader_at && may_kill_the_leader {
            for agent in self.pod.agents() {
                agent.signal(Signal::KILL).unwrap();
                self.takeovers += 1;
            }
            self.leader_at = self.random.soon(4_000, 9_000);
        }
    }

    /// No more changes; the control plane serves.
    pub fn calm(&mut self) {
        if self.control_plane.process().is_none() {
            self.control_plane.start();
        }
    }

    fn push(&mut self) {
        for (at, service) in SERVICES.iter().enumerate() {
            for nth in service.stay + 1..=service.count {
                self.put(at, nth, self.in_set[at][usize::from(nth)]);
            }
            let changed = service.stay + 1 + self.random.below(u64::from(ENDPOINTS as u8)) as u8;
            if changed <= service.count {
                let is_in = self.in_set[at][usize::from(changed)];
                self.put(at, changed, !is_in);
            }
        }
        self.pushes += 1;
        self.control_plane.apply(&manifest(&self.in_set, self.pushes));
    }

    /// Notes whether an endpoint is in the set from now on.
    fn put(&mut self, service: usize, nth: u8, is_in: bool) {
        let known = &mut self.in_set[service][usize::from(nth)];
        if std::mem::replace(known, is_in) != is_in {
            let since = if is_in { 0 } else { boot_ms() };
            let at = (service * ENDPOINTS + usize::from(nth)) * 8;
            self.table.write_all_at(&since.to_ne_bytes(), at as u64).unwrap();
        }
    }

    fn kill_or_start_a_backend(&mut self) {
        let at = self.random.below(SERVICES.len() as u64) as usize;
        let service = &SERVICES[at];
        if service.mortal_from > service.count {
            return;
        }
        let nth = service.mortal_from + self.random.below(u64::from(service.count - service.mortal_from + 1)) as u8;
        let place = &mut self.backends[at][usize::from(nth - 1)];
        match place.take() {
            Some(alive) => {
                alive.kill();
                self.deaths += 1;
            }
            None => *place = start(self.pod, service, nth),
        }
    }

    fn kill_or_start_the_control_plane(&mut self) {
        if self.control_plane.process().is_some() {
            self.control_plane.kill();
            self.control_plane_at = self.random.soon(100, 2_000);
        } else {
            self.control_plane.start();
            self.restarts += 1;
            self.control_plane_at = self.random.soon(3_000, 6_000);
        }
    }

    /// What was done.
    pub fn summary(&self) -> String {
        let Self { pushes, deaths, restarts, takeovers, .. } = self;
        format!(
            "{pushes} pushes, {deaths} deaths of endpoints, {restarts} of the control plane, {takeovers} of leaders"
        )
    }

    pub fn check_that_everything_happened(&self) {
        let least = self.pushes.min(self.deaths).min(self.restarts).min(self.takeovers);
        assert!(least > 1, "{}", self.summary());
    }
}

fn start(pod: &Pod, service: &Service, nth: u8) -> Option<Backend> {
    let address = format!("{}:8080", service.address(nth));
    Some(pod.backend_of(service.mode_of(nth), &address, &format!("{}-{nth}", service.name)))
}

fn manifest(in_set: &[[bool; ENDPOINTS]], push: u32) -> Manifest {
    let nobody = format!("127.200.{}.{}", push / 250 % 250, 1 + push % 250);
    let services: Vec<_> = SERVICES
        .iter()
        .zip(in_set)
        .map(|(service, in_set)| {
            let members = (1..=service.count).filter(|nth| in_set[usize::from(*nth)]);
            let mut members: Vec<String> = members.map(|nth| service.address(nth)).collect();
            if service.name == "churn" {
                members.push(nobody.clone());
            }
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            ctests::Service::new(service.name, "default", &[service.vip], &members).ports(&[Port::new("tcp", 80, 8080)])
        })
        .collect();
    Manifest::of(&services).and(&impatient("mixed")).and(&impatient("hang"))
}

/// The victim's clock.
fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}
