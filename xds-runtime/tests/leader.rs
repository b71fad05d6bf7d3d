//! A leader between a real control plane and readers of its run directory.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use control_plane::{Handle, Listener, Server, Snapshot};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use envoy_types::pb::envoy::config::core::v3::{AggregatedConfigSource, ConfigSource, config_source};
use envoy_types::pb::google::protobuf;
use prost::Message;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use xds_runtime::config::Settings;
use xds_runtime::control::LEADER_STALE_MS;
use xds_runtime::image::{ImageFile, Torn, View};
use xds_runtime::leader::run_dir::Open;
use xds_runtime::leader::status::Status;
use xds_runtime::leader::{Ended, Failed, Host, HostKind, NotLeading, attempt};
use xds_runtime::outlier::{Detector, Thresholds};
use xds_runtime::pod::{Pod, names};
use xds_runtime::shm::{WordAddr, now};
use xds_runtime::state::{Slot, State};

const DEADLINE: Duration = Duration::from_secs(15);
const VIP: &str = "10.96.0.10";
const GREETER: &str = "outbound|80||greeter.default.svc.cluster.local";
/// A ClusterLoadAssignment of the greeter whose overprovisioning factor is 0, which no client may accept.
const REJECTED: &str = "Ci5vdXRib3VuZHw4MHx8Z3JlZXRlci5kZWZhdWx0LnN2Yy5jbHVzdGVyLmxvY2FsIgIaAA==";

/// A control plane in tasks of a runtime of its own.
struct ControlPlane {
    runtime: Runtime,
    handle: Handle,
}

impl ControlPlane {
    fn start(address: &str, yaml: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let handle = runtime.block_on(async {
            let listener = Listener::bind(address).await.unwrap();
            Server::builder().snapshot(Snapshot::from_yaml(yaml).unwrap()).serve(listener)
        });
        Self { runtime, handle }
    }

    fn apply(&self, yaml: &str) -> u64 {
        self.handle.set_snapshot(Snapshot::from_yaml(yaml).unwrap())
    }

    fn wait_for_nack(&self) {
        let wait = self.handle.wait_for(|stats| stats.types.get("EDS").is_some_and(|eds| eds.nacks > 0));
        self.runtime.block_on(async { tokio::time::timeout(DEADLINE, wait).await }).expect("a NACK");
    }

    /// As kill -9: no goodbye, and its port is free again.
    fn kill(self) {
        self.runtime.shutdown_timeout(DEADLINE);
    }
}

/// The greeter with these endpoints.
fn mesh(endpoints: &[&str]) -> String {
    format!("{}{}", service("greeter", VIP, endpoints), service("other", "10.96.0.11", &["127.0.2.1"]))
}

fn service(name: &str, vip: &str, endpoints: &[&str]) -> String {
    let endpoints: String = endpoints.iter().map(|ip| format!("- addresses: [{ip}]\n")).collect();
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  clusterIP: {vip}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints:
{endpoints}---
"
    )
}

fn with_rejected_greeter(yaml: &str) -> String {
    format!(
        "\
{yaml}apiVersion: ldmesh.io/v1
kind: XdsResource
metadata: {{name: rejected}}
spec:
  typeUrl: type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  name: '{GREETER}'
  base64: '{REJECTED}'
"
    )
}

/// A pod: a run directory with readers, and leaders that come and go.
struct Fixture {
    _folder: tempfile::TempDir,
    settings: &'static Settings,
    pod: &'static Pod,
}

impl Fixture {
    fn new(control_plane: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = folder.path().to_str().unwrap().to_owned();
        let url = format!("http://{control_plane}");
        let settings: &'static Settings = Box::leak(Box::new(Settings::from_env([
            ("LDMESH_XDS", url.as_str()),
            ("LDMESH_RUN_DIR", run_dir.as_str()),
            ("POD_NAME", "client"),
            ("POD_NAMESPACE", "default"),
            ("INSTANCE_IP", "127.0.0.9"),
        ])));
        let pod: &'static Pod = Box::leak(Box::new(Pod::attach(settings).unwrap()));
        Self { _folder: folder, settings, pod }
    }

    fn lead(&self) -> Leader {
        let stop = Arc::new(Notify::new());
        let kind = HostKind::Agent { idle_exit: None, spawned: false };
        let host = Host { kind, enter: || (), stop: Arc::clone(&stop), give_back: || () };
        let (pod, settings) = (self.pod, self.settings);
        Leader { stop, thread: std::thread::spawn(move || attempt(pod, settings, host)) }
    }

    /// Some process wants the greeter.
    fn want_greeter(&self) {
        let key = WordAddr::new(VIP.parse().unwrap()).wanted_key();
        assert!(self.pod.control().want(key, now(), 60_000).is_some());
    }

    /// Waits until what a reader sees satisfies `wanted`.
    #[track_caller]
    fn wait_until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let (control, deadline) = (self.pod.control(), Instant::now() + DEADLINE);
        loop {
            let news = control.news();
            let seen = self.pod.image().and_then(|image| Seen::read(&image));
            match seen {
                Some(seen) if wanted(&seen) => return seen,
                seen if Instant::now() > deadline => panic!("{what}: not within {DEADLINE:?}, but {seen:?}"),
                _ => {}
            }
            control.await_news(news, Duration::from_millis(100));
        }
    }

    #[track_caller]
    fn wait_for_greeters(&self, endpoints: &[&str]) -> Seen {
        self.wait_until("the greeter's endpoints", |seen| seen.greeters.as_deref() == Some(&strings(endpoints)))
    }

    /// What the leader says about itself; `None` before it said anything.
    fn status(&self) -> Option<Status> {
        let file = self.pod.run_dir().unwrap().open_file(names::STATUS, Open::Read).unwrap()?;
        Some(serde_json::from_reader(std::fs::File::from(file.into_owned())).unwrap())
    }
}

