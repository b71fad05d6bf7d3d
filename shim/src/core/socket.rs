//! What is asked about a socket: raw system calls, no cancellation points.

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_uint};
use std::net::SocketAddr;

use libc::socklen_t;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use xds_runtime::shm::{Millis, WordAddr};
use xds_runtime::state::Connection;

use crate::core::address::{Inet, RawAddress};

/// A descriptor of the program's, for as long as one call of its lasts.
#[derive(Clone, Copy)]
pub struct Socket {
    /// Its number.
    pub fd: c_int,
    /// The call says MSG_DONTWAIT: it does not block, whatever the socket does.
    pub dont_wait: bool,
}

impl Socket {
    /// A descriptor in a call without flags.
    pub const fn of(fd: c_int) -> Self {
        Self { fd, dont_wait: false }
    }

    /// An option's value.
    pub(super) fn option<T: Copy>(self, level: c_int, name: c_int, mut value: T) -> Option<T> {
        let mut length = size_of::<T>() as socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into `value`; a wrong descriptor is an error.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_getsockopt,
                c_long::from(self.fd),
                c_long::from(level),
                c_long::from(name),
                &raw mut value,
                &raw mut length,
            )
        };
        (answer == 0 && length as usize == size_of::<T>()).then_some(value)
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

    /// True when a connect may have answered before a SYN left: the first write sends it (TCP_FASTOPEN_CONNECT).
    pub fn defers_connect(self) -> bool {
        self.option(libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 0).is_some_and(|defers| defers != 0)
    }

    /// True when the call blocks.
    pub fn is_blocking(self) -> bool {
        if self.dont_wait {
            return false;
        }
        // SAFETY: reads the flags of a descriptor; a wrong one is an error.
        let flags = unsafe { libc::syscall(libc::SYS_fcntl, c_long::from(self.fd), c_long::from(libc::F_GETFL)) };
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

    /// Sets an option.
    pub(super) fn set_option<T>(self, level: c_int, name: c_int, value: &T) {
        // SAFETY: the kernel reads the whole value.
        unsafe {
            libc::syscall(
                libc::SYS_setsockopt,
                c_long::from(self.fd),
                c_long::from(level),
                c_long::from(name),
                std::ptr::from_ref(value),
                size_of::<T>() as c_long,
            );
        }
    }

    /// TCP_USER_TIMEOUT in milliseconds: how long the kernel tries to get a SYN or data through; 0 = its own limits.
    /// Only TCP has it (MPTCP does not).
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

    /// True when it is connected to the endpoint of a record.
    pub fn is_connected_to(self, recorded: &Connection) -> bool {
        let remote = (recorded.remote, recorded.remote_port);
        self.peer().is_some_and(|peer| (WordAddr::new(peer.ip), peer.port) == remote)
    }

    fn name(self, call: c_long) -> Option<Inet> {
        let mut raw = RawAddress::ZERO;
        let mut length = size_of::<RawAddress>() as socklen_t;
        // SAFETY: both calls write at most `length` bytes.
        let answer = unsafe { libc::syscall(call, c_long::from(self.fd), &raw mut raw, &raw mut length) };
        if answer != 0 || length as usize > size_of::<RawAddress>() {
            return None;
        }
        // SAFETY: the kernel wrote `length` bytes.
        unsafe { Inet::read(raw.as_ptr(), length) }
    }
}

/// A time in whole milliseconds.
pub fn milliseconds(time: libc::timeval) -> Millis {
    let whole = |number: i64| Millis::try_from(number).unwrap_or(0);
    whole(time.tv_sec).saturating_mul(1000).saturating_add(whole(time.tv_usec) / 1000)
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

/// The frame of a hook that holds pthread_cancel back (0 = none), and the state to give back.
type Held = (usize, c_int);

thread_local! {
    // Const and without destructor: plain thread-local words.
    static HELD: Cell<Held> = const { Cell::new((0, 0)) };
}

/// Switches pthread_cancel off for as long as our own code may block or do I/O: its unwinding would end in our
/// frames. Returns what [`cancel_restore`] needs.
///
/// A signal handler may jump out of a lookup (programs do, for a timeout), which then gives nothing back. Its frame
/// mostly lies below the next one's (stacks grow down), so the next lookup of the thread gives back what that one found;
/// but for a handler on a stack of its own.
pub fn cancel_off() -> (c_int, Held) {
    let mut state = 0;
    // SAFETY: PTHREAD_CANCEL_DISABLE = 1; writes the former state.
    unsafe { pthread_setcancelstate(1, &raw mut state) };
    let frame = (&raw const state).addr();
    let mut outer = HELD.get();
    if outer.0 != 0 && outer.0 <= frame && !on_signal_stack() {
        (state, outer) = (outer.1, (0, 0));
    }
    HELD.set((frame, state));
    (state, outer)
}

/// Undoes [`cancel_off`].
pub fn cancel_restore((state, outer): (c_int, Held)) {
    HELD.set(outer);
    // SAFETY: a state that was in force before.
    unsafe { pthread_setcancelstate(state, std::ptr::null_mut()) };
}

/// True for a handler that runs on an alternate stack.
fn on_signal_stack() -> bool {
    let mut stack = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: asks only; the kernel fills the struct.
    unsafe { libc::sigaltstack(std::ptr::null(), &raw mut stack) == 0 && stack.ss_flags & libc::SS_ONSTACK != 0 }
}

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, former: *mut c_int) -> c_int;
}

/// True when the kernel would route to an address (a UDP socket's connect sends nothing).
pub fn is_routed(address: &RawAddress, length: socklen_t, family: c_int) -> bool {
    // SAFETY: a whole address of that length.
    let Some(to) = (unsafe { Inet::read(address.as_ptr(), length) }) else { return false };
    let family = AddressFamily::from_raw(family as u16);
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    socket.and_then(|socket| rustix::net::connect(&socket, &SocketAddr::new(to.ip, to.port))).is_ok()
}
