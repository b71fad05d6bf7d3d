//! connect: one attempt after another until an endpoint accepts.
//!
//! ```text
//! Fresh --step--> Pass: the real call as the program made it
//!            \--> Call: the real call towards `target` --step--> Done, or Call with another endpoint
//! ```
//! The hook makes the real calls; between them [`Attempt::step`] decides. A blocking connect that is refused goes on
//! with another endpoint on the same socket, which Linux allows; one that is under way or interrupted never does.
//!
//! Where there is another endpoint, a blocking attempt lasts no longer than the cluster's connect timeout. It is
//! given to the kernel as TCP_USER_TIMEOUT for the time of the call: the kernel itself gives the attempt up with
//! ETIMEDOUT (at its first retransmission at the earliest, after a second). SO_SNDTIMEO would leave the socket
//! connecting, and a program's SA_RESTART would no longer restart an interrupted connect.

use std::ffi::c_uint;

use libc::{sockaddr, socklen_t, timeval};
use log::Level;
use xds_runtime::lb::{Choice, Pick};
use xds_runtime::shm::{self, Millis, WordAddr};
use xds_runtime::state::{Connection, ConnectionState, Slot, State};

use crate::core::Errno;
use crate::core::address::{Inet, RawAddress};
use crate::core::choose::{Dial, choose, choose_first, is_outside, reachable, without_configuration};
use crate::core::grace::{self, Progress};
use crate::core::mesh::{Attached, Mesh};
use crate::core::process::{self, Context};
use crate::core::socket::Socket;
use crate::core::verdict::{Verdict, Why};

/// Endpoints that one call tries at most.
const ATTEMPTS: usize = 8;
const NOWHERE: WordAddr = WordAddr { hi: 0, lo: 0 };

/// What the hook does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The real call with the program's arguments is the answer.
    Pass,
    /// The real call with `target`; then ask again.
    Call,
    /// Return `outcome`.
    Done,
}

/// What follows a real call.
enum Next {
    /// Another real call, to this address.
    Call(RawAddress, socklen_t),
    /// The answer is the last outcome, with this errno.
    Done(Errno),
}

/// One connect of the program's.
#[repr(C)]
pub struct Attempt {
    /// Where the next real call goes.
    pub target: RawAddress,
    /// Length of `target`.
    pub length: socklen_t,
    /// What the last real call returned; in the end what the hook returns.
    pub outcome: i32,
    /// The errno to leave behind.
    pub errno: Errno,
    redirected: Option<Redirected>,
}

/// A connect that goes to an endpoint.
struct Redirected {
    mesh: Attached,
    dialled: Inet,
    cookie: u64,
    started: Millis,
    pick: Pick,
    tried: [(WordAddr, u16); ATTEMPTS],
    count: usize,
    /// SO_SNDTIMEO as the program set it, once we changed it.
    send_timeout: Option<timeval>,
    /// TCP_USER_TIMEOUT as the program set it, once we changed it.
    user_timeout: Option<c_uint>,
    /// The record of a connect under way that the program asks about again.
    under_way: Option<Connection>,
    /// The socket still holds a failed non-blocking attempt, which the next connect clears with ECONNABORTED.
    clearing: bool,
    /// errno before the call: a success leaves it so, whatever attempts failed before.
    errno_before: Errno,
}

impl Attempt {
    /// Nothing decided yet.
    pub const FRESH: Self = Self { target: RawAddress::ZERO, length: 0, outcome: -1, errno: 0, redirected: None };

    /// True once a real call was sent elsewhere: then the answer is the mesh's.
    pub const fn is_redirected(&self) -> bool {
        self.redirected.is_some()
    }

