//! Room in a cluster that has all its connections: whoever finds it full asks the kernel which are gone, and uncounts
//! them.
//!
//! The leader does the same for every record, but some time later (`leader/connections`). Each look is bounded, and
//! the next one of the pod goes on where it ended, so that in time every record is looked at, whoever looks. The
//! leader says in the header in which network the records' sockets are, once it has seen that the kernel tells of
//! sockets there: without inet_diag, or in another network, everything is "gone", and nobody may believe that.

use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::{AT_LOOK, AT_NETWORK, CONNECTIONS, SockDiag, State};
use crate::shm::Millis;

/// Look-ups of one look at most, 1 to 4 us each.
pub const LOOK_UPS: usize = 128;
/// So many connections that are gone are enough for one look.
const ENOUGH: usize = 16;

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(u64);

impl Network {
    /// Where the kernel does not tell (before Linux 5.14).
    pub const UNKNOWN: Self = Self(u64::MAX);

    /// The network of this cookie.
    pub const fn of_cookie(cookie: u64) -> Self {
        Self(cookie)
    }
}

/// What a look came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Connections that the kernel was asked about.
    pub asked: usize,
    /// Those that were gone and are not counted any more.
    pub freed: usize,
}

impl State {
    /// Says in which network the kernel tells about the records' sockets; `None` = it tells nothing (leader only).
    pub fn set_network(&self, network: Option<Network>) {
        if let Some(word) = self.words.cell(AT_NETWORK) {
            word.store(network.map_or(0, |Network(network)| network), Ordering::Relaxed);
        }
    }

    /// The network in which the kernel tells about the records' sockets. Without one nobody knows which connections are
    /// gone, and a count of them limits nothing.
    pub fn network(&self) -> Option<Network> {
        self.words.load(AT_NETWORK).filter(|network| *network != 0).map(Network)
    }

