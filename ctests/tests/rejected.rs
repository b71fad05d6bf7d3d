//! A resource that is rejected is named to the control plane and keeps its last good value.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, Service, wait_until};
use rustix::process::Signal;

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
}
