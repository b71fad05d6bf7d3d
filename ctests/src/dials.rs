//! Thousands of connections to one address, and who answered each.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use crate::{Finished, Pod, c_program};

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

    /// While so many connections to an endpoint are held.
    pub fn holding(mut self, endpoint: &str, count: usize) -> Self {
        self.arguments.extend(["hold".to_owned(), endpoint.to_owned(), count.to_string()]);
        self
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
        let finished = Finished::of_within(command.args(&self.arguments), DEADLINE);
        Answers(finished.success().lines().map(str::to_owned).collect())
    }
}

/// Who answered each connection, in order: an endpoint's name, the name of the connect's errno, or `closed` where the
/// connection ended without a greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers(pub Vec<String>);

impl Answers {
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
