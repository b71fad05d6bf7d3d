//! Looking after connection records: the kernel says which are gone, the counters follow.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::outliers::{Outliers, connect_timeout};
use crate::image::Mesh;
use crate::shm::Millis;
use crate::state::{Connection, ConnectionState, Found, Network, SockDiag, State};

/// A record whose local port nobody told is dropped after this long.
const UNKNOWN_LOCAL_MS: Millis = 10_000;
/// A record that the kernel cannot be asked about is dropped after this long.
const UNCHECKED_MS: Millis = 600_000;
/// Established connections that one pass looks up, 1 to 4 us each; the next pass goes on. Where more come in a second,
/// the oldest records give way to them anyhow.
const LOOK_UPS: usize = 2048;

/// What to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Nothing.
    Keep,
    /// The connection was established meanwhile.
    Establish,
    /// It is still under way, for longer than its cluster lets it.
    Fail,
    /// The connection is gone.
    Drop,
}

/// What a look at the kernel means for a record; `found` is `None` where the kernel did not tell (`may_ask`: it mostly
/// does), `timeout` the cluster's connect timeout.
///
/// What was under way and is gone failed, was given up, or was established and closed since the last look: nobody can
/// tell, and it counts as neither.
pub fn care(
    connection: &Connection,
    found: Option<Found>,
    may_ask: bool,
    timeout: Option<Millis>,
    now: Millis,
) -> Care {
    let age = now.saturating_sub(connection.opened);
    match (found, connection.state) {
        (Some(found), _) if found.is_over() => Care::Drop,
        (Some(Found::Open), state) if state.is_under_way() => Care::Establish,
        (Some(Found::Connecting), ConnectionState::Connecting) if timeout.is_some_and(|timeout| age >= timeout) => {
            Care::Fail
        }
        (Some(_), _) => Care::Keep,
        (None, _) if connection.local_port == 0 && age > UNKNOWN_LOCAL_MS => Care::Drop,
        (None, _) if !may_ask && age > UNCHECKED_MS => Care::Drop,
        (None, _) => Care::Keep,
    }
}

/// Checks records, and keeps the slots' connection counts true to them.
pub struct Caretaker {
    /// The kernel's socket, and the network that it tells about.
    kernel: Option<(SockDiag, Network)>,
    /// Established connections, in table order, before the first that the next pass looks up.
    passed: usize,
    /// Slots whose count differed from the records at the last pass: (count, records).
    differed: HashMap<u32, (u64, u64)>,
}

impl Caretaker {
    /// Opens the kernel's socket. Where it cannot be asked (no netlink, no inet_diag), nobody knows which connections
    /// are gone: no limit of connections is enforced, and records live for ten minutes.
    pub fn new() -> Self {
        let opened =
            SockDiag::open().map_err(|error| error.to_string()).and_then(|mut diag| match network_of(&mut diag) {
                Some(network) => Ok((diag, network)),
                None => Err("it knows no socket of this network".to_owned()),
            });
        let kernel = opened
            .inspect_err(|error| log::warn!("no sock_diag: {error}; limits of connections are not enforced"))
            .ok();
        Self { kernel, passed: 0, differed: HashMap::new() }
    }

    /// Tells the pod's processes whether they may ask the kernel, too, and where.
    pub fn tell(&self, state: State) {
        state.set_network(self.kernel.as_ref().map(|(_, network)| *network));
    }

    /// Looks up every connect that is under way and [`LOOK_UPS`] established connections, in turns. Returns how many
    /// live on. A connect that lasts for longer than its cluster's connect timeout is a failure, counted once, whatever
    /// becomes of it. `go_on` is called between some of them.
    pub fn check(
        &mut self,
        state: State,
        mesh: &Mesh,
        outliers: &mut Outliers,
        now: Millis,
        go_on: &mut dyn FnMut(),
    ) -> usize {
        const IN_ONE_GO: usize = 256;
        self.tell(state);
        let (mut live, mut asked, mut established, mut dropped) = (0, 0, 0, 0);
        let turn = self.passed..self.passed + LOOK_UPS;
        for (cookie, connection) in state.connections() {
            if !connection.state.is_under_way() {
                established += 1;
                if !turn.contains(&(established - 1)) {
                    live += 1;
                    continue;
                }
            }
            asked += 1;
            if asked % IN_ONE_GO == 0 {
                go_on();
            }
            let found = self.find(cookie, &connection);
            let timeout = match found {
                Some(Found::Connecting) => connect_timeout(mesh, state, &connection),
                _ => None,
            };
            match care(&connection, found, self.kernel.is_some(), timeout, now) {
                Care::Keep => live += 1,
                Care::Establish => {
                    live += 1;
                    if state.establish(cookie, &connection)
                        && connection.state == ConnectionState::Connecting
                        && let Some(slot) = connection.member().endpoint(&state)
                    {
                        slot.succeeded(now);
                    }
                }
                Care::Fail => {
                    live += 1;
                    if state.overdue(cookie, &connection) {
                        let ejected = outliers.failed(mesh, state, &connection.member(), now);
                        let endpoint = connection.remote.socket(connection.remote_port);
                        match ejected {
                            Some(ejected) => log::info!("{endpoint} hangs, and is ejected: {}", ejected.detector),
                            None => log::debug!("{endpoint} hangs"),
                        }
                    }
                }
                Care::Drop => {
                    if let Some(gone) = state.forget_seen(cookie, &connection, now) {
                        gone.member().uncount(&state);
                        dropped += usize::from(!connection.state.is_under_way());
                    }
                }
            }
        }
        // Those that were dropped stand before nobody any more.
        self.passed = if turn.end < established { turn.end - dropped } else { 0 };
        live
    }

