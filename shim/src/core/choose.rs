//! Where a connection goes: the cheap checks, the image, then the socket; and the waiting of blocking connects.
//!
//! ```text
//! port, never-mesh, excludes -> image: described? -> TCP, cookie -> stale? reachable? -> pick
//! ```
//! What the mesh does not describe costs no system call, no lock, no allocation and no store.

use std::cell::Cell;
use std::ffi::c_uint;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use log::Level;
use xds_runtime::config::{FailMode, Mode, is_automatic, is_never_mesh};
use xds_runtime::control::{HEARTBEAT_MS, Switch, WISH_EXPIRY_MS};
use xds_runtime::image::{DefaultAction, ImageFile, PassReason, Torn, View};
use xds_runtime::lb::{self, Call, Choice, Pick, Seeded};
use xds_runtime::shm::futex::Wake;
use xds_runtime::shm::{self, Millis, WordAddr};

use crate::core::address::{Form, Inet};
use crate::core::answered::ANSWERED;
use crate::core::mesh::{Mesh, Occasion};
use crate::core::process::Context;
use crate::core::socket::{Socket, milliseconds};
use crate::core::verdict::{Refusal, Verdict, Why};

/// A connect, for the log.
#[derive(Clone, Copy)]
pub struct Dial(pub Inet);

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connect {}", SocketAddr::new(self.0.ip.to_canonical(), self.0.port))
    }
}

/// What a TCP socket was asked before the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its cookie.
    pub cookie: u64,
    /// Its TCP_USER_TIMEOUT.
    pub user_timeout: c_uint,
    /// When it was asked: about when the call began.
    pub asked: Millis,
    /// The same connect was made before, and is recorded: the pick is where it went.
    pub recorded: bool,
}

/// The endpoint for a connection, and its socket.
pub type Chosen = Verdict<(Pick, Identity), Refusal>;

/// What needs no pod: `Some` = the call passes.
pub fn is_outside(context: &Context, dialled: Inet) -> Option<Why> {
    if dialled.port == 0 || is_never_mesh(dialled.ip) || context.is_own(dialled.ip, dialled.port) {
        Some(Why::NeverMesh)
    } else if context.settings.scope.excludes_address(dialled.ip, dialled.port) {
        Some(Why::Excluded)
    } else {
        None
    }
}

/// Without any configuration: open or closed.
pub fn without_configuration<R>(context: &Context, socket: Socket, why: Why) -> Verdict<R, Refusal> {
    if context.settings.fail == FailMode::Closed
        && context.settings.mode != Mode::Shadow
        && socket.user_timeout().is_some()
    {
        return Verdict::Fail(Refusal::NoConfiguration);
    }
    Verdict::Pass(why)
}

/// The first endpoint for a connection; waits where a blocking connect may.
#[inline(never)]
pub fn choose_first(context: &Context, mesh: &dyn Mesh, socket: Socket, dialled: Inet) -> Chosen {
    let control = mesh.control();
    if control.switch() != Switch::On {
        return Verdict::Pass(Why::SwitchedOff);
    }
    match look(context, mesh, dialled) {
        Ok(true) => {}
        Ok(false) => return Verdict::Pass(Why::NotInMesh),
        Err(why) => return Verdict::Pass(why),
    }
    let Some(user_timeout) = socket.user_timeout() else { return Verdict::Pass(Why::NotStream) };
    let Some(cookie) = socket.cookie() else { return Verdict::Pass(Why::NoCookie) };
    let asked = shm::now();
    let known = Identity { cookie, user_timeout, asked, recorded: false };
    if let Some(pick) = recorded(mesh, socket, cookie, dialled) {
        return Verdict::Redirect((pick, Identity { recorded: true, ..known }));
    }
    let mut looked_again = false;
    // The pod's deadline is another process's word: no wait is longer than this process would make it.
    let mut patience_ends = asked.saturating_add(context.settings.ready_timeout.as_millis() as Millis);
    loop {
        let now = shm::now();
        if control.switch() != Switch::On {
            return Verdict::Pass(Why::SwitchedOff);
        }
        let news = control.news();
        let choice = choose(context, mesh, (socket, cookie), dialled, &[], now);
        match settle(context, mesh, socket, dialled, choice, now) {
            Settled::Pick(pick) => return shadowed(context, dialled, Verdict::Redirect((pick, known))),
            Settled::Refuse(refusal) => return shadowed(context, dialled, Verdict::Fail(refusal)),
            Settled::Pass(why) => return Verdict::Pass(why),
            Settled::Answered(why) if looked_again => return Verdict::Pass(why),
            Settled::Answered(_) => looked_again = true,
            Settled::Wait(why, deadline)
                if now >= deadline.min(patience_ends) || context.settings.mode == Mode::Shadow =>
            {
                return Verdict::Pass(why);
            }
            Settled::Wait(why, deadline) => {
                let may_wait = socket.is_blocking();
                // SO_SNDTIMEO bounds a connect, and so its wait.
                if may_wait && let Some(own @ 1..) = socket.send_timeout().map(milliseconds) {
                    patience_ends = patience_ends.min(asked.saturating_add(own));
                }
                if may_wait
                    && await_news(mesh, news, deadline.min(patience_ends).saturating_sub(now)) != Wake::Interrupted
                {
                    continue;
                }
                // Without any configuration it is not this connect's to choose: open or closed.
                let closed = context.settings.fail == FailMode::Closed && why == Why::NoImage;
                let own = if may_wait { Why::Interrupted } else { Why::WouldWait };
                return Verdict::Pass(if closed { why } else { own });
            }
        }
    }
}

