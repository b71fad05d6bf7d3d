use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use xds_runtime::control::Control;
use xds_runtime::image::{Action, Cluster, HashOn, Mesh as Tables, Policy, ServerName};
use xds_runtime::names::NameFiles;
use xds_runtime::state::{Connection, ConnectionState, State};

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
    let Verdict::Redirect((pick, known)) = choose_first(context(&[]), &pod, Socket::of(fd.as_raw_fd()), dialled) else {
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
fn closed_without_configuration_is_closed_for_connects_that_do_not_wait() {
    let closed = context(&[("LDMESH_FAIL", "closed")]);
    let fd = tcp(AddressFamily::INET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    let socket = Socket::of(fd.as_raw_fd());
    let verdict = choose_first(closed, &MemoryPod::empty(), socket, dial(Form::V4, VIP, 80));
    assert_eq!(verdict, Verdict::Pass(Why::NoImage));
    assert!(matches!(without_configuration::<()>(closed, socket, Why::NoImage), Verdict::Fail(_)));
}

#[test]
fn a_service_that_is_excluded_by_name_is_not_found_by_its_address() {
    let pod = MemoryPod::with(&greeter(Some(&["10.1.0.1"])));
    let (fd, dialled) = (blocking(), dial(Form::V4, VIP, 80));
    let chosen =
        |excluded| choose_first(context(&[("LDMESH_EXCLUDE", excluded)]), &pod, Socket::of(fd.as_raw_fd()), dialled);
    assert_eq!(chosen("*.shop.svc.cluster.local"), Verdict::Pass(Why::Excluded));
    assert!(matches!(chosen("*.other.svc.cluster.local"), Verdict::Redirect(_)));
}

#[test]
fn a_connect_that_is_under_way_goes_where_it_went_whatever_would_be_chosen_now() {
    let refusing = Cluster { policy: Policy::Refuse, ..greeter(None).clusters.remove(0) };
    let pod = MemoryPod::with(&Tables { clusters: vec![refusing], ..greeter(None) }).with_state();
    let (fd, dialled) = (blocking(), dial(Form::V4, VIP, 80));
    let socket = Socket::of(fd.as_raw_fd());
    let choose_now = || choose_first(context(&[]), &pod, socket, dialled);
    assert!(matches!(choose_now(), Verdict::Fail(Refusal::BlackHole)));
    let remote = WordAddr::new("10.1.0.7".parse().unwrap());
    let connection = Connection {
        dialled: WordAddr::new(dialled.ip),
        dialled_port: 80,
        remote,
        remote_port: 8080,
        local: remote,
        local_port: 1,
        state: ConnectionState::Connecting,
        endpoint_slot: None,
        cluster_slot: None,
        endpoint_tag: 0,
        cluster_tag: 0,
        opened: 1,
    };
    pod.state().unwrap().record(socket.cookie().unwrap(), &connection, 1);
    let Verdict::Redirect((pick, known)) = choose_now() else { panic!("decided anew") };
    assert!(known.recorded);
    assert_eq!(pick.address.socket(pick.port), "10.1.0.7:8080".parse().unwrap());
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
fn a_stale_image_still_leads_an_automatic_address_which_no_kernel_can() {
    let mut tables = greeter(Some(&["10.1.0.1"]));
    tables.names[0].addresses = vec!["240.240.0.1".parse().unwrap()];
    tables.destinations[0].address = "240.240.0.1".parse().unwrap();
    let pod = MemoryPod::with(&tables);
    pod.control().set_max_stale(1000);
    pod.control().heard(shm::now() - 2000);
    let (fd, dialled) = (blocking(), dial(Form::V4, "240.240.0.1", 80));
    let verdict = choose_first(context(&[]), &pod, Socket::of(fd.as_raw_fd()), dialled);
    assert!(matches!(verdict, Verdict::Redirect(_)), "{verdict:?}");
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
        answers.iter().for_each(|name| answered::note(pod.image(), name, std::iter::once(WordAddr::new(dialled.ip))));
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
