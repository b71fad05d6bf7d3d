//! Where things are in an arena. Encoder and view share these numbers; a change of any of them is a new
//! [`crate::FORMAT_VERSION`].
//!
//! An arena's content begins with one word per [`Section`], `offset << 32 | count` (offset in words from the
//! content's begin, count in records), then the default action and the like; the sections follow. Records are as short
//! as what nearly all of them need; the rest is in [`Section::Tables`], and a record says where (0 = nowhere).
//!
//! An address has 32 bits: an IPv4 address, or with [`WIDE`] the index of a [`Section::Wide`] address.

/// The tables of an arena.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Section {
    /// Hash buckets over names: `high half of the hash << 32 | index + 1`, 0 = empty; see [`bucket`].
    NameBuckets = 0,
    /// Names.
    Names = 1,
    /// Addresses of names: `address << 32 | WIDE`.
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
    /// Where texts are that are used again and again, the first of them empty; words of hash tables; and what few
    /// clusters and sets have.
    Tables = 13,
    /// Outlier detection of clusters.
    Outliers = 14,
    /// TLS server names of destinations; each destination's in order of their hash.
    ServerNames = 15,
    /// Addresses that are not IPv4's: hi, lo.
    Wide = 16,
}

/// Number of sections.
pub const SECTIONS: usize = 17;
/// Word that holds the default action (0 = pass, 1 = refuse).
pub const DEFAULT_ACTION: usize = SECTIONS;
/// Word that holds the pod's seed.
pub const SEED: usize = SECTIONS + 1;
/// Word of the pod's own addresses (hi, lo), as that of a section.
pub const OWN: usize = SECTIONS + 2;
/// Word that holds the number of destinations that are for every address.
pub const WILDCARDS: usize = SECTIONS + 3;
/// Words before the first section.
pub const CONTENT_HEADER: usize = SECTIONS + 4;

/// Buckets for so many entries: two fifths are in use, so that what is not there is known after two looks. A table of the
/// next power of two would be up to twice as large, for the same looks; a small one has room to spare.
pub const fn bucket_count(entries: usize) -> usize {
    let count = entries.saturating_mul(5) / 2;
    if count < LEAST_BUCKETS { LEAST_BUCKETS } else { count }
}

/// Buckets of a table at least.
const LEAST_BUCKETS: usize = 64;

/// The bucket, of so many, at which looking for a hash begins.
#[inline]
pub const fn bucket(hash: u64, buckets: usize) -> usize {
    (((hash as u32 as u64) * (buckets as u64)) >> 32) as usize
}

/// Words of a name: text, `first address << 32 | NAME_HEADLESS | number of addresses`.
pub const NAME_WORDS: usize = 2;
/// Name flag: headless.
pub const NAME_HEADLESS: u32 = 1 << 31;
/// Words of a wide address: hi, lo.
pub const WIDE_WORDS: usize = 2;
/// The upper half of the word is the index of a wide address.
pub const WIDE: u64 = 1;
/// Words of a destination: `address << 32 | port << 16 | kind << 8 | (pass reason or HASH_SOURCE) << 1 | WIDE`, weighted
/// (offset, count), `name + 1 << 32 | rules left out`.
pub const DESTINATION_WORDS: usize = 3;
/// What of a destination's first word says where it is: the address and whether it is wide, and the port.
pub const DESTINATION_KEY: u64 = 0xffff_ffff_ffff_0000 | WIDE;
/// Words of a prefix destination: those of a destination, then the prefix length (as v6).
pub const PREFIX_WORDS: usize = DESTINATION_WORDS + 1;
/// Action kind: clusters by weight.
pub const KIND_CLUSTERS: u8 = 0;
/// With that kind: the source address is hashed.
pub const HASH_SOURCE: u8 = 1;
/// Action kind: pass.
pub const KIND_PASS: u8 = 1;
/// Action kind: refuse.
pub const KIND_REFUSE: u8 = 2;
/// Action kind: by TLS server name; instead of weighted clusters, server names (offset, count).
pub const KIND_SERVER_NAMES: u8 = 3;
/// Words of a server name: hash, text, kind as in a destination, weighted (offset, count).
pub const SERVER_NAME_WORDS: usize = 4;
/// Words of a cluster: the rest of its name's text, hash of the name,
/// `overprovisioning factor << 32 | panic threshold << 16 | pass reason << 12 | flags << 8 | policy`, parameter of the
/// policy, `slot << 32 | connect timeout`, `limit << 32 | outlier detection + 1`, priorities,
/// `what few have << 32 | where the name begins`.
pub const CLUSTER_WORDS: usize = 8;
/// Words of what a cluster asks for beside its policy; see `balancing`. In what few clusters have they follow on the hash
/// of the owner's name and the keepalive.
pub const BALANCING_WORDS: usize = 6;
/// Cluster flag: endpoints are known.
pub const CLUSTER_KNOWN: u64 = 1;
/// Cluster flag: locality weights are honoured.
pub const CLUSTER_LOCALITY_WEIGHTED: u64 = 2;
/// Policy numbers.
pub const POLICY_ROUND_ROBIN: u8 = 1;
/// Least request: `choice count << 32 | bias`.
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
/// Left to the kernel: the text that says why.
pub const POLICY_PASS: u8 = 255;
/// Words of a set of endpoints: `first << 32 | count`, `slot << 32 | details`. Without details all are healthy and weigh
/// the same.
pub const SET_WORDS: usize = 2;
/// With the details: all are healthy and weigh the same, and only the first word is there.
pub const DETAIL_UNIFORM: u32 = 1 << 31;
/// Words of a set's details: tag of a locality's slot, `healthy << 32 | degraded`, `unhealthy << 32 | stride`, sum of
/// weights. With a stride the weights up to and with each endpoint follow, two in a word; 0 = all weigh the same.
pub const DETAIL_WORDS: usize = 4;
/// Words of a priority: its set, tag of the slot, localities, table (its first word, its number of entries).
pub const PRIORITY_WORDS: usize = SET_WORDS + 3;
/// Words of a locality: its set, `weight << 32 | name`.
pub const LOCALITY_WORDS: usize = SET_WORDS + 1;
/// Words of an endpoint: `address << 32 | port << 16 | health << 2 | flag | WIDE`, `weight << 32 | slot`.
pub const ENDPOINT_WORDS: usize = 2;
/// Endpoint flag: its pod has a sidecar.
pub const ENDPOINT_TAKES_MTLS: u64 = 2;
/// No slot, no limit.
pub const NONE: u32 = u32::MAX;