/// Waits for news of the pod, or to look again: a leader that dies tells nobody.
pub fn await_news(mesh: &dyn Mesh, seen: u32, patience: Millis) -> Wake {
    mesh.control().await_news(seen, Duration::from_millis(patience.min(HEARTBEAT_MS)))
}

enum Settled {
    Pick(Pick),
    Refuse(Refusal),
    Pass(Why),
    /// There may be endpoints by now, for the leader has published what it was asked for; if not, pass.
    Answered(Why),
    /// Until then, something may yet come; then pass for this reason.
    Wait(Why, Millis),
}

/// What a choice comes to on this socket and at this time; tells the leader that the destination is wanted.
#[inline(never)]
fn settle(
    context: &Context,
    mesh: &dyn Mesh,
    socket: Socket,
    dialled: Inet,
    choice: Result<Choice, Why>,
    now: Millis,
) -> Settled {
    let control = mesh.control();
    let address = WordAddr::new(dialled.ip);
    let patience = context.settings.ready_timeout.as_millis() as Millis;
    control.ask(now);
    if !control.lead().is_alive(now) {
        mesh.call_leader(Occasion::Connect, now);
    }
    let choice = match choice {
        Ok(choice) => choice,
        Err(why @ Why::NoImage) => return Settled::Wait(why, control.wait_until(now, patience)),
        Err(why) => return Settled::Pass(why),
    };
    let needs_endpoints = matches!(choice, Choice::Endpoint(_) | Choice::Pass(PassReason::NoEndpointsYet));
    let wish = if needs_endpoints { control.want(address.wanted_key(), now, WISH_EXPIRY_MS) } else { None };
    match choice {
        Choice::NotMesh => Settled::Pass(Why::NotInMesh),
        Choice::NotInRegistry => Settled::Refuse(Refusal::NotInRegistry),
        Choice::BlackHole => Settled::Refuse(Refusal::BlackHole),
        Choice::Pass(PassReason::NeedsTls) if context.settings.fail == FailMode::Closed => {
            Settled::Refuse(Refusal::NeedsTls)
        }
        Choice::Endpoint(_) if control.is_stale(now) && has_cluster_ip(mesh, address) => Settled::Pass(Why::Stale),
        Choice::Endpoint(pick) if reachable(socket, dialled, &pick) => Settled::Pick(pick),
        Choice::Endpoint(_) => Settled::Pass(Why::OtherFamily),
        Choice::Pass(reason) => match (Why::from(reason), wish) {
            // The answer may have come after the look.
            (why @ Why::NoEndpointsYet, Some(wish)) if wish.answered => Settled::Answered(why),
            // Also while nobody leads: whoever was called for may come in time, and the deadline is the wish's.
            (why @ Why::NoEndpointsYet, Some(wish)) => Settled::Wait(why, wish.first.saturating_add(patience)),
            (why, _) => Settled::Pass(why),
        },
    }
}

/// In shadow mode a verdict is told and not carried out.
fn shadowed(context: &Context, dialled: Inet, verdict: Chosen) -> Chosen {
    if context.settings.mode != Mode::Shadow {
        return verdict;
    }
    match &verdict {
        Verdict::Redirect((pick, _)) => {
            let to = pick.address.socket(pick.port);
            context.log.line(Level::Info, format_args!("{}: would go to {to}", Dial(dialled)));
        }
        Verdict::Fail(refusal) => {
            context.log.line(Level::Info, format_args!("{}: would be refused: {refusal}", Dial(dialled)));
        }
        Verdict::Pass(_) => {}
    }
    Verdict::Pass(Why::Shadow)
}

