//! [`Mesh`] to the words of one arena.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use crate::image::balancing::Balancing;
use crate::image::layout::*;
use crate::image::mesh::*;
use crate::image::schedule::{Scale, stride};
use crate::outlier::SETTINGS_WORDS;
use crate::quick::{QuickMap, QuickSet};
use crate::resource::Health;
use crate::shm::{WordAddr, hash_bytes, hash_words, pack, unpack};
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
        self.tables.assemble(own, &mut self.content)?;
        let wildcards = mesh.destinations.iter().filter(|destination| destination.address.is_unspecified()).count();
        let refuses = u64::from(mesh.default_action == DefaultAction::Refuse);
        for (at, word) in [(DEFAULT_ACTION, refuses), (SEED, mesh.seed), (WILDCARDS, wildcards as u64)] {
            if let Some(place) = self.content.get_mut(at) {
                *place = word;
            }
        }
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

/// An open-addressing table with linear probing: `index + 1`, tagged with the hash's high half.
fn buckets(table: &mut Vec<u64>, entries: impl ExactSizeIterator<Item = (u64, usize)>) -> Result<(), EncodeError> {
    let size = bucket_count(entries.len());
    table.resize(size, 0);
    for (hash, index) in entries {
        let word = pack((hash >> 32) as u32, narrow(index.saturating_add(1))?);
        let mut at = bucket(hash, size);
        while table.get(at).is_some_and(|word| *word != 0) {
            at = if at + 1 == size { 0 } else { at + 1 };
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

/// The kind of an action, with what goes with it, in the low 16 bits of a word.
fn kind(kind: u8, code: u8) -> u64 {
    u64::from(kind) << 8 | u64::from(code) << 1
}

/// `1 << 63 | probes << 32 | idle << 16 | interval`, 0 = not stated.
fn keepalive_word(keepalive: Keepalive) -> u64 {
    let seconds = |value: Option<u16>| u64::from(value.unwrap_or(0));
    let probes = u64::from(keepalive.probes.unwrap_or(0));
    1 << 63 | probes << 32 | seconds(keepalive.idle) << 16 | seconds(keepalive.interval)
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
    wide: Vec<u64>,
    /// Texts that are used again and again.
    texts: QuickMap<String, u32>,
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
        let Self { strings, tables, outliers, server_names, wide, .. } = self;
        for table in [strings, tables, outliers, server_names, wide] {
            table.clear();
        }
        self.texts.clear();
    }

    fn fill(&mut self, mesh: &Mesh) -> Result<(), EncodeError> {
        // The first text that is used again and again is the empty one: nothing else is at 0.
        self.tables.push(0);
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
            self.name(name)?;
        }
        let numbered = |hashes: Vec<u64>| hashes.into_iter().enumerate().map(|(index, hash)| (hash, index));
        buckets(&mut self.name_buckets, numbered(name_hashes))?;
        let mut destination_hashes = Vec::with_capacity(mesh.destinations.len());
        for destination in &mesh.destinations {
            destination_hashes.push(destination_hash(destination_key(destination.address), destination.port));
            self.destination(destination)?;
        }
        for prefix in &mesh.prefixes {
            self.prefix(prefix)?;
        }
        for cluster in &mesh.clusters {
            self.cluster(cluster, &mesh.names)?;
        }
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

    /// The index of a text that is used again and again: it is written once.
    fn shared_text(&mut self, text: &str) -> Result<u32, EncodeError> {
        if text.is_empty() {
            return Ok(0);
        }
        if let Some(index) = self.texts.get(text) {
            return Ok(*index);
        }
        let index = narrow(self.tables.len())?;
        let piece = self.text(text)?;
        self.tables.push(piece);
        self.texts.insert(text.to_owned(), index);
        Ok(index)
    }

    /// The name of a cluster, in two pieces: mostly it ends in a name of the mesh, which is written already.
    fn cluster_name(&mut self, text: &str, names: &[Name]) -> Result<(u32, u64), EncodeError> {
        let ends_in = |at: &usize| self.text_of_name(text.get(*at..)?, names);
        let at = text.rfind('|').map(|at| at + 1);
        match (at, at.as_ref().and_then(ends_in)) {
            (Some(at), Some(piece)) => Ok((self.shared_text(text.get(..at).unwrap_or_default())?, piece)),
            _ => Ok((0, self.text(text)?)),
        }
    }

    /// Where the text of a name of the mesh is.
    fn text_of_name(&self, name: &str, names: &[Name]) -> Option<u64> {
        let hash = hash_bytes(name.as_bytes());
        let size = self.name_buckets.len();
        let (before, from) = self.name_buckets.split_at_checked(bucket(hash, size))?;
        let mut places = from.iter().chain(before).map_while(|word| (*word != 0).then(|| unpack(*word)));
        let index = places.find_map(|(tag, index)| {
            let index = (index as usize).checked_sub(1)?;
            (tag == (hash >> 32) as u32 && names.get(index)?.name == name).then_some(index)
        })?;
        self.names.get(index.checked_mul(NAME_WORDS)?).copied()
    }

    /// An address in the upper half of a word.
    fn address(&mut self, address: IpAddr) -> Result<u64, EncodeError> {
        match address.to_canonical() {
            IpAddr::V4(v4) => Ok(u64::from(v4.to_bits()) << 32),
            IpAddr::V6(_) => self.wide(WordAddr::new(address)),
        }
    }

    /// An address in the upper half of a word, whatever it is.
    fn wide(&mut self, address: WordAddr) -> Result<u64, EncodeError> {
        let index = narrow(self.wide.len() / WIDE_WORDS)?;
        self.wide.extend([address.hi, address.lo]);
        Ok(u64::from(index) << 32 | WIDE)
    }

    fn name(&mut self, name: &Name) -> Result<(), EncodeError> {
        let first = narrow(self.addresses.len())?;
        for ip in &name.addresses {
            let address = self.address(*ip)?;
            self.addresses.push(address);
        }
        let text = self.text(&name.name)?;
        let count = narrow(name.addresses.len())?;
        if count & NAME_HEADLESS != 0 {
            return Err(EncodeError::TooLarge);
        }
        self.names.extend([text, pack(first, if name.headless { count | NAME_HEADLESS } else { count })]);
        Ok(())
    }

    /// The words of an action: kind and reason or hash in the low 16 bits, and the weighted clusters.
    fn action(&mut self, action: &Action) -> Result<(u64, u64), EncodeError> {
        Ok(match action {
            Action::Clusters { shares, hash } => {
                let first = narrow(self.weighted.len())?;
                self.weighted.extend(shares.iter().map(|(cluster, weight)| pack(*cluster, *weight)));
                let hash = if *hash == HashOn::SourceIp { HASH_SOURCE } else { 0 };
                (kind(KIND_CLUSTERS, hash), pack(first, narrow(shares.len())?))
            }
            Action::Pass(reason) => (kind(KIND_PASS, *reason as u8), 0),
            Action::Refuse => (kind(KIND_REFUSE, 0), 0),
            Action::ServerNames(names) => (kind(KIND_SERVER_NAMES, 0), self.server_names(names)?),
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
        let address = destination.address;
        let address =
            if address.is_unspecified() { self.wide(destination_key(address)) } else { self.address(address) }?;
        let (kind, weighted) = self.action(&destination.action)?;
        let rules = self.shared_text(&destination.rules_left_out)?;
        let name = destination.name.map_or(0, |name| name.saturating_add(1));
        self.destinations.extend([address | u64::from(destination.port) << 16 | kind, weighted, pack(name, rules)]);
        Ok(())
    }

    fn prefix(&mut self, destination: &PrefixDestination) -> Result<(), EncodeError> {
        let address = self.address(destination.prefix.address)?;
        let length = u64::from(destination.prefix.length) + if destination.prefix.address.is_ipv4() { 96 } else { 0 };
        let (kind, weighted) = self.action(&destination.action)?;
        self.prefixes.extend([address | u64::from(destination.port) << 16 | kind, weighted, 0, length]);
        Ok(())
    }

    fn cluster(&mut self, cluster: &Cluster, names: &[Name]) -> Result<(), EncodeError> {
        let first = narrow(self.priorities.len() / PRIORITY_WORDS)?;
        let priorities = cluster.priorities.as_deref().unwrap_or(&[]);
        let hash = hash_bytes(cluster.name.as_bytes());
        for (nth, priority) in (0..).zip(priorities) {
            self.priority(priority, hash, nth)?;
        }
        let (head, tail) = self.cluster_name(&cluster.name, names)?;
        let (policy, parameter, reason) = match &cluster.policy {
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
            Policy::Pass(reason, detail) => (POLICY_PASS, self.text(detail)?, *reason as u64),
        };
        let mut flags = 0;
        if cluster.priorities.is_some() {
            flags |= CLUSTER_KNOWN;
        }
        if cluster.locality_weighted {
            flags |= CLUSTER_LOCALITY_WEIGHTED;
        }
        // Their number among the settings, from 1; 0 = none.
        let outlier = match &cluster.outlier {
            Some(settings) => {
                self.outliers.extend(settings.words());
                narrow(self.outliers.len() / SETTINGS_WORDS)?
            }
            None => 0,
        };
        let timeout = u32::try_from(cluster.connect_timeout.as_millis()).unwrap_or(u32::MAX);
        let panic = (cluster.panic_threshold.clamp(0.0, 100.0) * 100.0).round() as u64;
        let factor = u64::from(cluster.overprovisioning_factor);
        let rare = self.rare(cluster, hash)?;
        self.clusters.extend([
            tail,
            hash,
            factor << 32 | panic << 16 | reason << 12 | flags << 8 | u64::from(policy),
            parameter,
            pack(cluster.slot.unwrap_or(NONE), timeout),
            pack(cluster.max_connections.unwrap_or(NONE), outlier),
            pack(first, narrow(priorities.len())?),
            pack(rare, head),
        ]);
        Ok(())
    }

    /// Appends what few clusters have, if this one has any of it.
    fn rare(&mut self, cluster: &Cluster, hash: u64) -> Result<u32, EncodeError> {
        let Cluster { owner, keepalive, balancing, .. } = cluster;
        if owner.is_none() && keepalive.is_none() && *balancing == Balancing::default() {
            return Ok(0);
        }
        let at = narrow(self.tables.len())?;
        self.tables.push(owner.as_ref().map_or(hash, |owner| hash_bytes(owner.as_bytes())));
        self.tables.push(keepalive.map_or(0, keepalive_word));
        self.tables.extend(balancing.words());
        Ok(at)
    }

    fn priority(&mut self, priority: &Priority, cluster: u64, nth: u32) -> Result<(), EncodeError> {
        let first_locality = narrow(self.localities.len() / LOCALITY_WORDS)?;
        let all = || priority.localities.iter().flat_map(|locality| &locality.endpoints);
        let scale = Scale::of(all());
        let first = self.endpoint_count()?;
        for locality in &priority.localities {
            let first = self.endpoint_count()?;
            self.endpoints(&locality.endpoints)?;
            let tag = locality.slot.map(|_| locality_tag(cluster, nth, hash_bytes(locality.name.as_bytes())));
            let set = self.set(first, || locality.endpoints.iter(), scale, locality.slot, tag)?;
            self.localities.extend(set);
            let name = self.shared_text(&locality.name)?;
            self.localities.push(pack(locality.weight, name));
        }
        let set = self.set(first, all, scale, priority.slot, None)?;
        self.priorities.extend(set);
        let (tag, table) = (priority_tag(cluster, nth), self.table(&priority.table)?);
        self.priorities.extend([tag, pack(first_locality, narrow(priority.localities.len())?), table]);
        Ok(())
    }

    /// The words of a set of endpoints; its details are written where there are any. `tag`: of its slot, where that is
    /// one of them.
    fn set<'a, I: Iterator<Item = &'a Endpoint>>(
        &mut self,
        first: u32,
        endpoints: impl Fn() -> I,
        scale: Scale,
        slot: Option<u32>,
        tag: Option<u64>,
    ) -> Result<[u64; SET_WORDS], EncodeError> {
        let (mut count, mut healthy, mut degraded, mut unhealthy, mut even) = (0_u32, 0_u32, 0, 0, true);
        let (mut weight, mut sum) = (None, 0_u32);
        for endpoint in endpoints() {
            count = count.checked_add(1).ok_or(EncodeError::TooLarge)?;
            match endpoint.health {
                Health::Healthy => healthy += 1,
                Health::Degraded => degraded += 1,
                Health::Unhealthy => unhealthy += 1,
                Health::Draining => {}
            }
            let scaled = scale.weight(endpoint);
            sum = sum.saturating_add(scaled);
            even &= *weight.get_or_insert(scaled) == scaled;
        }
        let head = pack(first, count);
        let slot = slot.unwrap_or(NONE);
        let uniform = even && healthy == count;
        let Some(first) = tag.or((!uniform).then_some(0)) else { return Ok([head, pack(slot, 0)]) };
        let details = narrow(self.tables.len())?;
        if details & DETAIL_UNIFORM != 0 {
            return Err(EncodeError::TooLarge);
        }
        self.tables.push(first);
        if uniform {
            return Ok([head, pack(slot, details | DETAIL_UNIFORM)]);
        }
        let (stride, sum) = if even { (0, healthy + degraded + unhealthy) } else { (stride(sum), sum) };
        self.tables.extend([pack(healthy, degraded), pack(unhealthy, stride), u64::from(sum)]);
        if stride != 0 {
            let mut to = 0_u32;
            let mut endpoints = endpoints();
            let mut next = || {
                to = to.saturating_add(endpoints.next().map_or(0, |endpoint| scale.weight(endpoint)));
                to
            };
            self.tables.extend((0..count.div_ceil(2)).map(|_| pack(next(), next())));
        }
        Ok([head, pack(slot, details)])
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

    fn endpoints(&mut self, endpoints: &[Endpoint]) -> Result<(), EncodeError> {
        for endpoint in endpoints {
            let address = self.address(endpoint.address.ip())?;
            let health: u64 = match endpoint.health {
                Health::Healthy => 0,
                Health::Degraded => 1,
                Health::Unhealthy => 2,
                Health::Draining => 3,
            };
            let flag = if endpoint.takes_mtls { ENDPOINT_TAKES_MTLS } else { 0 };
            let word = address | u64::from(endpoint.address.port()) << 16 | health << 2 | flag;
            self.endpoints.extend_from_slice(&[word, pack(endpoint.weight, endpoint.slot.unwrap_or(NONE))]);
        }
        Ok(())
    }

    fn assemble(&self, own: Vec<u64>, words: &mut Vec<u64>) -> Result<(), EncodeError> {
        let sections: [(&[u64], usize); SECTIONS] = [
            (&self.name_buckets, 1),
            (&self.names, NAME_WORDS),
            (&self.addresses, 1),
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
            (&self.wide, WIDE_WORDS),
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
        let head = pack(narrow(words.len())?, narrow(own.len() / WIDE_WORDS)?);
        if let Some(word) = words.get_mut(OWN) {
            *word = head;
        }
        words.extend(own);
        Ok(())
    }
}
