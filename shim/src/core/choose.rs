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
use xds_runtime::config::{FailMode, Mode, is_never_mesh};
use xds_runtime::control::{HEARTBEAT_MS, Switch, WISH_EXPIRY_MS};
use xds_runtime::image::{DefaultAction, ImageFile, PassReason, Torn, View};
use xds_runtime::lb::{self, Call, Choice, Pick, Seeded};
use xds_runtime::shm::futex::Wake;
use xds_runtime::shm::{self, Millis, WordAddr};

use crate::core::address::{Form, Inet};
use crate::core::answered::ANSWERED;
use crate::core::mesh::{Mesh, Occasion};
use crate::core::process::Context;
use crate::core::socket::Socket;
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
    let known = Identity { cookie, user_timeout, recorded: false };
    if let Some(pick) = recorded(mesh, socket, cookie, dialled) {
        return Verdict::Redirect((pick, Identity { recorded: true, ..known }));
    }
    let mut looked_again = false;
    // The pod's deadline is another process's word: no wait is longer than this process would make it.
    let patience_ends = shm::now().saturating_add(context.settings.ready_timeout.as_millis() as Millis);
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
                if may_wait && await_news(mesh, news, deadline.min(patience_ends) - now) != Wake::Interrupted {
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
    let leads = control.lead().is_alive(now);
    if !leads {
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
            (why @ Why::NoEndpointsYet, Some(wish)) if leads => Settled::Wait(why, wish.first.saturating_add(patience)),
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

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    use xds_runtime::control::Control;
    use xds_runtime::image::{Action, HashOn, Mesh as Tables, Policy, ServerName};
    use xds_runtime::names::NameFiles;
    use xds_runtime::state::State;

    use super::*;
    use crate::core::answered;
    use crate::core::testing::{MemoryPod, VIP, greeter};

    fn context(variables: &[(&str, &str)]) -> &'static Context {
        let own = [("LDMESH_XDS", "http://127.0.0.1:1"), ("LDMESH_READY_TIMEOUT", "30ms")];
        let variables: Vec<_> = variables.iter().copied().chain(own).collect();
        Context::for_test(&variables, NameFiles::system(Default::default()))
    }

    fn tcp(family: AddressFamily, flags: SocketFlags) -> OwnedFd {
        socket_with(family, SocketType::STREAM, flags, None).unwrap()
    }

    fn dial(form: Form, ip: &str, port: u16) -> Inet {
        Inet { form, ip: ip.parse().unwrap(), port }
    }

    #[track_caller]
    fn check_passes(pod: &MemoryPod, fd: &OwnedFd, dialled: Inet, expected: Why) {
        let verdict = choose_first(context(&[]), pod, Socket::of(fd.as_raw_fd()), dialled);
        assert_eq!(verdict, Verdict::Pass(expected));
    }

    fn blocking() -> OwnedFd {
        tcp(AddressFamily::INET, SocketFlags::CLOEXEC)
    }

    #[test]
    fn a_vip_leads_to_an_endpoint_and_is_wanted() {
        let pod = MemoryPod::with(&greeter(Some(&["10.1.0.1"])));
        let (fd, dialled) = (blocking(), dial(Form::V4, VIP, 80));
        let Verdict::Redirect((pick, known)) = choose_first(context(&[]), &pod, Socket::of(fd.as_raw_fd()), dialled)
        else {
            panic!("not redirected");
        };
        assert_eq!(pick.address.socket(pick.port), "10.1.0.1:8080".parse().unwrap());
        assert_eq!(Some(known.cookie), Socket::of(fd.as_raw_fd()).cookie());
        let key = WordAddr::new(dialled.ip).wanted_key();
        assert!(pod.control().wanted(shm::now(), WISH_EXPIRY_MS).any(|wish| wish.key == key));
    }

    #[test]
    fn another_port_or_a_datagram_is_not_the_meshs() {
        let pod = MemoryPod::with(&greeter(Some(&["10.1.0.1"])));
        check_passes(&pod, &blocking(), dial(Form::V4, VIP, 81), Why::NotInMesh);
        let datagram = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
        check_passes(&pod, &datagram, dial(Form::V4, VIP, 80), Why::NotStream);
    }

    #[test]
    fn an_endpoint_of_another_family_passes() {
        let pod = MemoryPod::with(&greeter(Some(&["fd00::1"])));
        check_passes(&pod, &blocking(), dial(Form::V4, VIP, 80), Why::OtherFamily);
        let v6 = tcp(AddressFamily::INET6, SocketFlags::CLOEXEC);
        check_passes(&pod, &v6, dial(Form::V6, "::ffff:10.96.0.10", 80), Why::OtherFamily);
    }

    #[test]
    fn a_non_blocking_connect_never_waits() {
        let pod = MemoryPod::with(&greeter(None));
        let fd = tcp(AddressFamily::INET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        check_passes(&pod, &fd, dial(Form::V4, VIP, 80), Why::WouldWait);
        let empty = MemoryPod::empty();
        check_passes(&empty, &fd, dial(Form::V4, VIP, 80), Why::WouldWait);
        assert_eq!(empty.called.load(Ordering::Relaxed), 1, "but calls for a leader");
    }

    #[test]
    fn a_blocking_connect_waits_for_endpoints_as_long_as_the_pod_may() {
        let pod = MemoryPod::with(&greeter(None));
        let before = shm::now();
        check_passes(&pod, &blocking(), dial(Form::V4, VIP, 80), Why::NoEndpointsYet);
        assert!(shm::now() - before >= 30);
        let empty = MemoryPod::empty();
        check_passes(&empty, &blocking(), dial(Form::V4, VIP, 80), Why::NoImage);
        assert!(empty.called.load(Ordering::Relaxed) > 0, "a leader is called for");
    }

    /// A pod whose leader publishes endpoints between the look into the image and the one at the wish.
    struct Overtaken {
        before: MemoryPod,
        after: MemoryPod,
        looks: AtomicUsize,
    }

    impl Mesh for Overtaken {
        fn control(&self) -> Control {
            self.after.control()
        }

        fn image(&self) -> Option<ImageFile> {
            if self.looks.fetch_add(1, Ordering::Relaxed) == 0 { self.before.image() } else { self.after.image() }
        }

        fn state(&self) -> Option<State> {
            None
        }

        fn call_leader(&self, _: Occasion, _: Millis) {}
    }

    #[test]
    fn endpoints_that_come_while_a_connect_looks_are_found() {
        let (before, after) = (MemoryPod::with(&greeter(None)), MemoryPod::with(&greeter(Some(&["10.1.0.1"]))));
        let pod = Overtaken { before, after, looks: AtomicUsize::new(0) };
        let (fd, dialled) = (blocking(), dial(Form::V4, VIP, 80));
        let (control, now) = (pod.control(), shm::now());
        control.want(WordAddr::new(dialled.ip).wanted_key(), now, WISH_EXPIRY_MS);
        control.sweep_wanted(now, WISH_EXPIRY_MS, |_| true);
        let verdict = choose_first(context(&[]), &pod, Socket::of(fd.as_raw_fd()), dialled);
        assert!(matches!(verdict, Verdict::Redirect(_)), "{verdict:?}");
    }

    #[test]
    fn a_wish_that_was_answered_with_nothing_is_not_waited_for() {
        let pod = MemoryPod::with(&greeter(None));
        let dialled = dial(Form::V4, VIP, 80);
        pod.control().want(WordAddr::new(dialled.ip).wanted_key(), shm::now(), WISH_EXPIRY_MS);
        pod.control().sweep_wanted(shm::now(), WISH_EXPIRY_MS, |_| true);
        check_passes(&pod, &blocking(), dialled, Why::NoEndpointsYet);
    }

    #[test]
    fn no_connect_waits_longer_than_its_own_patience() {
        let empty = MemoryPod::empty();
        empty.control().wait_until(shm::now(), 3_600_000);
        let before = shm::now();
        check_passes(&empty, &blocking(), dial(Form::V4, VIP, 80), Why::NoImage);
        assert!(shm::now() - before < 10_000);
    }

    #[test]
    fn a_stale_image_leaves_cluster_ips_to_the_kernel() {
        let pod = MemoryPod::with(&greeter(Some(&["10.1.0.1"])));
        pod.control().set_max_stale(1000);
        pod.control().heard(shm::now() - 2000);
        check_passes(&pod, &blocking(), dial(Form::V4, VIP, 80), Why::Stale);
    }

    #[test]
    fn the_switch_and_shadow_mode_change_nothing() {
        let pod = MemoryPod::with(&greeter(Some(&["10.1.0.1"])));
        let (fd, dialled) = (blocking(), dial(Form::V4, VIP, 80));
        let shadow = context(&[("LDMESH_MODE", "shadow")]);
        let verdict = choose_first(shadow, &pod, Socket::of(fd.as_raw_fd()), dialled);
        assert_eq!(verdict, Verdict::Pass(Why::Shadow));
        pod.control().set_switch(Switch::Off);
        check_passes(&pod, &fd, dialled, Why::SwitchedOff);
    }

    #[test]
    fn outside_the_registry_is_refused_where_the_mesh_says_so() {
        let pod = MemoryPod::with(&Tables { default_action: DefaultAction::Refuse, ..greeter(None) });
        let (fd, dialled) = (blocking(), dial(Form::V4, "192.0.2.1", 443));
        let verdict = choose_first(context(&[]), &pod, Socket::of(fd.as_raw_fd()), dialled);
        assert_eq!(verdict, Verdict::Fail(Refusal::NotInRegistry));
        let own = vec!["192.0.2.1".parse().unwrap()];
        let pod = MemoryPod::with(&Tables { default_action: DefaultAction::Refuse, own, ..greeter(None) });
        check_passes(&pod, &fd, dialled, Why::NotInMesh);
    }

    #[test]
    fn a_cluster_that_demands_tls_passes_or_is_refused_when_closed() {
        let mut tables = greeter(Some(&["10.1.0.1"]));
        tables.clusters[0].policy = Policy::Pass(PassReason::NeedsTls, "greeter".into());
        let pod = MemoryPod::with(&tables);
        let (fd, dialled) = (blocking(), dial(Form::V4, VIP, 80));
        check_passes(&pod, &fd, dialled, Why::NeedsTls);
        let closed = context(&[("LDMESH_FAIL", "closed")]);
        let verdict = choose_first(closed, &pod, Socket::of(fd.as_raw_fd()), dialled);
        assert_eq!(verdict, Verdict::Fail(Refusal::NeedsTls));
        let shadow = context(&[("LDMESH_FAIL", "closed"), ("LDMESH_MODE", "shadow")]);
        let verdict = choose_first(shadow, &pod, Socket::of(fd.as_raw_fd()), dialled);
        assert_eq!(verdict, Verdict::Pass(Why::Shadow));
    }

    #[test]
    fn a_share_that_goes_nowhere_is_refused() {
        let mut tables = greeter(Some(&["10.1.0.1"]));
        tables.clusters[0].policy = Policy::Refuse;
        let pod = MemoryPod::with(&tables);
        let fd = blocking();
        let verdict = choose_first(context(&[]), &pod, Socket::of(fd.as_raw_fd()), dial(Form::V4, VIP, 80));
        assert_eq!(verdict, Verdict::Fail(Refusal::BlackHole));
    }

    #[test]
    fn a_name_that_was_answered_with_the_address_decides_where_the_server_name_does() {
        let to_greeter = Action::Clusters { shares: vec![(0, 1)], hash: HashOn::Nothing };
        let names = [("a.example", to_greeter.clone()), (".b.example", to_greeter), ("", Action::Refuse)];
        let names = names.map(|(pattern, action)| ServerName { pattern: pattern.into(), action }).to_vec();
        let mut tables = greeter(Some(&["10.1.0.1"]));
        (tables.destinations[0].address, tables.destinations[0].port) = ([0; 4].into(), 443);
        tables.destinations[0].action = Action::ServerNames(names);
        let pod = MemoryPod::with(&tables);
        let fd = blocking();
        let verdict = |settings: &[(&str, &str)], at: &str, answers: &[&str]| {
            let dialled = dial(Form::V4, at, 443);
            answers
                .iter()
                .for_each(|name| answered::note(pod.image(), name, std::iter::once(WordAddr::new(dialled.ip))));
            match choose_first(context(settings), &pod, Socket::of(fd.as_raw_fd()), dialled) {
                Verdict::Redirect((pick, _)) => Verdict::Redirect(pick.address.ip()),
                Verdict::Pass(why) => Verdict::Pass(why),
                Verdict::Fail(refusal) => Verdict::Fail(refusal),
            }
        };
        let greeter = Verdict::Redirect("10.1.0.1".parse().unwrap());
        assert_eq!(verdict(&[], "198.51.100.1", &[]), Verdict::Pass(Why::NeedsBytes), "nobody resolved it");
        assert_eq!(verdict(&[], "198.51.100.2", &["A.Example."]), greeter);
        assert_eq!(verdict(&[], "198.51.100.3", &["x.b.example"]), greeter);
        assert_eq!(verdict(&[], "198.51.100.4", &["c.example"]), Verdict::Fail(Refusal::BlackHole));
        assert_eq!(verdict(&[], "198.51.100.5", &["a.example", "y.b.example"]), greeter, "both lead there");
        assert_eq!(verdict(&[], "198.51.100.6", &["a.example", "c.example"]), Verdict::Pass(Why::NeedsBytes));
        assert_eq!(verdict(&[], "198.51.100.7", &["198.51.100.7", "a.example"]), greeter, "digits are no name");
        let excluded = [("LDMESH_EXCLUDE", "*.b.example")];
        assert_eq!(verdict(&excluded, "198.51.100.3", &[]), Verdict::Pass(Why::Excluded));
    }

    #[test]
    fn names_are_not_kept_where_no_destination_asks_for_them() {
        let pod = MemoryPod::with(&greeter(None));
        let address = WordAddr::new("198.51.100.99".parse().unwrap());
        answered::note(pod.image(), "a.example", std::iter::once(address));
        ANSWERED.visit(address, &mut |name| panic!("{name:?}"));
    }

    #[test]
    fn loopback_excludes_and_port_zero_need_no_pod() {
        let own = ("INSTANCE_IP", "10.1.0.7");
        let context = context(&[("LDMESH_EXCLUDE", "10.96.0.0/16:443"), ("LDMESH_XDS", "http://10.9.9.9:15010"), own]);
        assert_eq!(is_outside(context, dial(Form::V4, "10.1.0.7", 80)), Some(Why::NeverMesh));
        assert_eq!(is_outside(context, dial(Form::V6, "::ffff:10.9.9.9", 15010)), Some(Why::NeverMesh));
        assert_eq!(is_outside(context, dial(Form::V4, "10.9.9.9", 80)), None);
        assert_eq!(is_outside(context, dial(Form::V4, "127.0.0.1", 80)), Some(Why::NeverMesh));
        assert_eq!(is_outside(context, dial(Form::V6, "::ffff:169.254.169.254", 80)), Some(Why::NeverMesh));
        assert_eq!(is_outside(context, dial(Form::V4, VIP, 0)), Some(Why::NeverMesh));
        assert_eq!(is_outside(context, dial(Form::V6, "::ffff:10.96.0.10", 443)), Some(Why::Excluded));
        assert_eq!(is_outside(context, dial(Form::V4, VIP, 80)), None);
    }
}