/// Whether the mesh describes a destination, as far as is known; nothing but the image is asked.
///
/// # Errors
/// Why the call passes: the destination's service is excluded by name, or the image cannot answer.
#[inline(never)]
fn look(context: &Context, mesh: &dyn Mesh, dialled: Inet) -> Result<bool, Why> {
    let Some(image) = mesh.image() else { return Ok(true) };
    let address = WordAddr::new(dialled.ip);
    let described = |view: &View<'_>| -> Result<bool, Torn> {
        Ok(view.destination(address, dialled.port)?.is_some() || view.default_action(address)? == DefaultAction::Refuse)
    };
    let described = image.read(described).map_err(Why::from)?;
    if described && context.settings.scope.has_names() && is_excluded(context, image, address)? {
        return Err(Why::Excluded);
    }
    Ok(described)
}

/// Whether the service of an address is excluded by its name: its name was libc's to resolve.
#[inline(never)]
fn is_excluded(context: &Context, image: ImageFile, address: WordAddr) -> Result<bool, Why> {
    // The longest name of the DNS.
    let mut buffer = [0_u8; 255];
    let excluded = image.read(|view| {
        let Some(name) = view.name_of(address)? else { return Ok(false) };
        let text = std::str::from_utf8(view.text(name.text, &mut buffer)?).unwrap_or_default();
        Ok(context.settings.scope.excludes_name(text))
    });
    excluded.map_err(Why::from)
}

/// Where the same connect went that was made before. One that is established in the kernel may still be asked about
/// (the first connect after it answers 0, later ones EISCONN); a socket that was disconnected since begins anew.
#[inline(never)]
fn recorded(mesh: &dyn Mesh, socket: Socket, cookie: u64, dialled: Inet) -> Option<Pick> {
    let seen = mesh.state()?.connection(cookie)?;
    let is_same = (seen.dialled, seen.dialled_port) == (WordAddr::new(dialled.ip), dialled.port);
    (is_same && (seen.state.is_under_way() || socket.is_connected_to(&seen))).then_some(Pick {
        address: seen.remote,
        port: seen.remote_port,
        endpoint_slot: seen.endpoint_slot,
        endpoint_tag: seen.endpoint_tag,
        cluster: 0,
        cluster_slot: seen.cluster_slot,
        cluster_tag: seen.cluster_tag,
        connect_timeout_ms: 0,
        max_connections: None,
        keepalive: None,
        alternatives: false,
    })
}

/// One look into the image; the pick itself is marked for the crash breaker.
///
/// # Errors
/// Why the image cannot answer.
#[inline(never)]
pub fn choose(
    context: &Context,
    mesh: &dyn Mesh,
    (socket, cookie): (Socket, u64),
    dialled: Inet,
    avoid: &[(WordAddr, u16)],
    now: Millis,
) -> Result<Choice, Why> {
    let image = mesh.image().ok_or(Why::NoImage)?;
    let address = WordAddr::new(dialled.ip);
    let (control, state) = (mesh.control(), mesh.state());
    let mark = control.mark(std::ptr::from_ref(&now) as usize, now);
    let mut entropy = Seeded(context.entropy(cookie));
    let call = Call { address, port: dialled.port, source: &|| socket.bound_to(), now, avoid };
    let excluded = Cell::new(false);
    let names = |show: &mut dyn FnMut(&[u8])| {
        ANSWERED.visit(address, &mut |name| {
            let text = std::str::from_utf8(name).unwrap_or_default();
            excluded.set(excluded.get() || context.settings.scope.excludes_name(text));
            show(name);
        });
    };
    let choice = image.read(|view| lb::choose_named(view, state.as_ref(), &call, &names, &mut entropy));
    control.unmark(mark);
    if excluded.get() { Err(Why::Excluded) } else { choice.map_err(Why::from) }
}

/// True when the address is the ClusterIP of a service: the kernel's own path reaches it too.
fn has_cluster_ip(mesh: &dyn Mesh, address: WordAddr) -> bool {
    let cluster_ip =
        |image: ImageFile| image.read(|view| Ok(view.name_of(address)?.is_some_and(|name| !name.headless)));
    !is_automatic(address.ip()) && mesh.image().is_some_and(|image| cluster_ip(image).unwrap_or(false))
}

/// Whether this socket can reach a pick: in its family, and not past IPV6_V6ONLY.
pub fn reachable(socket: Socket, dialled: Inet, pick: &Pick) -> bool {
    let endpoint_is_v4 = pick.address.ip().is_ipv4();
    match (dialled.form, dialled.ip.to_canonical().is_ipv4()) {
        // A socket that dials a v4-mapped address may be bound to one, too.
        (Form::V4, _) | (Form::V6, true) => endpoint_is_v4,
        (Form::V6, false) => !endpoint_is_v4 || !socket.is_v6_only(),
    }
}

#[cfg(test)]
mod tests;
