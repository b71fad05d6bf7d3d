//! A second control plane: go-control-plane's own cache and server (`ctests/go-control-plane`), which does things wrong
//! when told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::control_plane::LISTEN;
use crate::process::Process;
use crate::run::Running;
use crate::wait::{must, wait_until};
use crate::{End, GoMesh, Pod, Variant, artifacts};

/// An answer takes no longer; one that awaits an acknowledgement has 20 s.
const DEADLINE: Duration = Duration::from_secs(40);
/// What the script says where the machine's Go is too old.
const TOO_OLD: i32 = 3;

/// Its counters, since it started.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Counters {
    /// Streams that were answered; one that was refused as not implemented is none.
    pub streams_total: u64,
    /// Streams open now.
    pub streams_open: u64,
    /// The most that were open at one time.
    pub streams_peak: u64,
    /// TCP connections.
    pub connections_total: u64,
    /// TCP connections open now.
    pub connections_open: u64,
    /// Connections that were reset in the middle of a frame.
    pub cuts: u64,
    /// By type: `CDS`, `EDS`, `LDS`, `RDS`, `NDS`.
    pub requests: BTreeMap<String, u64>,
    /// Responses that were sent, by type.
    pub responses: BTreeMap<String, u64>,
    /// Requests that acknowledge, by type.
    pub acks: BTreeMap<String, u64>,
    /// Requests that reject, by type.
    pub nacks: BTreeMap<String, u64>,
    /// What the last one said, by type.
    pub last_nack: BTreeMap<String, String>,
}

impl Counters {
    /// Requests of every type.
    pub fn requests_of_all(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Rejections of every type.
    pub fn nacks_of_all(&self) -> u64 {
        self.nacks.values().sum()
    }
}

/// The running program; it is killed when this is dropped.
#[derive(Debug)]
pub struct GoControlPlane<'pod> {
    pod: &'pod Pod,
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
    agent: Option<Running>,
}

impl Pod {
    /// A pod whose `/etc/hosts` knows the services of a [`GoMesh`]: only Istio's control plane serves names. Its programs
    /// start no agent.
    #[track_caller]
    pub fn without_name_table() -> Self {
        let hosts = "127.0.0.1 localhost app-0\n10.96.0.10 greeter\n10.96.0.11 second\n";
        Self::builder().hosts(hosts).env("LDMESH_LEAD", "never").build()
    }

    /// Starts it, serving a mesh. `None`: this machine's Go is too old to build it, and the test counts as skipped.
    #[track_caller]
    pub fn go_control_plane(&self, variant: Variant, mesh: &GoMesh) -> Option<GoControlPlane<'_>> {
        let program = match must(program()) {
            Ok(program) => program,
            Err(why) => {
                crate::skipped(&why);
                return None;
            }
        };
        let mut server = must(GoControlPlane::start(self, &program, variant));
        server.serve(mesh);
        Some(server)
    }
}

/// The binary, built where it is missing, or why it cannot be.
fn program() -> Result<std::result::Result<PathBuf, String>> {
    match artifacts::script("go-control-plane.sh", &[])? {
        done if done.status.code() == Some(TOO_OLD) => {
            Ok(Err(String::from_utf8_lossy(&done.stderr).lines().last().unwrap_or_default().to_owned()))
        }
        done => Ok(Ok(artifacts::path_of(&done)?)),
    }
}

impl<'pod> GoControlPlane<'pod> {
    fn start(pod: &'pod Pod, program: &Path, variant: Variant) -> Result<Self> {
        let mut command = pod.command(program);
        command.arg(LISTEN).arg(if variant == Variant::Delta { "delta" } else { "sotw" });
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start go-control-plane")?;
        let (commands, output) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        let (told, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { pod, child, commands, answers, agent: None })
    }

    fn try_tell(&mut self, command: &Value) -> Result<Counters> {
        writeln!(self.commands, "{command}").context("tell go-control-plane")?;
        let line = self.answers.recv_timeout(DEADLINE).with_context(|| format!("no answer to {command}"))?;
        let answer: Value = serde_json::from_str(&line)?;
        ensure!(answer.get("error").is_none(), "{command}: {}", answer["error"]);
        Ok(serde_json::from_value(answer)?)
    }

