//! The demo's Spring Boot applications in a pod: a client, and servers that it knows by the name of a Service only.
//!
//! Each is a JVM of its own, kept small. `scripts/spring.sh` builds them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::namespace::POD_V4;
use crate::run::Running;
use crate::server::is_listened_at;
use crate::wait::{must, wait_until};
use crate::{Finished, Pod, artifacts};

/// The port of every server.
const PORT: u16 = 8080;
/// The Service's port at each node; here the client has it itself, in kube-proxy's place.
const NODE_PORT: u16 = 30110;
/// A JVM starts in seconds; several start side by side, on cores that are shared.
const READY: Duration = Duration::from_secs(120);

/// The folder with both jars; `None` where there is no JDK or no Maven and neither can be installed. Panics with the
/// words of Maven where they do not build.
#[track_caller]
pub fn spring_jars() -> Option<PathBuf> {
    match artifacts::made_by_script("spring.sh", &[]) {
        Ok(folder) => Some(folder),
        Err(error) => {
            let has = |program: &str| Command::new(program).arg("-version").output().is_ok();
            assert!(!(has("javac") && has("mvn")), "{error:#}");
            None
        }
    }
}

/// A server: the endpoint that others see, and what it says.
#[derive(Debug)]
pub struct SpringServer {
    /// Its pod's address.
    pub address: Ipv4Addr,
    /// Its pod's namespace.
    pub namespace: String,
    /// The version of its deployment.
    pub version: String,
    /// Where it listens: at its pod's address, or on loopback behind a sidecar.
    pub listens: SocketAddrV4,
    running: Running,
}

impl SpringServer {
    /// Its endpoint.
    pub fn endpoint(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, PORT)
    }

    /// What the client says when it was this one that answered.
    pub fn greeting(&self) -> String {
        let Self { namespace, version, .. } = self;
        format!("Greetings from http://{} : hello, spring-server {version} of {namespace}", self.endpoint())
    }

    /// Waits until it listens.
    #[track_caller]
    pub fn wait_until_ready(&mut self, pod: &Pod) {
        wait_until_listening(pod, &mut self.running, self.listens);
    }

    /// Ends it with SIGKILL.
    pub fn kill(self) {
        drop(self.running);
    }
}

/// What the client answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Greeting {
    /// The status of HTTP.
    pub status: u16,
    /// The body.
    pub text: String,
}

impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.text)
    }
}

/// The running client; it is killed when this is dropped.
#[derive(Debug)]
pub struct SpringClient<'pod> {
    pod: &'pod Pod,
    running: Running,
}

/// What the applications of a pod are started with.
#[derive(Debug)]
pub struct Spring<'pod> {
    pod: &'pod Pod,
    jars: PathBuf,
    xds: String,
}

impl Pod {
    /// Spring Boot applications from a folder of [`spring_jars`], pointed at a control plane.
    pub fn spring(&self, jars: &Path, xds: &str) -> Spring<'_> {
        Spring { pod: self, jars: jars.to_owned(), xds: xds.to_owned() }
    }
}

impl<'pod> Spring<'pod> {
    /// Starts a server, preloaded like the client; see [`SpringServer::wait_until_ready`].
    #[track_caller]
    pub fn server(&self, address: Ipv4Addr, namespace: &str, version: &str) -> SpringServer {
        self.server_behind(SocketAddrV4::new(address, PORT), address, namespace, version)
    }

    /// Starts a server that listens on loopback, as the pod's address is its sidecar's.
    #[track_caller]
    pub fn server_behind(
        &self,
        listens: SocketAddrV4,
        address: Ipv4Addr,
        namespace: &str,
        version: &str,
    ) -> SpringServer {
        let mut java = self.java("spring-server.jar", listens);
        // As the downward API tells it.
        java.env("GREETING_ADDRESS", address.to_string());
        java.env("GREETING_NAMESPACE", namespace).env("GREETING_VERSION", version);
        let running = Running::start(&mut java);
        SpringServer { address, namespace: namespace.to_owned(), version: version.to_owned(), listens, running }
    }

    /// Starts the client; see [`SpringClient::wait_until_ready`].
    #[track_caller]
    pub fn client(&self) -> SpringClient<'pod> {
        let running = Running::start(&mut self.java("spring-client.jar", client_place()));
        SpringClient { pod: self.pod, running }
    }

    /// A small JVM of a Spring Boot application that listens at an address.
    fn java(&self, jar: &str, listens: SocketAddrV4) -> Command {
        let mut java = self.pod.mesh("java");
        java.env("LDMESH_XDS", &self.xds);
        java.args(["-Xmx64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData"]);
        // Its working files end with the pod.
        java.arg(format!("-Djava.io.tmpdir={}", self.pod.folder().display())).arg("-jar").arg(self.jars.join(jar));
        java.arg(format!("--server.address={}", listens.ip())).arg(format!("--server.port={}", listens.port()));
        java
    }
}

impl SpringClient<'_> {
    /// Waits until it listens.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        wait_until_listening(self.pod, &mut self.running, client_place());
    }

    /// `GET /hello?address=ADDRESS`, so many times.
    #[track_caller]
    pub fn hello(&self, address: &str, times: usize) -> Vec<Greeting> {
        must(self.try_hello(address, times))
    }

    fn try_hello(&self, address: &str, times: usize) -> Result<Vec<Greeting>> {
        let mut curl = self.pod.command("curl");
        // The fragment makes curl repeat; it stays here.
        let url = format!("http://{}/hello?address={address}#[1-{times}]", client_place());
        curl.args(["-sS", "--max-time", "60", "-w", " %{http_code}\n", &url]);
        let done = Finished::of_within(&mut curl, READY);
        let parse = |line: &str| -> Result<Greeting> {
            let (text, status) = line.rsplit_once(' ').context("no status")?;
            Ok(Greeting { status: status.parse()?, text: text.to_owned() })
        };
        let all = done.stdout.lines().map(|line| parse(line).with_context(|| format!("{line:?}")));
        let all = all.collect::<Result<Vec<_>>>()?;
        ensure!(done.status.success() && all.len() == times, "{} of {times} answers: {done}", all.len());
        Ok(all)
    }
}

fn client_place() -> SocketAddrV4 {
    let address = POD_V4.parse().unwrap_or(Ipv4Addr::LOCALHOST);
    SocketAddrV4::new(address, NODE_PORT)
}

#[track_caller]
fn wait_until_listening(pod: &Pod, running: &mut Running, place: SocketAddrV4) {
    let settled = || is_listened_at(running.process(), place) || running.has_ended();
    wait_until(&format!("a Spring application at {place}"), READY, || pod.dump(), settled);
    assert!(!running.has_ended(), "the Spring application at {place} ended");
}
