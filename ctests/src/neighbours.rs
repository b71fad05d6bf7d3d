//! What real client programs are tried against, and what each of them must see there.

use std::process::Command;
use std::time::Duration;

use crate::{Backend, Cell, ControlPlane, Finished, Manifest, Mode, Pod, Port, Service, Works, wait_until};

const ENDPOINTS: usize = 3;
/// How many connections a client program makes: as many to each endpoint.
pub const CONNECTIONS: usize = 3 * ENDPOINTS;

/// Two services with three endpoints each, which take turns: `greeter`, HTTP at 10.96.0.10:80, and
/// `echo`, lines at 10.96.0.20:7.
#[derive(Debug)]
pub struct Neighbours<'pod> {
    pod: &'pod Pod,
    backends: Vec<Backend>,
    _control_plane: ControlPlane<'pod>,
}

impl Pod {
    /// Starts the neighbours that client programs dial.
    #[track_caller]
    pub fn neighbours(&self) -> Neighbours<'_> {
        let mut backends = Vec::new();
        for n in 1..=ENDPOINTS {
            backends.push(self.backend(&format!("127.0.1.{n}:8080"), &format!("greeter-{n}")));
            backends.push(self.backend_of(Mode::Echo, &format!("127.0.2.{n}:7000"), &format!("echo-{n}")));
        }
        let greeter = Service::new("greeter", "default", &["10.96.0.10"], &["127.0.1.1", "127.0.1.2", "127.0.1.3"]);
        let echo = Service::new("echo", "default", &["10.96.0.20"], &["127.0.2.1", "127.0.2.2", "127.0.2.3"])
            .ports(&[Port::new("tcp-echo", 7, 7000)]);
        let manifest = Manifest::of(&[greeter, echo]).and_in_turn("greeter").and_in_turn("echo");
        Neighbours { pod: self, backends, _control_plane: self.serve(&manifest) }
    }
}

impl Neighbours<'_> {
    /// Waits until their endpoints have said that they accepted so many connections; gives how many they have.
    #[track_caller]
    pub fn wait_for_accepted(&self, count: usize) -> usize {
        let accepted = || self.backends.iter().map(Backend::accepted).sum();
        wait_until("accepted", Duration::from_secs(5), || format!("only {}", accepted()), || accepted() >= count);
        accepted()
    }

    /// Runs a program until it has made [`CONNECTIONS`] connections in `runs` runs. `command` makes
    /// it for a host and gives it preloaded ([`Pod::mesh`]).
    ///
    /// It has to print a line for each: the name of the endpoint first, and `tail` last. A name that
    /// is unknown has to fail as it does without the library.
    #[track_caller]
    pub fn check(&self, service: &str, tail: &str, runs: usize, command: impl Fn(&Pod, &str) -> Command) {
        let done: Vec<_> = (0..runs).map(|_| Finished::of(&mut command(self.pod, service))).collect();
        let text: Vec<_> = done.iter().map(Finished::success).collect();
        check_in_turn(&text.join("\n"), service, tail);
        self.check_unknown(command);
    }

    /// A name that nobody knows fails as it does without the library.
    #[track_caller]
    pub fn check_unknown(&self, command: impl Fn(&Pod, &str) -> Command) {
        let with = Finished::of(&mut command(self.pod, "nobody"));
        let mut plain = command(self.pod, "nobody");
        let without = Finished::of(plain.env_remove("LD_PRELOAD").env_remove("LDMESH_XDS"));
        assert!(!without.status.success(), "{without}");
        assert_eq!(with.status, without.status, "with the library: {with}\nwithout: {without}");
        assert_eq!(words(&with), words(&without));
    }
}

/// What a program said, without the addresses of its memory.
fn words(of: &Finished) -> Vec<&str> {
    of.stdout.split_whitespace().chain(of.stderr.split_whitespace()).filter(|word| !word.starts_with("0x")).collect()
}

/// A line for each connection, which begins with the endpoint's name and ends with `tail`; and each
/// endpoint of the service has as many.
#[track_caller]
fn check_in_turn(text: &str, service: &str, tail: &str) {
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), CONNECTIONS, "{text}");
    for n in 1..=ENDPOINTS {
        let name = format!("{service}-{n} ");
        let of_it = lines.iter().filter(|line| line.starts_with(&name) && line.ends_with(&format!(" {tail}")));
        assert_eq!(of_it.count(), CONNECTIONS / ENDPOINTS, "{name}... {tail}:\n{text}");
    }
}

/// The row of a client program that [`Neighbours::check`] is all there is to be said about.
#[track_caller]
pub fn check_client(row: &str, service: &str, tail: &str, runs: usize, command: impl Fn(&Pod, &str) -> Command) {
    let cell = Cell::application(row);
    let pod = Pod::new();
    pod.neighbours().check(service, tail, runs, command);
    cell.is(Works::Balanced, "in turn over 3 endpoints");
}
