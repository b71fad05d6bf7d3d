//! What makes a pod one of the mesh.
//!
//! ```text
//! pod (JSON) --shape--> well-formed? --decide--> wanted? --annotations--> settings of the pod and of each container
//!                            |                       |                        |
//!                      LeftAlone(Reason)       LeftAlone(Reason)        volumes, own (init container, agent),
//!                                                                       container (environment, mounts) --> Injected
//! ```
//! [`inject`] is pure: it reads no file, no clock and no cluster, so that the webhook and `ldmesh inject` cannot
//! differ. What it adds, it adds only where it is missing: injecting twice is injecting once, a container that comes
//! later is completed alone, and what a container defines itself stays as it is.
//!
//! [`stream`] puts it to work on a text of YAML documents: additions are written into the text where they belong,
//! the rest of it stays byte for byte.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod annotations;
mod container;
mod decide;
mod inject;
mod own;
mod settings;
mod shape;
pub mod stream;
mod traffic;
mod volumes;
mod workload;
mod yaml;

pub use annotations::{Place, Problem};
pub use decide::{Namespace, Reason};
pub use inject::{Outcome, Request, Warning, inject, inject_as, patch};
pub use settings::{BadValue, Leader, SETTINGS, Scope, Setting, Settings, parse_settings};
pub use shape::Malformed;
