//! Reverse proxies whose upstream is a service: nginx, HAProxy, Apache httpd. Each starts as root and has workers of
//! another user, which have a leader of their own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ctests::process::Process;
use ctests::{
    Backend, Cell, ControlPlane, Finished, Manifest, Mode, Pod, Running, Service, Works, can_map_users, skipped,
    wait_for, wait_until,
};
use rustix::process::Signal;

const AT: &str = "127.0.0.1:8000";
const PATIENCE: Duration = Duration::from_secs(20);
/// Debian's www-data.
const USER: u32 = 33;

/// A pod with a proxy in front of the greeter's endpoints.
struct Proxied<'pod> {
    pod: &'pod Pod,
    control_plane: ControlPlane<'pod>,
    backends: Vec<Backend>,
}

fn endpoints(members: &[u8]) -> Manifest {
    let endpoints: Vec<_> = members.iter().map(|n| format!("127.0.1.{n}")).collect();
    let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
    Manifest::of(&[Service::new("greeter", "default", &["10.96.0.10"], &endpoints)])
}

impl<'pod> Proxied<'pod> {
    fn new(pod: &'pod Pod) -> Self {
        Self { pod, backends: pod.greeters(Mode::Http, 4), control_plane: pod.serve(&endpoints(&[1, 2, 3])) }
    }

    /// One request through the proxy: the backend that answered. Fails when anything else comes back.
    #[track_caller]
    fn request(&self) -> String {
        let answer = Finished::of(self.pod.command("curl").args(["-sS", "--max-time", "5", "http://127.0.0.1:8000/"]));
        let backend = answer.success().split(' ').next().unwrap_or_default();
        assert!(backend.starts_with("greeter-"), "{answer}");
        backend.to_owned()
    }

    #[track_caller]
    fn answers(&self, count: usize) -> BTreeSet<String> {
        (0..count).map(|_| self.request()).collect()
    }

    #[track_caller]
    fn check_balanced(&self) {
        assert_eq!(self.answers(24).into_iter().collect::<Vec<_>>(), ["greeter-1", "greeter-2", "greeter-3"]);
    }

    /// Requests never fail while the workers get a leader of their own, which they then follow.
    #[track_caller]
    fn check_the_workers_user_is_led(&self) {
        let led = || {
            self.request();
            self.pod.agents().iter().any(|agent| is_of(*agent, USER))
        };
        wait_until("the workers' user has a leader", PATIENCE, || self.pod.dump(), led);
        self.check_balanced();
    }

    /// Connects look once a second who the user is.
    #[track_caller]
    fn check_requests_while_the_user_is_looked_at(&self) {
        let looked = Instant::now() + Duration::from_millis(1_500);
        while Instant::now() < looked {
            self.request();
        }
        self.check_balanced();
    }

    /// Endpoints come, go and die: the proxy follows without a reload and without a failed request.
    #[track_caller]
    fn check_follows_the_mesh(&mut self) {
        self.check_balanced();
        self.control_plane.apply(&endpoints(&[4]));
        let follows = || self.answers(5) == BTreeSet::from(["greeter-4".to_owned()]);
        wait_until("the new endpoint alone", PATIENCE, || self.pod.dump(), follows);
        self.control_plane.apply(&endpoints(&[1, 2, 3]));
        wait_until("the former endpoints", PATIENCE, || self.pod.dump(), || self.request() != "greeter-4");
        self.backends.remove(0).kill();
        let left = BTreeSet::from(["greeter-2".to_owned(), "greeter-3".to_owned()]);
        assert_eq!(self.answers(40), left);
        self.backends.insert(0, self.pod.backend("127.0.1.1:8080", "greeter-1"));
    }

    /// Its workers: the children of the other user.
    fn workers(&self) -> BTreeSet<Process> {
        let mut all = self.pod.processes();
        all.retain(|one| is_of(*one, USER) && !one.command_line().contains("agent"));
        all.into_iter().collect()
    }

