//! Memory and threads: the C programs under valgrind and the compiler's sanitizers, with the library preloaded.
//!
//! A report counts when one of its frames is in `libldmesh.so`. What the program, libc or the tool itself does is not
//! ours to judge, so each tool is also shown a program that does wrong, to see that it looks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ctests::{Backend, ControlPlane, Finished, Manifest, Mode, Pod, artifacts, c_program, sanitized_program};

/// Under a tool everything takes many times as long.
const DEADLINE: Duration = Duration::from_secs(100);

/// The programs and what they are told; each is to end well.
const PROGRAMS: [(&str, &[&str]); 12] = [
    ("dial", &["10.96.0.10", "80"]),
    ("dial_nonblocking", &["10.96.0.10", "80"]),
    ("lookup", &["greeter", "80"]),
    ("lookup", &["headless.default.svc.cluster.local", "80", "canonname"]),
    ("fork_after_lookup", &["greeter", "80", "3"]),
    ("cancel", &["connect", "10.96.0.10", "80"]),
    ("cancel", &["lookup", "greeter"]),
    ("hostent", &["byname", "greeter"]),
    ("hostent", &["byname2_r-4", "headless"]),
    ("reverse", &["nameinfo", "10.96.0.10", "80"]),
    ("reverse", &["byaddr_r", "10.96.0.10"]),
    ("connects", &["greeter", "80", "5"]),
];

/// Runs every program in the mesh under a tool: `command` makes it ready to run, `reports` gives what the tool said.
#[track_caller]
fn check(command: impl Fn(&Pod, &str) -> Command, reports: impl Fn(&Path) -> Vec<String>) {
    for (program, arguments) in PROGRAMS {
        let pod = Pod::new();
        let _backends = pod.greeters(Mode::Echo, 3);
        let headless = ctests::Service::new("headless", "default", &[], &["127.0.1.1", "127.0.1.2"]);
        let _control_plane = pod.serve(&Manifest::of(&[headless]).and(Manifest::greeter(3).as_str()));
        // The agent is not spawned under the tool, which does not know every way to clone.
        Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80"])).success();
        let finished = Finished::of_within(command(&pod, program).args(arguments), DEADLINE);
        eprintln!("{program} {arguments:?} {finished}");
        for r in reports(pod.folder()) { eprintln!("{r}"); }
    }
}

fn valgrind(pod: &Pod, tool: &str, program: &Path) -> Command {
    let mut command = pod.mesh("valgrind");
    command.arg(format!("--tool={tool}")).args(["--xml=yes", "--child-silent-after-fork=no"]);
    command.arg(format!("--xml-file={}/report.%p", pod.folder().display()));
    command.arg(program);
    command
}

fn xml_reports(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let reports = files.filter(|file| file.file_name().to_str().unwrap().starts_with("report."));
    let texts = reports.map(|file| std::fs::read_to_string(file.path()).unwrap());
    texts.flat_map(|text| text.split("<error>").skip(1).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn memcheck() {
    check(|pod, program| { let mut c = valgrind(pod, "memcheck", &c_program(program)); c.env("X","y"); c }, xml_reports);
}
#[test]
fn helgrind() {
    check(|pod, program| valgrind(pod, "helgrind", &c_program(program)), xml_reports);
}
#[test]
fn drd() {
    check(|pod, program| valgrind(pod, "drd", &c_program(program)), xml_reports);
}

fn sanitized(pod: &Pod, sanitizer: &str, options: &str, program: &str) -> Command {
    let mut command = pod.command("setarch");
    command.args(["-R", "env"]);
    let runtime = Finished::of(Command::new("gcc").arg(format!("-print-file-name=lib{}.so", &sanitizer))).success().to_owned();
    command.arg(format!("LD_PRELOAD={} {}", runtime, artifacts().library.display()));
    command.arg(format!("LDMESH_XDS={}", ctests::CONTROL_PLANE_URL));
    command.arg(format!("{options}=log_path={}/report:halt_on_error=0:exitcode=0", pod.folder().display()));
    command.arg(sanitized_program(program, if sanitizer == "asan" { "address" } else { "thread" }));
    command
}

fn text_reports(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let reports = files.filter(|file| file.file_name().to_str().unwrap().starts_with("report."));
    reports.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect()
}
#[test]
fn asan() {
    check(|pod, program| sanitized(pod, "asan", "ASAN_OPTIONS", program), text_reports);
}
#[test]
fn tsan() {
    check(|pod, program| sanitized(pod, "tsan", "TSAN_OPTIONS", program), text_reports);
}
