//! Socket addresses as programs give them and as the kernel takes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::{AF_INET, AF_INET6, AF_UNSPEC, sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};
use xds_runtime::shm::WordAddr;

/// Bytes of a `sockaddr_in6` without its scope: the least that Linux takes (RFC 2133's form).
const V6_LEAST: usize = 24;

/// The form in which a socket's addresses are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `sockaddr_in`.
    V4,
    /// `sockaddr_in6`; IPv4 addresses are v4-mapped.
    V6,
}

/// An address that was dialled, or that a name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inet {
    /// How it was written.
    pub form: Form,
    /// The address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
}

/// False for pointers that no object of a program has: the kernel answers those with EFAULT, and so shall the
/// real call.
pub fn plausible<T>(pointer: *const T) -> bool {
    let address = pointer as usize;
    address >= 4096 && (address as isize) > 0
}

/// True for AF_UNSPEC, which takes a socket's connection away (connect(2)).
///
/// # Safety
/// `address` is implausible (see [`plausible`]) or points to `length` readable bytes.
pub unsafe fn is_unspecified(address: *const sockaddr, length: socklen_t) -> bool {
    // SAFETY: as the caller says; alignment is not assumed.
    plausible(address)
        && length as usize >= size_of::<sa_family_t>()
        && unsafe { address.cast::<sa_family_t>().read_unaligned() } == AF_UNSPEC as sa_family_t
}

impl Inet {
    /// Reads a socket address; `None` when it is no complete IPv4 or IPv6 one.
    ///
    /// # Safety
    /// `address` is implausible (see [`plausible`]) or points to `length` readable bytes.
    pub unsafe fn read(address: *const sockaddr, length: socklen_t) -> Option<Self> {
        let length = length as usize;
        if !plausible(address) || length < size_of::<sockaddr_in>() {
            return None;
        }
        // SAFETY: at least 16 bytes are readable, as the caller says; alignment is not assumed.
        let v4 = unsafe { address.cast::<sockaddr_in>().read_unaligned() };
        match libc::c_int::from(v4.sin_family) {
            AF_INET => {
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(Self { form: Form::V4, ip: IpAddr::V4(ip), port: u16::from_be(v4.sin_port) })
            }
            AF_INET6 if length >= V6_LEAST => {
                // The port lies where sockaddr_in has it; the address begins at byte 8.
                // SAFETY: 24 bytes are readable.
                let octets = unsafe { address.cast::<u8>().add(8).cast::<[u8; 16]>().read_unaligned() };
                let ip = IpAddr::V6(Ipv6Addr::from(octets));
                Some(Self { form: Form::V6, ip, port: u16::from_be(v4.sin_port) })
            }
            _ => None,
        }
    }
}

/// A socket address to hand to the kernel or to copy to a program.
#[derive(Clone, Copy)]
#[repr(C)]
pub union RawAddress {
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

impl RawAddress {
    /// All zeros.
    pub const ZERO: Self = Self {
        v6: sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// The address in a form, and its length; `None` for an IPv6 address in the form of IPv4.
    pub fn new(form: Form, address: WordAddr, port: u16) -> Option<(Self, socklen_t)> {
        match (form, address.ip()) {
            (Form::V4, IpAddr::V4(ip)) => {
                let v4 = sockaddr_in {
                    sin_family: AF_INET as sa_family_t,
                    sin_port: port.to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
                    sin_zero: [0; 8],
                };
                let mut raw = Self::ZERO;
                raw.v4 = v4;
                Some((raw, size_of::<sockaddr_in>() as socklen_t))
            }
            (Form::V4, IpAddr::V6(_)) => None,
            (Form::V6, ip) => {
                let ip = match ip {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let v6 = sockaddr_in6 {
                    sin6_family: AF_INET6 as sa_family_t,
                    sin6_port: port.to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: ip.octets() },
                    sin6_scope_id: 0,
                };
                Some((Self { v6 }, size_of::<sockaddr_in6>() as socklen_t))
            }
        }
    }

    /// For the kernel.
    pub const fn as_ptr(&self) -> *const sockaddr {
        std::ptr::from_ref(self).cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(form: Form, ip: &str) -> Option<Inet> {
        let (raw, length) = RawAddress::new(form, WordAddr::new(ip.parse().unwrap()), 8080)?;
        // SAFETY: a whole address of that length.
        unsafe { Inet::read(raw.as_ptr(), length) }
    }

    #[test]
    fn an_address_is_written_in_the_sockets_form() {
        let v4 = read_back(Form::V4, "10.0.0.1").unwrap();
        assert_eq!((v4.form, v4.ip, v4.port), (Form::V4, "10.0.0.1".parse().unwrap(), 8080));
        let mapped = read_back(Form::V6, "10.0.0.1").unwrap();
        assert_eq!((mapped.form, mapped.ip), (Form::V6, "::ffff:10.0.0.1".parse().unwrap()));
        assert_eq!(read_back(Form::V6, "2001:db8::1").unwrap().ip, "2001:db8::1".parse::<IpAddr>().unwrap());
        assert_eq!(read_back(Form::V4, "2001:db8::1"), None);
    }

    #[test]
    fn short_foreign_and_impossible_addresses_are_not_read() {
        let (raw, _) = RawAddress::new(Form::V6, WordAddr::new("2001:db8::1".parse().unwrap()), 1).unwrap();
        // SAFETY: a whole address, read in part.
        unsafe {
            assert!(Inet::read(raw.as_ptr(), 23).is_none());
            assert!(Inet::read(raw.as_ptr(), 24).is_some());
            assert!(Inet::read(raw.as_ptr(), 2).is_none());
            assert!(Inet::read(std::ptr::null(), 16).is_none());
            assert!(Inet::read(std::ptr::without_provenance(usize::MAX), 16).is_none());
            assert!(Inet::read(RawAddress::ZERO.as_ptr(), 16).is_none());
            assert!(is_unspecified(RawAddress::ZERO.as_ptr(), 2) && !is_unspecified(raw.as_ptr(), 24));
            assert!(!is_unspecified(RawAddress::ZERO.as_ptr(), 1) && !is_unspecified(std::ptr::null(), 16));
        }
    }
}
