//! Who leads a pod's mesh runtime, and where its processes meet.

pub mod run_dir;