struct Leader {
    stop: Arc<Notify>,
    thread: JoinHandle<Result<Ended, NotLeading>>,
}

impl Leader {
    fn stop(self) -> Ended {
        self.stop.notify_one();
        self.end()
    }

    fn end(self) -> Ended {
        self.thread.join().unwrap().unwrap()
    }
}

/// What a reader sees of the greeter.
#[derive(Debug)]
struct Seen {
    generation: u64,
    resolves: bool,
    /// `None`: not known yet.
    greeters: Option<Vec<String>>,
}

impl Seen {
    fn read(image: &ImageFile) -> Option<Self> {
        let read = |view: &View<'_>| {
            let resolves = view.name(b"greeter.default.svc.cluster.local")?.is_some();
            Ok(Self { generation: image.generation(), resolves, greeters: greeters(view)? })
        };
        image.read(read).ok()
    }
}

fn greeters(view: &View<'_>) -> Result<Option<Vec<String>>, Torn> {
    for index in 0..view.cluster_count()? {
        let cluster = view.cluster(index)?;
        if view.string(cluster.name)? != GREETER || !cluster.endpoints_known {
            continue;
        }
        let mut found = Vec::new();
        for nth in 0..cluster.priority_count() {
            let set = view.priority(&cluster, nth)?.set;
            for nth in 0..set.len() {
                found.push(view.endpoint(&set, nth)?.address.ip().to_string());
            }
        }
        found.sort();
        return Ok(Some(found));
    }
    Ok(None)
}

/// The slots of the greeter's endpoints, in order of their addresses.
fn greeter_slots(image: &ImageFile, state: State) -> Vec<Slot<'static>> {
    let read = |view: &View<'_>| {
        let mut found = Vec::new();
        for index in 0..view.cluster_count()? {
            let cluster = view.cluster(index)?;
            if view.string(cluster.name)? == GREETER {
                let set = view.priority(&cluster, 0)?.set;
                for nth in 0..set.len() {
                    found.push(state.slot_at(view.endpoint(&set, nth)?.slot.unwrap()).unwrap());
                }
            }
        }
        Ok(found)
    };
    image.read(read).unwrap()
}

