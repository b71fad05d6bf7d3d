//! Hash tables of what is compiled: a hundred thousand entries, made anew with each publish.
//!
//! Tenants of a mesh choose names and addresses, and so may choose keys; foldhash's seeds are random, so that they
//! cannot choose ones that collide. It is no match for who can watch how long each look-up takes, as std's hash would be:
//! nobody can here, and that one takes a third of a publish.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// A map; of no order that anything may depend on.
pub type QuickMap<K, V> = HashMap<K, V, RandomState>;

/// A set; likewise.
pub type QuickSet<K> = HashSet<K, RandomState>;
