//! getaddrinfo: the real call with the digits of each address, the lists joined.
//!
//! ```text
//! Fresh --step--> Pass: the real call as the program made it
//!            \--> Call: the real call with `digits` and `hints`, once per address --step--> Done
//! ```
//! Everything that hints mean for services, socket types and v4-mapped addresses is thus libc's own.

use std::ffi::{CStr, c_char, c_int};
use std::fmt::Write;

use libc::{AF_INET, AF_INET6, AF_UNSPEC, addrinfo};
use log::Level;
use xds_runtime::names::Families;
use xds_runtime::shm::WordAddr;

use crate::core::address::{Form, RawAddress, plausible};
use crate::core::list::List;
use crate::core::lookup::{ADDRESSES, Fault, Found, lookup};
use crate::core::process;
use crate::core::socket;
use crate::core::verdict::{Verdict, Why};

pub use crate::core::connect::Step;

/// glibc: the name is known, but not in this family.
const EAI_NODATA: c_int = -5;
/// _CS_GNU_LIBC_VERSION, of which musl knows nothing.
const CS_GNU_LIBC_VERSION: c_int = 2;
/// What glibc assumes without hints.
const NO_HINTS: c_int = libc::AI_V4MAPPED | libc::AI_ADDRCONFIG;
/// AI_IDN, AI_CANONIDN: an ASCII name is itself.
const AI_IDNS: c_int = 0x40 | 0x80;

/// One getaddrinfo of the program's.
#[repr(C)]
pub struct Lookup {
    /// The address that the next real call is asked for, nul-terminated.
    pub digits: [u8; 64],
    /// The hints of the next real call.
    pub hints: addrinfo,
    /// Where the next real call leaves its list.
    pub part: *mut addrinfo,
    /// What the last real call returned; in the end what the hook returns.
    pub code: c_int,
    /// The whole list so far.
    list: List,
    plan: Plan,
    is_answered: bool,
    wants_canonical_name: bool,
    found: Found,
}

/// Which addresses are left to ask for.
struct Plan {
    places: [u8; ADDRESSES],
    count: usize,
    next: usize,
}

const EMPTY_HINTS: addrinfo = addrinfo {
    ai_flags: 0,
    ai_family: AF_UNSPEC,
    ai_socktype: 0,
    ai_protocol: 0,
    ai_addrlen: 0,
    ai_addr: std::ptr::null_mut(),
    ai_canonname: std::ptr::null_mut(),
    ai_next: std::ptr::null_mut(),
};

impl Lookup {
    /// Nothing decided yet.
    pub const FRESH: Self = Self {
        digits: [0; 64],
        hints: EMPTY_HINTS,
        part: std::ptr::null_mut(),
        code: 0,
        list: List::EMPTY,
        plan: Plan { places: [0; ADDRESSES], count: 0, next: 0 },
        is_answered: false,
        wants_canonical_name: false,
        found: Found::EMPTY,
    };

    /// Decides what comes next.
    ///
    /// # Safety
    /// `node` and `hints` as for getaddrinfo(3); `self.part` as the last real call left it.
    pub unsafe fn step(&mut self, node: *const c_char, hints: *const addrinfo) -> Step {
        if self.is_answered {
            // SAFETY: as the caller says.
            return unsafe { self.take_part() };
        }
        let context = match process::enter() {
            Ok(context) => context,
            Err(why) => {
                why.count();
                return Step::Pass;
            }
        };
        // SAFETY: null, or the program's hints.
        self.hints = unsafe { hints.as_ref() }.copied().unwrap_or(addrinfo { ai_flags: NO_HINTS, ..EMPTY_HINTS });
        let families = asked(&self.hints);
        // SAFETY: null, or the program's nul-terminated name.
        let name = unsafe { text(node) }.filter(|_| self.hints.ai_flags & libc::AI_NUMERICHOST == 0);
        let (Some(name), Some(families)) = (name, families) else {
            Why::NotAName.count();
            return Step::Pass;
        };
        match lookup(context, name, families, &mut self.found) {
            Verdict::Pass(why) => {
                context.passed(why, format_args!("lookup of {name}"));
                Step::Pass
            }
            Verdict::Fail(Fault::Again) => {
                self.code = libc::EAI_AGAIN;
                Step::Done
            }
            Verdict::Redirect(()) => {
                self.is_answered = true;
                self.plan();
                context.log.line(Level::Debug, format_args!("lookup of {name}: {} addresses", self.plan.count));
                self.next()
            }
        }
    }

