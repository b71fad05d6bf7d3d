//! connect, and a send that connects (MSG_FASTOPEN): one attempt after another until an endpoint accepts.
//!
//! ```text
//! Fresh --step--> Pass: the real call as the program made it
//!            \--> Call: the real call towards `target` --step--> Done, or Call with another endpoint
//! ```
//! The hook makes the real calls; between them [`Attempt::step`] decides. A blocking connect that is refused goes on
//! with another endpoint on the same socket, which Linux allows; one that is under way or interrupted never does.
//!
//! With TCP Fast Open the SYN carries data. An endpoint that refuses took none of it, so another one may get it; after
//! any other failure nobody knows, and the program is told. A success that left before the endpoint answered (a
//! non-blocking send, or a connect whose SYN leaves with the first write) is a connect under way.
//!
//! Where there is another endpoint, a blocking attempt lasts no longer than the cluster's connect timeout. It is
//! given to the kernel as TCP_USER_TIMEOUT for the time of the call: the kernel itself gives the attempt up with
//! ETIMEDOUT (at its first retransmission at the earliest, after a second). SO_SNDTIMEO would leave the socket
//! connecting, and a program's SA_RESTART would no longer restart an interrupted connect.

use std::ffi::c_int;

use libc::{sockaddr, socklen_t, timeval};
use log::Level;
use xds_runtime::lb::{Choice, Pick};
use xds_runtime::outlier::Ejected;
use xds_runtime::shm::{self, Millis, WordAddr};
use xds_runtime::state::{Connection, ConnectionState, Slot};

use crate::core::Errno;
use crate::core::address::{self, Form, Inet, RawAddress};
use crate::core::choose::{Dial, Identity, choose, choose_first, is_outside, reachable, without_configuration};
use crate::core::failure;
use crate::core::grace::{self, Progress};
use crate::core::keepalive;
use crate::core::mesh::{Attached, Mesh};
use crate::core::outcome::{self, Outcome};
use crate::core::process::{self, Context};
use crate::core::room;
use crate::core::socket::{Socket, milliseconds};
use crate::core::verdict::{Refusal, Verdict, Why};
use crate::memory;

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
    pub outcome: isize,
    /// The errno to leave behind.
    pub errno: Errno,
    /// The flags of a send.
    flags: c_int,
    redirected: Option<Redirected>,
}

/// A connect that goes to an endpoint.
struct Redirected {
    mesh: Attached,
    dialled: Inet,
    identity: Identity,
    /// A send that connects.
    sends: bool,
    started: Millis,
    pick: Pick,
    tried: [(WordAddr, u16); ATTEMPTS],
    count: usize,
    /// SO_SNDTIMEO as the program set it, once we changed it.
    send_timeout: Option<timeval>,
    /// TCP_USER_TIMEOUT was changed.
    limited: bool,
    /// The keepalive options before the cluster's were set.
    former_keepalive: Option<keepalive::Former>,
    /// The program asks about a connect that is recorded already.
    under_way: bool,
    /// The socket still holds a failed non-blocking attempt, which the next connect clears with ECONNABORTED.
    clearing: bool,
    /// errno before the call: a success leaves it so, whatever attempts failed before.
    errno_before: Errno,
}

impl Attempt {
    /// A connect of which nothing is decided yet.
    #[inline(always)]
    pub const fn connect() -> Self {
        Self::send(0)
    }

    /// A send that connects (MSG_FASTOPEN is among its flags). Not a constant, which would be copied whole, with all the
    /// room that only a redirected call needs.
    #[inline(always)]
    pub const fn send(flags: c_int) -> Self {
        Self { target: RawAddress::ZERO, length: 0, outcome: -1, errno: 0, flags, redirected: None }
    }

    /// True once a real call was sent elsewhere: then the answer is the mesh's.
    pub const fn is_redirected(&self) -> bool {
        self.length != 0
    }

