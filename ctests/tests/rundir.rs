//! What others could have put into the run directory is never used.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ctests::{Finished, Manifest, Mode, Pod, Service, can_map_users, skipped, wait_until};
use rustix::process::Signal;

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn end_agents(pod: &Pod) {
    for agent in pod.agents() {
        agent.signal(Signal::KILL).unwrap();
    }
    wait_until("agents end", Duration::from_secs(5), || pod.dump(), || pod.agents().is_empty());
}

/// Lets a leader fill the run directory, ends it, spoils each file, and checks that the next program
/// reaches the mesh by a leader that replaced them.
#[track_caller]
fn check_replaced(spoil: impl Fn(&Path)) {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    Finished::of(&mut pod.curl("http://greeter/")).success();
    let files = files_below(&pod.run_dir());
    assert!(files.len() >= 3, "image, state and control: {files:?}");
    for file in files {
        end_agents(&pod);
        if file.exists() {
            spoil(&file);
        }
        let reached = || {
            let answer = Finished::of(&mut pod.curl("http://greeter/"));
            // It may pass while no leader is there; it must not crash or hang.
            assert!([Some(0), Some(6)].contains(&answer.status.code()), "{file:?}: {answer}");
            answer.stdout.starts_with("greeter-")
        };
        let what = format!("the mesh works after {} was spoilt", file.display());
        wait_until(&what, Duration::from_secs(10), || pod.dump(), reached);
    }
}

#[test]
fn a_truncated_file_is_replaced() {
    check_replaced(|file| fs::write(file, "").unwrap());
}

#[test]
fn a_file_of_noise_is_replaced() {
    check_replaced(|file| {
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        // A fixed sequence with no structure (splitmix64).
        let mut state = 7_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed ^ (mixed >> 27)).to_le_bytes()[3]
        })
        .take(length)
        .collect();
        fs::write(file, noise).unwrap();
    });
}

#[test]
fn a_file_with_another_header_is_replaced() {
    // Format, boot id and version are at the start: none of them is as this build writes it.
    check_replaced(|file| {
        let mut bytes = fs::read(file).unwrap();
        bytes.iter_mut().take(64).for_each(|byte| *byte ^= 0x55);
        fs::write(file, bytes).unwrap();
    });
}

#[test]
fn a_symlink_is_replaced_and_its_target_left_alone() {
    let target = tempfile::NamedTempFile::new().unwrap();
    fs::write(&target, "not yours").unwrap();
    check_replaced(|file| {
        fs::remove_file(file).unwrap();
        symlink(target.path(), file).unwrap();
    });
    assert_eq!(fs::read_to_string(&target).unwrap(), "not yours");
}

#[test]
fn a_file_of_another_user_is_replaced() {
    if !can_map_users() {
        return skipped("only root can give a file away");
    }
    check_replaced(|file| std::os::unix::fs::chown(file, Some(1234), Some(1234)).unwrap());
}

#[test]
fn a_folder_that_another_user_put_there_is_never_mapped() {
    if !can_map_users() {
        return skipped("only root can map several users");
    }
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Http, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    Finished::of(&mut pod.curl("http://greeter/")).success();
    // An emptyDir is open to all: the other user renames root's folder away and copies it.
    let swap = "cd /run/ldmesh && mv 0 gone && mkdir -m 755 0";
    Finished::of(pod.command_as(1234, "sh").args(["-c", swap])).success();
    assert_eq!(pod.run_dir().join("0").metadata().unwrap().uid(), 1234);
    let mut copy = pod.command("cp");
    Finished::of(copy.args(["-r", "/run/ldmesh/gone/.", "/run/ldmesh/0/"])).success();
    let mut python = pod.mesh("/usr/bin/python3");
    let script = "
import socket
try:
    socket.getaddrinfo('greeter', 80)
except OSError:
    pass
print([line.split()[5] for line in open('/proc/self/maps') if '/run/ldmesh/0/' in line])
";
    let maps = Finished::of(python.args(["-c", script]));
    assert_eq!(maps.success(), "[]", "{maps}");
}

/// A program that looks up each name it is given on a line and says `known` or `unknown`.
const ASKS: &str = "
import socket, sys
for line in sys.stdin:
    try:
        socket.getaddrinfo(line.strip(), 80)
        print('known', flush=True)
    except OSError:
        print('unknown', flush=True)
";

#[test]
fn a_running_process_attaches_anew_when_its_run_directory_was_removed() {
    let pod = Pod::new();
    let control_plane = pod.serve(&Manifest::greeter(1));
    let mut python = pod.mesh("/usr/bin/python3");
    python.args(["-c", ASKS]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut held = python.spawn().unwrap();
    let mut input = held.stdin.take().unwrap();
    let mut output = BufReader::new(held.stdout.take().unwrap());
    let mut ask = |name: &str| {
        writeln!(input, "{name}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(ask("greeter"), "known");
    assert_eq!(ask("late"), "unknown");
    // What only a new leader can tell shows that it is the new directory which answers.
    end_agents(&pod);
    fs::remove_dir_all(pod.run_dir().join("0")).unwrap();
    let late = Service::new("late", "default", &["10.96.0.11"], &["127.0.1.1"]);
    let services = [Service::new("greeter", "default", &["10.96.0.10"], &["127.0.1.1"]), late];
    control_plane.apply(&Manifest::of(&services));
    control_plane.wait_for_stats("the late service is served", Duration::from_secs(5), |stats| stats.generation() > 1);
    // A killed leader's heartbeat counts for 1.5 s; from then on the first lookup waits for the new one.
    let before = Instant::now();
    wait_until("the late service is known", Duration::from_secs(5), || pod.dump(), || ask("late") == "known");
    assert!(before.elapsed() < Duration::from_secs(4));
    held.kill().unwrap();
    held.wait().unwrap();
}

#[test]
fn without_a_usable_run_directory_everything_passes() {
    let pod = Pod::builder().env("LDMESH_RUN_DIR", "/proc/no-such-folder").build();
    let _backends = pod.greeters(Mode::Http, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let answer = Finished::of(&mut pod.curl("http://greeter/"));
    assert_eq!(answer.status.code(), Some(6), "{answer}");
    let direct = Finished::of(&mut pod.curl("http://127.0.1.1:8080/"));
    assert!(direct.success().starts_with("greeter-1 "), "{direct}");
}
