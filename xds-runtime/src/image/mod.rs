//! The image: the mesh view as one flat, position-independent set of tables that every process reads in place.
//!
//! ```text
//! Mesh --encode--> words --Publisher--> file: header | arena 0 | arena 1      one file per term
//!                                                |
//!                                 ImageFile::read(|view| ..)  bounds-checked word loads, copy out, check epoch
//! ```
//! Invariants: an arena is written only while it is idle; its epoch is odd meanwhile; `CURRENT` names the arena
//! to read; a reader believes what it copied out only if the epoch did not move. No reference into an arena
//! outlives the closure that read it. A failed check inside a view is [`Torn`]: either a publish went past the
//! reader (it retries) or the file is corrupt (it passes).

mod balancing;
mod encode;
mod file;
mod layout;
mod mesh;
mod schedule;
mod view;

pub use balancing::{Balancing, SlowStart, ZoneAware};
pub use encode::{EncodeError, Encoder, encode, priority_tag};
pub use file::{HEADER_WORDS, ImageFile, Publisher, ReadError, file_words};
pub use mesh::*;
pub use view::{
    ActionView, ClusterView, DestinationView, EndpointView, HealthView, LocalityView, NameView, Place, PolicyView,
    PriorityView, ServerNamesView, SetView, StrRef, Torn, View, WeightsView,
};
