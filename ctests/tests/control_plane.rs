//! The control plane dies, comes back with other endpoints, or stays away too long.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use ctests::{Finished, Manifest, Mode, Pod, Service, wait_until};

fn only(n: u8) -> Manifest {
    let address = format!("127.0.1.{n}");
    Manifest::of(&[Service::new("greeter", "default", &["10.96.0.10"], &[&address])])
}

#[track_caller]
fn check_answers(pod: &Pod, expected: &str) {
    let answer = Finished::of(&mut pod.curl("http://greeter/"));
    assert!(answer.success().starts_with(expected), "{answer}\n{}", pod.dump());
}

#[test]
fn last_good_serves_while_it_is_dead_and_new_endpoints_are_used_2_s_after_the_reconnect() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 2);
    let mut control_plane = pod.serve(&only(1));
    check_answers(&pod, "greeter-1 ");
    control_plane.kill();
    for _ in 0..20 {
        check_answers(&pod, "greeter-1 ");
    }
    control_plane.apply(&only(2));
    control_plane.start();
    // The back-off of the client is bounded; the two seconds count from its stream on.
    control_plane.wait_for_stats("it comes back", Duration::from_secs(20), |stats| stats.streams_open() == 1);
    let reconnected = Instant::now();
    let fresh = || {
        let answer = Finished::of(&mut pod.curl("http://greeter/"));
        answer.success().starts_with("greeter-2 ")
    };
    wait_until("new endpoints", Duration::from_secs(2), || pod.dump(), fresh);
    println!("used {:?} after the reconnect", reconnected.elapsed());
}

#[test]
fn past_the_limit_of_staleness_a_cluster_address_passes_to_the_kernel() {
    let pod = Pod::builder().env("LDMESH_MAX_STALE", "2s").build();
    // The kernel's own path for cluster addresses, as kube-proxy would give.
    pod.ip("route add local 10.96.0.0/16 dev lo");
    let _kernel = pod.backend("10.96.0.10:80", "kernel");
    let _backends = pod.greeters(Mode::Http, 1);
    let mut control_plane = pod.serve(&only(1));
    check_answers(&pod, "greeter-1 ");
    control_plane.kill();
    let killed = Instant::now();
    let passes = || {
        let answer = Finished::of(&mut pod.curl("http://greeter/"));
        answer.success().starts_with("kernel ")
    };
    wait_until("the kernel's path", Duration::from_secs(10), || pod.dump(), passes);
    assert!(killed.elapsed() > Duration::from_millis(1500), "passed too early");
    control_plane.start();
    let back = || {
        let answer = Finished::of(&mut pod.curl("http://greeter/"));
        answer.success().starts_with("greeter-1 ")
    };
    wait_until("the mesh again", Duration::from_secs(20), || pod.dump(), back);
}

#[test]
fn a_broken_file_leaves_the_last_good_configuration_served() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 2);
    let control_plane = pod.serve(&only(1));
    check_answers(&pod, "greeter-1 ");
    control_plane.apply(&Manifest::default().and("apiVersion: v1\nkind: Service\nspec: [broken"));
    for _ in 0..10 {
        check_answers(&pod, "greeter-1 ");
    }
    control_plane.apply(&only(2));
    let fresh = || Finished::of(&mut pod.curl("http://greeter/")).success().starts_with("greeter-2 ");
    wait_until("the repaired file", Duration::from_secs(5), || pod.dump(), fresh);
}

#[test]
fn without_any_configuration_the_wait_is_bounded_and_shared() {
    let pod = Pod::builder().env("LDMESH_READY_TIMEOUT", "500ms").build();
    // Nobody listens at the control plane's address.
    let started = Instant::now();
    let first = Finished::of(&mut pod.curl("http://greeter/"));
    assert_eq!(first.status.code(), Some(6), "{first}");
    assert!(first.took < Duration::from_secs(3), "{first}");
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        slowest = slowest.max(Finished::of(&mut pod.curl("http://greeter/")).took);
    }
    println!("first {:?}, then at most {slowest:?}, all {:?}", first.took, started.elapsed());
    assert!(slowest < Duration::from_millis(400), "everyone waits: {slowest:?}");
}

#[test]
fn fail_closed_answers_instead_of_passing() {
    let pod = Pod::builder().env("LDMESH_FAIL", "closed").env("LDMESH_READY_TIMEOUT", "500ms").build();
    let mut lookup = pod.mesh(ctests::c_program("lookup"));
    let answer = Finished::of(lookup.args(["greeter", "80", "inet"]));
    assert_eq!(answer.field("code"), Some("EAI_AGAIN"), "{answer}");
}

#[test]
fn a_control_plane_that_the_hosts_file_names_is_found_where_dns_never_answers() {
    let pod = Pod::builder()
        .hosts("127.0.0.1 localhost control.mesh\n::1 localhost\n10.244.0.2 app-0\n")
        .resolv_conf("search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.53\noptions ndots:5\n")
        .build();
    let mut silent = pod.command("nc.openbsd");
    silent.args(["-u", "-l", "-k", "127.0.0.53", "53"]).stdin(std::process::Stdio::piped());
    let _silent = ctests::Running::start(&mut silent);
    let _backends = pod.greeters(Mode::Http, 1);
    let _control_plane = pod.serve(&only(1));
    let started = Instant::now();
    let mut curl = pod.curl("http://greeter/");
    curl.env("LDMESH_XDS", "http://control.mesh:15010");
    let answer = Finished::of(&mut curl);
    assert!(answer.success().starts_with("greeter-1 "), "{answer}\n{}", pod.dump());
    println!("answered {:?} after the start", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(4), "it waited for DNS: {:?}", started.elapsed());
}

/// Every connection to the greeter goes to a subset of its own number.
fn in_subset(number: usize) -> Manifest {
    const SUBSETS: usize = 10;
    let subsets: Vec<String> = (0..SUBSETS).map(|n| format!("{{name: s{n}, labels: {{}}}}")).collect();
    only(1)
        .and(&format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: greeter, namespace: default}}\n\
             spec: {{host: greeter, subsets: [{}]}}\n",
            subsets.join(", ")
        ))
        .and(&format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: greeter, namespace: default}}\n\
             spec: {{hosts: [greeter], http: [{{route: [{{destination: {{host: greeter, subset: s{number}}}}}]}}]}}\n"
        ))
}

#[test]
fn a_route_to_clusters_that_nobody_asked_for_yet_is_used_when_their_endpoints_are_there() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let control_plane = pod.serve(&in_subset(0));
    let explain = || Finished::of(&mut pod.ldmesh(&["explain", "10.96.0.10:80"])).stdout;
    Finished::of(pod.mesh(ctests::c_program("dials_until_made")).args(["10.96.0.10", "80"])).success();
    let mut command = pod.mesh(ctests::c_program("watches"));
    let mut watcher =
        ctests::Running::start(command.args(["10.96.0.10", "80", "nonblocking"]).stdin(std::process::Stdio::piped()));
    let keep = watcher.stdin();
    for number in 1..10 {
        control_plane.apply(&in_subset(number));
        let cluster = format!("outbound|80|s{number}|greeter.default.svc.cluster.local");
        let routed = || explain().contains(&cluster) && explain().contains("127.0.1.1:8080 healthy");
        wait_until("the subset is used", Duration::from_secs(5), explain, routed);
    }
    drop(keep);
    let watched = watcher.finish();
    let seen: Vec<&str> = watched.success().lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(seen, ["greeter-1"], "{watched}");
}