    /// After `change` none of the present workers is left, others serve, and no request failed meanwhile.
    #[track_caller]
    fn check_new_workers(&self, what: &str, change: impl FnOnce()) {
        let before = self.workers();
        assert!(!before.is_empty(), "{}", self.pod.dump());
        change();
        let replaced = || {
            self.request();
            let now = self.workers();
            !now.is_empty() && now.is_disjoint(&before)
        };
        wait_until(what, PATIENCE, || self.pod.dump(), replaced);
        self.check_balanced();
    }

    /// A worker is killed, and its successor reaches the mesh as it did.
    #[track_caller]
    fn check_a_killed_worker_is_replaced(&self) {
        let before = self.workers();
        let one = *before.iter().next().unwrap();
        one.signal(Signal::KILL).unwrap();
        let fresh = || self.workers().difference(&before).next().copied();
        wait_for("another worker", PATIENCE, || self.pod.dump(), fresh);
        // The new one alone.
        for other in before {
            other.signal(Signal::KILL).unwrap();
        }
        wait_until("requests again", PATIENCE, || self.pod.dump(), || self.try_request());
        self.check_balanced();
    }

    fn try_request(&self) -> bool {
        let answer = Finished::of(self.pod.command("curl").args(["-sS", "--max-time", "5", "http://127.0.0.1:8000/"]));
        answer.stdout.starts_with("greeter-")
    }
}

fn is_of(process: Process, user: u32) -> bool {
    process.status("Uid").is_some_and(|ids| ids.split_whitespace().next() == Some(&user.to_string()))
}

fn start(pod: &Pod, program: &str, arguments: &[&str]) -> Running {
    pod.server(pod.mesh(program).args(arguments), AT)
}

#[test]
fn nginx_is_balanced_reloads_and_replaces_its_workers() {
    if !can_map_users() {
        return skipped("only root can map several users");
    }
    let cell = Cell::application("nginx");
    let pod = Pod::new();
    let mut proxied = Proxied::new(&pod);
    let config = pod.config("nginx/nginx.conf", &[]);
    let nginx = start(&pod, "nginx", &["-c", config.to_str().unwrap()]);
    proxied.check_the_workers_user_is_led();
    proxied.check_follows_the_mesh();
    proxied.check_new_workers("workers after a reload", || nginx.signal(Signal::HUP));
    proxied.check_a_killed_worker_is_replaced();
    cell.is(Works::Balanced, "over 3 endpoints; changes without reload; reload; killed worker; workers' own user");
}

#[test]
fn without_an_agent_workers_use_the_leader_that_is_a_thread_of_their_master() {
    if !can_map_users() {
        return skipped("only root can map several users");
    }
    let pod = Pod::builder().env("LDMESH_LEAD", "thread").build();
    let mut proxied = Proxied::new(&pod);
    let config = pod.config("nginx/nginx.conf", &[]);
    let nginx = start(&pod, "nginx", &["-c", config.to_str().unwrap()]);
    proxied.check_requests_while_the_user_is_looked_at();
    assert!(nginx.process().threads().contains(&"ldmesh".to_owned()), "{}", pod.dump());
    proxied.check_follows_the_mesh();
}

