//! Memory and threads: the C programs under valgrind and with the compiler's sanitizers, with the library preloaded.
//!
//! A report counts when one of its frames is in `libldmesh.so`: what the program, libc or the tool does is not ours.
//! [`check_sees`] shows for each tool that it would report a library with faults. AddressSanitizer and
//! ThreadSanitizer see our library only where it calls libc (allocations, copies, locks), as it is not compiled with
//! them; valgrind sees each access.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ctests::{
    Backend, CONTROL_PLANE_URL, ControlPlane, Finished, Manifest, Mode, Pod, Running, Service, artifacts, c_library,
    c_program, sanitized_program,
};

/// Under a tool everything takes many times as long.
const DEADLINE: Duration = Duration::from_secs(100);

/// The programs and what they are told; each ends well.
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

/// What a frame of ours has in it; the sanitizers name files of source instead where they know them.
const OURS: [&str; 3] = ["libldmesh.so", "/shim/src/", "/xds-runtime/src/"];

#[derive(Debug, Clone, Copy)]
enum Tool {
    Memcheck,
    AddressSanitizer,
    ThreadSanitizer,
}

impl Tool {
    /// A program under the tool, with libraries preloaded; reports go to files in the pod's folder.
    fn command(self, pod: &Pod, preload: &str, program: &str) -> Command {
        let reports = pod.folder().join("report");
        // The sanitizers' own libraries come first, and they want their addresses where they were before Linux
        // placed everything at random. env(1) preloads, so that nothing else is.
        let (runtime, options, program) = match self {
            Self::Memcheck => (String::new(), "VALGRIND_OPTS=".to_owned(), c_program(program)),
            Self::AddressSanitizer => (
                runtime("libasan.so"),
                format!("ASAN_OPTIONS=exitcode=0:detect_leaks=1:log_path={}", reports.display()),
                sanitized_program(program, "address"),
            ),
            Self::ThreadSanitizer => (
                runtime("libtsan.so"),
                format!("TSAN_OPTIONS=exitcode=0:log_path={}", reports.display()),
                sanitized_program(program, "thread"),
            ),
        };
        let mut command = pod.command("setarch");
        command.args(["-R", "env", &options, "LDMESH_LEAD=never"]).arg(format!("LDMESH_XDS={CONTROL_PLANE_URL}"));
        command.arg(format!("LD_PRELOAD={runtime} {preload}"));
        if matches!(self, Self::Memcheck) {
            command.args(["valgrind", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect,possible"]);
            command.args(["--xml=yes", &format!("--xml-file={}.%p", reports.display())]);
        }
        command.arg(program);
        command
    }

    /// The reports so far; they are forgotten.
    fn reports(self, pod: &Pod) -> Vec<String> {
        let begin = match self {
            Self::Memcheck => "<error>",
            Self::AddressSanitizer => "ERROR: ",
            Self::ThreadSanitizer => "WARNING: ",
        };
        let files = std::fs::read_dir(pod.folder()).unwrap().flatten();
        let files = files.filter(|file| file.file_name().to_str().unwrap().starts_with("report."));
        let mut reports = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(file.path()).unwrap();
            reports.extend(text.split(begin).skip(1).map(str::to_owned));
            std::fs::remove_file(file.path()).unwrap();
        }
        reports
    }
}

#[track_caller]
fn runtime(library: &str) -> String {
    Finished::of(Command::new("gcc").arg(format!("-print-file-name={library}"))).success().to_owned()
}

/// A mesh that is ready, with an agent of its own: a program under a tool starts none, since valgrind does not know
/// that way to clone, and none of them may end before the slowest.
fn mesh(pod: &Pod) -> (Vec<Backend>, ControlPlane<'_>, Running) {
    let backends = pod.greeters(Mode::Echo, 2);
    let headless = Service::new("headless", "default", &[], &["127.0.1.1", "127.0.1.2"]);
    let control_plane = pod.serve(&Manifest::of(&[headless]).and(Manifest::greeter(2).as_str()));
    let agent = Running::start(&mut pod.ldmesh(&["agent"]));
    let lookup = || Finished::of(pod.mesh(c_program("lookup")).env("LDMESH_LEAD", "never").args(["greeter", "80"]));
    lookup().success();
    (backends, control_plane, agent)
}

/// ThreadSanitizer does not see our atomics: a block of the store (`shim/src/memory.rs`) that one thread gave back and
/// another took looks like a race on its bytes. That each has one owner is that file's own test.
const HANDED_OVER: &str = "Location is global 'ldmesh::memory::STORE";

#[track_caller]
fn check_nothing_of_ours(tool: Tool) {
    let pod = Pod::new();
    let _mesh = mesh(&pod);
    let library = artifacts().library.to_str().unwrap();
    for (program, arguments) in PROGRAMS {
        let finished = Finished::of_within(tool.command(&pod, library, program).args(arguments), DEADLINE);
        assert!(finished.status.success(), "{tool:?} {program} {arguments:?}: {finished}");
        let reports = tool.reports(&pod);
        let is_ours =
            |report: &&String| OURS.iter().any(|frame| report.contains(frame)) && !report.contains(HANDED_OVER);
        let ours: Vec<_> = reports.iter().filter(is_ours).collect();
        assert!(ours.is_empty(), "{tool:?} {program} {arguments:?}: {ours:#?}");
    }
    check_sees(tool, &pod, &c_library("misuses"));
}

/// The same tool, asked in the same way, reports a library with faults.
#[track_caller]
fn check_sees(tool: Tool, pod: &Pod, faulty: &Path) {
    let preload = format!("{} {}", faulty.display(), artifacts().library.display());
    let finished = Finished::of_within(tool.command(pod, &preload, "connects").args(["greeter", "80", "2"]), DEADLINE);
    let reports = tool.reports(pod);
    assert!(
        reports.iter().any(|report| report.contains("libmisuses.so") || report.contains("/misuses.c")),
        "{tool:?}: {reports:?} {finished}"
    );
}

#[test]
fn memcheck_reports_no_access_and_no_leak_of_ours() {
    check_nothing_of_ours(Tool::Memcheck);
}

#[test]
fn address_sanitizer_reports_nothing_of_ours() {
    check_nothing_of_ours(Tool::AddressSanitizer);
}

#[test]
fn thread_sanitizer_reports_nothing_of_ours() {
    check_nothing_of_ours(Tool::ThreadSanitizer);
}
