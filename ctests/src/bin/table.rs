//! Prints the compatibility tables that the end-to-end tests filled, in Markdown; compares them with a document.
//!
//! Usage: `table CELLS [--document FILE [--write]]`. CELLS is the file that `LDMESH_TABLE` named. The document has
//! its tables between `<!-- tables -->` and `<!-- end of tables -->`; numbers in a table's head are versions, which
//! may differ. Exit status 1: a cell FAILED, or the document says something else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

const BEGIN: &str = "<!-- tables -->\n";
const END: &str = "<!-- end of tables -->";

#[derive(Parser)]
struct Arguments {
    cells: PathBuf,
    #[arg(long)]
    document: Option<PathBuf>,
    #[arg(long, requires = "document")]
    write: bool,
}

/// The results of the application rows, and of the rows of libc x test.
#[derive(Default)]
struct Tables {
    applications: BTreeMap<String, String>,
    tests: BTreeMap<String, BTreeMap<String, String>>,
    failed: bool,
}

impl Tables {
    fn parse(text: &str) -> Result<Self> {
        let mut tables = Self::default();
        for line in text.lines() {
            let mut fields = line.split('\t').map(str::to_owned);
            let (Some(table), Some(row), Some(column), Some(result)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                bail!("not a cell: {line}");
            };
            tables.failed |= result == "FAILED";
            match table.as_str() {
                "application" => drop(tables.applications.insert(row, result)),
                "libc" => drop(tables.tests.entry(row).or_default().insert(column, result)),
                _ => bail!("no such table: {table}"),
            }
        }
        Ok(tables)
    }

    fn markdown(&self) -> Result<String> {
        let mut text = String::new();
        if !self.tests.is_empty() {
            let mut libcs: Vec<&str> = self.tests.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
            libcs.sort_unstable_by_key(|libc| version(libc));
            libcs.dedup();
            writeln!(text, "| test | {} |", libcs.join(" | "))?;
            writeln!(text, "| --- |{}", " --- |".repeat(libcs.len()))?;
            for (test, results) in &self.tests {
                write!(text, "| {test} |")?;
                for libc in &libcs {
                    write!(text, " {} |", results.get(*libc).map_or("-", String::as_str))?;
                }
                writeln!(text)?;
            }
            writeln!(text)?;
        }
        writeln!(text, "| application | result | what was seen |\n| --- | --- | --- |")?;
        for (application, result) in &self.applications {
            let (works, note) = result.split_once(": ").unwrap_or((result, ""));
            writeln!(text, "| {application} | {works} | {note} |")?;
        }
        Ok(text)
    }
}

/// Sorts `glibc 2.4` before `glibc 2.31`.
fn version(libc: &str) -> (String, Vec<u32>) {
    let (name, rest) = libc.split_once(' ').unwrap_or((libc, ""));
    let numbers = rest.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
    (name.to_owned(), numbers)
}

/// A table without the versions in its head.
fn without_versions(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_digit() || c == '.';
    let plain = |line: &str| if line.starts_with("| test") { line.replace(is_digit, "") } else { line.to_owned() };
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

fn run(arguments: &Arguments) -> Result<bool> {
    let cells =
        std::fs::read_to_string(&arguments.cells).with_context(|| format!("read {}", arguments.cells.display()))?;
    let tables = Tables::parse(&cells)?;
    let printed = tables.markdown()?;
    print!("{printed}");
    let Some(document) = &arguments.document else { return Ok(!tables.failed) };
    let text = std::fs::read_to_string(document).with_context(|| format!("read {}", document.display()))?;
    let (before, rest) = text.split_once(BEGIN).context("the document has no place for tables")?;
    let (written, after) = rest.split_once(END).context("the document's tables have no end")?;
    if arguments.write {
        std::fs::write(document, format!("{before}{BEGIN}{printed}{END}{after}"))?;
    } else if without_versions(written) != without_versions(&printed) {
        eprintln!(
            "{0} says something else; if the tables above are right, repeat with --document {0} --write",
            document.display()
        );
        return Ok(false);
    }
    Ok(!tables.failed)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("table: {error:#}");
            ExitCode::FAILURE
        }
    }
}
