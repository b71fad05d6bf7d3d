//! What stands between a client and the servers of one service.

mod envoys;
mod node;

use std::fmt::Debug;
use std::process::Command;

use ctests::process::Process;
use ctests::{CONTROL_PLANE_URL, Finished, Manifest, Running, Service, artifacts};

use crate::place::Place;

pub use envoys::{envoys, version as envoy_version};
pub use node::kube_proxy;

/// The service's own address, of which only preloaded clients and the node's rules know something.
pub const SERVICE: &str = "10.96.0.10:80";
/// Bytes of the large answer.
const LARGE: u64 = 64 << 20;
const WRAPPED: &str = "127.0.0.10:8080";

/// A way from a client to the servers, which stands until this is dropped.
#[derive(Debug)]
pub struct Way<'place> {
    /// What it is called in tables.
    pub name: &'static str,
    /// Where its clients and servers are.
    pub place: &'place Place<'place>,
    /// Where a client connects to, as HOST:PORT.
    pub at: String,
    /// What the clients' environment has more.
    pub env: Vec<(String, String)>,
    /// What runs for it beside client and servers; with their children.
    helpers: Vec<Process>,
    /// What has to stand for it.
    _needs: Vec<Box<dyn Debug + 'place>>,
}

impl<'place> Way<'place> {
    fn new(name: &'static str, place: &'place Place<'place>, at: impl ToString) -> Self {
        Way { name, place, at: at.to_string(), env: Vec::new(), helpers: Vec::new(), _needs: Vec::new() }
    }

    /// False for what it is compared with.
    pub fn is_ours(&self) -> bool {
        matches!(self.name, "direct" | "ldmesh")
    }

    fn needs(mut self, what: impl Debug + 'place) -> Self {
        self._needs.push(Box::new(what));
        self
    }

    fn helped_by(mut self, process: Process) -> Self {
        self.helpers.push(process);
        self
    }

    fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Who runs for it beside client and servers. (The control plane is not of the pod.)
    pub fn helpers(&self) -> Vec<Process> {
        let is_child = |one: &Process| {
            let parent = one.status("PPid").and_then(|id| id.parse().ok());
            parent.is_some_and(|parent| self.helpers.contains(&Process(parent)))
        };
        let mut found = self.helpers.clone();
        found.extend(self.place.processes().into_iter().filter(is_child));
        if self.env.iter().any(|(name, _)| name == "LDMESH_XDS") {
            found.extend(self.place.pod.agents());
        }
        found
    }

