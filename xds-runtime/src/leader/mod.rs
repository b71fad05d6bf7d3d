//! The leader: the one process (or thread) of a pod and user that talks to the control plane.
//!
//! ```text
//! host/agent, host/thread  --start-->  lead(Leadership)
//!                                         |
//!   wishes (CONTROL) --> subscriptions -> ads client -> resources -> compile -> image_files -> IMAGE
//!                                         |                |
//!   heartbeat, sweeps, connection checks -+                +--> journal (for the successor)
//! ```
//! Invariants: nothing is published unless the term holds; a publish is a complete state; what was accepted is
//! on disk before a successor needs it; a leader that cannot do its work steps down and says so.

pub mod attempt;
pub mod connections;
pub mod dns;
pub mod files;
pub mod host;
pub mod image_files;
pub mod journal;
pub mod memory;
pub mod outliers;
mod pipeline;
pub mod resources;
pub mod run;
pub mod run_dir;
pub mod state_file;
pub mod status;
pub mod subscriptions;
pub mod term;
mod upstream;

pub use attempt::{NotLeading, attempt, lead_in_thread};
pub use run::{Ended, Failed, Host, HostKind, Leadership, lead};

#[cfg(test)]
pub(crate) mod testing {
    use super::run_dir::RunDir;
    use crate::config::Settings;
    use std::path::Path;

    /// A run directory below `folder`.
    pub(crate) fn run_dir_at(folder: &Path) -> RunDir {
        let settings =
            Settings::from_env([("LDMESH_XDS", "http://127.0.0.1:1"), ("LDMESH_RUN_DIR", &folder.to_string_lossy())]);
        RunDir::open(&settings).unwrap()
    }
}