    /// Decides what comes next. `errno` is what the last real call left.
    ///
    /// # Safety
    /// `address` is implausible or points to `length` readable bytes.
    pub unsafe fn step(&mut self, fd: i32, address: *const sockaddr, length: socklen_t, errno: Errno) -> Step {
        if let Some(redirected) = &mut self.redirected {
            return match redirected.after(Socket(fd), self.outcome, errno) {
                Next::Call(target, length) => {
                    (self.target, self.length) = (target, length);
                    Step::Call
                }
                Next::Done(errno) => {
                    self.errno = if self.outcome == 0 { redirected.errno_before } else { errno };
                    Step::Done
                }
            };
        }
        let context = match process::enter() {
            Ok(context) => context,
            Err(why) => {
                why.count();
                return Step::Pass;
            }
        };
        // SAFETY: as the caller says.
        let Some(dialled) = (unsafe { Inet::read(address, length) }) else {
            Why::NotInet.count();
            return Step::Pass;
        };
        match decide(context, Socket(fd), dialled, errno) {
            Verdict::Pass(why) => {
                context.passed(why, format_args!("{}", Dial(dialled)));
                Step::Pass
            }
            Verdict::Fail(errno) => {
                context.log.line(Level::Info, format_args!("{}: refused by the mesh", Dial(dialled)));
                (self.outcome, self.errno) = (-1, errno);
                Step::Done
            }
            Verdict::Redirect(redirected) => {
                let Some((target, length)) = redirected.target() else { return Step::Pass };
                (self.target, self.length) = (target, length);
                self.redirected.insert(redirected).limit(Socket(fd));
                Step::Call
            }
        }
    }
}

fn decide(context: &'static Context, socket: Socket, dialled: Inet, errno_before: Errno) -> Verdict<Redirected, Errno> {
    if let Some(why) = is_outside(context, dialled) {
        return Verdict::Pass(why);
    }
    let started = shm::now();
    let own = context.attach(false, started).map(|pod| Attached { context, pod });
    let chosen = match &own {
        Ok(mesh) => choose_first(context, mesh, socket, dialled),
        Err(why) => Verdict::Pass(*why),
    };
    let (mesh, chosen) = match (own, chosen) {
        (_, Verdict::Pass(Why::NoRunDirectory | Why::WouldWait | Why::NoImage | Why::NoEndpointsYet))
            if let Some(former) = former(context, own, started) =>
        {
            (former, choose_first(context, &former, socket, dialled))
        }
        (Ok(mesh), chosen) => (mesh, chosen),
        (Err(why), _) => return without_configuration(context, socket, why),
    };
    let (pick, cookie) = match chosen {
        Verdict::Redirect(chosen) => chosen,
        Verdict::Pass(why @ Why::NoImage) => return without_configuration(context, socket, why),
        Verdict::Pass(why) => return Verdict::Pass(why),
        Verdict::Fail(errno) => return Verdict::Fail(errno),
    };
    let tried = [(NOWHERE, 0); ATTEMPTS];
    let under_way = mesh.state().and_then(|state| state.connection(cookie)).filter(|recorded| {
        (recorded.dialled, recorded.dialled_port) == (WordAddr::new(dialled.ip), dialled.port)
            && (recorded.state == ConnectionState::Connecting || is_connected_to(socket, recorded))
    });
    let mut redirected = Redirected {
        mesh,
        dialled,
        cookie,
        started,
        pick,
        tried,
        count: 0,
        send_timeout: None,
        user_timeout: None,
        under_way,
        clearing: false,
        errno_before,
    };
    if let Some(recorded) = under_way {
        // The kernel must hear the same address again.
        (redirected.pick.address, redirected.pick.port) = (recorded.remote, recorded.remote_port);
    } else if !redirected.count_open() {
        context.log.line(Level::Info, format_args!("{}: the cluster has all its connections", Dial(dialled)));
        return Verdict::Fail(libc::ECONNREFUSED);
    }
    Verdict::Redirect(redirected)
}

/// What this process was attached to before it changed its user (whose own leader knows too little yet) or its root
/// (which has no run directory), while somebody leads there.
fn former(context: &'static Context, own: Result<Attached, Why>, now: Millis) -> Option<Attached> {
    let pod = context.first_pod(now)?;
    let is_own = own.is_ok_and(|own| std::ptr::eq(own.pod, pod));
    (!is_own).then_some(Attached { context, pod })
}

/// A connect that is established in the kernel may still be asked about (the first connect after it answers 0, later
/// ones EISCONN); a socket that was disconnected since begins anew.
fn is_connected_to(socket: Socket, recorded: &Connection) -> bool {
    let remote = (recorded.remote, recorded.remote_port);
    socket.peer().is_some_and(|peer| (WordAddr::new(peer.ip), peer.port) == remote)
}

impl Redirected {
    fn target(&self) -> Option<(RawAddress, socklen_t)> {
        RawAddress::new(self.dialled.form, self.pick.address, self.pick.port)
    }

