//! Ring hash and Maglev: one key, one endpoint, as long as it is usable.
//!
//! The control plane's healthy endpoints are in the table; from one that may not be picked now (ejected, tried
//! already) the key goes on to the next entry, so that only the keys of that endpoint move.

use std::io::Write;

use xxhash_rust::xxh64::xxh64;

use super::Call;
use super::candidates::{Candidates, Class, Host};
use crate::image::{PriorityView, Torn, View};

/// The key of a connection by its source address: Envoy's, xxHash64 of its text.
pub(super) fn source_key(view: &View<'_>, call: &Call<'_>) -> Result<u64, Torn> {
    let own = || Ok(view.own_address()?.map(|own| own.ip()));
    let Some(source) = (call.source)().map_or_else(own, |bound| Ok(Some(bound)))? else {
        // No address is known: the pod's own number serves as well.
        return view.seed();
    };
    // The longest text of an IPv6 address.
    let mut text = [0_u8; 46];
    let room = text.len();
    let mut rest = text.as_mut_slice();
    let written = write!(rest, "{}", source.to_canonical()).is_ok();
    let length = room - rest.len();
    Ok(text.get(..length).filter(|_| written).map_or(0, |text| xxh64(text, 0)))
}

/// The endpoint of a key on the ring.
pub(super) fn ring(
    candidates: &Candidates<'_>,
    priority: &PriorityView,
    class: Class,
    key: u64,
) -> Result<Option<Host>, Torn> {
    let (mut low, mut high) = (0, priority.table_len());
    while low < high {
        let middle = low + (high - low) / 2;
        if candidates.view.ring_entry(priority, middle)?.0 < key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    walk(candidates, priority, class, low, |nth| Ok(candidates.view.ring_entry(priority, nth)?.1))
}

/// The endpoint of a key in a Maglev table.
pub(super) fn maglev(
    candidates: &Candidates<'_>,
    priority: &PriorityView,
    class: Class,
    key: u64,
) -> Result<Option<Host>, Torn> {
    let Some(at) = key.checked_rem(u64::from(priority.table_len())) else { return Ok(None) };
    walk(candidates, priority, class, at as u32, |nth| candidates.view.maglev_entry(priority, nth))
}

/// The first usable endpoint from an entry on, around the table.
fn walk(
    candidates: &Candidates<'_>,
    priority: &PriorityView,
    class: Class,
    begin: u32,
    endpoint: impl Fn(u32) -> Result<u32, Torn>,
) -> Result<Option<Host>, Torn> {
    let entries = u64::from(priority.table_len());
    for step in 0..entries {
        let host = candidates.host(&priority.set, endpoint(((u64::from(begin) + step) % entries) as u32)?)?;
        if candidates.usable(&host, class) {
            return Ok(Some(host));
        }
    }
    Ok(None)
}
