//! Reading an arena's tables: every load is checked, every result a copy.

mod cluster;
mod destination;
mod outlier;
mod server_names;
mod text;

pub use cluster::{ClusterView, PolicyView};
pub use destination::{ActionView, DestinationView, ServerNamesView};

use std::sync::atomic::AtomicU64;

use crate::image::encode::address_hash;
use crate::image::layout::*;
use crate::image::mesh::Keepalive;
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

/// Text in an image, in two pieces of which either may be empty. In one image, texts that are used again and again
/// (names of localities) are equal where their references are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrRef {
    /// Index of a text that is used again and again.
    head: u32,
    /// `offset << 32 | length`.
    tail: u64,
}

impl StrRef {
    const fn shared(head: u32) -> Self {
        Self { head, tail: 0 }
    }

    const fn own(tail: u64) -> Self {
        Self { head: 0, tail }
    }
}

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

/// A set of endpoints that are balanced together: all of a priority, or those of one locality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetView {
    endpoints: Run,
    /// Slot of the cursor in STATE: [`View::cursor_tag`].
    pub slot: Option<u32>,
    /// Tag of that slot, where it is not among the details.
    tag: Option<u64>,
    /// Where its details are; 0 = all are healthy and weigh the same.
    details: u32,
}

/// How many endpoints of a set are in which condition, as the control plane says; the others are draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthView {
    /// Healthy ones.
    pub healthy: u32,
    /// Degraded ones.
    pub degraded: u32,
    /// Unhealthy ones.
    pub unhealthy: u32,
}

/// The scaled weights of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightsView {
    /// Their sum; where all are equal, each counts as 1.
    pub sum: u32,
    /// Step of the weighted schedule, coprime with the sum; 0 = all are equal.
    pub stride: u32,
    set: Run,
}

impl WeightsView {
    /// Number of endpoints.
    pub const fn len(&self) -> u32 {
        self.set.count
    }

    /// True when there is no endpoint.
    pub const fn is_empty(&self) -> bool {
        self.set.count == 0
    }
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

