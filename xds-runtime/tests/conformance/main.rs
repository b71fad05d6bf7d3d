//! Conformance: what the control plane's balancing comes to, from typed resources to picks.
//!
//! `table` draws 100,000 picks for each policy and setting and compares with the exact expectation; it prints a table
//! (`cargo test -p xds-runtime --test conformance -- --nocapture`). `documentation` has the worked examples of Envoy's
//! documentation, a test for each page. `keys` compares consistent hashing with vectors of an independent
//! implementation, and says which keys move when an endpoint goes.
#![allow(clippy::unwrap_used)] // a test: what fails here is to be seen

mod documentation;
mod keys;
mod rig;
mod table;
