//! Ring hash and Maglev: one key, one endpoint, as long as it is usable.
//!
//! The control plane's healthy endpoints are in the table; from one that may not be picked now (ejected, tried
//! already) the key goes on to the next entry, so that only the keys of that endpoint move.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};

use xxhash_rust::xxh64::xxh64;

use super::Call;
use super::candidates::{Candidates, Class};
use crate::image::{Place, PriorityView, Torn, View};

/// The key of a connection by its source address: Envoy's, xxHash64 of its text.
pub(super) fn source_key(view: &View<'_>, call: &Call<'_>) -> Result<u64, Torn> {
    let own = || Ok(view.own_address()?.map(|own| own.ip()));
    let Some(source) = (call.source)().map_or_else(own, |bound| Ok(Some(bound)))? else {
        // No address is known: the pod's own number serves as well.
        return view.seed();
    };
    // The longest text of an IPv6 address.
    let mut text = [0_u8; 46];
    let length = match source.to_canonical() {
        IpAddr::V4(v4) => write_v4(v4, &mut text),
        IpAddr::V6(v6) => {
            let room = text.len();
            let mut rest = text.as_mut_slice();
            if write!(rest, "{v6}").is_ok() { room - rest.len() } else { 0 }
        }
    };
    Ok(text.get(..length).map_or(0, |text| xxh64(text, 0)))
}

/// The text of an IPv4 address and its length; `write!` takes a thousand instructions for it.
fn write_v4(address: Ipv4Addr, text: &mut [u8]) -> usize {
    let mut length = 0;
    let mut push = |byte| {
        if let Some(place) = text.get_mut(length) {
            *place = byte;
            length += 1;
        }
    };
    for (nth, octet) in address.octets().into_iter().enumerate() {
        if nth > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    length
}

/// The endpoint of a key on the ring.
pub(super) fn ring(
    candidates: &Candidates<'_>,
    priority: &PriorityView,
    class: Class,
    key: u64,
) -> Result<Option<Place>, Torn> {
    let place = candidates.view.ring_place(priority, key)?;
    walk(candidates, priority, class, place, |nth| Ok(candidates.view.ring_entry(priority, nth)?.1))
}

/// The endpoint of a key in a Maglev table.
pub(super) fn maglev(
    candidates: &Candidates<'_>,
    priority: &PriorityView,
    class: Class,
    key: u64,
) -> Result<Option<Place>, Torn> {
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
) -> Result<Option<Place>, Torn> {
    let entries = u64::from(priority.table_len());
    for step in 0..entries {
        let host = candidates.host(&priority.set, endpoint(((u64::from(begin) + step) % entries) as u32)?)?;
        if candidates.usable(&host, class) {
            return Ok(Some(host.place));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::write_v4;

    #[test]
    fn an_address_is_written_as_std_writes_it() {
        for octet in 0..=255 {
            let address = Ipv4Addr::new(octet, 255 - octet, octet / 2, octet / 25);
            let mut text = [0; 15];
            let length = write_v4(address, &mut text);
            assert_eq!(text[..length], *address.to_string().as_bytes());
        }
    }
}
