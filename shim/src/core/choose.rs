//! Where a connection goes: the cheap checks, the image, then the socket; and the waiting of blocking connects.
//!
//! ```text
//! port, never-mesh, excludes -> image: described? -> TCP, cookie -> stale? reachable? -> pick
//! ```
//! What the mesh does not describe costs no system call, no lock, no allocation and no store.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use log::Level;
use xds_runtime::config::{FailMode, Mode, is_never_mesh};
use xds_runtime::control::Switch;
use xds_runtime::image::{DefaultAction, ImageFile, Torn, View};
use xds_runtime::lb::{self, Choice, Pick, Seeded};
use xds_runtime::shm::futex::Wake;
use xds_runtime::shm::{self, Millis, WordAddr};

use crate::core::Errno;
use crate::core::address::{Form, Inet};
use crate::core::mesh::{Mesh, Occasion, WANT_EXPIRY_MS};
use crate::core::process::Context;
use crate::core::socket::Socket;
use crate::core::verdict::{Verdict, Why};

/// A connect, for the log.
#[derive(Clone, Copy)]
pub struct Dial(pub Inet);

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connect {}", SocketAddr::new(self.0.ip.to_canonical(), self.0.port))
    }
}

/// The endpoint for a connection, and the socket's cookie.
pub type Chosen = Verdict<(Pick, u64), Errno>;

/// What needs no pod: `Some` = the call passes.
pub fn is_outside(context: &Context, dialled: Inet) -> Option<Why> {
    if dialled.port == 0 || is_never_mesh(dialled.ip) {
        Some(Why::NeverMesh)
    } else if context.settings.scope.excludes_address(dialled.ip, dialled.port) {
        Some(Why::Excluded)
    } else {
        None
    }
}

/// Without any configuration: open or closed.
pub fn without_configuration<R>(context: &Context, socket: Socket, why: Why) -> Verdict<R, Errno> {
    if context.settings.fail == FailMode::Closed && context.settings.mode != Mode::Shadow && socket.is_tcp() {
        return Verdict::Fail(libc::ECONNREFUSED);
    }
    Verdict::Pass(why)
}

/// The first endpoint for a connection; waits where a blocking connect may.
pub fn choose_first(context: &Context, mesh: &dyn Mesh, socket: Socket, dialled: Inet) -> Chosen {
    let control = mesh.control();
    let mut cookie = None;
    loop {
        let now = shm::now();
        if control.switch() != Switch::On {
            return Verdict::Pass(Why::SwitchedOff);
        }
        let news = control.news();
        let choice = choose(context, mesh, dialled, cookie.unwrap_or(0), &[], now);
        if choice == Ok(Choice::NotMesh) {
            return Verdict::Pass(Why::NotInMesh);
        }
        let cookie = match cookie {
            Some(cookie) => cookie,
            None if !socket.is_tcp() => return Verdict::Pass(Why::NotStream),
            None => match socket.cookie() {
                Some(found) => *cookie.insert(found),
                None => return Verdict::Pass(Why::NoCookie),
            },
        };
        match settle(context, mesh, socket, dialled, choice, now) {
            Settled::Pick(pick) => return shadowed(context, dialled, Verdict::Redirect((pick, cookie))),
            Settled::Refuse => return shadowed(context, dialled, Verdict::Fail(libc::ECONNREFUSED)),
            Settled::Pass(why) => return Verdict::Pass(why),
            Settled::Wait(why, deadline) if now >= deadline || context.settings.mode == Mode::Shadow => {
                return Verdict::Pass(why);
            }
            Settled::Wait(_, deadline) => {
                if !socket.is_blocking() {
                    return Verdict::Pass(Why::WouldWait);
                }
                if await_news(mesh, news, deadline - now) == Wake::Interrupted {
                    return Verdict::Pass(Why::Interrupted);
                }
            }
        }
    }
}

/// Waits for news of the pod.
pub fn await_news(mesh: &dyn Mesh, seen: u32, patience: Millis) -> Wake {
    mesh.control().await_news(seen, Duration::from_millis(patience))
}

enum Settled {
    Pick(Pick),
    Refuse,
    Pass(Why),
    /// Until then, something may yet come; then pass for this reason.
    Wait(Why, Millis),
}

/// What a choice comes to on this socket and at this time; tells the leader that the destination is wanted.
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
    let leads = control.lead().is_alive(now);
    // Non-blocking connects spawn nothing: the program's event loop must not stand still.
    if !leads && socket.is_blocking() {
        mesh.call_leader(Occasion::Connect, now);
    }
    let choice = match choice {
        Ok(choice) => choice,
        Err(why @ Why::NoImage) => return Settled::Wait(why, control.wait_until(now, patience)),
        Err(why) => return Settled::Pass(why),
    };
    let wish = control.want(address.wanted_key(), now, WANT_EXPIRY_MS);
    match choice {
        Choice::NotMesh => Settled::Pass(Why::NotInMesh),
        Choice::Refuse => Settled::Refuse,
        Choice::Endpoint(_) if control.is_stale(now) && has_cluster_ip(mesh, address) => Settled::Pass(Why::Stale),
        Choice::Endpoint(pick) if reachable(socket, dialled, &pick) => Settled::Pick(pick),
        Choice::Endpoint(_) => Settled::Pass(Why::OtherFamily),
        Choice::Pass(reason) => match (Why::from(reason), wish) {
            (why @ Why::NoEndpointsYet, Some(wish)) if leads && !wish.answered => {
                Settled::Wait(why, wish.first.saturating_add(patience))
            }
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
        _ => context.log.line(Level::Info, format_args!("{}: would be refused", Dial(dialled))),
    }
    Verdict::Pass(Why::Shadow)
}

/// One look into the image; the pick itself is marked for the crash breaker.
///
/// # Errors
/// Why the image cannot answer.
pub fn choose(
    context: &Context,
    mesh: &dyn Mesh,
    dialled: Inet,
    cookie: u64,
    avoid: &[(WordAddr, u16)],
    now: Millis,
) -> Result<Choice, Why> {
    let image = mesh.image().ok_or(Why::NoImage)?;
    let address = WordAddr::new(dialled.ip);
    let undescribed = |view: &View<'_>| -> Result<bool, Torn> {
        Ok(view.destination(address, dialled.port)?.is_none() && view.default_action()? == DefaultAction::Pass)
    };
    if image.read(undescribed).map_err(Why::from)? {
        return Ok(Choice::NotMesh);
    }
    let (control, state) = (mesh.control(), mesh.state());
    let mark = control.mark(std::ptr::from_ref(&now) as usize, now);
    let mut entropy = Seeded(context.entropy(cookie));
    let choice = image.read(|view| lb::choose(view, state.as_ref(), address, dialled.port, now, &mut entropy, avoid));
    control.unmark(mark);
    choice.map_err(Why::from)
}

/// True when the address is the ClusterIP of a service: the kernel's own path reaches it too.
fn has_cluster_ip(mesh: &dyn Mesh, address: WordAddr) -> bool {
    let cluster_ip =
        |image: ImageFile| image.read(|view| Ok(view.name_of(address)?.is_some_and(|name| !name.headless)));
    mesh.image().is_some_and(|image| cluster_ip(image).unwrap_or(false))
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
