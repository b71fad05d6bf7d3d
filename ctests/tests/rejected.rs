//! A resource that is rejected is named to the control plane and keeps its last good value.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, Service, c_program, wait_until};
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster, LoadBalancingPolicy, cluster::ClusterDiscoveryType, cluster::DiscoveryType, cluster::EdsClusterConfig,
    load_balancing_policy,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::google::protobuf::{Any, UInt32Value};
use prost::Message;
use rustix::process::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(5);

const CLUSTER: &str = "outbound|80||greeter.default.svc.cluster.local";

/// Two services, each with one endpoint: 127.0.1.`greeter`, 127.0.1.`second`.
fn mesh(greeter: u8, second: u8) -> Manifest {
    let [greeter, second] = [greeter, second].map(|n| format!("127.0.1.{n}"));
    Manifest::of(&[
        Service::new("greeter", "default", &["10.96.0.10"], &[&greeter]),
        Service::new("second", "default", &["10.96.0.11"], &[&second]),
    ])
}

#[track_caller]
fn answer(pod: &Pod, service: &str) -> String {
    let finished = Finished::of(&mut pod.curl(&format!("http://{service}/")));
    finished.success().split(' ').next().unwrap().to_owned()
}

#[test]
fn it_is_nacked_by_name_the_rest_applies_and_its_last_good_value_survives_a_take_over() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 3);
    let control_plane = pod.serve(&mesh(1, 1));
    assert_eq!((answer(&pod, "greeter").as_str(), answer(&pod, "second").as_str()), ("greeter-1", "greeter-1"));

    control_plane.apply(&mesh(3, 2).and_rejected_endpoints(CLUSTER));
    let applied = || answer(&pod, "second") == "greeter-2";
    wait_until("the rest applies", Duration::from_secs(5), || pod.dump(), applied);
    control_plane.wait_for_stats("a NACK that names the cluster", Duration::from_secs(5), |stats| {
        stats.last_nack("EDS").is_some_and(|message| message.contains(CLUSTER) && message.contains("overprov"))
    });
    for _ in 0..10 {
        assert_eq!(answer(&pod, "greeter"), "greeter-1");
    }
    let nacked = || entry(&pod, CLUSTER).is_some_and(|entry| entry["clientStatus"] == "NACKED");
    wait_until("status tells it", SOON, || pod.dump(), nacked);
    let told = entry(&pod, CLUSTER).unwrap();
    let error = &told["errorState"];
    assert!(error["details"].as_str().unwrap().contains("overprov"), "{told:#}");
    assert!(told["versionInfo"] != error["versionInfo"] && told["lastUpdated"].is_string(), "{told:#}");
    let second = entry(&pod, "outbound|80||second.default.svc.cluster.local").unwrap();
    assert!(second["clientStatus"] == "ACKED" && second["errorState"].is_null(), "{second:#}");

    for agent in pod.agents() {
        agent.signal(Signal::KILL).unwrap();
    }
    wait_until("it ends", Duration::from_secs(5), || pod.dump(), || pod.agents().is_empty());
    for _ in 0..10 {
        assert_eq!(answer(&pod, "greeter"), "greeter-1", "{}", pod.dump());
        assert_eq!(answer(&pod, "second"), "greeter-2", "{}", pod.dump());
    }

    control_plane.apply(&mesh(3, 2));
    let repaired = || answer(&pod, "greeter") == "greeter-3";
    wait_until("the repaired resource", Duration::from_secs(5), || pod.dump(), repaired);
    let acked = || entry(&pod, CLUSTER).is_some_and(|entry| entry["clientStatus"] == "ACKED");
    wait_until("status tells it", SOON, || pod.dump(), acked);
}

/// What status tells of the endpoints of a cluster, in CSDS' words.
fn entry(pod: &Pod, cluster: &str) -> Option<Value> {
    let status = pod.status();
    let entries = status["client_config"]["genericXdsConfigs"].as_array()?;
    let endpoints = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    entries.iter().find(|entry| entry["typeUrl"] == endpoints && entry["name"] == cluster).cloned()
}

/// An EDS cluster with this policy of a list.
fn with_policy(name: &str, policy: &str, config: &str) -> Cluster {
    let source = core::ConfigSource {
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(Default::default())),
        ..Default::default()
    };
    let typed_config = Some(Any { type_url: format!("type.googleapis.com/{config}"), value: Vec::new() });
    let extension = core::TypedExtensionConfig { name: policy.to_owned(), typed_config };
    let list = LoadBalancingPolicy {
        policies: vec![load_balancing_policy::Policy { typed_extension_config: Some(extension) }],
    };
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(source), ..Default::default() }),
        load_balancing_policy: Some(list),
        ..Default::default()
    }
}

fn serving(clusters: &[Cluster]) -> Manifest {
    let add = |manifest: Manifest, cluster: &Cluster| {
        manifest.and_resource("envoy.config.cluster.v3.Cluster", &cluster.name, &cluster.encode_to_vec())
    };
    clusters.iter().fold(mesh(1, 2), add)
}

#[test]
fn a_policy_that_nobody_knows_passes_by_name_and_an_invalid_one_is_nacked_by_name() {
    const LEAST_REQUEST: &str = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest";
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 2);
    let unknown = with_policy(CLUSTER, "by-weather", "example.org.policies.v1.ByWeather");
    let control_plane = pod.serve(&serving(std::slice::from_ref(&unknown)));
    assert_eq!(answer(&pod, "second"), "greeter-2");
    control_plane.wait_for_stats("all clusters are acknowledged", SOON, |stats| stats.acked("CDS") == 1);
    // The connection is the kernel's, which knows no way to the VIP: that of nobody's policy, not of another one.
    let dial = Finished::of(pod.mesh(c_program("dial")).args(["10.96.0.10", "80"]));
    assert_eq!(dial.field("connect"), Some("ENETUNREACH"), "{dial}");
    let status = Finished::of(&mut pod.ldmesh(&["status"]));
    let named = status.success().lines().any(|line| line.contains(CLUSTER) && line.contains("ByWeather"));
    assert!(named, "{status}");

    // Under a name of its own, so that no last good value stands in for it.
    let mut invalid = with_policy("invalid", "least", LEAST_REQUEST);
    let choices = LeastRequest { choice_count: Some(UInt32Value { value: 1 }), ..Default::default() };
    let list = invalid.load_balancing_policy.as_mut().unwrap();
    let extension = list.policies[0].typed_extension_config.as_mut().unwrap();
    extension.typed_config.as_mut().unwrap().value = choices.encode_to_vec();
    control_plane.apply(&serving(&[unknown, invalid]));
    control_plane.wait_for_stats("a NACK that names the cluster and the field", SOON, |stats| {
        stats.last_nack("CDS").is_some_and(|message| {
            message.contains("invalid: ") && message.contains("choice_count") && !message.contains(CLUSTER)
        })
    });
    assert_eq!(answer(&pod, "second"), "greeter-2", "the rest is as it was");
}