    /// Decides what comes next. `errno` is what the last real call left.
    ///
    /// # Safety
    /// `address` is implausible or points to `length` readable bytes.
    pub unsafe fn step(&mut self, fd: c_int, address: *const sockaddr, length: socklen_t, errno: Errno) -> Step {
        let socket = Socket { fd, dont_wait: self.flags & libc::MSG_DONTWAIT != 0 };
        if self.is_redirected() {
            return memory::without_malloc(|| self.after(socket, errno));
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
            // SAFETY: as above. A send cannot take a connection away.
            if self.flags == 0 && unsafe { address::is_unspecified(address, length) } {
                memory::without_malloc(|| outcome::disconnected(context, socket));
            }
            Why::NotInet.count();
            return Step::Pass;
        };
        if let Some(why) = is_outside(context, dialled) {
            context.passed(why, format_args!("{}", Dial(dialled)));
            return Step::Pass;
        }
        memory::without_malloc(|| self.first(context, socket, dialled, errno))
    }

    // Not inlined, like the other steps of a decision: their frames lie on a stack that may be small, and a call that
    // passes needs none of them.
    #[inline(never)]
    fn first(&mut self, context: &'static Context, socket: Socket, dialled: Inet, errno: Errno) -> Step {
        let sends = self.flags & libc::MSG_FASTOPEN != 0;
        match decide(context, socket, dialled, sends, errno, &mut self.redirected) {
            Verdict::Pass(why) => {
                context.passed(why, format_args!("{}", Dial(dialled)));
                Step::Pass
            }
            Verdict::Fail(refusal) => {
                context.refused(refusal, format_args!("{}", Dial(dialled)));
                (self.outcome, self.errno) = (-1, refusal.errno());
                Step::Done
            }
            Verdict::Redirect((target, length)) => {
                (self.target, self.length) = (target, length);
                Step::Call
            }
        }
    }

    #[inline(never)]
    fn after(&mut self, socket: Socket, errno: Errno) -> Step {
        let Some(redirected) = &mut self.redirected else { return Step::Pass };
        match redirected.after(socket, self.outcome, errno) {
            Next::Call(target, length) => {
                (self.target, self.length) = (target, length);
                Step::Call
            }
            Next::Done(errno) => {
                self.errno = if self.outcome >= 0 { redirected.errno_before } else { errno };
                Step::Done
            }
        }
    }
}

/// Where the first real call goes; what is known of the connect then stands in `place`.
#[inline(never)]
fn decide(
    context: &'static Context,
    socket: Socket,
    dialled: Inet,
    sends: bool,
    errno_before: Errno,
    place: &mut Option<Redirected>,
) -> Verdict<(RawAddress, socklen_t), Refusal> {
    let own = context.attach(false).map(|pod| Attached { context, pod });
    let chosen = match &own {
        Ok(mesh) => choose_first(context, mesh, socket, dialled),
        Err(why) => Verdict::Pass(*why),
    };
    let (mesh, chosen) = match (own, chosen) {
        (_, Verdict::Pass(Why::NoRunDirectory | Why::WouldWait | Why::NoImage | Why::NoEndpointsYet))
            if let Some(former) = former(context, own, shm::now()) =>
        {
            (former, choose_first(context, &former, socket, dialled))
        }
        (Ok(mesh), chosen) => (mesh, chosen),
        (Err(why), _) => return without_configuration(context, socket, why),
    };
    let (pick, identity) = match chosen {
        Verdict::Redirect(chosen) => chosen,
        Verdict::Pass(why @ Why::NoImage) => return without_configuration(context, socket, why),
        Verdict::Pass(why) => return Verdict::Pass(why),
        Verdict::Fail(refusal) => return Verdict::Fail(refusal),
    };
    let Some(first) = RawAddress::new(dialled.form, pick.address, pick.port) else {
        return Verdict::Pass(Why::OtherFamily);
    };
    let redirected = place.insert(Redirected {
        mesh,
        dialled,
        identity,
        sends,
        started: identity.asked,
        pick,
        tried: [(NOWHERE, 0); ATTEMPTS],
        count: 0,
        send_timeout: None,
        limited: false,
        former_keepalive: None,
        under_way: identity.recorded,
        clearing: false,
        errno_before,
    });
    if identity.recorded {
        // The kernel must hear the same address again.
        return Verdict::Redirect(first);
    }
    if !redirected.count_open() {
        *place = None;
        return Verdict::Fail(Refusal::MaxConnections);
    }
    redirected.limit(socket);
    redirected.keep_alive(socket);
    Verdict::Redirect(first)
}