    /// A client program on this way.
    pub fn client(&self, program: &std::path::Path) -> Command {
        let mut command = self.place.pod.command(program);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The servers of a place: one nginx at three addresses.
#[track_caller]
pub fn servers(place: &Place<'_>) -> Running {
    let large = std::fs::File::create(place.pod.folder().join("large"));
    large.and_then(|file| file.set_len(LARGE)).unwrap_or_else(|error| panic!("a large file: {error}"));
    let listen: String = place.endpoints().iter().map(|at| format!("listen {at} backlog=4096;\n    ")).collect();
    nginx(place, "backend", &listen, &[])
}

fn nginx(place: &Place<'_>, name: &str, listen: &str, env: &[(&str, &str)]) -> Running {
    let folder = place.pod.folder().join(name);
    let _ = std::fs::create_dir(&folder);
    let config = place.pod.config("bench/backend.conf", &[("@NAME@", name), ("@LISTEN@", listen)]);
    let own = config.with_file_name(format!("{name}.conf"));
    std::fs::rename(&config, &own).unwrap_or_else(|error| panic!("{}: {error}", own.display()));
    let mut command = place.command("nginx");
    command.arg("-c").arg(own).envs(env.iter().copied());
    if env.is_empty() {
        place.pod.server(&mut command, &place.endpoints()[0].to_string())
    } else {
        Running::start(&mut command)
    }
}

/// A client that connects to one of the servers itself.
pub fn direct<'a>(place: &'a Place<'a>) -> Way<'a> {
    Way::new("direct", place, place.endpoints()[0])
}

/// A preloaded client that connects to the service.
#[track_caller]
pub fn ldmesh<'a>(place: &'a Place<'a>) -> Way<'a> {
    let addresses = place.servers.map(|server| server.to_string());
    let endpoints: Vec<_> = addresses.iter().map(String::as_str).collect();
    let (address, _) = SERVICE.split_once(':').unwrap_or_default();
    let service = Service::new("greeter", "default", &[address], &endpoints);
    let control_plane = place.pod.serve(&Manifest::of(&[service]));
    // The pod's first configuration is waited for by whoever asks for a name.
    Finished::of(place.pod.mesh("getent").args(["ahostsv4", "greeter"])).success();
    Way::new("ldmesh", place, SERVICE)
        .env("LD_PRELOAD", artifacts().library.display())
        .env("LDMESH_XDS", CONTROL_PLANE_URL)
        .needs(control_plane)
}

/// HAProxy beside the client, as a proxy of connections.
#[track_caller]
pub fn haproxy<'a>(place: &'a Place<'a>) -> Way<'a> {
    let at = &beside(3, 9000);
    let line = |(n, server)| format!("  server s{n} {server}\n");
    let servers: String = place.endpoints().iter().enumerate().map(line).collect();
    let config = place.pod.config("bench/haproxy.cfg", &[("@AT@", at.as_str()), ("@SERVERS@", &servers)]);
    let running = place.pod.server(place.pod.command("haproxy").arg("-f").arg(config), at);
    Way::new("HAProxy, TCP", place, at).helped_by(running.process()).needs(running)
}

/// nginx beside the client, as a proxy of connections.
#[track_caller]
pub fn nginx_stream<'a>(place: &'a Place<'a>) -> Way<'a> {
    let at = &beside(4, 9000);
    let servers: String = place.endpoints().iter().map(|server| format!("server {server};\n    ")).collect();
    let config = place.pod.config("bench/stream.conf", &[("@AT@", at.as_str()), ("@SERVERS@", &servers)]);
    let running = place.pod.server(place.pod.command("nginx").arg("-c").arg(config), at);
    Way::new("nginx, stream", place, at).helped_by(running.process()).needs(running)
}

/// A client preloaded with proxychains-ng, whose configuration says which server an address stands for. It connects by
/// a SOCKS proxy, since that is all it can do with an address that it changes.
#[track_caller]
pub fn proxychains<'a>(place: &'a Place<'a>) -> Way<'a> {
    let (host, port) = ("127.0.9.5", "9000");
    let proxy = place.pod.server(place.pod.command("microsocks").args(["-i", host, "-p", port]), &beside(5, 9000));
    let words = [
        ("@SERVICE@", SERVICE.to_owned()),
        ("@SERVER@", place.endpoints()[0].to_string()),
        ("@PROXY@", format!("{host} {port}")),
    ];
    let config = place.pod.config("bench/proxychains.conf", &words.each_ref().map(|(word, value)| (*word, &**value)));
    Way::new("proxychains-ng and a SOCKS proxy", place, SERVICE)
        .env("LD_PRELOAD", "libproxychains.so.4")
        .env("PROXYCHAINS_CONF_FILE", config.display())
        .env("PROXYCHAINS_QUIET_MODE", "1")
        .helped_by(proxy.process())
        .needs(proxy)
}

/// A client and a server preloaded with socket_wrapper, which makes Unix sockets of both ends.
#[track_caller]
pub fn socket_wrapper<'a>(place: &'a Place<'a>) -> Way<'a> {
    let folder = place.pod.folder().join("wrapped");
    std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let folder = folder.display().to_string();
    let env = [("LD_PRELOAD", "libsocket_wrapper.so"), ("SOCKET_WRAPPER_DIR", folder.as_str())];
    let server = nginx(place, "wrapped-backend", &format!("listen {WRAPPED};"), &env);
    let way = Way::new("socket_wrapper, preloaded at both ends", place, WRAPPED).needs(server);
    env.iter().fold(way, |way, (name, value)| way.env(name, value))
}

/// The port at which something beside the client listens.
fn beside(host: u8, port: u16) -> String {
    format!("127.0.9.{host}:{port}")
}
