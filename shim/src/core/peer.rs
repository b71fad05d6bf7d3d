//! getpeername: the address that was dialled, not the endpoint's.
//!
//! Connections are recorded in STATE under their socket's cookie, so the answer is the same after dup, fork, exec
//! and descriptor passing, in every process of the pod.

use libc::{sockaddr, socklen_t};
use xds_runtime::control::Switch;
use xds_runtime::shm::{self, WordAddr};
use xds_runtime::state::Connection;

use crate::core::address::{Inet, RawAddress, plausible};
use crate::core::mesh::{Attached, Mesh};
use crate::core::outcome::{self, Outcome};
use crate::core::process;
use crate::core::socket::Socket;
use crate::core::verdict::Why;
use crate::memory;

/// What the program's buffer held before the real call.
#[derive(Clone, Copy)]
pub struct Asked {
    room: socklen_t,
}

impl Asked {
    /// Looks at the program's arguments; `None` = the real call alone.
    ///
    /// # Safety
    /// `length` is implausible or readable.
    pub unsafe fn before(address: *const sockaddr, length: *const socklen_t) -> Option<Self> {
        if !plausible(address) || !plausible(length) || process::enter().is_err() {
            return None;
        }
        // SAFETY: as the caller says; alignment is not assumed.
        Some(Self { room: unsafe { length.read_unaligned() } })
    }

    /// Rewrites what the real call answered, if the socket's connection was redirected.
    ///
    /// # Safety
    /// As the real call left them: `self.room` bytes at `address` and `length` are writable.
    pub unsafe fn after(self, fd: i32, address: *mut sockaddr, length: *mut socklen_t) {
        // SAFETY: the real call wrote both.
        let written = unsafe { length.read_unaligned() };
        let family_known = self.room as usize >= size_of::<libc::sa_family_t>();
        let inet_sized =
            written as usize == size_of::<libc::sockaddr_in>() || written as usize == size_of::<libc::sockaddr_in6>();
        if !inet_sized || !family_known {
            return;
        }
        if let Err(why) = memory::without_malloc(|| dialled(Socket::of(fd), written)).map(|(raw, whole)| {
            let copied = self.room.min(whole) as usize;
            // SAFETY: `copied` bytes fit in both.
            unsafe {
                std::ptr::copy_nonoverlapping(raw.as_ptr().cast::<u8>(), address.cast::<u8>(), copied);
                length.write_unaligned(whole);
            }
        }) {
            why.count();
        }
    }
}

/// The dialled address in the form that the socket's addresses have.
fn dialled(socket: Socket, written: socklen_t) -> Result<(RawAddress, socklen_t), Why> {
    let context = process::enter()?;
    let now = shm::now();
    context.attach_existing(now)?;
    let cookie = socket.cookie().ok_or(Why::NoCookie)?;
    let (mesh, recorded) = Attached::of_socket(context, cookie).ok_or(Why::NoRecord)?;
    if mesh.control().switch() != Switch::On {
        return Err(Why::SwitchedOff);
    }
    let peer = socket.peer().ok_or(Why::NotInet)?;
    // The socket may have been connected elsewhere since.
    if (WordAddr::new(peer.ip), peer.port) != (recorded.remote, recorded.remote_port) {
        return Err(Why::NoRecord);
    }
    if recorded.state.is_under_way() {
        outcome::learn(&mesh, cookie, Outcome::Established, now);
    }
    answer(peer, &recorded).filter(|(_, whole)| *whole == written).ok_or(Why::NoRecord)
}

fn answer(peer: Inet, recorded: &Connection) -> Option<(RawAddress, socklen_t)> {
    RawAddress::new(peer.form, recorded.dialled, recorded.dialled_port)
}