/// A cluster in the place of the one that its service would give.
fn with_cluster(yaml: &str, cluster: &Cluster) -> String {
    format!(
        "{yaml}apiVersion: ldmesh.io/v1\nkind: XdsResource\nmetadata: {{name: cluster}}\nspec:\n  \
         typeUrl: type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: '{}'\n  base64: '{}'\n",
        cluster.name,
        base64(&cluster.encode_to_vec())
    )
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |chunk: &[u8]| {
        let word = (0..3).fold(0, |word, nth| word << 8 | usize::from(chunk.get(nth).copied().unwrap_or(0)));
        let digit = |nth: usize| if nth <= chunk.len() { char::from(DIGITS[word >> (18 - 6 * nth) & 63]) } else { '=' };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(digits).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn names_are_published_at_once_and_endpoints_when_somebody_wants_them() {
    let control_plane = ControlPlane::start("127.0.0.1:0", &mesh(&["127.0.1.1"]));
    let fixture = Fixture::new(control_plane.handle.address());
    let leader = fixture.lead();
    let first = fixture.wait_until("a first publish", |_| true);
    assert!(first.resolves, "the first publish is complete");
    assert_eq!(first.greeters, None, "nobody wanted them");

    fixture.want_greeter();
    fixture.wait_for_greeters(&["127.0.1.1"]);
    let key = WordAddr::new(VIP.parse().unwrap()).wanted_key();
    assert!(fixture.pod.control().want(key, now(), 60_000).unwrap().answered);

    control_plane.apply(&mesh(&["127.0.1.1", "127.0.1.2"]));
    fixture.wait_for_greeters(&["127.0.1.1", "127.0.1.2"]);
    assert_eq!(control_plane.handle.stats().streams_total, 1);
    assert!(matches!(leader.stop(), Ended::Asked));
    assert!(!fixture.pod.control().lead().is_alive(now()), "it resigned");
}

#[test]
fn a_rejected_resource_keeps_its_last_good_value_across_a_take_over_without_control_plane() {
    let control_plane = ControlPlane::start("127.0.0.1:0", &mesh(&["127.0.1.1"]));
    let fixture = Fixture::new(control_plane.handle.address());
    fixture.want_greeter();
    let first = fixture.lead();
    fixture.wait_for_greeters(&["127.0.1.1"]);

    control_plane.apply(&with_rejected_greeter(&mesh(&["127.0.1.3"])));
    control_plane.wait_for_nack();
    // The NACK goes out before the leader notes it.
    fixture.wait_until("the rejected resource in the status", |_| {
        let eds = fixture.status().and_then(|status| status.types.into_iter().find(|kind| kind.name == "EDS"));
        eds.is_some_and(|eds| eds.rejected.first().is_some_and(|nack| nack.name == GREETER))
    });
    fixture.wait_for_greeters(&["127.0.1.1"]);
    assert!(matches!(first.stop(), Ended::Asked));

    control_plane.kill();
    let image_before = fixture.pod.control().image().unwrap();
    let second = fixture.lead();
    fixture.wait_until("the successor's image", |_| fixture.pod.control().image() != Some(image_before));
    let seeded = fixture.wait_for_greeters(&["127.0.1.1"]);
    assert!(seeded.resolves);
    assert!(matches!(second.stop(), Ended::Asked));
}

#[test]
fn a_leader_that_finds_another_one_steps_down_and_its_image_gives_way() {
    let control_plane = ControlPlane::start("127.0.0.1:0", &mesh(&["127.0.1.1"]));
    let fixture = Fixture::new(control_plane.handle.address());
    fixture.want_greeter();
    let first = fixture.lead();
    fixture.wait_for_greeters(&["127.0.1.1"]);
    // As seen by a process after the leader was silent for long enough.
    let usurper = loop {
        match fixture.pod.control().take_lead(now() + 2 * LEADER_STALE_MS) {
            Some(term) => break term,
            // It beat in between.
            None => std::thread::yield_now(),
        }
    };
    assert!(matches!(first.end(), Ended::Deposed));
    assert!(usurper.holds(), "the deposed leader took nothing away");
    usurper.resign();

    let epoch = fixture.pod.control().lead().epoch;
    let second = fixture.lead();
    control_plane.apply(&mesh(&["127.0.1.9"]));
    fixture.wait_for_greeters(&["127.0.1.9"]);
    assert_eq!(fixture.pod.control().image().unwrap().term, epoch + 1);
    assert!(matches!(second.stop(), Ended::Asked));
}

#[test]
fn a_control_plane_that_was_killed_and_comes_back_with_other_endpoints_is_followed() {
    let control_plane = ControlPlane::start("127.0.0.1:0", &mesh(&["127.0.1.1"]));
    let address = control_plane.handle.address().to_owned();
    let fixture = Fixture::new(&address);
    fixture.want_greeter();
    let leader = fixture.lead();
    let before = fixture.wait_for_greeters(&["127.0.1.1"]);
    control_plane.kill();
    let control_plane = ControlPlane::start(&address, &mesh(&["127.0.1.7"]));
    let after = fixture.wait_for_greeters(&["127.0.1.7"]);
    assert!(after.generation > before.generation);
    assert!(matches!(leader.stop(), Ended::Asked));
    control_plane.kill();
}

#[test]
fn a_second_leader_does_not_begin_while_the_first_one_leads() {
    let control_plane = ControlPlane::start("127.0.0.1:0", &mesh(&["127.0.1.1"]));
    let fixture = Fixture::new(control_plane.handle.address());
    let first = fixture.lead();
    fixture.wait_until("a first publish", |_| true);
    assert!(matches!(fixture.lead().thread.join().unwrap(), Err(NotLeading::Led)));
    assert!(matches!(first.stop(), Ended::Asked));
}

#[test]
fn each_term_that_fails_puts_the_next_attempt_off_for_longer() {
    let fixture = Fixture::new("127.0.0.1:1");
    let control = fixture.pod.control();
    // No file can take the name of a folder, and without STATE nobody leads.
    std::fs::create_dir(fixture.pod.run_dir().unwrap().path().join(names::STATE)).unwrap();
    for pause in [1_000, 2_000, 4_000] {
        let ended = fixture.lead().end();
        assert!(matches!(ended, Ended::Failed(Failed::State(_))), "{ended:?}");
        let now = now();
        assert!(!control.may_attempt(now + pause - 500, 0), "before {pause} ms are over");
        assert!(control.may_attempt(now + pause + 1, 0), "after {pause} ms");
    }
}

#[test]
fn files_that_something_removes_from_under_a_leader_come_back_within_two_seconds() {
    let control_plane = ControlPlane::start("127.0.0.1:0", &mesh(&["127.0.1.1"]));
    let fixture = Fixture::new(control_plane.handle.address());
    let leader = fixture.lead();
    fixture.want_greeter();
    fixture.wait_for_greeters(&["127.0.1.1"]);
    let dir = fixture.pod.run_dir().unwrap();
    let files = || -> Vec<String> {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let has = |prefix: &str| files().iter().any(|name| name.starts_with(prefix));
    let kinds = ["image-", "state", "accepted-"];
    for name in files() {
        if kinds.iter().any(|kind| name.starts_with(kind)) {
            dir.remove_file(&name).unwrap();
        }
    }
    let removed = Instant::now();
    while !kinds.iter().all(|kind| has(kind)) {
        assert!(removed.elapsed() < Duration::from_secs(3), "only {:?}", files());
        std::thread::sleep(Duration::from_millis(5));
    }
    // A process that comes now finds everything; one that was there goes on.
    let late = Pod::attach(fixture.settings).unwrap();
    fixture.wait_until("the newcomer's image", |_| {
        late.image().and_then(|image| Seen::read(&image)).is_some_and(|seen| seen.greeters.is_some())
    });
    assert!(late.state().is_some());
    control_plane.apply(&mesh(&["127.0.1.2"]));
    fixture.wait_for_greeters(&["127.0.1.2"]);
    leader.stop();
}

#[test]
fn a_leader_whose_run_directory_is_gone_ends() {
    let control_plane = ControlPlane::start("127.0.0.1:0", &mesh(&["127.0.1.1"]));
    let fixture = Fixture::new(control_plane.handle.address());
    let leader = fixture.lead();
    fixture.wait_until("a first publish", |_| true);
    fixture.pod.run_dir().unwrap().remove_file(names::CONTROL).unwrap();
    assert!(matches!(leader.end(), Ended::Vanished));
}

#[test]
fn at_the_end_of_an_interval_the_leader_ejects_by_success_rate_and_its_successor_shrinks_the_multiplier() {
    let ads = config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource::default());
    let source = ConfigSource { config_source_specifier: Some(ads), ..Default::default() };
    let millis = |millis: i32| Some(protobuf::Duration { seconds: 0, nanos: millis * 1_000_000 });
    let number = |value| Some(protobuf::UInt32Value { value });
    let cluster = Cluster {
        name: GREETER.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(source), ..Default::default() }),
        outlier_detection: Some(OutlierDetection {
            interval: millis(400),
            base_ejection_time: millis(500),
            success_rate_minimum_hosts: number(3),
            success_rate_stdev_factor: number(1_000),
            max_ejection_percent: number(50),
            ..Default::default()
        }),
        ..Default::default()
    };
    let yaml = with_cluster(&mesh(&["127.0.1.1", "127.0.1.2", "127.0.1.3"]), &cluster);
    let control_plane = ControlPlane::start("127.0.0.1:0", &yaml);
    let fixture = Fixture::new(control_plane.handle.address());
    let leader = fixture.lead();
    fixture.want_greeter();
    fixture.wait_for_greeters(&["127.0.1.1", "127.0.1.2", "127.0.1.3"]);
    let slots = greeter_slots(&fixture.pod.image().unwrap(), fixture.pod.state().unwrap());
    // A hundred connects each, again and again: whatever interval ends sees enough of them.
    fixture.wait_until("an ejection", |_| {
        for _ in 0..100 {
            slots[0].succeeded(now());
            slots[1].succeeded(now());
            slots[2].failed(Thresholds::NEVER, now());
        }
        slots[2].ejection().times > 0
    });
    let ejection = slots[2].ejection();
    assert_eq!((ejection.detector, ejection.multiplier), (Some(Detector::SuccessRate), 1));
    assert!(slots[..2].iter().all(|slot| slot.ejection().times == 0));
    leader.stop();
    let successor = fixture.lead();
    fixture.wait_until("an interval in which it was back", |_| slots[2].ejection().multiplier == 0);
    assert!(now() >= ejection.until + 400, "it was back for less than an interval");
    assert_eq!(slots[2].ejection().times, 1);
    successor.stop();
}
