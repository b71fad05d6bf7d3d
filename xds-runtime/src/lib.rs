//! The mesh runtime: everything of ldmesh that is not libc.
//!
//! ```text
//! ads -> resource -> compile -> image  (written by the leader)
//!                                 |
//!                        lb over an image view, with state  (read by every process)
//! ```

pub mod ads;
pub mod resource;
