//! Skipping a test aloud, where the machine lacks what it needs.

use std::io::Write;

use anyhow::Result;

/// Counts the calling test as skipped. Where CI is set this is a failure: CI's machine has it all.
///
/// `scripts/test.sh` reads the lines from the file that `LDMESH_SKIP_LOG` names.
#[track_caller]
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    if std::env::var_os("CI").is_some_and(|value| value == "true") {
        panic!("CI must not skip {test}: {why}");
    }
    eprintln!("SKIPPED {test}: {why}");
    if let Some(path) = std::env::var_os("LDMESH_SKIP_LOG") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        if let Ok(mut file) = file {
            // One write a line: tests append side by side.
            let _ = file.write_all(format!("{test}: {why}\n").as_bytes());
        }
    }
}

/// Whether something could be made; where not, the calling test counts as skipped, with the last line of the reason.
#[track_caller]
pub(crate) fn has<T>(what: &str, made: &Result<T>) -> bool {
    if let Err(why) = made {
        skipped(&format!("no {what}: {}", format!("{why:#}").lines().last().unwrap_or_default()));
    }
    made.is_ok()
}

/// Whether pods have more users than one, which takes root outside.
pub fn can_map_users() -> bool {
    rustix::process::geteuid().is_root()
}
