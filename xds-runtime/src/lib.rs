//! The mesh runtime: everything of ldmesh that is not libc.
//!
//! ```text
//! ads -> resource -> compile -> image  (written by the leader)
//!                                 |
//!                        lb over an image view, with state  (read by every process)
//! ```

pub mod ads;
pub mod boot;
pub mod compile;
pub mod config;
pub mod control;
pub mod image;
pub mod lb;
pub mod leader;
pub mod names;
pub mod outlier;
pub mod pod;
pub mod quick;
pub mod resource;
pub mod shm;
pub mod state;

/// The version of every file format in the run directory: part of the directory's path, so that two versions
/// of the library never meet in one file.
pub const FORMAT_VERSION: u32 = 7;
