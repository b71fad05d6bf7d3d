//! A cluster's TCP keepalive on the socket of a redirected connect.
//!
//! Set before the connect, as Envoy does, unless the program already keeps the socket alive in its own way; what it
//! sets afterwards counts anyway. A connect that fails for good leaves the options as they were.

use std::ffi::c_int;

use libc::{IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL};
use xds_runtime::image::Keepalive;

use crate::core::socket::Socket;

/// What the options were before; `None` = not changed.
#[derive(Clone, Copy)]
pub struct Former([Option<c_int>; 3]);

const OPTIONS: [c_int; 3] = [TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL];

/// Keeps a socket alive; `None` = it is left as it is.
#[inline(never)]
pub fn keep(socket: Socket, settings: Keepalive) -> Option<Former> {
    let program_keeps = socket.option(SOL_SOCKET, SO_KEEPALIVE, 0_i32)? != 0;
    if program_keeps {
        return None;
    }
    let wanted = [settings.probes.map(c_int::from), settings.idle.map(c_int::from), settings.interval.map(c_int::from)];
    let mut former = Former([None; 3]);
    for ((option, wanted), former) in OPTIONS.into_iter().zip(wanted).zip(&mut former.0) {
        if let Some(wanted) = wanted {
            *former = socket.option(IPPROTO_TCP, option, 0_i32);
            socket.set_option(IPPROTO_TCP, option, &wanted);
        }
    }
    socket.set_option(SOL_SOCKET, SO_KEEPALIVE, &1_i32);
    Some(former)
}

/// Undoes [`keep`].
#[inline(never)]
pub fn restore(socket: Socket, former: Former) {
    socket.set_option(SOL_SOCKET, SO_KEEPALIVE, &0_i32);
    for (option, former) in OPTIONS.into_iter().zip(former.0) {
        if let Some(former) = former {
            socket.set_option(IPPROTO_TCP, option, &former);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn options(socket: Socket) -> (bool, [Option<c_int>; 3]) {
        let keeps = socket.option(SOL_SOCKET, SO_KEEPALIVE, 0_i32) == Some(1);
        (keeps, OPTIONS.map(|option| socket.option(IPPROTO_TCP, option, 0_i32)))
    }

    #[test]
    fn what_the_cluster_says_is_set_and_undone_and_a_program_that_keeps_alive_itself_is_left_alone() {
        let fd = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Socket::of(fd.as_raw_fd());
        let (_, before) = options(socket);
        let settings = Keepalive { probes: Some(5), idle: Some(600), interval: None };
        let former = keep(socket, settings).unwrap();
        assert_eq!(options(socket), (true, [Some(5), Some(600), before[2]]));
        assert!(keep(socket, settings).is_none(), "it is kept alive already");
        restore(socket, former);
        assert_eq!(options(socket), (false, before));
    }
}
