//! Exact kernel look-ups of TCP sockets: is the connection of a record still there, and in which state?
//!
//! One request per socket by its four-tuple and cookie (sock_diag(7), `inet_diag_req_v2`): 1 to 4 us. Never a dump,
//! which walks the whole node's hash table. The leader asks, and so does a hook in a program's thread: nothing here
//! allocates, blocks or is a cancellation point, and beside the socket's making it is `read` and `write`, which every
//! filter of system calls lets a client do.

use std::net::{IpAddr, SocketAddr};

use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};

use crate::shm::Descriptor;
use crate::state::{Connection, Network};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
/// `idiag_inode` of `struct inet_diag_msg`, its last word.
const INODE: usize = HEADER + 68;
/// What is read of an answer; attributes follow.
const ANSWER: usize = INODE + 4;

/// What the kernel says of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Established, or on its way out with a program still holding it.
    Open,
    /// SYN sent.
    Connecting,
    /// Its SYN leaves with the first write (TCP_FASTOPEN_CONNECT): nobody is asked anything yet.
    Deferred,
    /// It takes connections.
    Listening,
    /// Gone, or nobody holds it any more: its TIME_WAIT, or an end that the peer has not answered with its own.
    Gone,
}

/// A sock_diag socket.
pub struct SockDiag {
    socket: Descriptor,
    sequence: u32,
}

impl SockDiag {
    /// Opens it.
    ///
    /// # Errors
    /// What socket(2) said; under some seccomp profiles there is none.
    pub fn open() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
        Ok(Self { socket: socket.into(), sequence: 0 })
    }

    /// Opens it in this network, as far as the kernel tells.
    ///
    /// # Errors
    /// As [`Self::open`]; `XDEV` in another network.
    pub fn open_in(network: Network) -> Result<Self, Errno> {
        let diag = Self::open()?;
        if network == Network::UNKNOWN || diag.network() == network { Ok(diag) } else { Err(Errno::XDEV) }
    }

    /// The network that it asks in.
    pub fn network(&self) -> Network {
        self.socket.network().map_or(Network::UNKNOWN, Network::of_cookie)
    }

    /// Looks up the connection of a record; `None` when the kernel cannot be asked, as its own port is not known.
    pub fn find_recorded(&mut self, cookie: u64, recorded: &Connection) -> Option<Result<Found, Errno>> {
        let local = recorded.local.socket(recorded.local_port);
        let remote = recorded.remote.socket(recorded.remote_port);
        (recorded.local_port != 0).then(|| self.find(local, remote, cookie))
    }

    /// Looks one socket up.
    ///
    /// # Errors
    /// When the kernel does not answer the question (no permission). Without inet_diag it says that there is none.
    pub fn find(&mut self, local: SocketAddr, remote: SocketAddr, cookie: u64) -> Result<Found, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(self.sequence, local, remote, cookie).ok_or(Errno::AFNOSUPPORT)?;
        write(&self.socket, &request)?;
        // A longer message loses its end.
        let mut buffer = [0_u8; ANSWER];
        // The kernel answers an exact look-up before write returns; what is older than it is dropped.
        for _ in 0..8 {
            let length = read(&self.socket, &mut buffer)?;
            if let Some(answer) = buffer.get(..length).and_then(|bytes| answer(bytes, self.sequence)) {
                return answer;
            }
        }
        Err(Errno::PROTO)
    }
}

