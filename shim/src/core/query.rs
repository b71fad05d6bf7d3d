//! Raw queries of the DNS: res_query and its kin, answered for names of the mesh with a message of our own.
//!
//! ```text
//! A, AAAA of a name that the mesh knows     its addresses of that type, or an answer without records
//! PTR of a VIP                              the service's name
//! everything else                           the real call: a mesh describes no other records, the DNS may
//! ```

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::net::IpAddr;

use xds_runtime::shm::WordAddr;

use crate::core::address::plausible;
use crate::core::answer::{IN, Kind, Message, NameRoom, Question, reversed};
use crate::core::lookup::{Fault, Found, lookup_in_dns};
use crate::core::process::{self, Context};
use crate::core::resolve::text;
use crate::core::reverse::{VipName, vip_name};
use crate::core::verdict::{Verdict, Why};

/// libc refuses a smaller answer: the least is a header.
const LEAST_ROOM: usize = 12;

/// Where the program wants an answer.
#[derive(Clone, Copy)]
pub struct Room {
    /// Its first byte.
    pub answer: *mut u8,
    /// How many.
    pub length: c_int,
}

impl Room {
    /// # Safety
    /// What the program promised its libc: `length` writable bytes, used by nobody else meanwhile.
    unsafe fn bytes<'a>(self) -> Option<&'a mut [MaybeUninit<u8>]> {
        let length = usize::try_from(self.length).ok().filter(|length| *length >= LEAST_ROOM)?;
        // SAFETY: as the caller says; the bytes need not be initialised.
        plausible(self.answer).then(|| unsafe { std::slice::from_raw_parts_mut(self.answer.cast(), length) })
    }
}

/// What a query comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The real call.
    Pass,
    /// Answered by a message of this length, which may be more than its room.
    Answered(c_int),
    /// Answered by a message of this length without records.
    NoData(c_int),
    /// No answer could be had.
    TryAgain,
}

/// Which name is asked for.
#[derive(Clone, Copy)]
#[repr(C)]
pub enum Form {
    /// The name, as for res_query.
    Full,
    /// What the search list makes of it, as for res_search.
    Searched,
    /// The name below this domain, as for res_querydomain; null = the name.
    Below(*const c_char),
}

/// A query for a name.
///
/// # Safety
/// Name, domain and room as for res_query(3) and res_querydomain(3).
pub unsafe fn by_name(name: *const c_char, form: Form, class: c_int, kind: c_int, room: Room) -> Outcome {
    let context = match process::enter() {
        Ok(context) => context,
        Err(why) => return passed(why),
    };
    // SAFETY: as the caller says.
    let Some(room) = (unsafe { room.bytes() }) else { return passed(Why::NotAName) };
    let Some(kind) = u16::try_from(kind).ok().and_then(Kind::of).filter(|_| class == c_int::from(IN)) else {
        return passed(Why::OtherRecord);
    };
    let mut joined = [0; 253];
    // SAFETY: as the caller says.
    let name = unsafe {
        match form {
            Form::Below(domain) if !domain.is_null() => join(name, domain, &mut joined),
            _ => text(name),
        }
    };
    let Some(name) = name else { return passed(Why::NotAName) };
    answer(context, name, matches!(form, Form::Searched), kind, None, room)
}

/// A query that the program made itself.
///
/// # Safety
/// Packet and room as for res_send(3).
pub unsafe fn by_packet(packet: *const u8, length: c_int, room: Room) -> Outcome {
    let context = match process::enter() {
        Ok(context) => context,
        Err(why) => return passed(why),
    };
    // SAFETY: as the caller says.
    let Some(room) = (unsafe { room.bytes() }) else { return passed(Why::NotAName) };
    let Some(length) = usize::try_from(length).ok().filter(|_| plausible(packet)) else {
        return passed(Why::NotAName);
    };
    // SAFETY: as the caller says; a packet is initialised.
    let packet = unsafe { std::slice::from_raw_parts(packet, length) };
    let mut name: NameRoom = [0; 253];
    let Some((question, name)) = Question::parse(packet, &mut name) else { return passed(Why::OtherRecord) };
    answer(context, name, false, question.kind, Some(question), room)
}

