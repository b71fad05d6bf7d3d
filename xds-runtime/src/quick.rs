//! Hash tables of what is compiled: a hundred thousand entries, made anew with each publish.
//!
//! Their keys are what the control plane sent, or hashes of it. Whoever could choose them badly may choose where every
//! connection goes, so std's keyed hash would protect nothing here, and it takes a third of a publish.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;

/// A map; of no order that anything may depend on.
pub type QuickMap<K, V> = HashMap<K, V, FixedState>;

/// A set; likewise.
pub type QuickSet<K> = HashSet<K, FixedState>;
