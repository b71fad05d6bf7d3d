//! getpeername. The real is no cancellation point, so redhook declares this hook.
#![allow(missing_docs, static_mut_refs, clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks)]
// The lints above are about what redhook's macro expands to; our own blocks below say why they are sound.

use std::ffi::c_int;

use libc::{sockaddr, socklen_t};

use super::reals::GETPEERNAME;
use crate::core::guarded;
use crate::core::peer::Asked;

redhook::hook! {
    unsafe fn getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int => hooked {
        // SAFETY: the program's pointers, as it promises getpeername(2).
        let asked = guarded(|| unsafe { Asked::before(address, length) }).flatten();
        let outcome = match GETPEERNAME.get() {
            // SAFETY: the call as the program made it.
            Some(real) => unsafe { real(fd, address, length) },
            // SAFETY: as above.
            None => unsafe { libc::syscall(libc::SYS_getpeername, i64::from(fd), address, length) as c_int },
        };
        if let (0, Some(asked)) = (outcome, asked) {
            // SAFETY: the real call wrote through both pointers.
            guarded(|| unsafe { asked.after(fd, address, length) });
        }
        outcome
    }
}
