//! How a connect under way ended, as the program comes to know it: from SO_ERROR, a second connect or getpeername.
//!
//! ```text
//! Connecting --Established--> the endpoint's success is counted, the record stays
//!           \\--Failed-------> its failure is counted, the record goes
//! ```
//! Processes and the leader may learn the same thing at once: one of them notes it.

use std::ffi::{c_int, c_void};

use libc::socklen_t;
use xds_runtime::shm::{self, Millis};
use xds_runtime::state::ConnectionState;

use crate::core::Errno;
use crate::core::address::plausible;
use crate::core::failure;
use crate::core::mesh::{Attached, Mesh};
use crate::core::process::{self, Context};
use crate::core::socket::Socket;
use crate::memory;

/// An end of a connect that was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is established.
    Established,
    /// It failed for this reason.
    Failed(Errno),
}

impl Outcome {
    /// What a connect towards the same address means for the one under way; `None` = it still is, or the call was
    /// wrong in itself.
    pub const fn of(errno: Errno) -> Option<Self> {
        match errno {
            0 | libc::EISCONN => Some(Self::Established),
            libc::ECONNABORTED => Some(Self::Failed(errno)),
            errno if is_the_endpoints(errno) => Some(Self::Failed(errno)),
            _ => None,
        }
    }
}

/// True for an error that says something about the endpoint.
pub const fn is_the_endpoints(errno: Errno) -> bool {
    matches!(errno, libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ETIMEDOUT)
}

/// Notes how the connect of a socket ended, if it was under way. One that lasted for longer than it may was counted
/// already.
#[inline(never)]
pub fn learn(mesh: &dyn Mesh, cookie: u64, outcome: Outcome, now: Millis) {
    let Some(state) = mesh.state() else { return };
    let Some(seen) = state.connection(cookie).filter(|seen| seen.state.is_under_way()) else { return };
    match outcome {
        Outcome::Established if state.establish(cookie, &seen) => {
            if seen.state == ConnectionState::Connecting
                && let Some(slot) = seen.member().endpoint(&state)
            {
                slot.succeeded(now);
            }
        }
        Outcome::Established => {}
        Outcome::Failed(errno) => {
            let Some(gone) = state.forget(cookie, now) else { return };
            if is_the_endpoints(errno) && gone.state == ConnectionState::Connecting {
                failure::count(mesh, &gone.member(), cookie, now);
            }
            gone.member().uncount(&state);
        }
    }
}

/// True for the one option that tells how a connect ended.
#[inline(always)]
pub const fn is_told_by(level: c_int, name: c_int) -> bool {
    level == libc::SOL_SOCKET && name == libc::SO_ERROR
}

/// The program was told SO_ERROR.
///
/// # Safety
/// As a successful getsockopt of SO_ERROR left them.
pub unsafe fn told(fd: c_int, value: *const c_void, length: *const socklen_t) {
    let Ok(context) = process::enter() else { return };
    // Only a process that is attached has connected anything.
    if context.attached().is_none() {
        return;
    }
    // SAFETY: the real call wrote through both; alignment is not assumed.
    let whole = plausible(length) && unsafe { length.read_unaligned() } as usize == size_of::<c_int>();
    if !whole {
        return;
    }
    // SAFETY: as above: all four bytes were written.
    let errno = unsafe { value.cast::<c_int>().read_unaligned() };
    memory::without_malloc(|| note(context, Socket::of(fd), errno));
}

/// The program takes the connection of a socket away: its next connect begins anew, wherever this one was under way to.
#[inline(never)]
pub fn disconnected(context: &'static Context, socket: Socket) {
    if context.attached().is_none() {
        return;
    }
    let Some(cookie) = socket.cookie() else { return };
    let Some((mesh, _)) = Attached::of_socket(context, cookie) else { return };
    let Some(state) = mesh.state() else { return };
    if let Some(gone) = state.forget(cookie, shm::now()) {
        gone.member().uncount(&state);
    }
}

fn note(context: &'static Context, socket: Socket, errno: Errno) {
    let Some(cookie) = socket.cookie() else { return };
    let Some((mesh, seen)) = Attached::of_socket(context, cookie).filter(|(_, seen)| seen.state.is_under_way()) else {
        return;
    };
    // No error is what a connect says, too, that is still under way.
    let outcome = match errno {
        0 if socket.is_connected_to(&seen) => Outcome::Established,
        0 => return,
        errno => Outcome::Failed(errno),
    };
    learn(&mesh, cookie, outcome, shm::now());
}