/// What this process was attached to before it changed its user (whose own leader knows too little yet) or its root
/// (which has no run directory), while somebody leads there.
fn former(context: &'static Context, own: Result<Attached, Why>, now: Millis) -> Option<Attached> {
    let pod = context.first_pod(now)?;
    let is_own = own.is_ok_and(|own| std::ptr::eq(own.pod, pod));
    (!is_own).then_some(Attached { context, pod })
}

impl Redirected {
    fn target(&self) -> Option<(RawAddress, socklen_t)> {
        RawAddress::new(self.dialled.form, self.pick.address, self.pick.port)
    }

    /// Counts the connection in the slots of its cluster and endpoint; false = the cluster is full.
    fn count_open(&self) -> bool {
        let Some(state) = self.mesh.state() else { return true };
        let limit = self.pick.max_connections.filter(|_| state.network().is_some()).unwrap_or(u32::MAX);
        let cluster = self.pick.cluster_slot.map(|index| (index, self.pick.cluster_tag));
        if let Some((index, tag)) = cluster
            && let Some(slot) = state.slot(index, tag)
            && !slot.open_connection(limit)
            && !room::make(state, slot, (index, tag), limit)
        {
            return false;
        }
        if let Some(slot) = self.pick.endpoint_slot.and_then(|index| state.slot(index, self.pick.endpoint_tag)) {
            slot.advance();
            slot.open_connection(u32::MAX);
        }
        true
    }

