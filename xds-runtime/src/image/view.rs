//! Reading an arena's tables: every load is checked, every result a copy.

mod cluster;
mod outlier;
mod server_names;
mod text;

pub use cluster::{ClusterView, PolicyView};

use std::sync::atomic::AtomicU64;

use crate::image::encode::{address_hash, destination_hash};
use crate::image::layout::*;
use crate::image::mesh::{DefaultAction, HashOn, Keepalive, PassReason};
use crate::resource::Health;
use crate::shm::{WordAddr, Words, hash_bytes, load, unpack};
use crate::state::endpoint_tag;

/// A check failed: the arena changed under the reader, or the file is corrupt. The caller tells which by the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn;

type Read<T> = Result<T, Torn>;

/// The content of one arena.
#[derive(Clone, Copy)]
pub struct View<'a> {
    words: Words<'a>,
}

/// Text in an image: `offset << 32 | length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrRef(u64);

/// A run of records of one section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    count: u32,
}

impl Run {
    const fn from_word(word: u64) -> Self {
        let (first, count) = unpack(word);
        Self { first, count }
    }
}

/// A name.
#[derive(Clone, Copy, Debug)]
pub struct NameView {
    /// Index of the name.
    pub index: u32,
    /// Its text.
    pub text: StrRef,
    /// True for a headless service.
    pub headless: bool,
    addresses: Run,
}

impl NameView {
    /// Number of addresses.
    pub const fn address_count(&self) -> u32 {
        self.addresses.count
    }
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionView {
    /// Weighted clusters: [`View::weighted`].
    Clusters {
        /// How many there are.
        count: u32,
        /// Where they begin.
        first: u32,
        /// What a cluster that hashes takes for the key.
        hash: HashOn,
    },
    /// Leave it to the kernel.
    Pass(PassReason),
    /// Refuse it.
    Refuse,
    /// By TLS server name: [`View::by_server_name`].
    ServerNames(ServerNamesView),
}

/// The server names of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerNamesView(Run);

/// A destination.
#[derive(Clone, Copy, Debug)]
pub struct DestinationView {
    /// What to do.
    pub action: ActionView,
    /// Index of the service's name.
    pub name: Option<u32>,
    /// HTTP rules left out; may be empty.
    pub rules_left_out: StrRef,
}

/// A set of endpoints that are balanced together: all of a priority, or those of one locality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetView {
    endpoints: Run,
    /// Endpoints that the control plane calls healthy.
    pub healthy: u32,
    /// Endpoints that it calls degraded.
    pub degraded: u32,
    /// Endpoints that it calls unhealthy.
    pub unhealthy: u32,
    /// Slot of the cursor in STATE.
    pub slot: Option<u32>,
    /// Tag of that slot.
    pub tag: u64,
    /// Scaled weights before its first endpoint (see [`View::weights_to`]).
    pub before: u32,
    /// Sum of its scaled weights.
    pub sum: u32,
    /// Step of the weighted schedule, coprime with the sum; 0 = all weights are equal.
    pub stride: u32,
}

impl SetView {
    /// Number of endpoints, draining ones included.
    pub const fn len(&self) -> u32 {
        self.endpoints.count
    }

    /// True when there is no endpoint.
    pub const fn is_empty(&self) -> bool {
        self.endpoints.count == 0
    }

    /// The place of the `nth` endpoint.
    ///
    /// # Errors
    /// [`Torn`] when there is no such endpoint.
    #[inline]
    pub fn place(&self, nth: u32) -> Result<Place, Torn> {
        nth_of(self.endpoints, nth).map(Place)
    }

    /// Which endpoint of the set is at a place; `None` = it is another set's.
    #[inline]
    pub fn nth_at(&self, place: Place) -> Option<u32> {
        place.0.checked_sub(self.endpoints.first).filter(|nth| *nth < self.endpoints.count)
    }
}

/// A priority.
#[derive(Clone, Copy, Debug)]
pub struct PriorityView {
    /// All its endpoints.
    pub set: SetView,
    localities: Run,
    table: Run,
}

impl PriorityView {
    /// Number of localities.
    pub const fn locality_count(&self) -> u32 {
        self.localities.count
    }

