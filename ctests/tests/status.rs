//! What `ldmesh status` tells of a pod.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, Running, c_program, wait_until};
use rustix::process::Signal;

#[test]
fn each_process_that_looked_something_up_is_listed_by_its_name() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80"])).success();
    // A child that looks something up right after its fork is another process.
    Finished::of(pod.mesh(c_program("fork_after_lookup")).args(["greeter", "80", "2"])).success();
    let status = pod.status();
    let processes = status["processes"].as_array().unwrap();
    let named = |name: &str| processes.iter().filter(|process| process["name"] == name).count();
    // The kernel keeps 15 bytes of a name.
    assert_eq!((named("lookup"), named("fork_after_look")), (1, 3), "{processes:?}");
    assert!(processes.iter().all(|process| process["pid"].as_u64() > Some(1)), "{processes:?}");
}

#[test]
fn metrics_are_those_of_the_pod_as_it_is_now_printed_or_served() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let served = Running::start(&mut pod.ldmesh(&["metrics", "--listen", "127.0.0.1:9464"]));
    let ask = || Finished::of(pod.command("curl").args(["-sSf", "--max-time", "5", "http://127.0.0.1:9464/metrics"]));
    wait_until("it serves", Duration::from_secs(20), || ask().to_string(), || ask().status.success());
    let has = |text: &str, line: &str| text.lines().any(|found| found == line);
    assert!(has(&ask().stdout, "ldmesh_leader_alive 0"), "{}", ask());

    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80"])).success();
    Finished::of(pod.mesh(c_program("dial")).args(["10.96.0.10", "80"])).success();
    let printed = || Finished::of(&mut pod.ldmesh(&["metrics"])).success().to_owned();
    let of = "{cluster=\"outbound|80||greeter.default.svc.cluster.local\",endpoint=\"127.0.1.1:8080\"}";
    for line in [
        "ldmesh_switch{state=\"on\"} 1",
        "ldmesh_leader_alive 1",
        &format!("ldmesh_endpoint_picks_total{of} 1"),
        &format!("ldmesh_endpoint_healthy{of} 1"),
        // The leader says so every few seconds.
        "ldmesh_control_plane_connected 1",
        "ldmesh_type_answered{type=\"CDS\"} 1",
        "ldmesh_resources_rejected{type=\"EDS\"} 0",
    ] {
        wait_until(line, Duration::from_secs(20), printed, || has(&printed(), line));
    }
    assert!(has(&ask().stdout, &format!("ldmesh_endpoint_picks_total{of} 1")), "{}", ask());
    Finished::of(&mut pod.ldmesh(&["off"])).success();
    assert!(has(&ask().stdout, "ldmesh_switch{state=\"off\"} 1"), "{}", ask());
    served.signal(Signal::TERM);
    let ended = served.finish();
    assert!(ended.status.success(), "{ended}");
}
