//! The leader: the one process (or thread) of a pod and user that talks to the control plane.
//!
//! ```text
//! host/agent, host/thread  --start-->  lead(Leadership)
//!                                         |
//!   wishes (CONTROL) --> subscriptions -> ads client -> store -> compile -> image_files -> IMAGE
//!                                         |                |
//!   heartbeat, sweeps, connection checks -+                +--> journal (for the successor)
//! ```
//! Invariants: nothing is published unless the term holds; a publish is a complete state; what was accepted is
//! on disk before a successor needs it; a leader that cannot do its work steps down and says so.

pub mod connections;
pub mod files;
pub mod host;
pub mod image_files;
pub mod journal;
pub mod run_dir;
pub mod sock_diag;