    /// Entries of its hash table; 0 = it has none.
    pub const fn table_len(&self) -> u32 {
        self.table.count
    }
}

/// A locality.
#[derive(Clone, Copy, Debug)]
pub struct LocalityView {
    /// `region/zone/sub_zone`.
    pub name: StrRef,
    /// Weight.
    pub weight: u32,
    /// Its endpoints.
    pub set: SetView,
    /// The locality of the same name in priority 0 of the local cluster, for zone-aware routing.
    pub peer: Option<u32>,
}

/// Where an endpoint is among all those of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// Address.
    pub address: WordAddr,
    /// Port.
    pub port: u16,
    /// Weight, at least 1.
    pub weight: u32,
    /// Health as the control plane says.
    pub health: Health,
    /// Its pod has Istio's sidecar: plain text is refused where its PeerAuthentication is STRICT.
    pub takes_mtls: bool,
    /// Slot in STATE.
    pub slot: Option<u32>,
}

impl EndpointView {
    /// The tag of its slot as an endpoint of `cluster`.
    #[inline]
    pub fn tag(&self, cluster: &ClusterView) -> u64 {
        endpoint_tag(cluster.owner, self.address, self.port)
    }
}

impl<'a> View<'a> {
    /// A view of an arena's content.
    pub const fn new(words: Words<'a>) -> Self {
        Self { words }
    }

    #[inline(always)]
    fn section(&self, section: Section) -> Read<Run> {
        self.words.load(section as usize).map(Run::from_word).ok_or(Torn)
    }

