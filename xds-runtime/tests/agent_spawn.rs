//! The host of an agent notices nothing: no signal, no child, no descriptor of its own in the agent.

#![allow(clippy::unwrap_used)]

use std::ffi::{CString, c_int};
use std::fs::{File, read_to_string};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use xds_runtime::leader::host::{adopts_orphans, agent};

static CHILD_SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_child(_: c_int) {
    CHILD_SIGNALS.fetch_add(1, Ordering::SeqCst);
}

fn fifo(path: &Path) {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

/// What the stand-in for the agent says about itself, line by line.
const AGENT: &str = r#"#!/bin/sh
read go < "$GO"
{
  echo "arguments $*"
  echo "folder $(pwd)"
  echo "umask $(umask)"
  env | sed 's/^/env /'
  for fd in /proc/$$/fd/*; do echo "fd ${fd##*/} $(readlink "$fd")"; done
  # By the shell itself: while it starts a program, its own signals are blocked.
  while read -r line; do echo "status $line"; done < /proc/$$/status
  read _ _ _ _ _ session _ < /proc/$$/stat
  echo "session $session $$"
} > "$SAID.tmp"
mv "$SAID.tmp" "$SAID"
read done < "$DONE"
"#;

#[test]
fn the_program_sees_nothing_of_the_agent_it_spawned() {
    if adopts_orphans() {
        eprintln!("SKIPPED: this process adopts orphans, the thread would lead here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("agent.sh");
    std::fs::write(&script, AGENT).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let binary = CString::new(script.as_os_str().as_bytes()).unwrap();
    fifo(&folder.path().join("go"));
    fifo(&folder.path().join("done"));
    let entries = [
        format!("GO={}/go", folder.path().display()),
        format!("DONE={}/done", folder.path().display()),
        format!("SAID={}/said", folder.path().display()),
        "PATH=/usr/bin:/bin".to_owned(),
        "LD_PRELOAD=/nonexistent/libldmesh.so".to_owned(),
        "LDMESH_XDS=http://127.0.0.1:1".to_owned(),
    ]
    .map(|entry| CString::new(entry).unwrap());

    // SAFETY: a handler that only counts, and an ignored signal the agent must not inherit.
    unsafe {
        libc::signal(libc::SIGCHLD, on_child as *const () as libc::sighandler_t);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
    let (_reader, writer) = std::io::pipe().unwrap();
    // A descriptor that would be inherited.
    // SAFETY: a number of this process.
    assert!(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&writer), 77) } == 77);
    // SAFETY: errno of this thread.
    unsafe { *libc::__errno_location() = 42 };

    agent::spawn(&binary, entries.iter().map(CString::as_c_str)).unwrap();

    // SAFETY: errno of this thread.
    assert_eq!(unsafe { *libc::__errno_location() }, 42);
    let mut status = 0;
    // SAFETY: writes one int; the agent runs (it waits for us on its pipe) and is nobody's child here.
    let waited = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    assert_eq!(waited, -1, "no child");
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ECHILD));

    // Opening waits for the agent to read.
    let mut go = File::create(folder.path().join("go")).unwrap();
    go.write_all(b"go\n").unwrap();
    // The agent opens the other pipe only after it said everything.
    let mut done = File::create(folder.path().join("done")).unwrap();
    let said = read_to_string(folder.path().join("said")).unwrap();
    done.write_all(b"done\n").unwrap();
    assert_eq!(CHILD_SIGNALS.load(Ordering::SeqCst), 0);

    let has = |line: &str| said.lines().any(|found| found == line);
    let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned();
    assert!(has("arguments agent --spawned") && has("folder /") && has("umask 0077"), "{said}");
    assert!(has("env LDMESH_XDS=http://127.0.0.1:1") && !said.contains("LD_PRELOAD"), "{said}");
    assert_eq!(value("fd 2"), "/dev/null");
    assert!(!said.contains("fd 77 "), "{said}");
    assert_ne!(value("status PPid:"), std::process::id().to_string());
    assert_eq!(value("status SigBlk:").trim_matches('0'), "");
    assert_eq!(value("status SigIgn:").trim_matches('0'), "");
    let session = value("session");
    let (session, pid) = session.split_once(' ').unwrap();
    assert_eq!(session, pid, "a session of its own");

    a_binary_that_is_not_there_is_an_error_and_leaves_no_child(folder.path());
}

/// Part of the one test of this file: waits and signals are the whole process's.
fn a_binary_that_is_not_there_is_an_error_and_leaves_no_child(folder: &Path) {
    let missing = CString::new(folder.join("missing").as_os_str().as_bytes()).unwrap();
    assert_eq!(agent::spawn(&missing, std::iter::empty()), Err(rustix::io::Errno::NOENT));
    // SAFETY: writes nothing.
    assert_eq!(unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) }, -1);
    assert_eq!(CHILD_SIGNALS.load(Ordering::SeqCst), 0);
}
