//! Where things are in an arena. Encoder and view share these numbers; a change of any of them is a new
//! [`crate::FORMAT_VERSION`].
//!
//! An arena's content begins with one word per [`Section`], `offset << 32 | count` (offset in words from the
//! content's begin, count in records), then the default action and the like; the sections follow.

/// The tables of an arena.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Section {
    /// Hash buckets over names: `index + 1`, 0 = empty; a power of two.
    NameBuckets = 0,
    /// Names.
    Names = 1,
    /// Addresses of names.
    Addresses = 2,
    /// Hash buckets over (address, port).
    DestinationBuckets = 3,
    /// Destinations.
    Destinations = 4,
    /// Hash buckets over addresses, to the index of the name they belong to.
    AddressBuckets = 5,
    /// Prefix destinations.
    Prefixes = 6,
    /// Weighted clusters.
    Weighted = 7,
    /// Clusters.
    Clusters = 8,
    /// Priorities.
    Priorities = 9,
    /// Localities.
    Localities = 10,
    /// Endpoints.
    Endpoints = 11,
    /// Text, each piece padded with zeros to whole words.
    Strings = 12,
    /// Words of hash tables, and of what few clusters have.
    Tables = 13,
    /// Outlier detection of clusters.
    Outliers = 14,
    /// TLS server names of destinations; each destination's in order of their hash.
    ServerNames = 15,
}

/// Number of sections.
pub const SECTIONS: usize = 16;
/// Word that holds the default action (0 = pass, 1 = refuse).
pub const DEFAULT_ACTION: usize = SECTIONS;
/// Word that holds the pod's seed.
pub const SEED: usize = SECTIONS + 1;
/// Word of the pod's own addresses, as that of a section of addresses.
pub const OWN: usize = SECTIONS + 2;
/// Words before the first section.
pub const CONTENT_HEADER: usize = SECTIONS + 3;

/// Words of a name: hash, text, addresses, flags.
pub const NAME_WORDS: usize = 4;
/// Name flag: headless.
pub const NAME_HEADLESS: u64 = 1;
/// Words of an address: hi, lo.
pub const ADDRESS_WORDS: usize = 2;
/// Words of a destination: hi, lo, `port << 16 | kind << 8 | pass reason or HASH_SOURCE`, weighted (offset, count), name + 1, rules left out.
pub const DESTINATION_WORDS: usize = 6;
/// Words of a prefix destination: those of a destination, with `prefix length (as v6) << 32` in the third.
pub const PREFIX_WORDS: usize = DESTINATION_WORDS;
/// Action kind: clusters by weight.
pub const KIND_CLUSTERS: u8 = 0;
/// Low byte of that kind: the source address is hashed.
pub const HASH_SOURCE: u64 = 1;
/// Action kind: pass.
pub const KIND_PASS: u8 = 1;
/// Action kind: refuse.
pub const KIND_REFUSE: u8 = 2;
/// Action kind: by TLS server name; instead of weighted clusters, server names (offset, count).
pub const KIND_SERVER_NAMES: u8 = 3;
/// Words of a server name: hash, text, kind as in a destination, weighted (offset, count).
pub const SERVER_NAME_WORDS: usize = 4;
/// Words of a cluster; see `encode::cluster`.
pub const CLUSTER_WORDS: usize = 13;
/// Words of what a cluster asks for beside its policy; see `balancing`.
pub const BALANCING_WORDS: usize = 6;
/// Cluster flag: endpoints are known.
pub const CLUSTER_KNOWN: u64 = 1;
/// Cluster flag: locality weights are honoured.
pub const CLUSTER_LOCALITY_WEIGHTED: u64 = 2;
/// Policy numbers.
pub const POLICY_ROUND_ROBIN: u8 = 1;
/// Least request.
pub const POLICY_LEAST_REQUEST: u8 = 2;
/// Random.
pub const POLICY_RANDOM: u8 = 3;
/// Ring hash.
pub const POLICY_RING_HASH: u8 = 4;
/// Maglev.
pub const POLICY_MAGLEV: u8 = 5;
/// The priorities of other clusters: their run of weighted clusters.
pub const POLICY_AGGREGATE: u8 = 6;
/// Refused.
pub const POLICY_REFUSE: u8 = 254;
/// Left to the kernel.
pub const POLICY_PASS: u8 = 255;
/// Words of a set of endpoints: `first << 32 | count`, `healthy << 32 | degraded`, `unhealthy << 32 | slot`,
/// `weights before it << 32 | sum of weights`, stride (0 = all weights are equal), tag of the slot.
pub const SET_WORDS: usize = 6;
/// Words of a priority: its set, localities, table (its first word, its number of entries).
pub const PRIORITY_WORDS: usize = SET_WORDS + 2;
/// Words of a locality: its set, `peer + 1 << 32 | weight`, name.
pub const LOCALITY_WORDS: usize = SET_WORDS + 2;
/// Words of an endpoint: hi, lo, `port << 48 | health << 40 | flag << 32 | weight`, `weights up to and with it << 32 | slot`.
pub const ENDPOINT_WORDS: usize = 4;
/// Endpoint flag: its pod has a sidecar.
pub const ENDPOINT_TAKES_MTLS: u64 = 1 << 32;
/// No slot, no limit.
pub const NONE: u32 = u32::MAX;
