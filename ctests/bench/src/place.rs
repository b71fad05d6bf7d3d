//! Where clients and servers are: on one loopback, or in two networks with a wire between them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::time::Duration;

use ctests::process::{Process, all};
use ctests::{Finished, Pod, Running, wait_until};

/// The port of every server.
pub const PORT: u16 = 8080;

/// A pod for the clients, and addresses for the servers.
#[derive(Debug)]
pub struct Place<'pod> {
    /// Where the clients are.
    pub pod: &'pod Pod,
    /// The servers' addresses.
    pub servers: [Ipv4Addr; 3],
    /// Keeps the servers' network, where they have one.
    keeper: Option<Running>,
}

impl<'pod> Place<'pod> {
    /// Everybody in the pod, on loopback.
    pub fn loopback(pod: &'pod Pod) -> Self {
        Place { pod, servers: [1, 2, 3].map(|n| Ipv4Addr::new(127, 0, 1, n)), keeper: None }
    }

    /// Servers in a network of their own, as another pod of the node has it: a pair of virtual Ethernet devices.
    #[track_caller]
    pub fn two_networks(pod: &'pod Pod) -> Self {
        let mut command = pod.command("unshare");
        let keeper = Running::start(command.args(["--net", "--", "sleep", "infinity"]).stdin(Stdio::null()));
        let id = keeper.process();
        let has_entered = || id.command_line().starts_with("sleep");
        wait_until("a network for the servers", Duration::from_secs(5), || pod.dump(), has_entered);
        let place = Place { pod, servers: [2, 3, 4].map(|n| Ipv4Addr::new(10, 244, 1, n)), keeper: Some(keeper) };
        pod.ip(&format!(
            "link add wire type veth peer name eth0 netns {}\naddress add 10.244.1.1/24 dev wire\nlink set wire up\n",
            id.0
        ));
        let addresses = place.servers.map(|server| format!("ip address add {server}/24 dev eth0"));
        let script = format!("set -e; ip link set lo up; {}; ip link set eth0 up", addresses.join("; "));
        Finished::of(place.command("sh").args(["-c", &script])).success();
        place
    }

    /// A command on the servers' side.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let Some(keeper) = &self.keeper else { return self.pod.command(program) };
        let mut command = self.pod.command("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", keeper.process().0)).arg("--").arg(program);
        command
    }

    /// The network device towards the servers; on loopback, the one that other pods would be reached by.
    pub fn device(&self) -> &'static str {
        if self.keeper.is_some() { "wire" } else { "eth0" }
    }

    /// The servers with their port.
    pub fn endpoints(&self) -> [SocketAddrV4; 3] {
        self.servers.map(|server| SocketAddrV4::new(server, PORT))
    }

    /// All that runs on both sides.
    pub fn processes(&self) -> Vec<Process> {
        let mut found = self.pod.processes();
        if let Some(network) = self.keeper.as_ref().and_then(|keeper| keeper.process().network()) {
            found.extend(all().into_iter().filter(|one| one.is_alive() && one.network().as_ref() == Some(&network)));
        }
        found
    }
}