    /// Looks for connections of a cluster (slot and its tag) that are gone, and uncounts them.
    ///
    /// # Errors
    /// When the kernel cannot be asked: no descriptor, no permission, another network.
    #[inline(never)]
    pub fn uncount_gone(&self, cluster: (u32, u64), now: Millis) -> Result<Look, Errno> {
        let mut look = Look::default();
        let Some(network) = self.network() else { return Ok(look) };
        let Some(place) = self.words.cell(AT_LOOK) else { return Ok(look) };
        let start = place.load(Ordering::Relaxed) as usize % CONNECTIONS;
        let mut diag = None;
        for index in (start..CONNECTIONS).chain(0..start) {
            let Some((cookie, connection)) = self.connection_of(index, cluster) else { continue };
            // One that was refused is gone, too, and its failure is not counted before its program or the leader knows.
            if connection.state.is_under_way() {
                continue;
            }
            if look.asked >= LOOK_UPS || look.freed >= ENOUGH {
                place.store(index as u64, Ordering::Relaxed);
                break;
            }
            let diag = match &mut diag {
                Some(diag) => diag,
                None => diag.insert(SockDiag::open_in(network)?),
            };
            let Some(found) = diag.find_recorded(cookie, &connection) else { continue };
            look.asked += 1;
            if found?.is_over()
                && let Some(gone) = self.forget_seen(cookie, &connection, now)
            {
                gone.member().uncount(self);
                look.freed += 1;
            }
        }
        Ok(look)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::shm::WordAddr;
    use crate::state::testing::state;
    use crate::state::{Connection, ConnectionState, SlotAllocator, SlotKind, named_tag};

    /// Connections of one cluster, recorded and counted, and both ends of each.
    struct Cluster {
        state: State,
        slot: (u32, u64),
        listener: TcpListener,
        ends: Vec<(TcpStream, TcpStream)>,
    }

    impl Cluster {
        fn new(state: State, name: u64) -> Self {
            let tag = named_tag(SlotKind::Cluster, name);
            let slot = (SlotAllocator::recover(state).slot(tag).unwrap(), tag);
            Self { state, slot, listener: TcpListener::bind("127.0.0.1:0").unwrap(), ends: Vec::new() }
        }

        fn connect(&mut self, count: usize) {
            for _ in 0..count {
                let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
                let (server, _) = self.listener.accept().unwrap();
                let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
                let connection = Connection {
                    dialled: WordAddr::new("10.96.0.10".parse().unwrap()),
                    dialled_port: 80,
                    remote: WordAddr::new(remote.ip()),
                    remote_port: remote.port(),
                    local: WordAddr::new(local.ip()),
                    local_port: local.port(),
                    state: ConnectionState::Established,
                    endpoint_slot: None,
                    cluster_slot: Some(self.slot.0),
                    endpoint_tag: 0,
                    cluster_tag: self.slot.1,
                    opened: 1000,
                };
                let cookie = rustix::net::sockopt::socket_cookie(&client).unwrap();
                assert_eq!(self.state.record(cookie, &connection, 1000), None);
                assert!(connection.member().cluster(&self.state).unwrap().open_connection(u32::MAX));
                self.ends.push((client, server));
            }
        }

        fn active(&self) -> u64 {
            self.state.slot(self.slot.0, self.slot.1).unwrap().active()
        }

        fn look(&self) -> Look {
            self.state.uncount_gone(self.slot, 2000).unwrap()
        }
    }

    /// A state of a network in which the kernel tells of sockets: this one.
    fn here(slots: usize) -> State {
        let state = state(slots);
        state.set_network(Some(SockDiag::open().unwrap().network()));
        state
    }

    #[test]
    fn what_is_closed_is_uncounted_and_what_is_open_stays() {
        let mut cluster = Cluster::new(here(4), 1);
        cluster.connect(5);
        assert_eq!((cluster.look(), cluster.active()), (Look { asked: 5, freed: 0 }, 5));
        // One is closed on both sides, one only by its program.
        cluster.ends.remove(0);
        let (client, held) = cluster.ends.remove(0);
        drop(client);
        assert_eq!((cluster.look(), cluster.active()), (Look { asked: 5, freed: 2 }, 3));
        assert_eq!((cluster.look(), cluster.active()), (Look { asked: 3, freed: 0 }, 3));
        drop(held);
    }

    #[test]
    fn another_clusters_connections_are_not_asked_about() {
        let state = here(4);
        let (mut one, mut other) = (Cluster::new(state, 1), Cluster::new(state, 2));
        one.connect(3);
        other.connect(2);
        one.ends.clear();
        other.ends.clear();
        assert_eq!((one.look(), one.active(), other.active()), (Look { asked: 3, freed: 3 }, 0, 2));
    }

    #[test]
    fn a_look_stops_when_it_freed_enough() {
        let mut cluster = Cluster::new(here(4), 1);
        cluster.connect(ENOUGH + 3);
        cluster.ends.clear();
        assert_eq!((cluster.look(), cluster.active()), (Look { asked: ENOUGH, freed: ENOUGH }, 3));
        assert_eq!((cluster.look(), cluster.active()), (Look { asked: 3, freed: 3 }, 0));
    }

    #[test]
    fn the_next_look_goes_on_where_the_last_one_ended() {
        let mut cluster = Cluster::new(here(4), 1);
        cluster.connect(2 * LOOK_UPS + 10);
        // One that is gone, wherever it lies, is found by the third look at the latest.
        for _ in 0..3 {
            cluster.ends.pop();
            let looks: Vec<Look> = (0..3).map(|_| cluster.look()).collect();
            assert!(looks.iter().all(|look| look.asked == LOOK_UPS), "{looks:?}");
            assert_eq!(looks.iter().map(|look| look.freed).sum::<usize>(), 1, "{looks:?}");
        }
    }

    #[test]
    fn nobody_looks_in_another_network_or_where_no_leader_saw_that_the_kernel_tells() {
        let mut cluster = Cluster::new(state(4), 1);
        cluster.connect(1);
        cluster.ends.clear();
        assert_eq!(cluster.look(), Look::default());
        cluster.state.set_network(Some(Network::of_cookie(u64::MAX - 1)));
        assert_eq!(cluster.state.uncount_gone(cluster.slot, 2000), Err(Errno::XDEV));
        assert_eq!(cluster.active(), 1);
        cluster.state.set_network(Some(Network::UNKNOWN));
        assert_eq!((cluster.look(), cluster.active()), (Look { asked: 1, freed: 1 }, 0));
    }
}