    /// Which addresses the hints let through, in order.
    fn plan(&mut self) {
        let flags = self.hints.ai_flags;
        let mapped = flags & libc::AI_V4MAPPED != 0;
        let (has_v4, has_v6) = (self.found.of_family(true).next().is_some(), self.found.of_family(false).next());
        let (take_v4, mut take_v6) = match self.hints.ai_family {
            AF_INET => (true, false),
            AF_INET6 => (mapped && (has_v6.is_none() || flags & libc::AI_ALL != 0), true),
            _ => (true, true),
        };
        // AI_ADDRCONFIG asks whether the family is of use here; only where there is a choice does it matter.
        if flags & libc::AI_ADDRCONFIG != 0
            && take_v4
            && has_v4
            && let Some(address) = has_v6
        {
            take_v6 = is_routed(address);
        }
        for (place, address) in (0_u8..).zip(self.found.addresses()) {
            let take = if address.ip().is_ipv4() { take_v4 } else { take_v6 };
            if let Some(free) = self.plan.places.get_mut(self.plan.count)
                && take
            {
                *free = place;
                self.plan.count += 1;
            }
        }
        self.wants_canonical_name = flags & libc::AI_CANONNAME != 0;
        self.hints.ai_flags = flags & !(libc::AI_ADDRCONFIG | AI_IDNS) | libc::AI_NUMERICHOST;
    }

    /// Prepares the real call of the next address.
    fn next(&mut self) -> Step {
        if self.plan.count == 0 {
            self.code = no_data();
            return Step::Done;
        }
        let place = self.plan.places.get(..self.plan.count).and_then(|places| places.get(self.plan.next));
        let Some(address) = place.and_then(|place| self.found.addresses().get(usize::from(*place))) else {
            return Step::Done;
        };
        let mut digits = Digits { bytes: &mut self.digits, length: 0 };
        // The longest address has 39 characters; the buffer stays nul-terminated.
        let _ = write!(digits, "{}", address.ip());
        self.plan.next += 1;
        self.part = std::ptr::null_mut();
        Step::Call
    }

    /// Adds the list of the last real call.
    unsafe fn take_part(&mut self) -> Step {
        let part = std::mem::replace(&mut self.part, std::ptr::null_mut());
        let name = self.wants_canonical_name.then(|| self.found.c_name());
        // SAFETY: a list of the real getaddrinfo's, not handed out.
        if self.code == 0 && unsafe { self.list.append(part, self.plan.count, name) }.is_err() {
            self.code = libc::EAI_MEMORY;
        }
        if self.code != 0 {
            // The service or the hints are wrong: for one address as for all.
            // SAFETY: not handed out.
            unsafe { self.list.free() };
            return Step::Done;
        }
        self.hints.ai_flags &= !libc::AI_CANONNAME;
        self.next()
    }

    /// The list to hand out, once done with code 0.
    pub const fn list(&self) -> *mut addrinfo {
        self.list.head
    }
}

/// What this libc says of a known name without an address of the family.
fn no_data() -> c_int {
    // SAFETY: asks for a length.
    let is_glibc = unsafe { libc::confstr(CS_GNU_LIBC_VERSION, std::ptr::null_mut(), 0) } != 0;
    // musl has had EAI_NODATA only since 1.2.4; older programs know no such code.
    if is_glibc { EAI_NODATA } else { libc::EAI_NONAME }
}

/// The families that hints ask for; `None` for others than IPv4 and IPv6.
fn asked(hints: &addrinfo) -> Option<Families> {
    match hints.ai_family {
        AF_INET => Some(Families::V4),
        AF_INET6 if hints.ai_flags & libc::AI_V4MAPPED == 0 => Some(Families::V6),
        AF_INET6 | AF_UNSPEC => Some(Families::ANY),
        _ => None,
    }
}

/// A name as the program wrote it.
///
/// # Safety
/// Null, or nul-terminated and unchanged for as long as the result is used.
pub unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if !plausible(name) {
        return None;
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

fn is_routed(address: WordAddr) -> bool {
    RawAddress::new(Form::V6, address, 9).is_some_and(|(raw, length)| socket::is_routed(&raw, length, AF_INET6))
}

struct Digits<'a> {
    bytes: &'a mut [u8; 64],
    length: usize,
}

impl Write for Digits<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length.saturating_add(text.len());
        // One byte stays for the nul.
        let place = self.bytes.get_mut(..63).and_then(|bytes| bytes.get_mut(self.length..end));
        place.ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        if let Some(nul) = self.bytes.get_mut(end) {
            *nul = 0;
        }
        Ok(())
    }
}
