//! gethostbyname and gethostbyaddr: a `hostent` laid out in one buffer.
//!
//! ```text
//! pointers (aliases: null; addresses.., null) | addresses | name, nul
//! ```

use std::ffi::{c_char, c_int};

use libc::{AF_INET, AF_INET6, hostent};
use xds_runtime::names::Families;
use xds_runtime::shm::WordAddr;

use crate::core::lookup::{Fault, Found, lookup};
use crate::core::process;
use crate::core::resolve::text;
use crate::core::reverse::{VipName, vip_name};
use crate::core::verdict::{Verdict, Why};

/// h_errno values of netdb.h.
const NETDB_INTERNAL: c_int = -1;
const TRY_AGAIN: c_int = 2;
const NO_DATA: c_int = 4;

/// Where an answer is written.
#[derive(Clone, Copy)]
pub struct Room {
    /// The struct.
    pub entry: *mut hostent,
    /// What it points to.
    pub buffer: *mut c_char,
    /// Bytes of `buffer`.
    pub length: usize,
}

/// What a gethostby* call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The real call.
    Pass,
    /// The entry was filled.
    Filled,
    /// No answer: the h_errno, and the `_r` form's return value.
    Failed(c_int, c_int),
}

/// gethostbyname in one family.
///
/// # Safety
/// `name` as for gethostbyname(3), `room` writable.
pub unsafe fn by_name(name: *const c_char, family: c_int, room: Room) -> Outcome {
    let context = match process::enter() {
        Ok(context) => context,
        Err(why) => {
            why.count();
            return Outcome::Pass;
        }
    };
    let families = match family {
        AF_INET => Families::V4,
        AF_INET6 => Families::V6,
        _ => return Outcome::Pass,
    };
    // SAFETY: the program's nul-terminated name.
    let Some(name) = (unsafe { text(name) }) else {
        Why::NotAName.count();
        return Outcome::Pass;
    };
    let mut found = Found::EMPTY;
    match lookup(context, name, families, &mut found) {
        Verdict::Pass(why) => {
            context.passed(why, format_args!("lookup of {name}"));
            Outcome::Pass
        }
        Verdict::Fail(Fault::Again) => Outcome::Failed(TRY_AGAIN, libc::EAGAIN),
        Verdict::Redirect(()) => {
            let addresses = found.of_family(family == AF_INET);
            if addresses.clone().next().is_none() {
                return Outcome::Failed(NO_DATA, 0);
            }
            // SAFETY: as the caller says.
            unsafe { fill(room, found.name(), family, addresses) }
        }
    }
}

/// gethostbyaddr: the service's name for a VIP.
///
/// # Safety
/// `address` as for gethostbyaddr(3), `room` writable.
pub unsafe fn by_address(address: *const libc::c_void, length: usize, family: c_int, room: Room) -> Outcome {
    let least = match family {
        AF_INET => 4,
        AF_INET6 => 16,
        _ => return Outcome::Pass,
    };
    if !crate::core::address::plausible(address) || length < least {
        return Outcome::Pass;
    }
    // SAFETY: `least` bytes are readable, as the caller says.
    let ip: std::net::IpAddr = unsafe {
        if family == AF_INET {
            address.cast::<[u8; 4]>().read_unaligned().into()
        } else {
            address.cast::<[u8; 16]>().read_unaligned().into()
        }
    };
    let mut name = VipName::EMPTY;
    if !vip_name(ip, &mut name) {
        return Outcome::Pass;
    }
    // SAFETY: as the caller says.
    unsafe { fill(room, name.bytes(), family, std::iter::once(WordAddr::new(ip))) }
}

/// Lays an entry out.
///
/// # Safety
/// `room.entry` is writable, and so are `room.length` bytes of `room.buffer`.
unsafe fn fill(room: Room, name: &[u8], family: c_int, addresses: impl Iterator<Item = WordAddr> + Clone) -> Outcome {
    let size = if family == AF_INET { 4 } else { 16 };
    let count = addresses.clone().count();
    let padding = room.buffer.align_offset(align_of::<*mut c_char>());
    // The null of the aliases, the addresses' pointers, their null.
    let pointers = (count + 2) * size_of::<*mut c_char>();
    let needed = padding + pointers + count * size + name.len() + 1;
    if needed > room.length {
        return Outcome::Failed(NETDB_INTERNAL, libc::ERANGE);
    }
    // SAFETY: every offset lies within `needed` bytes, which are writable; the pointers are aligned by `padding`.
    unsafe {
        let table = room.buffer.add(padding).cast::<*mut c_char>();
        let bytes = room.buffer.add(padding + pointers);
        let text = bytes.add(count * size);
        table.write(std::ptr::null_mut());
        for (nth, address) in addresses.enumerate() {
            let place = bytes.add(nth * size);
            let octets = u128::from(address.hi) << 64 | u128::from(address.lo);
            let octets = octets.to_be_bytes();
            // An IPv4 address is the end of its v4-mapped form.
            std::ptr::copy_nonoverlapping(octets.as_ptr().add(16 - size).cast(), place, size);
            table.add(1 + nth).write(place);
        }
        table.add(1 + count).write(std::ptr::null_mut());
        std::ptr::copy_nonoverlapping(name.as_ptr().cast(), text, name.len());
        text.add(name.len()).write(0);
        room.entry.write(hostent {
            h_name: text,
            h_aliases: table,
            h_addrtype: family,
            h_length: size as c_int,
            h_addr_list: table.add(1),
        });
    }
    Outcome::Filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn filled(length: usize, misaligned: usize) -> (Outcome, Vec<u64>, hostent) {
        let mut buffer = vec![0_u64; 32];
        // SAFETY: all zeros is a valid hostent.
        let mut entry: hostent = unsafe { std::mem::zeroed() };
        let room = Room {
            entry: &raw mut entry,
            buffer: buffer.as_mut_ptr().cast::<c_char>().wrapping_add(misaligned),
            length,
        };
        let addresses = ["10.0.0.1", "10.0.0.2"].map(|ip| WordAddr::new(ip.parse().unwrap()));
        // SAFETY: the room is writable.
        let outcome = unsafe { fill(room, b"db.shop", AF_INET, addresses.into_iter()) };
        (outcome, buffer, entry)
    }

    #[test]
    fn an_entry_holds_name_and_addresses_wherever_the_buffer_begins() {
        for misaligned in [0, 1, 7] {
            let (outcome, _buffer, entry) = filled(200, misaligned);
            assert_eq!(outcome, Outcome::Filled);
            // SAFETY: laid out just now; the buffer lives.
            unsafe {
                assert_eq!(CStr::from_ptr(entry.h_name), c"db.shop");
                assert!((*entry.h_aliases).is_null());
                assert_eq!((*entry.h_addr_list.add(1)).cast::<[u8; 4]>().read_unaligned(), [10, 0, 0, 2]);
                assert!((*entry.h_addr_list.add(2)).is_null());
            }
        }
    }

    #[test]
    fn a_buffer_too_small_by_one_byte_is_erange() {
        // Four pointers, two addresses, the name and its nul.
        let needed = 4 * size_of::<usize>() + 8 + 8;
        assert_eq!(filled(needed, 0).0, Outcome::Filled);
        assert_eq!(filled(needed - 1, 0).0, Outcome::Failed(NETDB_INTERNAL, libc::ERANGE));
    }
}
