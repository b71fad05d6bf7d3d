//! Thousands of connections to one address, and who answered each.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Finished, Pod, Running, c_program};

const DEADLINE: Duration = Duration::from_secs(120);

/// Connections that are to be made one after the other.
#[derive(Debug, Clone)]
pub struct Dials {
    arguments: Vec<String>,
}

impl Dials {
    /// `count` connections to an address.
    pub fn to(address: Ipv4Addr, port: u16, count: usize) -> Self {
        Self { arguments: vec![address.to_string(), port.to_string(), count.to_string()] }
    }

    /// Each from an address of its own: this one and those that follow it.
    pub fn from(mut self, first: Ipv4Addr) -> Self {
        self.arguments.extend(["from".to_owned(), first.to_string()]);
        self
    }

    /// While so many connections to an endpoint are held: none of them ends, nor does any of the `count`, before the
    /// last was made. They begin when [`HeldDials::go_on`] says so.
    pub fn holding(mut self, endpoint: &str, count: usize) -> Self {
        self.arguments.extend(["hold".to_owned(), endpoint.to_owned(), count.to_string()]);
        self
    }

    /// Starts those of [`Dials::holding`]; `command` is the pod's, with the library or without.
    #[track_caller]
    pub fn start(&self, command: impl FnOnce(PathBuf) -> Command) -> HeldDials {
        let mut command = command(c_program("dials_many"));
        HeldDials(Running::start(command.args(&self.arguments).stdin(Stdio::piped())))
    }

    /// Makes them without the library.
    #[track_caller]
    pub fn plainly(&self, pod: &Pod) -> Answers {
        self.run(pod.command(c_program("dials_many")))
    }

    /// Makes them with the library.
    #[track_caller]
    pub fn in_mesh(&self, pod: &Pod) -> Answers {
        self.run(pod.mesh(c_program("dials_many")))
    }

    #[track_caller]
    fn run(&self, mut command: Command) -> Answers {
        Answers::of(&Finished::of_within(command.args(&self.arguments), DEADLINE))
    }
}

/// Dials that hold connections and wait.
#[derive(Debug)]
pub struct HeldDials(Running);

impl HeldDials {
    /// Lets them make their connections, and gives the answers.
    #[track_caller]
    pub fn go_on(mut self) -> Answers {
        if let Some(mut stdin) = self.0.stdin() {
            // A program that has ended already says so by its status.
            let _ = stdin.write_all(b"\n");
        }
        Answers::of(&self.0.finish())
    }
}

/// Who answered each connection, in order: an endpoint's name, the name of the connect's errno, or `closed` where the
/// connection ended without a greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers(pub Vec<String>);

impl Answers {
    #[track_caller]
    fn of(finished: &Finished) -> Self {
        Self(finished.success().lines().map(str::to_owned).collect())
    }

    /// How many each answered, by name.
    pub fn tally(&self) -> BTreeMap<&str, u64> {
        let mut tally = BTreeMap::new();
        for one in &self.0 {
            *tally.entry(one.as_str()).or_default() += 1;
        }
        tally
    }

    /// How many connections there were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
