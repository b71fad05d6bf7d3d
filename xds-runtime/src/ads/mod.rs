//! The ADS client: how the control plane's configuration reaches the runtime.
//!
//! ```text
//!   transport (bytes)  <-->  client (task)  <-->  delta | sotw (one stream, sans-io)
//!                               |   ^                     |
//!                       updates |   | commands         session (outlives streams: names, versions, events)
//!                               v   |
//!                              owner  --> leader::resources (last good typed resources)
//! ```
//!
//! Invariants:
//! * the protocol lives in [`session`], [`delta`] and [`sotw`], which do no I/O and never panic on any message;
//! * a rejected resource never replaces the last good one (gRFC A88); the rest of its response applies;
//! * an acknowledgement never changes subscriptions, and a change of subscriptions never acknowledges (delta).

pub mod backoff;
pub mod client;
pub mod delta;
mod event;
mod machine;
mod nack;
pub mod session;
pub mod sotw;
pub mod transport;
pub mod wire;

pub use client::{AdsClient, Command, Handle, Update};
pub use event::{Event, Removal};
pub use machine::Protocol;
pub use session::{Session, SyncState};
pub use transport::{Endpoint, Node, TlsConfig};

#[cfg(test)]
mod tests;
