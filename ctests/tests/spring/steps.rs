//! What the demo shows, step by step. JVMs start slowly, so that all steps share one set of them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use ctests::{Greeting, Pod, Sidecar, SpringClient, SpringServer, wait_until};

use crate::cluster::Cluster;

const WEIGHTS: &str = include_str!("../../../k8s/demo/spring-server/weights.yaml");
/// istiod collects changes for 100 ms; a JVM does not look a name up again for 10 s after it was unknown.
const SOON: Duration = Duration::from_secs(30);
const MANY: usize = 400;
/// What a JVM makes of `ECONNREFUSED`.
const REFUSED: &str = "no greeting: java.net.ConnectException: Connection refused";
/// Without subsets.
const EVEN: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: spring-server
spec:
  hosts: [spring-server]
  http:
  - route:
    - destination: {host: spring-server}
";

/// A client in a mesh.
struct Demo<'a> {
    pod: &'a Pod,
    client: SpringClient<'a>,
    cluster: &'a dyn Cluster,
    since: Instant,
}

/// All steps, with a client and servers of their own.
#[track_caller]
pub fn follow(pod: &Pod, jars: &Path, cluster: &dyn Cluster) {
    let since = Instant::now();
    let spring = pod.spring(jars, cluster.url());
    let address = |host| Ipv4Addr::new(10, 244, 1, host);
    let loopback = SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, 3), 8080);
    let mut first = spring.server(address(1), "default", "v1");
    let mut second = spring.server(address(2), "default", "v2");
    let mut behind_envoy = spring.server_behind(loopback, address(3), "default", "v1");
    let mut elsewhere = spring.server(address(4), "other", "v1");
    let mut client = spring.client();
    client.wait_until_ready();
    for server in [&mut first, &mut second, &mut behind_envoy, &mut elsewhere] {
        server.wait_until_ready(pod);
    }
    let demo = Demo { pod, client, cluster, since };
    demo.tell("five JVMs are ready");

    demo.namespaces_are_told_apart(&first, &elsewhere);
    demo.weights_are_followed(&first, &second);
    let sidecar = pod.sidecar(behind_envoy.endpoint(), behind_envoy.listens);
    demo.sidecars_are_endpoints_like_others(&first, &behind_envoy, &sidecar);
    demo.replicas_come_and_go(first, [&second, &behind_envoy]);
}

impl Demo<'_> {
    #[track_caller]
    fn namespaces_are_told_apart(&self, here: &SpringServer, elsewhere: &SpringServer) {
        self.cluster.publish(&[here, elsewhere], "");
        // No address is the default one, `spring-server`.
        let names = [
            ("", here),
            ("spring-server", here),
            ("spring-server.other", elsewhere),
            ("spring-server.default.svc.cluster.local", here),
            ("spring-server.other.svc.cluster.local:80", elsewhere),
        ];
        for (name, server) in names {
            self.wait_for(&format!("{name:?} is answered"), name, |answers| all_are(answers, server));
        }
        for (name, server) in names.iter().cycle().take(4 * names.len()) {
            let answers = self.client.hello(name, 5);
            assert!(all_are(&answers, server), "{name:?}: {answers:?}");
        }
        self.tell("two namespaces");
    }

    /// By the VirtualService: a quarter, then nothing.
    #[track_caller]
    fn weights_are_followed(&self, v1: &SpringServer, v2: &SpringServer) {
        self.cluster.publish(&[v1, v2], WEIGHTS);
        self.wait_for("v2 answers", "", |answers| count(answers, v2) > 0);
        let answers = self.client.hello("", MANY);
        let (one, two) = (count(&answers, v1), count(&answers, v2));
        assert_eq!(one + two, MANY, "{answers:?}");
        // 100, and five times the standard deviation of 8.7 around it.
        assert!((57..=143).contains(&one), "v1 had {one} of {MANY}, v2 {two}");
        self.tell(&format!("weights 25 to 75: {one} to {two} of {MANY}"));

        self.cluster.publish(&[v1, v2], &all_to_v1());
        self.wait_for("v2 has no more", "", |answers| all_are(answers, v1));
        assert!(all_are(&self.client.hello("", MANY / 4), v1));
        self.tell("weights 100 to 0");
    }

    /// Both are v1, which has all the weight.
    #[track_caller]
    fn sidecars_are_endpoints_like_others(&self, plain: &SpringServer, behind: &SpringServer, sidecar: &Sidecar<'_>) {
        self.cluster.publish(&[plain, behind], &all_to_v1());
        self.wait_for("the one with a sidecar answers", "", |answers| count(answers, behind) > 0);
        let before = sidecar.requests();
        let answers = self.client.hello("", MANY / 2);
        let (without, with) = (count(&answers, plain), count(&answers, behind));
        assert_eq!(without + with, MANY / 2, "{answers:?}");
        assert_eq!(sidecar.requests() - before, with as u64, "requests that the sidecar passed on");
        // Half, and five times the standard deviation of a draw around it.
        assert!((65..=135).contains(&with), "{with} by the sidecar, {without} without");
        self.tell(&format!("{with} of {} through the sidecar", MANY / 2));
    }

    /// 1, none, 2.
    #[track_caller]
    fn replicas_come_and_go(&self, first: SpringServer, next: [&SpringServer; 2]) {
        self.cluster.publish(&[&first], EVEN);
        self.wait_for("the only one answers", "", |answers| all_are(answers, &first));
        // It still listens: who asks for it in vain was told not to.
        self.cluster.publish(&[], EVEN);
        let refused = Greeting { status: 502, text: REFUSED.to_owned() };
        self.wait_for("nobody answers", "", |answers| answers.iter().all(|one| *one == refused));
        first.kill();
        self.tell("no replica");
        self.cluster.publish(&next, EVEN);
        self.wait_for("both answer", "", |answers| next.iter().all(|server| count(answers, server) > 0));
        let answers = self.client.hello("", MANY / 4);
        let counts = next.map(|server| count(&answers, server));
        assert_eq!(counts[0] + counts[1], MANY / 4, "{answers:?}");
        assert!(counts.iter().all(|&count| count >= MANY / 16), "{counts:?}");
        self.tell(&format!("two replicas: {counts:?}"));
    }

    /// Asks ten times at once, again and again, until the answers are as wanted.
    #[track_caller]
    fn wait_for(&self, what: &str, name: &str, check: impl Fn(&[Greeting]) -> bool) {
        let since = Instant::now();
        let dump = || format!("{:?}\n{}\n{}", self.client.hello(name, 3), self.cluster.dump(), self.pod.dump());
        wait_until(what, SOON, dump, || check(&self.client.hello(name, 10)));
        println!("  {what}: after {:?}", since.elapsed());
    }

    fn tell(&self, what: &str) {
        println!("{:?}: {what}", self.since.elapsed());
    }
}

fn all_to_v1() -> String {
    WEIGHTS.replace("weight: 25", "weight: 100").replace("weight: 75", "weight: 0")
}

fn count(answers: &[Greeting], server: &SpringServer) -> usize {
    let greeting = server.greeting();
    answers.iter().filter(|one| one.status == 200 && one.text == greeting).count()
}

fn all_are(answers: &[Greeting], server: &SpringServer) -> bool {
    count(answers, server) == answers.len()
}