    fn find(&mut self, cookie: u64, connection: &Connection) -> Option<Found> {
        let (diag, _) = self.kernel.as_mut()?;
        let found = diag.find_recorded(cookie, connection)?;
        found.inspect_err(|error| log::debug!("sock_diag: {error}")).ok()
    }

    /// Corrects counts that a process which died between counting and recording left wrong. A count is touched only
    /// when it differed from the records by the same numbers at the last pass, seconds ago: a process is never that
    /// long between the two.
    pub fn reconcile(&mut self, state: State) {
        let mut recorded: HashMap<u32, u64> = HashMap::new();
        for (_, connection) in state.connections() {
            for (slot, tag) in slots_of(&connection) {
                if state.slot(slot, tag).is_some() {
                    *recorded.entry(slot).or_default() += 1;
                }
            }
        }
        let mut differed = HashMap::new();
        for index in 0..u32::try_from(state.mapped_slots()).unwrap_or(u32::MAX) {
            let Some(slot) = state.slot_at(index).filter(|slot| slot.tag() != 0) else { continue };
            let (active, records) = (slot.active(), recorded.get(&index).copied().unwrap_or(0));
            if active == records {
                continue;
            }
            if self.differed.get(&index) == Some(&(active, records)) {
                slot.correct_active(active, records);
            } else {
                differed.insert(index, (active, records));
            }
        }
        self.differed = differed;
    }
}

impl Default for Caretaker {
    fn default() -> Self {
        Self::new()
    }
}

/// The network that look-ups tell about, if they do: without inet_diag the kernel says of every socket that there is
/// none.
fn network_of(diag: &mut SockDiag) -> Option<Network> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let (local, nobody) = (listener.local_addr().ok()?, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
    let cookie = rustix::net::sockopt::socket_cookie(&listener).ok()?;
    (diag.find(local, nobody, cookie) == Ok(Found::Listening)).then(|| diag.network())
}