fn passed(why: Why) -> Outcome {
    why.count();
    Outcome::Pass
}

/// Answers a name's question, or the packet's that it is in.
fn answer(
    context: &'static Context,
    name: &str,
    search: bool,
    kind: Kind,
    packet: Option<Question<'_>>,
    room: &mut [MaybeUninit<u8>],
) -> Outcome {
    match kind {
        Kind::A | Kind::Aaaa => addresses(context, name, search, kind, packet, room),
        Kind::Ptr => pointer(name, packet, room),
    }
}

#[inline(never)]
fn addresses(
    context: &'static Context,
    name: &str,
    search: bool,
    kind: Kind,
    packet: Option<Question<'_>>,
    room: &mut [MaybeUninit<u8>],
) -> Outcome {
    let mut found = Found::EMPTY;
    match lookup_in_dns(context, name, search, &mut found) {
        Verdict::Pass(why) => {
            context.passed(why, format_args!("query for {name}"));
            Outcome::Pass
        }
        Verdict::Fail(Fault::Again) => Outcome::TryAgain,
        Verdict::Redirect(()) => {
            let question = packet.unwrap_or(Question::of_name(found.name(), kind));
            let mut message = Message::answering(&question, room);
            found.of_family(kind == Kind::A).for_each(|address: WordAddr| message.address(address.ip()));
            finish(message)
        }
    }
}

#[inline(never)]
fn pointer(name: &str, packet: Option<Question<'_>>, room: &mut [MaybeUninit<u8>]) -> Outcome {
    let Some(ip): Option<IpAddr> = reversed(name) else { return passed(Why::NotAName) };
    let mut vip = VipName::EMPTY;
    if !vip_name(ip, &mut vip) {
        return Outcome::Pass;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut message = Message::answering(&packet.unwrap_or(Question::of_name(name.as_bytes(), Kind::Ptr)), room);
    message.name(vip.bytes());
    finish(message)
}

fn finish(message: Message<'_>) -> Outcome {
    let records = message.records();
    let length = message.finish() as c_int;
    if records == 0 { Outcome::NoData(length) } else { Outcome::Answered(length) }
}

/// # Safety
/// Null, or nul-terminated, both.
unsafe fn join(name: *const c_char, domain: *const c_char, room: &mut NameRoom) -> Option<&str> {
    let mut length = 0;
    // SAFETY: as the caller says.
    for part in unsafe { [text(name)?, ".", text(domain)?] } {
        room.get_mut(length..length + part.len())?.copy_from_slice(part.as_bytes());
        length += part.len();
    }
    std::str::from_utf8(room.get(..length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_follows_the_name() {
        let joined = |name, domain| {
            let mut room = [0; 253];
            // SAFETY: null or nul-terminated.
            unsafe { join(name, domain, &mut room) }.map(str::to_owned)
        };
        let long = std::ffi::CString::new("x".repeat(250)).unwrap();
        assert_eq!(joined(c"db".as_ptr(), c"shop.svc".as_ptr()), Some("db.shop.svc".into()));
        assert_eq!(joined(c"db".as_ptr(), long.as_ptr()), Some(format!("db.{}", "x".repeat(250))));
        assert_eq!(joined(c"db1".as_ptr(), long.as_ptr()), None);
        assert_eq!(joined(std::ptr::null(), c"shop".as_ptr()), None);
    }

    #[test]
    fn a_room_without_space_for_a_header_is_libcs_business() {
        let mut bytes = [0_u8; 12];
        let answer = bytes.as_mut_ptr();
        for (answer, length, is_taken) in
            [(answer, 12, true), (answer, 11, false), (answer, -1, false), (std::ptr::null_mut(), 12, false)]
        {
            // SAFETY: null, or 12 bytes.
            assert_eq!(unsafe { Room { answer, length }.bytes() }.is_some(), is_taken, "{length}");
        }
    }
}
