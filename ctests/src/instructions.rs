//! Counts of instructions: what callgrind wrote, and how it differs from what is committed.
//!
//! Only what is executed in our own files counts: how many instructions libc's functions take depends on its version
//! and, where it has one for each kind of processor, on the machine.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A count may differ by so much from what is committed, in parts of a thousand. It does so where hashes are seeded at
/// random, and where other code made the compiler think again.
const TOLERANCE: u64 = 50;

/// Instructions of one run of each case, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

/// How counts differ from others.
#[derive(Debug)]
pub struct Difference {
    /// A table: name, before, now, and now by before in percent; a mark where the tolerance is exceeded.
    pub table: String,
    /// How many cases differ too much, are new or are gone.
    pub failures: usize,
}

impl Counts {
    /// What callgrind wrote into a folder. Files whose names begin with one of `ours` count.
    pub fn read(folder: &Path, ours: &[&str]) -> Result<Self> {
        let mut counts = Self::default();
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            if let Some((name, count)) = dump(&text, ours).with_context(|| path.display().to_string())? {
                ensure!(counts.0.insert(name.clone(), count).is_none(), "{name} was counted twice");
            }
        }
        Ok(counts)
    }

    /// Counts as [`Counts::text`] writes them.
    pub fn parse(text: &str) -> Result<Self> {
        let mut counts = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (name, count) = line.split_once('\t').with_context(|| format!("not a count: {line}"))?;
            counts.0.insert(name.to_owned(), count.parse().with_context(|| line.to_owned())?);
        }
        Ok(counts)
    }

    /// A line for each case: name, tab, instructions.
    pub fn text(&self) -> String {
        self.0.iter().map(|(name, count)| format!("{name}\t{count}\n")).collect()
    }

    /// How these differ from those `before`. Fewer instructions are a difference, too: what is gained shall be kept.
    pub fn since(&self, before: &Self) -> Difference {
        let names: BTreeMap<&String, ()> = self.0.keys().chain(before.0.keys()).map(|name| (name, ())).collect();
        let mut difference = Difference { table: String::new(), failures: 0 };
        for name in names.into_keys() {
            let (before, now) = (before.0.get(name), self.0.get(name));
            let is_near = before.zip(now).is_some_and(|(before, now)| is_near(*before, *now));
            difference.failures += usize::from(!is_near);
            let cell = |count: Option<&u64>| count.map_or("-".to_owned(), u64::to_string);
            let share = before.zip(now).map_or("-".to_owned(), |(before, now)| {
                format!("{:.1}", *now as f64 * 100.0 / (*before).max(1) as f64)
            });
            let mark = if is_near { "" } else { "  <--" };
            let _ = writeln!(difference.table, "{name:<52}{:>12}{:>12}{share:>8}{mark}", cell(before), cell(now));
        }
        difference
    }
}

fn is_near(before: u64, now: u64) -> bool {
    before.abs_diff(now).saturating_mul(1000) <= before.saturating_mul(TOLERANCE)
}

/// The name and the instructions a run of one dump; `None` for the one that callgrind writes at its end, which has
/// none. The name ends with ` xN`: N runs were counted.
fn dump(text: &str, ours: &[&str]) -> Result<Option<(String, u64)>> {
    let Some(trigger) = text.lines().find_map(|line| line.strip_prefix("desc: Trigger: Client Request: ")) else {
        return Ok(None);
    };
    let (name, runs) = trigger.rsplit_once(" x").with_context(|| format!("how often did {trigger:?} run?"))?;
    let runs: u64 = runs.parse().with_context(|| trigger.to_owned())?;
    let (mut sum, mut is_ours, mut is_of_callee) = (0_u64, false, false);
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            let file = Path::new(object).file_name().and_then(|name| name.to_str()).unwrap_or_default();
            is_ours = ours.iter().any(|begin| file.starts_with(begin));
        } else if line.starts_with("calls=") {
            // The next line is what the called function cost: it is written with that function, too.
            is_of_callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit())
            && !std::mem::take(&mut is_of_callee)
            && is_ours
        {
            let cost = line.split(' ').nth(1).context("a line without a cost")?;
            sum += cost.parse::<u64>().with_context(|| line.to_owned())?;
        }
    }
    ensure!(sum > 0, "{name}: nothing of {ours:?} ran");
    Ok(Some((name.to_owned(), sum.checked_div(runs).context("no run")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
# callgrind format
desc: Trigger: Client Request: hooks/connect, loopback x10
positions: line
events: Ir
summary: 9999

ob=/target/release/libldmesh.so
fl=???
fn=connect
0 1200
cob=/lib/libc.so.6
cfn=connect
calls=10 0
0 500

ob=/lib/libc.so.6
fn=connect
0 500
ob=/target/release/libldmesh.so
fn=step
0 34
";

    #[test]
    fn what_ran_in_our_own_files_counts_and_what_they_called_does_not() {
        let counted = dump(DUMP, &["libldmesh"]).unwrap();
        assert_eq!(counted, Some(("hooks/connect, loopback".to_owned(), 123)));
        assert!(dump(DUMP, &["runtime-"]).is_err(), "a case in which nothing of ours ran is a mistake");
        assert_eq!(dump("desc: Trigger: Program termination\n", &["libldmesh"]).unwrap(), None);
    }

    #[track_caller]
    fn check_failures(before: &str, now: &str, failures: usize) {
        let difference = Counts::parse(now).unwrap().since(&Counts::parse(before).unwrap());
        assert_eq!(difference.failures, failures, "{}", difference.table);
        assert_eq!(difference.table.matches("<--").count(), failures, "{}", difference.table);
    }

    #[test]
    fn four_percent_more_or_less_pass_and_six_fail() {
        for (now, failures) in [("1040", 0), ("960", 0), ("1050", 0), ("1060", 1), ("940", 1)] {
            check_failures("a\t1000\nb\t7\n", &format!("a\t{now}\nb\t7\n"), failures);
        }
        check_failures("a\t10\n", "a\t11\n", 1);
    }

    #[test]
    fn a_case_that_is_new_or_gone_fails() {
        check_failures("a\t10\n", "a\t10\nb\t10\n", 1);
        check_failures("a\t10\nb\t10\n", "a\t10\n", 1);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let counts = Counts::parse("# a comment\nb, 10 services\t2\na\t1\n").unwrap();
        assert_eq!(counts.text(), "a\t1\nb, 10 services\t2\n");
        assert_eq!(Counts::parse(&counts.text()).unwrap(), counts);
        assert!(Counts::parse("a 1\n").is_err());
    }
}