    /// The words of record `index` of a section, each to be read when it is needed.
    #[inline(always)]
    fn record<const N: usize>(&self, section: Section, index: u32) -> Read<&'a [AtomicU64; N]> {
        let run = self.section(section)?;
        if index >= run.count {
            return Err(Torn);
        }
        let at = (run.first as usize).checked_add((index as usize).checked_mul(N).ok_or(Torn)?).ok_or(Torn)?;
        self.words.cells(at).ok_or(Torn)
    }

    /// Record `index` of a section whose records are words.
    fn word(&self, section: Section, index: u32) -> Read<u64> {
        let run = self.section(section)?;
        if index >= run.count {
            return Err(Torn);
        }
        self.words.load((run.first as usize).checked_add(index as usize).ok_or(Torn)?).ok_or(Torn)
    }

    /// Walks the buckets of `hash` until `hit` answers or a bucket is empty.
    fn probe<T>(&self, section: Section, hash: u64, mut hit: impl FnMut(u32) -> Read<Option<T>>) -> Read<Option<T>> {
        let run = self.section(section)?;
        let size = run.count as usize;
        if !size.is_power_of_two() {
            return Err(Torn);
        }
        let table = self.words.slice(run.first as usize, size).ok_or(Torn)?;
        let mut at = hash as usize & (size - 1);
        for _ in 0..size {
            let (tag, next) = unpack(table.load(at).ok_or(Torn)?);
            let Some(index) = next.checked_sub(1) else { return Ok(None) };
            if tag == (hash >> 32) as u32
                && let Some(found) = hit(index)?
            {
                return Ok(Some(found));
            }
            at = (at + 1) & (size - 1);
        }
        Ok(None)
    }

    /// Words of the whole content.
    pub const fn word_count(&self) -> usize {
        self.words.len()
    }

    /// Finds a name: lower case, without final dot.
    pub fn name(&self, name: &[u8]) -> Read<Option<NameView>> {
        let hash = hash_bytes(name);
        self.probe(Section::NameBuckets, hash, |index| {
            let view = self.name_at(index)?;
            Ok(self.text_is(view.text, name)?.then_some(view))
        })
    }

    /// The name at `index`.
    pub fn name_at(&self, index: u32) -> Read<NameView> {
        let [_, text, addresses, flags] = self.record::<NAME_WORDS>(Section::Names, index)?;
        Ok(NameView {
            index,
            text: StrRef(load(text)),
            headless: load(flags) & NAME_HEADLESS != 0,
            addresses: Run::from_word(load(addresses)),
        })
    }

    /// The name that an address belongs to (a VIP answers with its service's name).
    pub fn name_of(&self, address: WordAddr) -> Read<Option<NameView>> {
        // A bucket's tag tells the right name but once in four billion: where twice the image's addresses do not
        // suffice to compare, it was not made by an encoder.
        let mut left = self.section(Section::Addresses)?.count.saturating_mul(2);
        self.probe(Section::AddressBuckets, address_hash(address), |index| {
            let view = self.name_at(index)?;
            left = left.checked_sub(view.addresses.count).ok_or(Torn)?;
            for nth in 0..view.addresses.count {
                if self.address(&view, nth)? == address {
                    return Ok(Some(view));
                }
            }
            Ok(None)
        })
    }

    /// Number of names.
    pub fn name_count(&self) -> Read<u32> {
        Ok(self.section(Section::Names)?.count)
    }

    /// The `nth` address of a name.
    pub fn address(&self, name: &NameView, nth: u32) -> Read<WordAddr> {
        if nth >= name.addresses.count {
            return Err(Torn);
        }
        let [hi, lo] =
            self.record::<ADDRESS_WORDS>(Section::Addresses, name.addresses.first.checked_add(nth).ok_or(Torn)?)?;
        Ok(WordAddr { hi: load(hi), lo: load(lo) })
    }

    /// What a TCP connection to an address and port means: exact, then prefix, then the port on every address; the
    /// last two never for the pod's own.
    /// `None`: the mesh does not describe it, see [`View::default_action`].
    pub fn destination(&self, address: WordAddr, port: u16) -> Read<Option<DestinationView>> {
        if let Some(found) = self.exact(address, port)? {
            return Ok(Some(found));
        }
        if self.is_own(address)? {
            return Ok(None);
        }
        for index in 0..self.section(Section::Prefixes)?.count {
            let words = self.record::<PREFIX_WORDS>(Section::Prefixes, index)?;
            let [hi, lo, word, ..] = words.each_ref().map(load);
            let length = (word >> 32) as u32;
            if (word >> 16) as u16 == port && within(address, WordAddr { hi, lo }, length) {
                return destination_from(words).map(Some);
            }
        }
        self.exact(WordAddr { hi: 0, lo: 0 }, port)
    }

    fn exact(&self, address: WordAddr, port: u16) -> Read<Option<DestinationView>> {
        self.probe(Section::DestinationBuckets, destination_hash(address, port), |index| {
            let words = self.record::<DESTINATION_WORDS>(Section::Destinations, index)?;
            let [hi, lo, word, ..] = words;
            if (load(hi), load(lo), (load(word) >> 16) as u16) != (address.hi, address.lo, port) {
                return Ok(None);
            }
            destination_from(words).map(Some)
        })
    }

    /// Number of exact destinations.
    pub fn destination_count(&self) -> Read<u32> {
        Ok(self.section(Section::Destinations)?.count)
    }

    /// The destination at `index` with its address and port, for listings.
    pub fn destination_at(&self, index: u32) -> Read<(WordAddr, u16, DestinationView)> {
        let words = self.record::<DESTINATION_WORDS>(Section::Destinations, index)?;
        let [hi, lo, word, ..] = words.each_ref().map(load);
        Ok((WordAddr { hi, lo }, (word >> 16) as u16, destination_from(words)?))
    }

    /// True for the pod's own addresses.
    fn is_own(&self, address: WordAddr) -> Read<bool> {
        let Run { first, count } = self.words.load(OWN).map(Run::from_word).ok_or(Torn)?;
        let mut at = first as usize;
        for _ in 0..count {
            let [hi, lo] = self.words.array::<ADDRESS_WORDS>(at).ok_or(Torn)?;
            if (hi, lo) == (address.hi, address.lo) {
                return Ok(true);
            }
            at += ADDRESS_WORDS;
        }
        Ok(false)
    }

    /// What happens to an address that is not described; the pod's own are left alone.
    pub fn default_action(&self, address: WordAddr) -> Read<DefaultAction> {
        match self.words.load(DEFAULT_ACTION) {
            Some(0) => Ok(DefaultAction::Pass),
            Some(1) => Ok(if self.is_own(address)? { DefaultAction::Pass } else { DefaultAction::Refuse }),
            _ => Err(Torn),
        }
    }

    /// The `nth` weighted cluster of an action that begins at `first`: (cluster index, weight).
    pub fn weighted(&self, first: u32, nth: u32) -> Read<(u32, u32)> {
        self.word(Section::Weighted, first.checked_add(nth).ok_or(Torn)?).map(unpack)
    }

    /// The cluster's priority `nth`.
    #[inline(always)]
    pub fn priority(&self, cluster: &ClusterView, nth: u32) -> Read<PriorityView> {
        let index = nth_of(cluster.priorities, nth)?;
        let [set @ .., localities, table] = self.record::<PRIORITY_WORDS>(Section::Priorities, index)?;
        let (localities, table) = (Run::from_word(load(localities)), Run::from_word(load(table)));
        Ok(PriorityView { set: self.set(set)?, localities, table })
    }

    /// The `nth` locality of a priority.
    pub fn locality(&self, priority: &PriorityView, nth: u32) -> Read<LocalityView> {
        let index = nth_of(priority.localities, nth)?;
        let [set @ .., weight, name] = self.record::<LOCALITY_WORDS>(Section::Localities, index)?;
        let (peer, weight) = unpack(load(weight));
        Ok(LocalityView { name: StrRef(load(name)), weight, set: self.set(set)?, peer: peer.checked_sub(1) })
    }

    #[inline(always)]
    fn set(&self, [endpoints, good, bad, weights, stride, tag]: &[AtomicU64; SET_WORDS]) -> Read<SetView> {
        let endpoints = Run::from_word(load(endpoints));
        if endpoints.first.checked_add(endpoints.count).ok_or(Torn)? > self.section(Section::Endpoints)?.count {
            return Err(Torn);
        }
        let (healthy, degraded) = unpack(load(good));
        let (unhealthy, slot) = unpack(load(bad));
        let (before, sum) = unpack(load(weights));
        Ok(SetView {
            endpoints,
            healthy,
            degraded,
            unhealthy,
            slot: some(slot),
            tag: load(tag),
            before,
            sum,
            stride: load(stride) as u32,
        })
    }

    /// The `nth` endpoint of a set.
    #[inline(always)]
    pub fn endpoint(&self, set: &SetView, nth: u32) -> Read<EndpointView> {
        self.endpoint_at(set.place(nth)?)
    }

    /// The endpoint at a place.
    #[inline(always)]
    pub fn endpoint_at(&self, place: Place) -> Read<EndpointView> {
        let [hi, lo, word, last] = self.record::<ENDPOINT_WORDS>(Section::Endpoints, place.0)?;
        let word = load(word);
        let health = match (word >> 40) as u8 {
            0 => Health::Healthy,
            1 => Health::Degraded,
            2 => Health::Unhealthy,
            3 => Health::Draining,
            _ => return Err(Torn),
        };
        let slot = some(unpack(load(last)).1);
        Ok(EndpointView {
            address: WordAddr { hi: load(hi), lo: load(lo) },
            port: (word >> 48) as u16,
            weight: word as u32,
            health,
            takes_mtls: word & ENDPOINT_TAKES_MTLS != 0,
            slot,
        })
    }

    /// The scaled weights of the priority up to and with the `nth` endpoint of a set: rising along the set, from
    /// `before` to `before + sum`.
    #[inline]
    pub fn weights_to(&self, set: &SetView, nth: u32) -> Read<u32> {
        let [.., last] = self.record::<ENDPOINT_WORDS>(Section::Endpoints, nth_of(set.endpoints, nth)?)?;
        Ok(unpack(load(last)).0)
    }

    /// The `nth` entry of a priority's ring: (hash, endpoint of its set).
    pub fn ring_entry(&self, priority: &PriorityView, nth: u32) -> Read<(u64, u32)> {
        let hash = self.table_word(priority, nth, nth.checked_mul(2).ok_or(Torn)?)?;
        let endpoint = self.table_word(priority, nth, nth * 2 + 1)?;
        Ok((hash, u32::try_from(endpoint).map_err(|_| Torn)?))
    }

    /// The first entry of a priority's ring at or after a key; the number of entries when there is none.
    pub fn ring_place(&self, priority: &PriorityView, key: u64) -> Read<u32> {
        let (mut low, mut high) = (0, priority.table.count);
        let tables = self.section(Section::Tables)?;
        let first = (tables.first as usize).checked_add(priority.table.first as usize).ok_or(Torn)?;
        let entries = self.words.slice(first, (high as usize).checked_mul(2).ok_or(Torn)?).ok_or(Torn)?;
        while low < high {
            let middle = low + (high - low) / 2;
            if entries.load(middle as usize * 2).ok_or(Torn)? < key { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The `nth` entry of a priority's Maglev table: an endpoint of its set.
    pub fn maglev_entry(&self, priority: &PriorityView, nth: u32) -> Read<u32> {
        let (even, odd) = unpack(self.table_word(priority, nth, nth / 2)?);
        Ok(if nth.is_multiple_of(2) { even } else { odd })
    }

    fn table_word(&self, priority: &PriorityView, nth: u32, word: u32) -> Read<u64> {
        if nth >= priority.table.count {
            return Err(Torn);
        }
        self.word(Section::Tables, priority.table.first.checked_add(word).ok_or(Torn)?)
    }

    /// The first of the pod's own addresses.
    pub fn own_address(&self) -> Read<Option<WordAddr>> {
        let own = self.words.load(OWN).map(Run::from_word).ok_or(Torn)?;
        if own.count == 0 {
            return Ok(None);
        }
        let [hi, lo] = self.words.array::<ADDRESS_WORDS>(own.first as usize).ok_or(Torn)?;
        Ok(Some(WordAddr { hi, lo }))
    }

    /// A number that differs from pod to pod: where schedules begin.
    pub fn seed(&self) -> Read<u64> {
        self.words.load(SEED).ok_or(Torn)
    }
}

/// The index of the `nth` record of a run.
fn nth_of(run: Run, nth: u32) -> Read<u32> {
    if nth >= run.count {
        return Err(Torn);
    }
    run.first.checked_add(nth).ok_or(Torn)
}

const fn some(word: u32) -> Option<u32> {
    if word == NONE { None } else { Some(word) }
}

fn keepalive_from(word: u64) -> Option<Keepalive> {
    let stated = |value: u16| if value == 0 { None } else { Some(value) };
    (word >> 63 != 0).then(|| Keepalive {
        probes: stated((word >> 32) as u8 as u16).map(|probes| probes as u8),
        idle: stated((word >> 16) as u16),
        interval: stated(word as u16),
    })
}

fn destination_from([_, _, word, weighted, name, rules]: &[AtomicU64; DESTINATION_WORDS]) -> Read<DestinationView> {
    let action = action_from(load(word), load(weighted))?;
    let name = u32::try_from(load(name)).map_err(|_| Torn)?.checked_sub(1);
    Ok(DestinationView { action, name, rules_left_out: StrRef(load(rules)) })
}

fn action_from(word: u64, weighted: u64) -> Read<ActionView> {
    Ok(match (word >> 8) as u8 {
        KIND_CLUSTERS => {
            let (first, count) = unpack(weighted);
            let hash = if word as u8 == HASH_SOURCE as u8 { HashOn::SourceIp } else { HashOn::Nothing };
            ActionView::Clusters { count, first, hash }
        }
        KIND_PASS => ActionView::Pass(PassReason::from_code(word as u8).ok_or(Torn)?),
        KIND_REFUSE => ActionView::Refuse,
        KIND_SERVER_NAMES => ActionView::ServerNames(ServerNamesView(Run::from_word(weighted))),
        _ => return Err(Torn),
    })
}

/// Whether `address` is in the prefix of `length` bits (as IPv6).
fn within(address: WordAddr, prefix: WordAddr, length: u32) -> bool {
    let mask = |bits: u32| if bits == 0 { 0 } else { u64::MAX << (64 - bits.min(64)) };
    let (high, low) = (mask(length.min(64)), mask(length.saturating_sub(64).min(64)));
    address.hi & high == prefix.hi & high && address.lo & low == prefix.lo & low
}
