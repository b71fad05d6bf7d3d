//! Containers of one pod, and processes whose namespaces are not the pod's.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use ctests::{Finished, Manifest, Mode, Pod, artifacts, c_program, wait_until};

/// A container: PID 1 is a shell, and a program of the mesh below it connects when told.
struct Container {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Container {
    #[track_caller]
    fn start(pod: &Pod) -> Self {
        let mut shell = pod.mesh_as_init("sh");
        shell.args(["-c", "\"$0\" greeter 80; exit $?"]).arg(c_program("holds_mesh"));
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut container = Self { child, input, output: BufReader::new(output) };
        assert!(container.line().starts_with("backend=greeter-"));
        assert_eq!(container.line(), "ready");
        container
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    #[track_caller]
    fn connects(&mut self) {
        writeln!(self.input, "again").unwrap();
        let line = self.line();
        assert!(line.starts_with("backend=greeter-"), "{line}");
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // PID 1 of the container dies with it, and all the rest with PID 1.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_containers_of_a_pod_share_one_stream_and_the_one_that_stays_takes_over() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let control_plane = pod.serve(&Manifest::greeter(2));
    let (first, mut second) = (Container::start(&pod), Container::start(&pod));
    let (led, streams) = (pod.agents(), control_plane.stats());
    assert_eq!((led.len(), streams.streams_total(), streams.streams_peak()), (1, 1, 1), "{}", pod.dump());
    drop(first);
    wait_until("the agent ends with its container", Duration::from_secs(5), || pod.dump(), || !led[0].is_alive());
    let replaced = || {
        second.connects();
        !pod.agents().is_empty()
    };
    wait_until("the other container takes over", Duration::from_secs(10), || pod.dump(), replaced);
    control_plane.wait_for_stats("its stream", Duration::from_secs(5), |stats| {
        (stats.streams_total(), stats.streams_open()) == (2, 1)
    });
}

/// Runs `unshare` with the given flags below the library, as the head of a PID namespace that ends with it.
fn apart(pod: &Pod, flags: &[&str], program: &Path, arguments: &[&str]) -> Finished {
    let mut unshare: Command = pod.command("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).args(flags).args(["sh", "-c"]);
    let preload = artifacts().library.display();
    unshare.arg(format!("export LDMESH_XDS={} LD_PRELOAD={preload}; \"$@\"; exit $?", ctests::CONTROL_PLANE_URL));
    Finished::of(unshare.arg("sh").arg(program).args(arguments))
}

/// The stream of the pod is undisturbed, and nothing looks like a crash.
#[track_caller]
fn check_undisturbed(pod: &Pod) {
    let status = Finished::of(&mut pod.ldmesh(&["status"]));
    assert!(status.success().contains("epoch 1,"), "{status}");
    assert!(!status.stdout.contains("switch") && !status.stdout.contains("breaker"), "{status}");
}

#[test]
fn a_process_with_another_clock_has_a_mesh_of_its_own_and_disturbs_nobody() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let control_plane = pod.serve(&Manifest::greeter(1));
    let dial = c_program("dial");
    let here = |pod: &Pod| Finished::of(pod.mesh(&dial).args(["10.96.0.10", "80"]));
    here(&pod).success();
    for flags in
        [["--time", "--boottime=5000000", "--monotonic=5000000"], ["--time", "--boottime=-60", "--monotonic=0"]]
    {
        let there = apart(&pod, &flags, &dial, &["10.96.0.10", "80"]);
        assert!(there.success().contains("backend=greeter-1"), "{there}");
        here(&pod).success();
        check_undisturbed(&pod);
    }
    assert_eq!(control_plane.stats().streams_total(), 3);
}

#[test]
fn a_process_of_another_network_disturbs_nobody_and_is_told_what_its_network_says() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let dial = c_program("dial");
    Finished::of(pod.mesh(&dial).args(["10.96.0.10", "80"])).success();
    let there = apart(&pod, &["--net"], &dial, &["10.96.0.10", "80"]);
    assert_eq!(there.field("connect"), Some("ENETUNREACH"), "{there}");
    check_undisturbed(&pod);
}

#[test]
fn an_agent_that_sees_only_its_own_users_processes_stays_with_them() {
    if !ctests::can_map_users() {
        return ctests::skipped("only root can map several users");
    }
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let control_plane = pod.serve(&Manifest::greeter(1));
    let mut shell = pod.command("unshare");
    shell.args(["--pid", "--fork", "--kill-child", "--mount", "sh", "-c"]);
    let preload = artifacts().library.display();
    let url = ctests::CONTROL_PLANE_URL;
    shell.arg(format!(
        "mount -t proc -o hidepid=2 proc /proc || exit 9
         setpriv --reuid 1234 --regid 1234 --clear-groups env LDMESH_XDS={url} LD_PRELOAD={preload} \"$0\" greeter 80
         exit $?"
    ));
    shell.arg(c_program("holds_mesh"));
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut container = Container { child, input, output: BufReader::new(output) };
    assert!(container.line().starts_with("backend=greeter-1"));
    assert_eq!(container.line(), "ready");
    let led = pod.agents();
    // An agent that took itself for the last process would leave after a quiet second.
    let begun = std::time::Instant::now();
    wait_until("three quiet seconds", Duration::from_secs(5), || pod.dump(), || begun.elapsed().as_secs() >= 3);
    container.connects();
    assert_eq!((pod.agents(), control_plane.stats().streams_total()), (led, 1), "{}", pod.dump());
}