/// The request, in netlink's layout: header, family, protocol, states, then the socket's id.
fn request(sequence: u32, local: SocketAddr, remote: SocketAddr, cookie: u64) -> Option<[u8; REQUEST]> {
    let (family, from, to) = match (local.ip().to_canonical(), remote.ip().to_canonical()) {
        (from @ IpAddr::V4(_), to @ IpAddr::V4(_)) => (libc::AF_INET, from, to),
        (from @ IpAddr::V6(_), to @ IpAddr::V6(_)) => (libc::AF_INET6, from, to),
        _ => return None,
    };
    let (from, to) = (address(from), address(to));
    let parts: [&[u8]; 14] = [
        &(REQUEST as u32).to_ne_bytes(),
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &NLM_F_REQUEST.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &[0; 4],
        &[u8::try_from(family).ok()?, IPPROTO_TCP, 0, 0],
        &u32::MAX.to_ne_bytes(),
        &local.port().to_be_bytes(),
        &remote.port().to_be_bytes(),
        &from,
        &to,
        &[0; 4],
        &(cookie as u32).to_ne_bytes(),
        &((cookie >> 32) as u32).to_ne_bytes(),
    ];
    let mut out = [0; REQUEST];
    let mut bytes = parts.iter().copied().flatten();
    for (to, from) in out.iter_mut().zip(&mut bytes) {
        *to = *from;
    }
    Some(out)
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => {
            let mut padded = [0; 16];
            for (to, from) in padded.iter_mut().zip(v4.octets()) {
                *to = from;
            }
            padded
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Reads one message; `None` when it answers an older question.
fn answer(bytes: &[u8], sequence: u32) -> Option<Result<Found, Errno>> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let kind = bytes.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
    if word(8)? != sequence {
        return None;
    }
    if kind == NLMSG_ERROR {
        // 0 is an acknowledgement, which was not asked for.
        let number = (word(HEADER)? as i32).checked_neg().filter(|number| (1..4096).contains(number))?;
        let error = Errno::from_raw_os_error(number);
        // ESTALE: the four-tuple belongs to another socket by now.
        return Some(if matches!(error, Errno::NOENT | Errno::STALE) { Ok(Found::Gone) } else { Err(error) });
    }
    // Without an inode no descriptor is left: the kernel says goodbye on its own.
    let is_held = word(INODE)? != 0;
    // tcp_states.h
    Some(match bytes.get(HEADER + 1)? {
        _ if !is_held => Ok(Found::Gone),
        // A SYN that was sent has a timer running.
        2 if bytes.get(HEADER + 2) == Some(&0) => Ok(Found::Deferred),
        2 | 3 => Ok(Found::Connecting),
        10 => Ok(Found::Listening),
        6 | 7 | 12 => Ok(Found::Gone),
        _ => Ok(Found::Open),
    })
}

impl Found {
    /// True when the socket is no connection of anybody's any more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Gone | Self::Listening)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn cookie(socket: &TcpStream) -> u64 {
        rustix::net::sockopt::socket_cookie(socket).unwrap()
    }

    #[track_caller]
    fn check_life(listen: &str) {
        let listener = TcpListener::bind(listen).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (local, remote, cookie) = (client.local_addr().unwrap(), client.peer_addr().unwrap(), cookie(&client));
        let mut diag = SockDiag::open().unwrap();
        assert_eq!(diag.find(local, remote, cookie), Ok(Found::Open));
        assert_eq!(diag.find(local, remote, cookie + 1), Ok(Found::Gone), "another socket of the same tuple");
        drop(server);
        drop(client);
        assert_eq!(diag.find(local, remote, cookie), Ok(Found::Gone));
    }

    #[test]
    fn a_connect_whose_syn_has_not_left_is_no_connect_that_hangs() {
        let told = |state: u8, timer: u8| {
            let mut message = [0; 200];
            message[8] = 7;
            (message[HEADER + 1], message[HEADER + 2], message[INODE]) = (state, timer, 1);
            answer(&message, 7)
        };
        assert_eq!(told(2, 0), Some(Ok(Found::Deferred)));
        assert_eq!(told(2, 1), Some(Ok(Found::Connecting)));
        assert_eq!(told(1, 0), Some(Ok(Found::Open)));
    }

    #[test]
    fn an_open_connection_is_found_and_a_closed_one_is_gone() {
        check_life("127.0.0.1:0");
    }

    #[test]
    fn a_connection_that_only_the_peer_still_holds_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (local, remote, cookie) = (client.local_addr().unwrap(), client.peer_addr().unwrap(), cookie(&client));
        let mut diag = SockDiag::open().unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(diag.find(local, remote, cookie), Ok(Found::Open), "the program may still read");
        drop(client);
        assert_eq!(diag.find(local, remote, cookie), Ok(Found::Gone));
        drop(server);
    }

    #[test]
    fn a_v6_connection_is_found() {
        if TcpListener::bind("[::1]:0").is_err() {
            eprintln!("SKIPPED: no IPv6 on loopback");
            return;
        }
        check_life("[::1]:0");
    }

    #[test]
    fn a_message_that_is_cut_short_answers_nothing() {
        for length in 0..HEADER + 1 {
            assert_eq!(answer(&vec![0; length], 0), None);
        }
    }
}