    /// Counts the connection in the slots of its cluster and endpoint; false = the cluster is full.
    fn count_open(&self) -> bool {
        let Some(state) = self.mesh.state() else { return true };
        let cluster = self.pick.cluster_slot.and_then(|index| state.slot(index, self.pick.cluster_tag));
        if cluster.is_some_and(|slot| !slot.open_connection(self.pick.max_connections.unwrap_or(u32::MAX))) {
            return false;
        }
        if let Some(slot) = self.pick.endpoint_slot.and_then(|index| state.slot(index, self.pick.endpoint_tag)) {
            slot.advance();
            slot.open_connection(u32::MAX);
        }
        true
    }

    /// What a real call's outcome means.
    fn after(&mut self, socket: Socket, outcome: i32, errno: Errno) -> Next {
        let now = shm::now();
        if let Some(recorded) = self.under_way {
            // Counted when it began: `outcome` only tells how far it is.
            if outcome == 0
                && let Some(state) = self.mesh.state()
            {
                state.record(self.cookie, &Connection { state: ConnectionState::Established, ..recorded }, now);
            }
            Why::Repeated.count();
            return Next::Done(errno);
        }
        if std::mem::take(&mut self.clearing)
            && errno == libc::ECONNABORTED
            && let Some((target, length)) = self.target()
        {
            return Next::Call(target, length);
        }
        let slot = self.mesh.state().and_then(|state| state.slot(self.pick.endpoint_slot?, self.pick.endpoint_tag));
        let next = match if outcome == 0 { 0 } else { errno } {
            0 => self.established(socket, slot, now),
            // Under way: the kernel goes on, and the program will ask.
            libc::EINPROGRESS => {
                let grace = grace::patience(slot, self.mesh.context.settings.connect_grace, now);
                // Worth a look only where there is somewhere else to go.
                let progress = if self.pick.alternatives { grace::look(socket, grace) } else { Progress::UnderWay };
                match progress {
                    Progress::Established => {
                        self.established(socket, slot, now);
                        Next::Done(errno)
                    }
                    Progress::UnderWay => self.under_way(socket, errno, now),
                    Progress::Failed(reason) => {
                        self.clearing = true;
                        self.failed(socket, slot, reason, now)
                    }
                }
            }
            libc::EINTR => self.under_way(socket, errno, now),
            libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ETIMEDOUT => {
                self.failed(socket, slot, errno, now)
            }
            // Not the endpoint's fault (EADDRNOTAVAIL, EISCONN, EALREADY, EBADF..): the program's to know.
            _ => {
                self.uncount();
                self.log_outcome(Level::Debug, errno);
                Next::Done(errno)
            }
        };
        if matches!(next, Next::Done(_)) {
            self.restore(socket);
        }
        next
    }

    fn established(&self, socket: Socket, slot: Option<Slot<'_>>, now: Millis) -> Next {
        if let Some(slot) = slot {
            slot.succeeded(now);
        }
        self.record(socket, ConnectionState::Established, now);
        self.log_outcome(Level::Debug, 0);
        Next::Done(0)
    }

    fn under_way(&self, socket: Socket, errno: Errno, now: Millis) -> Next {
        self.record(socket, ConnectionState::Connecting, now);
        self.log_outcome(Level::Debug, errno);
        Next::Done(errno)
    }

    /// The endpoint did not answer: another one, or the failure is the program's to know.
    fn failed(&mut self, socket: Socket, slot: Option<Slot<'_>>, errno: Errno, now: Millis) -> Next {
        if let Some(slot) = slot {
            slot.failed();
        }
        self.uncount();
        self.log_outcome(Level::Info, errno);
        match self.again(socket, now) {
            Some((target, length)) => Next::Call(target, length),
            None => Next::Done(errno),
        }
    }

    /// Another endpoint, if the bounds allow one.
    fn again(&mut self, socket: Socket, now: Millis) -> Option<(RawAddress, socklen_t)> {
        *self.tried.get_mut(self.count)? = (self.pick.address, self.pick.port);
        self.count += 1;
        if self.count >= ATTEMPTS {
            return None;
        }
        let tried = self.tried.get(..self.count)?;
        let choice = choose(self.mesh.context, &self.mesh, self.dialled, self.cookie, tried, now);
        let Ok(Choice::Endpoint(pick)) = choice else { return None };
        if tried.contains(&(pick.address, pick.port)) || !reachable(socket, self.dialled, &pick) {
            return None;
        }
        if !self.time_remains(socket, now) {
            return None;
        }
        self.pick = pick;
        if !self.count_open() {
            return None;
        }
        self.limit(socket);
        self.target()
    }

