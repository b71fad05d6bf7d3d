//! The compatibility table: what each test found out about an application or a libc.
//!
//! A test takes a cell when it begins and fills it when it has shown what it was to show; a cell that is dropped
//! empty says FAILED. `scripts/test.sh` names the file with `LDMESH_TABLE` and prints it as tables at its end (bin
//! `table`); `docs/compatibility.md` holds the same tables.

use std::io::Write;

/// How a program fares with the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Works {
    /// Its connections go to endpoints of the mesh, balanced.
    Balanced,
    /// It reaches services, but not every connection of its is balanced; the note says why.
    Unbalanced,
    /// It does what it does without the library; the note says what was compared.
    Unchanged,
}

/// A cell of the table, empty until [`Cell::is`] fills it.
#[derive(Debug)]
#[must_use = "an unfilled cell says FAILED"]
pub struct Cell {
    table: &'static str,
    row: String,
    column: String,
    result: String,
}

impl Cell {
    /// An application (`curl`, `redis replica`): a row of its own.
    pub fn application(name: &str) -> Self {
        Self::new("application", name, "")
    }

    /// A test that ran with a libc (`glibc 2.31`, `musl`): a cell of libc x test.
    pub fn libc(libc: &str, test: &str) -> Self {
        Self::new("libc", test, libc)
    }

    fn new(table: &'static str, row: &str, column: &str) -> Self {
        Self { table, row: row.to_owned(), column: column.to_owned(), result: "FAILED".to_owned() }
    }

    /// Fills an application's cell. The note says in a few words what was asserted, or the reason.
    pub fn is(mut self, works: Works, note: &str) {
        let works = match works {
            Works::Balanced => "balanced",
            Works::Unbalanced => "unbalanced",
            Works::Unchanged => "unchanged",
        };
        self.result = format!("{works}: {note}");
    }

    /// Fills a libc's cell.
    pub fn passed(mut self) {
        "ok".clone_into(&mut self.result);
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let Some(path) = std::env::var_os("LDMESH_TABLE") else { return };
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        if let Ok(mut file) = file {
            // One write a line: tests append side by side.
            let _ =
                file.write_all(format!("{}\t{}\t{}\t{}\n", self.table, self.row, self.column, self.result).as_bytes());
        }
    }
}
