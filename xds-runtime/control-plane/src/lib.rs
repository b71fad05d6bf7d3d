//! A small xDS control plane over Kubernetes and Istio YAML: `ldmesh serve`, tests and benches.
//!
//! It emits what istiod emits for a sidecar node (names and shapes), so that the runtime has one path.
//!
//! ```text
//! text -> input (typed documents) -> model (Mesh) -> render (resources, per kind of client) -> server (delta, SotW)
//!            ^                                                                                   |
//!          watch: files and folders, reloaded on change, last good kept               stats: who has what
//! ```

#![forbid(unsafe_code)]

mod input;
mod model;
mod render;
mod server;
mod synthetic;
mod watch;

pub use input::{InputError, Source};
pub use render::{Entry, NameInfo, NameTable, Proxy, Resources, Snapshot, type_url};
pub use server::{AckedType, Builder, Handle, Listener, ServeError, Server, Stats};
pub use synthetic::Synthetic;
pub use watch::watch;
