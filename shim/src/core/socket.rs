//! What is asked about a socket: raw system calls, no cancellation points.

use std::ffi::{c_int, c_long, c_uint, c_void};

use libc::socklen_t;

use crate::core::address::{Inet, RawAddress};

/// A descriptor of the program's, for as long as one call of its lasts.
#[derive(Clone, Copy)]
pub struct Socket(pub c_int);

impl Socket {
    fn option<T: Copy>(self, level: c_int, name: c_int, mut value: T) -> Option<T> {
        let mut length = size_of::<T>() as socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into `value`; a wrong descriptor is an error.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_getsockopt,
                c_long::from(self.0),
                c_long::from(level),
                c_long::from(name),
                &raw mut value,
                &raw mut length,
            )
        };
        (answer == 0 && length as usize == size_of::<T>()).then_some(value)
    }

    /// True for TCP.
    pub fn is_tcp(self) -> bool {
        self.option(libc::SOL_SOCKET, libc::SO_PROTOCOL, 0) == Some(libc::IPPROTO_TCP)
    }

    /// The socket's cookie: the same across dup, fork and passing, never another socket's.
    pub fn cookie(self) -> Option<u64> {
        self.option(libc::SOL_SOCKET, libc::SO_COOKIE, 0_u64).filter(|cookie| *cookie != 0)
    }

    /// SO_ERROR, which this takes from the socket; 0 = none.
    pub fn take_error(self) -> Option<c_int> {
        self.option(libc::SOL_SOCKET, libc::SO_ERROR, 0)
    }

    /// True when IPv4 cannot be reached through this IPv6 socket.
    pub fn is_v6_only(self) -> bool {
        self.option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0).is_none_or(|only| only != 0)
    }

    /// True when calls on it block.
    pub fn is_blocking(self) -> bool {
        // SAFETY: reads the flags of a descriptor; a wrong one is an error.
        let flags = unsafe { libc::syscall(libc::SYS_fcntl, c_long::from(self.0), c_long::from(libc::F_GETFL)) };
        flags >= 0 && flags & c_long::from(libc::O_NONBLOCK) == 0
    }

    /// SO_SNDTIMEO, which bounds connect too; zero = none.
    pub fn send_timeout(self) -> Option<libc::timeval> {
        self.option(libc::SOL_SOCKET, libc::SO_SNDTIMEO, libc::timeval { tv_sec: 0, tv_usec: 0 })
    }

    /// Sets SO_SNDTIMEO.
    pub fn set_send_timeout(self, time: libc::timeval) {
        self.set_option(libc::SOL_SOCKET, libc::SO_SNDTIMEO, &time);
    }

    fn set_option<T>(self, level: c_int, name: c_int, value: &T) {
        // SAFETY: the kernel reads the whole value.
        unsafe {
            libc::syscall(
                libc::SYS_setsockopt,
                c_long::from(self.0),
                c_long::from(level),
                c_long::from(name),
                std::ptr::from_ref(value),
                size_of::<T>() as c_long,
            );
        }
    }

    /// TCP_USER_TIMEOUT in milliseconds: how long the kernel tries to get a SYN or data through; 0 = its own limits.
    pub fn user_timeout(self) -> Option<c_uint> {
        self.option(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 0)
    }

    /// Sets TCP_USER_TIMEOUT.
    pub fn set_user_timeout(self, milliseconds: c_uint) {
        self.set_option(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, &milliseconds);
    }

    /// Its own address.
    pub fn local(self) -> Option<Inet> {
        self.name(libc::SYS_getsockname)
    }

    /// The address it is connected to.
    pub fn peer(self) -> Option<Inet> {
        self.name(libc::SYS_getpeername)
    }

    /// The address that it is bound to, if it is to one.
    pub fn bound_to(self) -> Option<std::net::IpAddr> {
        Some(self.name(libc::SYS_getsockname)?.ip).filter(|ip| !ip.to_canonical().is_unspecified())
    }

    fn name(self, call: c_long) -> Option<Inet> {
        let mut raw = RawAddress::ZERO;
        let mut length = size_of::<RawAddress>() as socklen_t;
        // SAFETY: both calls write at most `length` bytes.
        let answer = unsafe { libc::syscall(call, c_long::from(self.0), &raw mut raw, &raw mut length) };
        if answer != 0 || length as usize > size_of::<RawAddress>() {
            return None;
        }
        // SAFETY: the kernel wrote `length` bytes.
        unsafe { Inet::read(raw.as_ptr(), length) }
    }
}

/// This thread's errno.
pub fn errno() -> c_int {
    // SAFETY: libc gives each thread a valid place.
    unsafe { *libc::__errno_location() }
}

/// Sets this thread's errno.
pub fn set_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value };
}

/// Switches pthread_cancel off for as long as our own code may block or do I/O: its unwinding would end in our
/// frames. Returns what [`cancel_restore`] needs.
pub fn cancel_off() -> c_int {
    let mut former = 0;
    // SAFETY: PTHREAD_CANCEL_DISABLE = 1; writes the former state.
    unsafe { pthread_setcancelstate(1, &raw mut former) };
    former
}

/// Undoes [`cancel_off`].
pub fn cancel_restore(former: c_int) {
    // SAFETY: a state that was in force before.
    unsafe { pthread_setcancelstate(former, std::ptr::null_mut()) };
}

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, former: *mut c_int) -> c_int;
}

/// True when the kernel would route to an address (a UDP socket's connect sends nothing).
pub fn is_routed(address: &RawAddress, length: socklen_t, family: c_int) -> bool {
    // SAFETY: plain system calls on a descriptor of our own; the address is whole.
    unsafe {
        let kind = c_long::from(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
        let fd = libc::syscall(libc::SYS_socket, c_long::from(family), kind, 0_i64);
        if fd < 0 {
            return false;
        }
        let answer =
            libc::syscall(libc::SYS_connect, fd, address.as_ptr().cast::<c_void>(), c_long::from(length as i32));
        libc::syscall(libc::SYS_close, fd);
        answer == 0
    }
}
