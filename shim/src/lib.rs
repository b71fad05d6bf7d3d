//! libldmesh.so: the hooks that put a preloaded program into the mesh.
//!
//! ```text
//! program --> hooks (C ABI: guard, parse, call core, return value and errno) --> core (what the call means)
//!                |                                                                  |
//!                +--> the real function, never with a frame of ours that has a      +--> pod: image, state, control
//!                     personality on the stack
//! ```
//! Exported are the hooks and `ldmesh_*`, nothing else.

#![cfg_attr(test, allow(dead_code))]

mod core;
mod memory;
// In a unit test's own binary a hook would catch the test's calls.
#[cfg(not(test))]
mod hooks;
