//! [`Mesh`] to the words of one arena.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use crate::image::balancing::Balancing;
use crate::image::layout::*;
use crate::image::mesh::*;
use crate::image::schedule::{Scale, stride};
use crate::outlier::SETTINGS_WORDS;
use crate::quick::QuickSet;
use crate::resource::Health;
use crate::shm::{WordAddr, hash_bytes, hash_words, pack};
use crate::state::{SlotKind, locality_tag, named_tag};

/// A mesh that does not fit the format.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// More than 2^32 words or records.
    #[error("the mesh needs over 2^32 words of image; narrow it with a Sidecar resource")]
    TooLarge,
}

/// Encodes a mesh. The result is an arena's content, position-independent.
///
/// # Errors
/// [`EncodeError::TooLarge`] when a table leaves 32 bits.
pub fn encode(mesh: &Mesh) -> Result<Vec<u64>, EncodeError> {
    let mut encoder = Encoder::default();
    encoder.encode(mesh)?;
    Ok(encoder.content)
}

/// Encodes mesh after mesh into the same memory: getting it from the system costs as much as filling it.
#[derive(Default)]
pub struct Encoder {
    tables: Tables,
    content: Vec<u64>,
}

impl Encoder {
    /// Encodes a mesh; see [`encode`].
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`].
    pub fn encode(&mut self, mesh: &Mesh) -> Result<&[u64], EncodeError> {
        self.tables.clear();
        self.tables.fill(mesh)?;
        let own = mesh.own.iter().map(|ip| WordAddr::new(*ip)).flat_map(|address| [address.hi, address.lo]).collect();
        self.tables.assemble(mesh.default_action, mesh.seed, own, &mut self.content)?;
        Ok(&self.content)
    }
}

/// The tag of the slot that holds the cursor of a cluster's priority.
pub fn priority_tag(cluster_hash: u64, priority: u32) -> u64 {
    named_tag(SlotKind::Cursor, hash_words(&[cluster_hash, u64::from(priority)]))
}

/// A destination's address in the image: unspecified in either family is one wildcard.
fn destination_key(address: IpAddr) -> WordAddr {
    if address.is_unspecified() { WordAddr { hi: 0, lo: 0 } } else { WordAddr::new(address) }
}

/// The hash under which a destination is found.
pub(super) fn destination_hash(address: WordAddr, port: u16) -> u64 {
    hash_words(&[address.hi, address.lo, u64::from(port)])
}

/// The hash under which an address finds its name.
pub(super) fn address_hash(address: WordAddr) -> u64 {
    hash_words(&[address.hi, address.lo])
}

/// An open-addressing table with linear probing, at most half full: `index + 1`, tagged with the hash's high half.
fn buckets(table: &mut Vec<u64>, entries: impl ExactSizeIterator<Item = (u64, usize)>) -> Result<(), EncodeError> {
    let size = entries.len().saturating_mul(2).max(2).next_power_of_two();
    table.resize(size, 0);
    for (hash, index) in entries {
        let word = pack((hash >> 32) as u32, narrow(index.saturating_add(1))?);
        let mut at = hash as usize & (size - 1);
        while table.get(at).is_some_and(|word| *word != 0) {
            at = (at + 1) & (size - 1);
        }
        if let Some(bucket) = table.get_mut(at) {
            *bucket = word;
        }
    }
    Ok(())
}

fn narrow(value: usize) -> Result<u32, EncodeError> {
    u32::try_from(value).map_err(|_| EncodeError::TooLarge)
}

/// `1 << 63 | probes << 32 | idle << 16 | interval`, 0 = not stated.
fn keepalive_word(keepalive: Keepalive) -> u64 {
    let seconds = |value: Option<u16>| u64::from(value.unwrap_or(0));
    let probes = u64::from(keepalive.probes.unwrap_or(0));
    1 << 63 | probes << 32 | seconds(keepalive.idle) << 16 | seconds(keepalive.interval)
}

/// The words of a set of endpoints (see [`SET_WORDS`]).
fn set_words<'a>(
    first: u32,
    endpoints: impl Iterator<Item = &'a Endpoint>,
    scale: Scale,
    (slot, tag): (Option<u32>, u64),
    before: u32,
    sum: u32,
) -> Result<[u64; SET_WORDS], EncodeError> {
    let (mut count, mut healthy, mut degraded, mut unhealthy, mut even) = (0_usize, 0, 0, 0, true);
    let mut weight = None;
    for endpoint in endpoints {
        count += 1;
        match endpoint.health {
            Health::Healthy => healthy += 1,
            Health::Degraded => degraded += 1,
            Health::Unhealthy => unhealthy += 1,
            Health::Draining => {}
        }
        let scaled = scale.weight(endpoint);
        even &= *weight.get_or_insert(scaled) == scaled;
    }
    let stride = if even { 0 } else { stride(sum) };
    Ok([
        pack(first, narrow(count)?),
        pack(healthy, degraded),
        pack(unhealthy, slot.unwrap_or(NONE)),
        pack(before, sum),
        u64::from(stride),
        tag,
    ])
}

#[derive(Default)]
struct Tables {
    name_buckets: Vec<u64>,
    names: Vec<u64>,
    addresses: Vec<u64>,
    destination_buckets: Vec<u64>,
    destinations: Vec<u64>,
    address_buckets: Vec<u64>,
    prefixes: Vec<u64>,
    weighted: Vec<u64>,
    clusters: Vec<u64>,
    priorities: Vec<u64>,
    localities: Vec<u64>,
    endpoints: Vec<u64>,
    strings: Vec<u64>,
    tables: Vec<u64>,
    outliers: Vec<u64>,
    server_names: Vec<u64>,
}

impl Tables {
    /// Forgets everything but the memory.
    fn clear(&mut self) {
        let Self { name_buckets, names, addresses, destination_buckets, destinations, address_buckets, .. } = self;
        for table in [name_buckets, names, addresses, destination_buckets, destinations, address_buckets] {
            table.clear();
        }
        let Self { prefixes, weighted, clusters, priorities, localities, endpoints, .. } = self;
        for table in [prefixes, weighted, clusters, priorities, localities, endpoints] {
            table.clear();
        }
        let Self { strings, tables, outliers, server_names, .. } = self;
        for table in [strings, tables, outliers, server_names] {
            table.clear();
        }
    }

    fn fill(&mut self, mesh: &Mesh) -> Result<(), EncodeError> {
        let mut name_hashes = Vec::with_capacity(mesh.names.len());
        let mut address_keys = Vec::with_capacity(mesh.names.len());
        let mut addresses = QuickSet::with_capacity_and_hasher(mesh.names.len(), Default::default());
        for (index, name) in mesh.names.iter().enumerate() {
            let hash = hash_bytes(name.name.as_bytes());
            name_hashes.push(hash);
            for ip in &name.addresses {
                let address = WordAddr::new(*ip);
                // The first name of an address is the one it answers with.
                if addresses.insert(address) {
                    address_keys.push((address_hash(address), index));
                }
            }
            self.name(name, hash)?;
        }
        let mut destination_hashes = Vec::with_capacity(mesh.destinations.len());
        for destination in &mesh.destinations {
            destination_hashes.push(destination_hash(destination_key(destination.address), destination.port));
            self.destination(destination)?;
        }
        for prefix in &mesh.prefixes {
            self.prefix(prefix)?;
        }
        for cluster in &mesh.clusters {
            // Whose localities those of a zone-aware cluster are compared with.
            let local = cluster.balancing.zone_aware.and_then(|zones| mesh.clusters.get(zones.local as usize));
            let callers = local.and_then(|local| local.priorities.as_ref()?.first());
            self.cluster(cluster, callers.map_or(&[], |priority| &priority.localities))?;
        }
        let numbered = |hashes: Vec<u64>| hashes.into_iter().enumerate().map(|(index, hash)| (hash, index));
        buckets(&mut self.name_buckets, numbered(name_hashes))?;
        buckets(&mut self.destination_buckets, numbered(destination_hashes))?;
        buckets(&mut self.address_buckets, address_keys.into_iter())
    }

    /// Appends text; the word is `offset in words << 32 | length in bytes`.
    fn text(&mut self, text: &str) -> Result<u64, EncodeError> {
        let at = narrow(self.strings.len())?;
        let (whole, rest) = text.as_bytes().as_chunks();
        self.strings.extend(whole.iter().map(|bytes| u64::from_le_bytes(*bytes)));
        if !rest.is_empty() {
            let mut last = [0_u8; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.strings.push(u64::from_le_bytes(last));
        }
        Ok(pack(at, narrow(text.len())?))
    }

    fn name(&mut self, name: &Name, hash: u64) -> Result<(), EncodeError> {
        let first = narrow(self.addresses.len() / ADDRESS_WORDS)?;
        for ip in &name.addresses {
            let address = WordAddr::new(*ip);
            self.addresses.extend([address.hi, address.lo]);
        }
        let text = self.text(&name.name)?;
        let flags = if name.headless { NAME_HEADLESS } else { 0 };
        self.names.extend([hash, text, pack(first, narrow(name.addresses.len())?), flags]);
        Ok(())
    }

    /// The words of an action: kind and reason in the low 16 bits, and the weighted clusters.
    fn action(&mut self, action: &Action) -> Result<(u64, u64), EncodeError> {
        Ok(match action {
            Action::Clusters { shares, hash } => {
                let first = narrow(self.weighted.len())?;
                self.weighted.extend(shares.iter().map(|(cluster, weight)| pack(*cluster, *weight)));
                let hash = if *hash == HashOn::SourceIp { HASH_SOURCE } else { 0 };
                (u64::from(KIND_CLUSTERS) << 8 | hash, pack(first, narrow(shares.len())?))
            }
            Action::Pass(reason) => (u64::from(KIND_PASS) << 8 | *reason as u64, 0),
            Action::Refuse => (u64::from(KIND_REFUSE) << 8, 0),
            Action::ServerNames(names) => (u64::from(KIND_SERVER_NAMES) << 8, self.server_names(names)?),
        })
    }

    /// Appends the server names of one destination, in order of their hash. Clusters that several of them lead to are
    /// written once: the same words are the same action.
    fn server_names(&mut self, names: &[ServerName]) -> Result<u64, EncodeError> {
        let mut written = HashMap::new();
        let mut records = Vec::with_capacity(names.len());
        for name in names {
            let (kind, weighted) = match &name.action {
                Action::Clusters { shares, hash } => match written.entry((shares, *hash == HashOn::SourceIp)) {
                    Entry::Occupied(same) => *same.get(),
                    Entry::Vacant(free) => *free.insert(self.action(&name.action)?),
                },
                // One decision by name is all that a connection can tell.
                Action::ServerNames(_) => self.action(&Action::Pass(PassReason::NeedsBytes))?,
                other => self.action(other)?,
            };
            let text = self.text(&name.pattern)?;
            records.push([hash_bytes(name.pattern.as_bytes()), text, kind, weighted]);
        }
        records.sort_unstable_by_key(|[hash, ..]| *hash);
        let first = narrow(self.server_names.len() / SERVER_NAME_WORDS)?;
        self.server_names.extend(records.into_iter().flatten());
        Ok(pack(first, narrow(names.len())?))
    }

    fn destination(&mut self, destination: &Destination) -> Result<(), EncodeError> {
        let address = destination_key(destination.address);
        let (kind, weighted) = self.action(&destination.action)?;
        let rules = self.text(&destination.rules_left_out)?;
        let name = destination.name.map_or(0, |name| u64::from(name) + 1);
        self.destinations.extend([
            address.hi,
            address.lo,
            u64::from(destination.port) << 16 | kind,
            weighted,
            name,
            rules,
        ]);
        Ok(())
    }

    fn prefix(&mut self, destination: &PrefixDestination) -> Result<(), EncodeError> {
        let address = WordAddr::new(destination.prefix.address);
        let length = u64::from(destination.prefix.length) + if destination.prefix.address.is_ipv4() { 96 } else { 0 };
        let (kind, weighted) = self.action(&destination.action)?;
        self.prefixes.extend([
            address.hi,
            address.lo,
            length << 32 | u64::from(destination.port) << 16 | kind,
            weighted,
            0,
            0,
        ]);
        Ok(())
    }

    fn cluster(&mut self, cluster: &Cluster, callers: &[Locality]) -> Result<(), EncodeError> {
        let first = narrow(self.priorities.len() / PRIORITY_WORDS)?;
        let priorities = cluster.priorities.as_deref().unwrap_or(&[]);
        let hash = hash_bytes(cluster.name.as_bytes());
        for (nth, priority) in (0..).zip(priorities) {
            self.priority(priority, if nth == 0 { callers } else { &[] }, hash, nth)?;
        }
        let name = self.text(&cluster.name)?;
        let (policy, parameter, detail) = match &cluster.policy {
            Policy::RoundRobin => (POLICY_ROUND_ROBIN, 0, 0),
            Policy::LeastRequest { choice_count, active_request_bias } => {
                // The bias is kept in thousandths.
                let bias = (active_request_bias.clamp(0.0, 4_000_000.0) * 1000.0).round() as u32;
                (POLICY_LEAST_REQUEST, pack(*choice_count, bias), 0)
            }
            Policy::Random => (POLICY_RANDOM, 0, 0),
            Policy::RingHash => (POLICY_RING_HASH, 0, 0),
            Policy::Maglev => (POLICY_MAGLEV, 0, 0),
            Policy::Aggregate(members) => {
                let first = narrow(self.weighted.len())?;
                self.weighted.extend(members.iter().map(|member| pack(*member, 1)));
                (POLICY_AGGREGATE, pack(first, narrow(members.len())?), 0)
            }
            Policy::Refuse => (POLICY_REFUSE, 0, 0),
            Policy::Pass(reason, detail) => (POLICY_PASS, *reason as u64, self.text(detail)?),
        };
        let mut flags = 0;
        if cluster.priorities.is_some() {
            flags |= CLUSTER_KNOWN;
        }
        if cluster.locality_weighted {
            flags |= CLUSTER_LOCALITY_WEIGHTED;
        }
        let balancing = self.balancing(&cluster.balancing)?;
        // Their number among the settings, from 1; 0 = none.
        let outlier = match &cluster.outlier {
            Some(settings) => {
                self.outliers.extend(settings.words());
                narrow(self.outliers.len() / SETTINGS_WORDS)?
            }
            None => 0,
        };
        let timeout = u32::try_from(cluster.connect_timeout.as_millis()).unwrap_or(u32::MAX);
        let panic = (cluster.panic_threshold.clamp(0.0, 100.0) * 100.0).round() as u32;
        self.clusters.extend([
            name,
            hash,
            flags << 8 | u64::from(policy),
            parameter,
            detail,
            pack(cluster.slot.unwrap_or(NONE), timeout),
            pack(cluster.max_connections.unwrap_or(NONE), panic),
            pack(first, narrow(priorities.len())?),
            u64::from(cluster.overprovisioning_factor),
            u64::from(outlier),
            cluster.keepalive.map_or(0, keepalive_word),
            balancing,
            cluster.owner.as_ref().map_or(hash, |owner| hash_bytes(owner.as_bytes())),
        ]);
        Ok(())
    }

    /// Appends what a cluster asks for beside its policy, if anything.
    fn balancing(&mut self, balancing: &Balancing) -> Result<u64, EncodeError> {
        let first = narrow(self.tables.len())?;
        let Some(words) = balancing.words() else { return Ok(pack(first, 0)) };
        self.tables.extend(words);
        Ok(pack(first, narrow(words.len())?))
    }

    fn priority(
        &mut self,
        priority: &Priority,
        callers: &[Locality],
        cluster: u64,
        nth: u32,
    ) -> Result<(), EncodeError> {
        let first_locality = narrow(self.localities.len() / LOCALITY_WORDS)?;
        let all = || priority.localities.iter().flat_map(|locality| &locality.endpoints);
        let scale = Scale::of(all());
        let mut before = 0;
        for locality in &priority.localities {
            let first = self.endpoint_count()?;
            let sum = self.endpoints(&locality.endpoints, scale, before);
            let text = self.text(&locality.name)?;
            let cursor = (locality.slot, locality_tag(cluster, nth, hash_bytes(locality.name.as_bytes())));
            let set = set_words(first, locality.endpoints.iter(), scale, cursor, before, sum)?;
            self.localities.extend(set);
            let peer = callers.iter().position(|caller| caller.name == locality.name);
            let peer = narrow(peer.map_or(0, |peer| peer + 1))?;
            self.localities.extend([pack(peer, locality.weight), text]);
            before = before.saturating_add(sum);
        }
        let count = all().count();
        let first = self.endpoint_count()?.saturating_sub(narrow(count)?);
        let cursor = (priority.slot, priority_tag(cluster, nth));
        self.priorities.extend(set_words(first, all(), scale, cursor, 0, before)?);
        self.priorities.push(pack(first_locality, narrow(priority.localities.len())?));
        let table = self.table(&priority.table)?;
        self.priorities.push(table);
        Ok(())
    }

    /// Appends a table: two words an entry of a ring, half a word one of Maglev's.
    fn table(&mut self, table: &Table) -> Result<u64, EncodeError> {
        let first = narrow(self.tables.len())?;
        let count = match table {
            Table::None => 0,
            Table::Ring(entries) => {
                self.tables.extend(entries.iter().flat_map(|(hash, endpoint)| [*hash, u64::from(*endpoint)]));
                entries.len()
            }
            Table::Maglev(entries) => {
                let half = |entry: Option<&u32>| entry.copied().unwrap_or(0);
                self.tables.extend(entries.chunks(2).map(|two| pack(half(two.first()), half(two.get(1)))));
                entries.len()
            }
        };
        Ok(pack(first, narrow(count)?))
    }

    fn endpoint_count(&self) -> Result<u32, EncodeError> {
        narrow(self.endpoints.len() / ENDPOINT_WORDS)
    }

    /// Appends endpoints; returns the sum of their scaled weights.
    fn endpoints(&mut self, endpoints: &[Endpoint], scale: Scale, before: u32) -> u32 {
        let mut sum = 0_u32;
        for endpoint in endpoints {
            sum = sum.saturating_add(scale.weight(endpoint));
            let address = WordAddr::new(endpoint.address.ip());
            let health: u64 = match endpoint.health {
                Health::Healthy => 0,
                Health::Degraded => 1,
                Health::Unhealthy => 2,
                Health::Draining => 3,
            };
            let flag = if endpoint.takes_mtls { ENDPOINT_TAKES_MTLS } else { 0 };
            let word = u64::from(endpoint.address.port()) << 48 | health << 40 | flag | u64::from(endpoint.weight);
            let last = pack(before.saturating_add(sum), endpoint.slot.unwrap_or(NONE));
            self.endpoints.extend([address.hi, address.lo, word, last]);
        }
        sum
    }

    fn assemble(
        &self,
        default_action: DefaultAction,
        seed: u64,
        own: Vec<u64>,
        words: &mut Vec<u64>,
    ) -> Result<(), EncodeError> {
        let sections: [(&[u64], usize); SECTIONS] = [
            (&self.name_buckets, 1),
            (&self.names, NAME_WORDS),
            (&self.addresses, ADDRESS_WORDS),
            (&self.destination_buckets, 1),
            (&self.destinations, DESTINATION_WORDS),
            (&self.address_buckets, 1),
            (&self.prefixes, PREFIX_WORDS),
            (&self.weighted, 1),
            (&self.clusters, CLUSTER_WORDS),
            (&self.priorities, PRIORITY_WORDS),
            (&self.localities, LOCALITY_WORDS),
            (&self.endpoints, ENDPOINT_WORDS),
            (&self.strings, 1),
            (&self.tables, 1),
            (&self.outliers, SETTINGS_WORDS),
            (&self.server_names, SERVER_NAME_WORDS),
        ];
        words.clear();
        words.resize(CONTENT_HEADER, 0);
        words.reserve_exact(sections.iter().map(|(table, _)| table.len()).sum());
        for (index, (table, record)) in sections.iter().enumerate() {
            let head = pack(narrow(words.len())?, narrow(table.len() / record)?);
            if let Some(word) = words.get_mut(index) {
                *word = head;
            }
            words.extend_from_slice(table);
        }
        if let Some(word) = words.get_mut(DEFAULT_ACTION) {
            *word = u64::from(default_action == DefaultAction::Refuse);
        }
        if let Some(word) = words.get_mut(SEED) {
            *word = seed;
        }
        let head = pack(narrow(words.len())?, narrow(own.len() / ADDRESS_WORDS)?);
        if let Some(word) = words.get_mut(OWN) {
            *word = head;
        }
        words.extend(own);
        Ok(())
    }
}