fn slots_of(connection: &Connection) -> impl Iterator<Item = (u32, u64)> {
    let endpoint = connection.endpoint_slot.map(|slot| (slot, connection.endpoint_tag));
    let cluster = connection.cluster_slot.map(|slot| (slot, connection.cluster_tag));
    endpoint.into_iter().chain(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::WordAddr;
    use crate::state::testing::state;
    use crate::state::{SlotAllocator, SlotKind, named_tag};
    use std::net::{TcpListener, TcpStream};

    fn fixture() -> (State, u32, u64) {
        let state = state(4);
        let tag = named_tag(SlotKind::Cluster, 7);
        let slot = SlotAllocator::recover(state).slot(tag).unwrap();
        (state, slot, tag)
    }

    fn record(state: State, socket: &TcpStream, phase: ConnectionState, slot: u32, tag: u64) -> u64 {
        let (local, remote) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
        let connection = Connection {
            dialled: WordAddr::new("10.96.0.10".parse().unwrap()),
            dialled_port: 80,
            remote: WordAddr::new(remote.ip()),
            remote_port: remote.port(),
            local: WordAddr::new(local.ip()),
            local_port: local.port(),
            state: phase,
            endpoint_slot: Some(slot),
            cluster_slot: None,
            endpoint_tag: tag,
            cluster_tag: 0,
            opened: 1000,
        };
        assert!(state.slot(slot, tag).unwrap().open_connection(100));
        let cookie = rustix::net::sockopt::socket_cookie(socket).unwrap();
        state.record(cookie, &connection, 1000);
        cookie
    }

    #[test]
    fn a_closed_connection_is_uncounted_and_an_open_one_kept() {
        let (state, slot, tag) = fixture();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let [kept, closed] = [0, 1].map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let kept_cookie = record(state, &kept, ConnectionState::Established, slot, tag);
        record(state, &closed, ConnectionState::Established, slot, tag);
        let mut servers = vec![listener.accept().unwrap().0, listener.accept().unwrap().0];
        let peer = closed.local_addr().unwrap();
        servers.retain(|server| server.peer_addr().unwrap() != peer);
        drop(closed);
        let mut caretaker = Caretaker::new();
        assert_eq!(caretaker.check(state, &Mesh::default(), &mut Outliers::new(1), 2000, &mut || ()), 1);
        assert!(state.connection(kept_cookie).is_some());
        assert_eq!(state.slot(slot, tag).unwrap().active(), 1);
    }

    #[test]
    fn a_connecting_record_becomes_established_once() {
        let (state, slot, tag) = fixture();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let cookie = record(state, &socket, ConnectionState::Connecting, slot, tag);
        let mut caretaker = Caretaker::new();
        assert_eq!(caretaker.check(state, &Mesh::default(), &mut Outliers::new(1), 2000, &mut || ()), 1);
        assert_eq!(caretaker.check(state, &Mesh::default(), &mut Outliers::new(1), 3000, &mut || ()), 1);
        assert_eq!(state.connection(cookie).unwrap().state, ConnectionState::Established);
        assert_eq!(state.slot(slot, tag).unwrap().last_success(), 2000);
    }

    #[test]
    fn of_very_many_connections_each_pass_looks_some_up_until_all_had_their_turn() {
        const MANY: usize = 2 * LOOK_UPS + 10;
        let (state, slot, tag) = fixture();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let kept = record(state, &socket, ConnectionState::Established, slot, tag);
        let gone = Connection { local_port: 1, ..state.connection(kept).unwrap() };
        // A full bucket lets its oldest go, which is not what this is about.
        let mut cookies = (kept + 1..).filter(|cookie| state.record(*cookie, &gone, 1000).is_none());
        let last = cookies.by_ref().nth(MANY).unwrap();
        let connecting = Connection { state: ConnectionState::Connecting, ..gone };
        state.record(last + 1, &connecting, 1000);
        let before = state.connections().count();
        let mut caretaker = Caretaker::new();
        let mut pass = || caretaker.check(state, &Mesh::default(), &mut Outliers::new(1), 2000, &mut || ());
        assert!(pass().abs_diff(before - LOOK_UPS) <= 1);
        assert!(state.connection(last + 1).is_none(), "who is under way does not wait for a turn");
        assert!(pass().abs_diff(before - 2 * LOOK_UPS) <= 1);
        let live = [pass(), pass()];
        assert_eq!(live, [1, 1], "the one that is there");
        assert!(state.connection(kept).is_some());
    }

    #[test]
    fn a_record_without_local_port_is_dropped_after_ten_seconds() {
        let (state, slot, tag) = fixture();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let cookie = record(state, &socket, ConnectionState::Established, slot, tag);
        let unknown = Connection { local_port: 0, ..state.connection(cookie).unwrap() };
        assert_eq!(care(&unknown, None, true, None, 1000 + UNKNOWN_LOCAL_MS), Care::Keep);
        assert_eq!(care(&unknown, None, true, None, 1001 + UNKNOWN_LOCAL_MS), Care::Drop);
    }

    #[test]
    fn where_the_kernel_cannot_be_asked_nothing_is_taken_for_gone_and_no_limit_is_told() {
        let (state, slot, tag) = fixture();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let cookie = record(state, &socket, ConnectionState::Established, slot, tag);
        Caretaker::new().tell(state);
        assert!(state.network().is_some());
        let mut caretaker = Caretaker { kernel: None, ..Caretaker::new() };
        let mut check = |now| caretaker.check(state, &Mesh::default(), &mut Outliers::new(1), now, &mut || ());
        assert_eq!((check(1000 + UNCHECKED_MS), state.connection(cookie).is_some()), (1, true));
        assert_eq!(state.network(), None, "whoever finds the cluster full cannot ask either");
        let record = state.connection(cookie).unwrap();
        assert_eq!(care(&record, None, true, None, 1001 + UNCHECKED_MS), Care::Keep, "it did not tell just now");
        assert_eq!((check(1001 + UNCHECKED_MS), state.connection(cookie)), (0, None));
    }

    #[test]
    fn a_count_that_nobody_records_is_corrected_at_the_second_pass() {
        let (state, slot, tag) = fixture();
        let counted = state.slot(slot, tag).unwrap();
        assert!(counted.open_connection(9));
        let mut caretaker = Caretaker::new();
        caretaker.reconcile(state);
        assert_eq!(counted.active(), 1, "a process may be between counting and recording");
        caretaker.reconcile(state);
        assert_eq!(counted.active(), 0);
    }

    #[test]
    fn a_count_that_moves_is_left_alone() {
        let (state, slot, tag) = fixture();
        let counted = state.slot(slot, tag).unwrap();
        let mut caretaker = Caretaker::new();
        for live in 1..5 {
            assert!(counted.open_connection(9));
            caretaker.reconcile(state);
            assert_eq!(counted.active(), live);
        }
    }
}
