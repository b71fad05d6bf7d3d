//! Destinations: what happens to a connection, by address and port.

use std::sync::atomic::AtomicU64;

use super::{Read, Run, StrRef, Torn, View};
use crate::image::encode::destination_hash;
use crate::image::layout::*;
use crate::image::mesh::{DefaultAction, HashOn, PassReason};
use crate::shm::{WordAddr, load, unpack};

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
pub struct ServerNamesView(pub(super) Run);

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

impl<'a> View<'a> {
    /// What a TCP connection to an address and port means: exact, then prefix, then the port on every address; the
    /// last two never for the pod's own.
    /// `None`: the mesh does not describe it, see [`View::default_action`].
    pub fn destination(&self, address: WordAddr, port: u16) -> Read<Option<DestinationView>> {
        if let Some(found) = self.exact(address, port)? {
            return Ok(Some(found));
        }
        let (prefixes, wildcards) = (self.section(Section::Prefixes)?.count, self.words.load(WILDCARDS).ok_or(Torn)?);
        // Mostly nothing is for more than one address, and what is is not for the pod's own.
        if (prefixes == 0 && wildcards == 0) || self.is_own(address)? {
            return Ok(None);
        }
        for index in 0..prefixes {
            let [destination @ .., length] = self.record::<PREFIX_WORDS>(Section::Prefixes, index)?;
            let [word, ..] = destination;
            let word = load(word);
            if (word >> 16) as u16 == port && within(address, self.address_in(word)?, load(length) as u32) {
                return destination_from(destination).map(Some);
            }
        }
        if wildcards == 0 { Ok(None) } else { self.exact(WordAddr { hi: 0, lo: 0 }, port) }
    }

    fn exact(&self, address: WordAddr, port: u16) -> Read<Option<DestinationView>> {
        let key = address.as_v4().map(|v4| u64::from(v4) << 32 | u64::from(port) << 16);
        let found = self.probe(Section::DestinationBuckets, destination_hash(address, port), |index| {
            let words = self.record::<DESTINATION_WORDS>(Section::Destinations, index)?;
            let [word, ..] = words;
            let word = load(word);
            let is_it = match key {
                Some(key) => word & DESTINATION_KEY == key,
                None => word & WIDE != 0 && (word >> 16) as u16 == port && self.address_in(word)? == address,
            };
            Ok(is_it.then_some(words))
        })?;
        match found {
            Some(words) => destination_from(words).map(Some),
            None => Ok(None),
        }
    }

    /// Number of exact destinations.
    pub fn destination_count(&self) -> Read<u32> {
        Ok(self.section(Section::Destinations)?.count)
    }

    /// The destination at `index` with its address and port, for listings.
    pub fn destination_at(&self, index: u32) -> Read<(WordAddr, u16, DestinationView)> {
        let words = self.record::<DESTINATION_WORDS>(Section::Destinations, index)?;
        let [word, ..] = words;
        let word = load(word);
        Ok((self.address_in(word)?, (word >> 16) as u16, destination_from(words)?))
    }

    /// True for the pod's own addresses.
    fn is_own(&self, address: WordAddr) -> Read<bool> {
        let Run { first, count } = self.words.load(OWN).map(Run::from_word).ok_or(Torn)?;
        let mut at = first as usize;
        for _ in 0..count {
            let [hi, lo] = self.words.array::<WIDE_WORDS>(at).ok_or(Torn)?;
            if (hi, lo) == (address.hi, address.lo) {
                return Ok(true);
            }
            at += WIDE_WORDS;
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
}

#[inline(always)]
fn destination_from([word, weighted, name]: &[AtomicU64; DESTINATION_WORDS]) -> Read<DestinationView> {
    let action = action_from(load(word), load(weighted))?;
    let (name, rules) = unpack(load(name));
    Ok(DestinationView { action, name: name.checked_sub(1), rules_left_out: StrRef::shared(rules) })
}

#[inline(always)]
pub(super) fn action_from(word: u64, weighted: u64) -> Read<ActionView> {
    let code = (word as u8) >> 1;
    Ok(match (word >> 8) as u8 {
        KIND_CLUSTERS => {
            let (first, count) = unpack(weighted);
            let hash = if code == HASH_SOURCE { HashOn::SourceIp } else { HashOn::Nothing };
            ActionView::Clusters { count, first, hash }
        }
        KIND_PASS => ActionView::Pass(PassReason::from_code(code).ok_or(Torn)?),
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