    /// Bounds the next attempt of a blocking connect by the cluster's connect timeout: the first where there is
    /// another endpoint to go to, and every one after a first that was bounded.
    fn limit(&mut self, socket: Socket) {
        let goes_on = self.user_timeout.is_some() || self.pick.alternatives && socket.is_blocking();
        let limit = self.pick.connect_timeout_ms;
        if self.under_way.is_some() || limit == 0 || !goes_on {
            return;
        }
        let Some(own) = self.user_timeout.or_else(|| socket.user_timeout()) else { return };
        let next = if own == 0 { limit } else { limit.min(own) };
        if self.user_timeout.is_some() || next != own {
            socket.set_user_timeout(next);
            self.user_timeout = Some(own);
        }
    }

    /// The socket's options as the program set them.
    fn restore(&self, socket: Socket) {
        if let Some(time) = self.send_timeout {
            socket.set_send_timeout(time);
        }
        if let Some(time) = self.user_timeout {
            socket.set_user_timeout(time);
        }
    }

    /// SO_SNDTIMEO bounds connect: what is left of it bounds the next attempt, and it is put back in the end.
    fn time_remains(&mut self, socket: Socket, now: Millis) -> bool {
        let Some(total) = self.send_timeout.or_else(|| socket.send_timeout()) else { return false };
        if total.tv_sec == 0 && total.tv_usec == 0 {
            return true;
        }
        let whole = |number: i64| Millis::try_from(number).unwrap_or(0);
        let total_ms = whole(total.tv_sec).saturating_mul(1000).saturating_add(whole(total.tv_usec) / 1000);
        let left = total_ms.saturating_sub(now.saturating_sub(self.started));
        let (Ok(seconds), Ok(rest)) = (i64::try_from(left / 1000), i64::try_from(left % 1000)) else { return false };
        if left > 0 {
            self.send_timeout = Some(total);
            socket.set_send_timeout(timeval { tv_sec: seconds, tv_usec: rest * 1000 });
        }
        left > 0
    }

    fn uncount(&self) {
        let Some(state) = self.mesh.state() else { return };
        close(state, self.pick.cluster_slot, self.pick.cluster_tag);
        close(state, self.pick.endpoint_slot, self.pick.endpoint_tag);
    }

    /// Notes the connection under its socket's cookie, with its own address for the leader's look-ups.
    fn record(&self, socket: Socket, stage: ConnectionState, now: Millis) {
        let Some(state) = self.mesh.state() else { return };
        let local = socket.local();
        let connection = Connection {
            dialled: WordAddr::new(self.dialled.ip),
            dialled_port: self.dialled.port,
            remote: self.pick.address,
            remote_port: self.pick.port,
            local: local.map_or(NOWHERE, |local| WordAddr::new(local.ip)),
            local_port: local.map_or(0, |local| local.port),
            state: stage,
            endpoint_slot: self.pick.endpoint_slot,
            cluster_slot: self.pick.cluster_slot,
            endpoint_tag: self.pick.endpoint_tag,
            cluster_tag: self.pick.cluster_tag,
            opened: now,
        };
        if let Some(gone) = state.record(self.cookie, &connection, now) {
            close(state, gone.cluster_slot, gone.cluster_tag);
            close(state, gone.endpoint_slot, gone.endpoint_tag);
        }
    }

    fn log_outcome(&self, level: Level, errno: Errno) {
        let log = &self.mesh.context.log;
        if log.takes(level) {
            let (dial, to) = (Dial(self.dialled), self.pick.address.socket(self.pick.port));
            match errno {
                0 => log.line(level, format_args!("{dial} -> {to}")),
                errno => log.line(level, format_args!("{dial} -> {to}: errno {errno}")),
            }
        }
    }
}

fn close(state: State, index: Option<u32>, tag: u64) {
    if let Some(slot) = index.and_then(|index| state.slot(index, tag)) {
        slot.close_connection();
    }
}
