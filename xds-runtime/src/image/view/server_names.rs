//! What a destination means for a TLS server name: the most specific of its patterns counts, as in Envoy's listeners.
//!
//! The patterns of a destination lie in order of their hash; a name looks for itself, then for each domain above it
//! (`.b.example`, `.example`), then for the pattern of every other name (empty).

use super::destination::action_from;
use super::{ActionView, Read, ServerNamesView, StrRef, Torn, View, nth_of};
use crate::image::layout::{SERVER_NAME_WORDS, Section};
use crate::shm::{hash_bytes, load};

/// Longest name that is looked for, bytes (RFC 1035).
const NAME: usize = 255;

impl View<'_> {
    /// What a connection means that asks for `name` (lower case, without final dot); `None` = no pattern is for it.
    pub fn by_server_name(&self, names: &ServerNamesView, name: &[u8]) -> Read<Option<ActionView>> {
        if name.len() > NAME {
            return Ok(None);
        }
        if let Some(exact) = self.server_name(names, name)? {
            return Ok(Some(exact));
        }
        for (at, _) in name.iter().enumerate().filter(|(at, byte)| *at > 0 && **byte == b'.') {
            if let Some(below) = self.server_name(names, name.get(at..).unwrap_or_default())? {
                return Ok(Some(below));
            }
        }
        self.server_name(names, b"")
    }

    /// Number of patterns of a destination.
    pub fn server_name_count(&self, names: &ServerNamesView) -> u32 {
        names.0.count
    }

    /// The `nth` pattern and what it means, for listings.
    pub fn server_name_at(&self, names: &ServerNamesView, nth: u32) -> Read<(StrRef, ActionView)> {
        let [_, text, kind, weighted] =
            self.record::<SERVER_NAME_WORDS>(Section::ServerNames, nth_of(names.0, nth)?)?;
        Ok((StrRef::own(load(text)), action_from(load(kind), load(weighted))?))
    }

    /// True when some destination depends on the server name: then it is worth while to remember names.
    pub fn asks_for_server_names(&self) -> Read<bool> {
        Ok(self.section(Section::ServerNames)?.count != 0)
    }

    fn server_name(&self, names: &ServerNamesView, pattern: &[u8]) -> Read<Option<ActionView>> {
        let hash = hash_bytes(pattern);
        let hash_at = |nth| -> Read<u64> {
            let [hash, ..] = self.record::<SERVER_NAME_WORDS>(Section::ServerNames, nth_of(names.0, nth)?)?;
            Ok(load(hash))
        };
        let (mut low, mut high) = (0, names.0.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if hash_at(middle)? < hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        while low < names.0.count && hash_at(low)? == hash {
            let (text, action) = self.server_name_at(names, low)?;
            if self.text_is(text.tail, pattern)? {
                return Ok(Some(action));
            }
            low = low.checked_add(1).ok_or(Torn)?;
        }
        Ok(None)
    }
}