/// nginx's own resolver is not seen at the lookup. What the cluster's DNS gives it is: the address of the service, whose
/// connections are balanced; or, of a headless service, addresses of endpoints.
#[test]
fn nginx_with_a_resolver_of_its_own_is_balanced_where_dns_gives_it_the_services_address() {
    if !can_map_users() {
        return skipped("only root can map several users");
    }
    let cell = Cell::application("nginx with `resolver`");
    for (addresses, expected) in [(&["10.96.0.10"][..], 3), (&["127.0.1.1", "127.0.1.2"], 2)] {
        let pod = Pod::new();
        let proxied = Proxied::new(&pod);
        let dns = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps/nginx/dns.py");
        let mut dns = pod.command("/usr/bin/python3").arg(dns).args(addresses).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(dns.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let service = expected == 3;
        let upstream = if service { "greeter.default.svc.cluster.local" } else { "greeter-headless:8080" };
        let config = pod.config("nginx/resolver.conf", &[("@UPSTREAM@", upstream)]);
        let _nginx = start(&pod, "nginx", &["-c", config.to_str().unwrap()]);
        // No lookup is seen, so the first connections pass, while they call the leader.
        wait_until("a request is answered", PATIENCE, || pod.dump(), || proxied.try_request());
        assert_eq!(proxied.answers(24).len(), expected);
        assert_eq!(pod.agents().is_empty(), !service, "{}", pod.dump());
        dns.kill().unwrap();
        dns.wait().unwrap();
    }
    cell.is(
        Works::Balanced,
        "services with a ClusterIP, except the first connections, which find no leader; headless ones by nginx itself",
    );
}

/// HAProxy's workers change their user and, as Debian configures it, their root, and may not fork. So they start no
/// agent, the master's leader serves them, and only one that stays is sure to: one that the master spawned leaves when
/// nobody asks for a minute. With `insecure-fork-wanted` and no chroot they have a leader of their own.
#[test]
fn haproxy_is_balanced_and_reloads() {
    if !can_map_users() {
        return skipped("only root can map several users");
    }
    let cell = Cell::application("HAProxy");
    for confined in [true, false] {
        let pod = Pod::new();
        let mut proxied = Proxied::new(&pod);
        let chroot = format!("chroot {}", pod.folder().display());
        let more = if confined { &chroot } else { "insecure-fork-wanted" };
        let config = pod.config("haproxy/haproxy.cfg", &[("@MORE@", more)]);
        let arguments = ["-W", "-f", config.to_str().unwrap()];
        let _agent = confined.then(|| Running::start(&mut pod.ldmesh(&["agent"])));
        let mut haproxy = start(&pod, "haproxy", &arguments);
        if confined {
            proxied.check_requests_while_the_user_is_looked_at();
        } else {
            proxied.check_the_workers_user_is_led();
        }
        proxied.check_follows_the_mesh();
        proxied.check_new_workers("workers after a reload", || haproxy.signal(Signal::USR2));
        assert_eq!(pod.agents().iter().any(|agent| is_of(*agent, USER)), !confined, "{}", pod.dump());
        // Its master ends with a worker that was killed, for its supervisor to start it again.
        for worker in proxied.workers() {
            worker.signal(Signal::KILL).unwrap();
        }
        wait_until("the master ends", PATIENCE, || pod.dump(), || haproxy.has_ended());
        let _again = start(&pod, "haproxy", &arguments);
        proxied.check_balanced();
    }
    cell.is(
        Works::Balanced,
        "over 3 endpoints; changes without reload; reload; chroot; workers may not fork, so the master's leader must \
         stay (`ldmesh agent`), or set insecure-fork-wanted",
    );
}

/// Both ways in which Apache's workers serve: many threads, or one request after another.
#[test]
fn apache_is_balanced_reloads_and_replaces_its_workers() {
    if !can_map_users() {
        return skipped("only root can map several users");
    }
    let cell = Cell::application("Apache httpd");
    for mpm in ["event", "prefork"] {
        let pod = Pod::new();
        let mut proxied = Proxied::new(&pod);
        let config = pod.config("apache/apache.conf", &[("@MPM@", mpm)]);
        let apache = start(&pod, "apache2", &["-DFOREGROUND", "-f", config.to_str().unwrap()]);
        proxied.check_the_workers_user_is_led();
        proxied.check_follows_the_mesh();
        proxied.check_new_workers("workers after a graceful restart", || apache.signal(Signal::USR1));
        proxied.check_a_killed_worker_is_replaced();
    }
    cell.is(
        Works::Balanced,
        "event and prefork with disablereuse=On (kept connections stay with their endpoint), over 3 endpoints; changes; graceful; killed worker; workers' own user",
    );
}
