//! Many short programs share one stream to the control plane.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ctests::{Backend, Finished, Manifest, Mode, Pod, wait_until};

/// Starts 1,000 curls by a shell line, and checks that each was answered and all were spread.
#[track_caller]
fn check_a_thousand(pod: &Pod, backends: &[Backend], script: &str) {
    let mut shell = pod.mesh("sh");
    shell.args(["-c", script]);
    let finished = Finished::of_within(&mut shell, Duration::from_secs(180));
    assert!(finished.status.success(), "{finished}");
    let mut answers = BTreeMap::new();
    for line in finished.stdout.lines() {
        *answers.entry(line.split(' ').next().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(answers.values().sum::<u32>(), 1000, "{answers:?}\n{}", finished.stderr);
    assert_eq!(answers.len(), backends.len(), "{answers:?}");
    let fair = 1000 / u32::try_from(backends.len()).unwrap();
    let uneven = answers.iter().find(|(_, count)| **count < fair / 2);
    assert_eq!(uneven, None, "{answers:?}");
}

#[test]
fn a_thousand_curls_one_after_the_other_share_one_stream() {
    let pod = Pod::new();
    let backends = pod.greeters(Mode::Http, 3);
    let control_plane = pod.serve(&Manifest::greeter(3));
    let script = "for i in $(seq 1000); do curl -sS --max-time 10 http://greeter/ || exit 1; done";
    check_a_thousand(&pod, &backends, script);
    let stats = control_plane.stats();
    assert_eq!(stats.streams_peak(), 1, "{stats:?}");
    assert!(stats.streams_total() < 5, "{stats:?}");
}

#[test]
fn a_thousand_curls_fifty_at_a_time_share_one_stream() {
    let pod = Pod::new();
    let backends = pod.greeters(Mode::Http, 3);
    let control_plane = pod.serve(&Manifest::greeter(3));
    let script = "seq 1000 | xargs -P 50 -n 1 sh -c 'exec curl -sS --max-time 20 http://greeter/'";
    check_a_thousand(&pod, &backends, script);
    let stats = control_plane.stats();
    assert_eq!(stats.streams_peak(), 1, "{stats:?}");
    assert!(stats.streams_total() < 5, "{stats:?}");
}

#[test]
fn a_curl_every_100_ms_is_never_more_than_5_s_stale() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 2);
    let only = |n: u8| {
        let address = format!("127.0.1.{n}");
        let service = ctests::Service::new("greeter", "default", &["10.96.0.10"], &[address.as_str()]);
        Manifest::of(&[service])
    };
    let control_plane = pod.serve(&only(1));
    Finished::of(&mut pod.curl("http://greeter/")).success();
    for round in 0..4 {
        let now = 1 + (round + 1) % 2;
        control_plane.apply(&only(now));
        let changed = Instant::now();
        while changed.elapsed() < Duration::from_secs(6) {
            let started = changed.elapsed();
            let answer = Finished::of(&mut pod.curl("http://greeter/"));
            let fresh = answer.success().starts_with(&format!("greeter-{now} "));
            assert!(fresh || started < Duration::from_secs(5), "round {round}, {started:?}: {answer}");
            // The pace of the programs, not a proof of anything.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let stats = control_plane.stats();
    assert_eq!(stats.streams_peak(), 1, "{stats:?}");
}

#[test]
fn curls_that_lead_by_a_thread_all_succeed_and_the_rate_of_streams_is_printed() {
    let pod = Pod::builder().env("LDMESH_LEAD", "thread").build();
    let _backends = pod.greeters(Mode::Http, 3);
    let control_plane = pod.serve(&Manifest::greeter(3));
    let (started, mut curls) = (Instant::now(), 0_u64);
    // A dead leader's heartbeat counts for 1.5 s; this is long enough for several of them.
    while started.elapsed() < Duration::from_secs(10) {
        Finished::of(&mut pod.curl("http://greeter/")).success();
        curls += 1;
    }
    let (streams, took) = (control_plane.stats().streams_total(), started.elapsed());
    let rate = streams as f64 / took.as_secs_f64();
    println!("LDMESH_LEAD=thread: {streams} streams for {curls} curls in {took:?}: {rate:.1} a second");
    assert!(rate <= 1.0, "a curl in 1.5 s leads: {streams} streams in {took:?}");
    assert!(streams >= 2, "no second thread led: {streams} streams");
    assert!(pod.agents().is_empty(), "{}", pod.dump());
    let none_open = || control_plane.stats().streams_open() == 0;
    wait_until("the streams end with the curls", Duration::from_secs(5), || pod.dump(), none_open);
}