    /// Whether all are healthy and weigh the same.
    const fn is_uniform(&self) -> bool {
        self.details == 0 || self.details & DETAIL_UNIFORM != 0
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
    #[inline]
    fn probe<T>(&self, section: Section, hash: u64, mut hit: impl FnMut(u32) -> Read<Option<T>>) -> Read<Option<T>> {
        let run = self.section(section)?;
        let size = run.count as usize;
        let table = self.words.slice(run.first as usize, size).ok_or(Torn)?;
        let mut at = bucket(hash, size);
        for _ in 0..size {
            let (tag, next) = unpack(table.load(at).ok_or(Torn)?);
            let Some(index) = next.checked_sub(1) else { return Ok(None) };
            if tag == (hash >> 32) as u32
                && let Some(found) = hit(index)?
            {
                return Ok(Some(found));
            }
            at = if at + 1 == size { 0 } else { at + 1 };
        }
        Ok(None)
    }

    /// The address in the upper half of a word.
    #[inline]
    fn address_in(&self, word: u64) -> Read<WordAddr> {
        if word & WIDE == 0 { Ok(WordAddr::v4((word >> 32) as u32)) } else { self.wide((word >> 32) as u32) }
    }

    #[inline(never)]
    fn wide(&self, index: u32) -> Read<WordAddr> {
        let [hi, lo] = self.record::<WIDE_WORDS>(Section::Wide, index)?;
        Ok(WordAddr { hi: load(hi), lo: load(lo) })
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
            Ok(self.text_is(view.text.tail, name)?.then_some(view))
        })
    }

    /// The name at `index`.
    pub fn name_at(&self, index: u32) -> Read<NameView> {
        let [text, addresses] = self.record::<NAME_WORDS>(Section::Names, index)?;
        let Run { first, count } = Run::from_word(load(addresses));
        Ok(NameView {
            index,
            text: StrRef::own(load(text)),
            headless: count & NAME_HEADLESS != 0,
            addresses: Run { first, count: count & !NAME_HEADLESS },
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
        self.address_in(self.word(Section::Addresses, nth_of(name.addresses, nth)?)?)
    }

    /// The `nth` weighted cluster of an action that begins at `first`: (cluster index, weight).
    pub fn weighted(&self, first: u32, nth: u32) -> Read<(u32, u32)> {
        self.word(Section::Weighted, first.checked_add(nth).ok_or(Torn)?).map(unpack)
    }

    /// The cluster's priority `nth`.
    #[inline(always)]
    pub fn priority(&self, cluster: &ClusterView, nth: u32) -> Read<PriorityView> {
        let index = nth_of(cluster.priorities, nth)?;
        let [endpoints, slot, tag, localities, table] = self.record::<PRIORITY_WORDS>(Section::Priorities, index)?;
        let (localities, table) = (Run::from_word(load(localities)), Run::from_word(load(table)));
        Ok(PriorityView { set: set_from(endpoints, slot, Some(load(tag))), localities, table })
    }

    /// The `nth` locality of a priority.
    pub fn locality(&self, priority: &PriorityView, nth: u32) -> Read<LocalityView> {
        let index = nth_of(priority.localities, nth)?;
        Ok(locality_from(self.record(Section::Localities, index)?))
    }

    /// The localities of a priority, one after the other.
    #[inline]
    pub fn localities(&self, priority: &PriorityView) -> Read<impl Iterator<Item = LocalityView>> {
        let (all, part) = (self.section(Section::Localities)?, priority.localities);
        if part.first.checked_add(part.count).ok_or(Torn)? > all.count {
            return Err(Torn);
        }
        let skipped = (part.first as usize).checked_mul(LOCALITY_WORDS).ok_or(Torn)?;
        let start = (all.first as usize).checked_add(skipped).ok_or(Torn)?;
        let records = self.words.records(start, part.count as usize).ok_or(Torn)?;
        Ok(records.iter().map(locality_from))
    }

    /// The tag of the slot of a set's cursor.
    pub fn cursor_tag(&self, set: &SetView) -> Read<u64> {
        match set.tag {
            Some(tag) => Ok(tag),
            None => self.detail(set, 0),
        }
    }

    /// How many endpoints of a set are in which condition.
    #[inline]
    pub fn health(&self, set: &SetView) -> Read<HealthView> {
        if set.is_uniform() {
            return Ok(HealthView { healthy: set.len(), degraded: 0, unhealthy: 0 });
        }
        let (healthy, degraded) = unpack(self.detail(set, 1)?);
        Ok(HealthView { healthy, degraded, unhealthy: unpack(self.detail(set, 2)?).0 })
    }

    /// The weights of a set.
    #[inline]
    pub fn weights(&self, set: &SetView) -> Read<WeightsView> {
        let Run { count, .. } = set.endpoints;
        if set.is_uniform() {
            return Ok(WeightsView { sum: count, stride: 0, set: Run { first: 0, count } });
        }
        let first = set.details.checked_add(DETAIL_WORDS as u32).ok_or(Torn)?;
        let stride = unpack(self.detail(set, 2)?).1;
        Ok(WeightsView { sum: self.detail(set, 3)? as u32, stride, set: Run { first, count } })
    }

    /// Detail word `nth` of a set that has details.
    fn detail(&self, set: &SetView, nth: u32) -> Read<u64> {
        self.word(Section::Tables, (set.details & !DETAIL_UNIFORM).checked_add(nth).ok_or(Torn)?)
    }

    /// The `nth` endpoint of a set.
    #[inline(always)]
    pub fn endpoint(&self, set: &SetView, nth: u32) -> Read<EndpointView> {
        self.endpoint_at(set.place(nth)?)
    }

    /// The endpoint at a place.
    #[inline(always)]
    pub fn endpoint_at(&self, place: Place) -> Read<EndpointView> {
        let [word, last] = self.record::<ENDPOINT_WORDS>(Section::Endpoints, place.0)?;
        let word = load(word);
        let health = match (word >> 2) & 3 {
            0 => Health::Healthy,
            1 => Health::Degraded,
            2 => Health::Unhealthy,
            _ => Health::Draining,
        };
        let (weight, slot) = unpack(load(last));
        Ok(EndpointView {
            address: self.address_in(word)?,
            port: (word >> 16) as u16,
            weight,
            health,
            takes_mtls: word & ENDPOINT_TAKES_MTLS != 0,
            slot: some(slot),
        })
    }

    /// The weights of a set up to and with its `nth` endpoint: rising, up to their sum. Where all are equal none are
    /// written.
    #[inline]
    pub fn weights_to(&self, weights: &WeightsView, nth: u32) -> Read<u32> {
        if weights.stride == 0 || nth >= weights.set.count {
            return Err(Torn);
        }
        self.half(weights.set.first, nth)
    }

    /// The `nth` half word from a place in the tables.
    fn half(&self, first: u32, nth: u32) -> Read<u32> {
        let (even, odd) = unpack(self.word(Section::Tables, first.checked_add(nth / 2).ok_or(Torn)?)?);
        Ok(if nth.is_multiple_of(2) { even } else { odd })
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
        if nth >= priority.table.count {
            return Err(Torn);
        }
        self.half(priority.table.first, nth)
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
        let [hi, lo] = self.words.array::<WIDE_WORDS>(own.first as usize).ok_or(Torn)?;
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

#[inline(always)]
fn locality_from([endpoints, slot, name]: &[AtomicU64; LOCALITY_WORDS]) -> LocalityView {
    let (weight, name) = unpack(load(name));
    LocalityView { name: StrRef::shared(name), weight, set: set_from(endpoints, slot, None) }
}

/// A set; without a `tag` it is among the details.
#[inline(always)]
fn set_from(endpoints: &AtomicU64, slot: &AtomicU64, tag: Option<u64>) -> SetView {
    let (slot, details) = unpack(load(slot));
    SetView { endpoints: Run::from_word(load(endpoints)), slot: some(slot), tag, details }
}

fn keepalive_from(word: u64) -> Option<Keepalive> {
    let stated = |value: u16| if value == 0 { None } else { Some(value) };
    (word >> 63 != 0).then(|| Keepalive {
        probes: stated((word >> 32) as u8 as u16).map(|probes| probes as u8),
        idle: stated((word >> 16) as u16),
        interval: stated(word as u16),
    })
}