    #[track_caller]
    fn tell(&mut self, command: &Value) -> Counters {
        must(self.try_tell(command))
    }

    /// Serves another mesh from now on.
    #[track_caller]
    pub fn serve(&mut self, mesh: &GoMesh) {
        self.tell(&json!({"do": "serve", "Mesh": mesh.json()}));
    }

    /// Waits until every open stream (and there is one) has acknowledged what is served, of one type.
    #[track_caller]
    pub fn await_ack(&mut self, kind: &str) {
        self.tell(&json!({"do": "await", "Type": kind}));
    }

    /// Holds back what it has to say of these types, on streams to come, too.
    #[track_caller]
    pub fn hold(&mut self, kinds: &[&str]) {
        for kind in kinds {
            self.tell(&json!({"do": "hold", "Type": kind}));
        }
    }

    /// Says what was held back, in this order.
    #[track_caller]
    pub fn release(&mut self, kinds: &[&str]) {
        self.tell(&json!({"do": "release", "Types": kinds}));
    }

    /// Repeats the latest response of a type, with the nonce of the one before.
    #[track_caller]
    pub fn replay(&mut self, kind: &str, times: u32) {
        self.tell(&json!({"do": "replay", "Type": kind, "Times": times}));
    }

    /// Sends one response that has each resource of a type twice: as in one mesh and as in the other.
    #[track_caller]
    pub fn twice(&mut self, kind: &str, first: &GoMesh, then: &GoMesh) {
        self.tell(&json!({"do": "twice", "Type": kind, "Mesh": first.json(), "Then": then.json()}));
    }

    /// Sends a response without any resource.
    #[track_caller]
    pub fn empty(&mut self, kind: &str) {
        self.tell(&json!({"do": "empty", "Type": kind}));
    }

    /// Ends every open stream.
    #[track_caller]
    pub fn end(&mut self, how: End) {
        self.tell(&json!({"do": "end", "How": how.as_str()}));
    }

    /// Sends so many bytes at a time, with a pause behind each; 0 bytes end it.
    #[track_caller]
    pub fn drip(&mut self, bytes: u32, pause: Duration) {
        self.tell(&json!({"do": "drip", "Bytes": bytes, "pause_us": pause.as_micros() as u64}));
    }

    /// Resets each connection after so many more bytes; `None` ends it.
    #[track_caller]
    pub fn cut(&mut self, after: Option<u32>) {
        self.tell(&json!({"do": "cut", "Bytes": after.map_or(-1, i64::from)}));
    }

    /// Says GOAWAY and closes the connection 20 ms later, after so long each; `None` ends it.
    #[track_caller]
    pub fn goaways(&mut self, every: Option<Duration>) {
        self.tell(&json!({"do": "goaways", "every_ms": every.unwrap_or_default().as_millis() as u64}));
    }

    /// Starts the pod's only agent. It leads to the end, however busy the machine is: streams and memory of one leader
    /// can be counted.
    #[track_caller]
    pub fn lead(&mut self) {
        self.agent = Some(Running::start(&mut self.pod.ldmesh(&["agent"])));
    }

    /// The agent that leads.
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn leader(&mut self) -> Process {
        if let Some(agent) = &mut self.agent
            && !agent.has_ended()
        {
            return agent.process();
        }
        panic!("the leader ended\n{}", self.pod.dump());
    }

    /// Its counters.
    #[track_caller]
    pub fn counters(&mut self) -> Counters {
        self.tell(&json!({"do": "stats"}))
    }

    /// Waits until its counters are as `check` wants them, and gives them.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, deadline: Duration, check: impl Fn(&Counters) -> bool) -> Counters {
        let pod = self.pod;
        let mut last = self.counters();
        wait_until(
            what,
            deadline,
            || pod.dump(),
            || {
                last = self.counters();
                check(&last)
            },
        );
        last
    }
}

impl Drop for GoControlPlane<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
