//! What the hooks themselves cost, beside libc's own calls in the same process.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::results::{Figures, Results};
use crate::{Effort, beside};

/// The work that a line of the program belongs to.
pub const CALLS: &str = "hooks/calls";
/// What the system calls beside a real one cost by themselves.
pub const SYSTEM_CALLS: &str = "hooks/system calls";

/// Measures each case in each round; a round has a thousand of its own.
pub fn measure(effort: Effort) -> Result<Results> {
    let mut results = Results::default();
    for round in 0..effort.rounds() {
        let done = Command::new(beside("hooks")?).output().context("hooks")?;
        ensure!(done.status.success(), "hooks: {}", String::from_utf8_lossy(&done.stderr));
        for line in String::from_utf8(done.stdout)?.lines().skip(1) {
            let [case, hook, libc, added] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
            let work = if case.contains("system calls:") { SYSTEM_CALLS } else { CALLS };
            let figures = [("p50_ns", hook), ("libc_ns", libc), ("added_ns", added)];
            let figures = figures.map(|(name, figure)| Ok((name.to_owned(), figure.parse()?)));
            results.add(work, case, round, figures.into_iter().collect::<Result<Figures>>()?);
        }
    }
    Ok(results)
}