    /// What a real call's outcome means.
    fn after(&mut self, socket: Socket, outcome: isize, errno: Errno) -> Next {
        let now = shm::now();
        let settled = if outcome >= 0 { 0 } else { errno };
        if self.under_way {
            // Counted when it began: this only tells how far it is.
            if let Some(outcome) = Outcome::of(settled) {
                outcome::learn(&self.mesh, self.identity.cookie, outcome, now);
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
        let next = match settled {
            0 if self.is_ahead(socket) => self.under_way(socket, 0, now),
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
                        self.failed(socket, reason, now)
                    }
                }
            }
            libc::EINTR => self.under_way(socket, errno, now),
            errno if outcome::is_the_endpoints(errno) && !self.is_v6_only(socket, errno) => {
                self.failed(socket, errno, now)
            }
            // Not the endpoint's fault (EADDRNOTAVAIL, EISCONN, EALREADY, EBADF..): the program's to know.
            _ => {
                self.uncount();
                self.log_outcome(Level::Debug, errno);
                Next::Done(errno)
            }
        };
        if let Next::Done(errno) = next {
            self.restore(socket, errno);
        }
        next
    }

    /// True when a success says nothing about the endpoint yet.
    fn is_ahead(&self, socket: Socket) -> bool {
        if self.sends { !socket.is_blocking() } else { socket.defers_connect() }
    }

    /// True when the kernel refused to send anything, because the program shut its IPv6 socket to IPv4.
    fn is_v6_only(&self, socket: Socket, errno: Errno) -> bool {
        errno == libc::ENETUNREACH
            && self.dialled.form == Form::V6
            && self.pick.address.ip().is_ipv4()
            && socket.is_v6_only()
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
    fn failed(&mut self, socket: Socket, errno: Errno, now: Millis) -> Next {
        let ejected = failure::count(&self.mesh, &self.pick.member(), self.identity.cookie, now);
        self.uncount();
        self.log_outcome(Level::Info, errno);
        if let Some(Ejected { until, detector }) = ejected {
            let (endpoint, time) = (self.pick.address.socket(self.pick.port), until.saturating_sub(now));
            self.mesh.context.log.line(Level::Info, format_args!("{endpoint} is ejected for {time} ms: {detector}"));
        }
        // A SYN with data that was not refused may have arrived.
        if self.sends && errno != libc::ECONNREFUSED {
            return Next::Done(errno);
        }
        match self.again(socket, now) {
            Some((target, length)) => Next::Call(target, length),
            None => Next::Done(errno),
        }
    }

    /// Another endpoint, if the bounds allow one.
    #[inline(never)]
    fn again(&mut self, socket: Socket, now: Millis) -> Option<(RawAddress, socklen_t)> {
        *self.tried.get_mut(self.count)? = (self.pick.address, self.pick.port);
        self.count += 1;
        if self.count >= ATTEMPTS || !self.is_still(socket) {
            return None;
        }
        let tried = self.tried.get(..self.count)?;
        let choice = choose(self.mesh.context, &self.mesh, (socket, self.identity.cookie), self.dialled, tried, now);
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
        self.keep_alive(socket);
        self.target()
    }

    /// Bounds the next attempt of a blocking connect by the cluster's connect timeout: the first where there is
    /// another endpoint to go to, and every one after a first that was bounded.
    fn limit(&mut self, socket: Socket) {
        let (own, limit) = (self.identity.user_timeout, self.pick.connect_timeout_ms);
        let next = if own == 0 { limit } else { limit.min(own) };
        if self.sends || limit == 0 || (next == own && !self.limited) {
            return;
        }
        if self.limited || self.pick.alternatives && socket.is_blocking() {
            socket.set_user_timeout(next);
            self.limited = true;
        }
    }

    /// Keepalive as the cluster of the present pick says: attempts may go to different ones.
    fn keep_alive(&mut self, socket: Socket) {
        if let Some(former) = self.former_keepalive.take() {
            keepalive::restore(socket, former);
        }
        self.former_keepalive = self.pick.keepalive.and_then(|settings| keepalive::keep(socket, settings));
    }

    /// Whether the descriptor is still the socket that this connect began with: another thread may have closed it
    /// meanwhile, and its number be somebody else's.
    fn is_still(&self, socket: Socket) -> bool {
        socket.cookie() == Some(self.identity.cookie)
    }

    /// The socket's options as the program set them; keepalive stays with a connection that is made.
    fn restore(&self, socket: Socket, errno: Errno) {
        let is_changed = self.former_keepalive.is_some() || self.send_timeout.is_some() || self.limited;
        if !is_changed || !self.is_still(socket) {
            return;
        }
        if let Some(former) = self.former_keepalive
            && !matches!(errno, 0 | libc::EINPROGRESS | libc::EINTR)
        {
            keepalive::restore(socket, former);
        }
        if let Some(time) = self.send_timeout {
            socket.set_send_timeout(time);
        }
        if self.limited {
            socket.set_user_timeout(self.identity.user_timeout);
        }
    }

    /// SO_SNDTIMEO bounds connect: what is left of it bounds the next attempt, and it is put back in the end.
    fn time_remains(&mut self, socket: Socket, now: Millis) -> bool {
        let Some(total) = self.send_timeout.or_else(|| socket.send_timeout()) else { return false };
        if total.tv_sec == 0 && total.tv_usec == 0 {
            return true;
        }
        let left = milliseconds(total).saturating_sub(now.saturating_sub(self.started));
        let (Ok(seconds), Ok(rest)) = (i64::try_from(left / 1000), i64::try_from(left % 1000)) else { return false };
        if left > 0 {
            self.send_timeout = Some(total);
            socket.set_send_timeout(timeval { tv_sec: seconds, tv_usec: rest * 1000 });
        }
        left > 0
    }

    fn uncount(&self) {
        let Some(state) = self.mesh.state() else { return };
        self.pick.member().uncount(&state);
    }

    /// Notes the connection under its socket's cookie, with its own address for the leader's look-ups.
    #[inline(never)]
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
        if let Some(gone) = state.record(self.identity.cookie, &connection, now) {
            gone.member().uncount(&state);
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
