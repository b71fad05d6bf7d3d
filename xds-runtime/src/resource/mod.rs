//! Protobuf to typed resources; protobuf stops here.

pub mod model;

pub use model::*;
