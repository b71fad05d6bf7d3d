//! A pod: namespaces held open by a process, and ways to run programs inside them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Gid, Pid, PidfdFlags, Uid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces, set_thread_groups};
use serde_json::Value;
use tempfile::TempDir;

use crate::namespace::{OTHER_ROOT, POD_V4};
use crate::process::{self, Process};
use crate::run::Finished;
use crate::wait::must;
use crate::{CONTROL_PLANE_URL, artifacts};

const CLUSTER_RESOLV_CONF: &str = "\
search default.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.53
options ndots:5 timeout:1 attempts:1
";

/// What a pod is to look like; [`Pod::builder`] gives the usual one.
#[derive(Debug, Clone)]
pub struct PodBuilder {
    hostname: String,
    resolv_conf: String,
    hosts: Option<String>,
    run_dir_size: String,
    other_root: Option<PathBuf>,
    shared: Vec<PathBuf>,
    environment: Vec<(String, String)>,
    control_plane: String,
    node: Option<Arc<File>>,
}

impl PodBuilder {
    /// The pod's host name.
    pub fn hostname(mut self, name: &str) -> Self {
        name.clone_into(&mut self.hostname);
        self
    }

    /// The text of `/etc/resolv.conf`.
    pub fn resolv_conf(mut self, text: &str) -> Self {
        text.clone_into(&mut self.resolv_conf);
        self
    }

    /// The text of `/etc/hosts`; the usual one names `localhost` and the pod.
    pub fn hosts(mut self, text: &str) -> Self {
        self.hosts = Some(text.to_owned());
        self
    }

    /// The size of the tmpfs at `/run/ldmesh`, as mount(8) takes it.
    pub fn run_dir_size(mut self, size: &str) -> Self {
        size.clone_into(&mut self.run_dir_size);
        self
    }

    /// The root of another system for the programs that [`Pod::enter_other_root`] puts there. They see the pod's
    /// folder, `/run/ldmesh`, `hosts` and `resolv.conf`, and the `shared` folders.
    pub fn other_root(mut self, root: &Path, shared: &[&Path]) -> Self {
        self.other_root = Some(root.to_owned());
        self.shared = shared.iter().map(|&folder| folder.to_owned()).collect();
        self
    }

    /// A variable for every program of the pod.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where the programs of the pod find their control plane.
    pub fn control_plane(mut self, url: &str) -> Self {
        url.clone_into(&mut self.control_plane);
        self
    }

    /// A pod within another one, which is the only way out of its network; see [`Pod::beside`].
    pub(crate) fn within(mut self, node: &Pod) -> Self {
        self.node = Some(Arc::clone(&node.namespaces));
        self
    }

    /// Makes the pod; panics with the reason where that is impossible.
    #[track_caller]
    pub fn build(self) -> Pod {
        must(self.try_build())
    }

    /// Makes the pod.
    pub fn try_build(self) -> Result<Pod> {
        let folder = TempDir::with_prefix("pod-")?;
        // Programs of other users of the pod read manifests and write logs here.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let file = |name: &str, text: &str| -> Result<PathBuf> {
            let path = folder.path().join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
            Ok(path)
        };
        let hosts = self.hosts.clone().unwrap_or_else(|| {
            format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n{POD_V4} {}\n", self.hostname)
        });
        let mut holder = Command::new(artifacts::harness_binary("pod")?);
        holder
            .arg("hold")
            .args(["--hostname", &self.hostname, "--run-dir-size", &self.run_dir_size])
            .arg("--resolv-conf")
            .arg(file("resolv.conf", &self.resolv_conf)?)
            .arg("--hosts")
            .arg(file("hosts", &hosts)?)
            .args(self.other_root.iter().flat_map(|root| [Path::new("--other-root"), root]))
            .args(self.shared.iter().flat_map(|folder| [Path::new("--shared"), folder]))
            .arg("--shared")
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the test; the holder then tidies up.
            .process_group(0);
        if let Some(node) = &self.node {
            enter(holder.arg("--without-eth0"), node);
        }
        let mut child = holder.spawn().context("start the pod's holder")?;
        let mut said = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut said)?;
        if said.trim() != "ready" {
            let mut why = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                stderr.read_to_string(&mut why)?;
            }
            child.wait()?;
            anyhow::bail!("no pod: {}", why.trim());
        }
        let keep = child.stdin.take();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no pid")?;
        let namespaces = File::from(pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?);
        let Self { environment, control_plane, .. } = self;
        Ok(Pod { holder: child, keep, namespaces: Arc::new(namespaces), folder, environment, control_plane })
    }
}

/// A running pod. Dropping it ends everything that was started inside.
#[derive(Debug)]
pub struct Pod {
    holder: Child,
    keep: Option<ChildStdin>,
    namespaces: Arc<File>,
    folder: TempDir,
    environment: Vec<(String, String)>,
    control_plane: String,
}

impl Pod {
    /// The usual pod: host name `app-0`, a cluster's resolv.conf, an empty `/run/ldmesh`.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "starts processes")]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// What the usual pod looks like, to be changed.
    pub fn builder() -> PodBuilder {
        PodBuilder {
            hostname: "app-0".to_owned(),
            resolv_conf: CLUSTER_RESOLV_CONF.to_owned(),
            hosts: None,
            run_dir_size: "256m".to_owned(),
            other_root: None,
            shared: Vec::new(),
            // A first lookup on a busy machine: a test that measures the wait says how long it is.
            environment: vec![("LDMESH_READY_TIMEOUT".to_owned(), "20s".to_owned())],
            control_plane: CONTROL_PLANE_URL.to_owned(),
            node: None,
        }
    }

    /// A folder on the host's disk for the test's files, seen inside under the same path, and
    /// removed with the pod. `hosts` and `resolv.conf` in it are the pod's: write to them in place.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command inside the pod, without the library, in an environment of PATH, HOME and LANG.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.clean(program);
        self.enter(&mut command);
        command
    }

    /// A command inside the pod as another user (`uid` is also its only group).
    pub fn command_as(&self, uid: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command(program);
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        // SAFETY: the closure makes system calls on its own numbers only, after the one of `enter`.
        unsafe {
            command.pre_exec(move || {
                set_thread_groups(&[])?;
                rustix::thread::set_thread_gid(group)?;
                Ok(rustix::thread::set_thread_uid(user)?)
            })
        };
        command
    }

    /// A command inside the pod, preloaded and pointed at the pod's control plane.
    pub fn mesh(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command(program);
        self.preload(&mut command);
        command
    }

    /// Like [`Pod::mesh`], as another user.
    pub fn mesh_as(&self, uid: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command_as(uid, program);
        self.preload(&mut command);
        command
    }

    /// A preloaded `curl` of one URL, silent but for errors.
    pub fn curl(&self, url: &str) -> Command {
        let mut curl = self.mesh("curl");
        curl.args(["-sS", "--max-time", "10", url]);
        curl
    }

    /// An `ldmesh` command in the pod, pointed at its control plane, not preloaded.
    pub fn ldmesh(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&artifacts::artifacts().ldmesh);
        command.args(arguments).env("LDMESH_XDS", &self.control_plane);
        command
    }

    /// What `ldmesh status --json` prints.
    #[track_caller]
    pub fn status(&self) -> Value {
        let status = Finished::of(&mut self.ldmesh(&["status", "--json"]));
        must(serde_json::from_str(status.success()).context("status --json"))
    }

    /// A preloaded command that is PID 1 of a PID namespace of its own.
    /// The id of the child is that of `unshare`, its parent.
    pub fn mesh_as_init(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "env"])
            .arg(preload_assignment())
            .arg(format!("LDMESH_XDS={}", self.control_plane))
            .arg(program);
        command
    }

    /// Preloads a command and points it at the pod's control plane.
    fn preload(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &artifacts::artifacts().library).env("LDMESH_XDS", &self.control_plane);
    }

    /// The process that holds its namespaces.
    pub(crate) fn holder(&self) -> u32 {
        self.holder.id()
    }

    fn clean(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/nonexistent")
            .env("LANG", "C.UTF-8")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Makes a command run inside the pod, with what it inherits otherwise unchanged.
    pub fn enter<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        enter(command, &self.namespaces)
    }

    /// Makes a command of this pod run in its other root, in the folder `/`.
    pub fn enter_other_root<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        // SAFETY: between fork and exec the closure makes system calls on constants, after the one of `enter`.
        unsafe {
            command.pre_exec(|| {
                rustix::process::chroot(OTHER_ROOT)?;
                Ok(rustix::process::chdir("/")?)
            })
        }
    }

    /// Runs a batch of `ip` commands inside, one a line, such as
    /// `route add local 10.96.0.0/16 dev lo`.
    #[track_caller]
    pub fn ip(&self, batch: &str) {
        let file = self.folder().join("ip.batch");
        must(fs::write(&file, batch).context("write the batch"));
        let done = self.command("ip").arg("-batch").arg(&file).output();
        must(done.context("start ip").and_then(|done| {
            ensure!(done.status.success(), "ip: {}", String::from_utf8_lossy(&done.stderr));
            Ok(())
        }));
    }

    /// The processes that run in this pod now, without the holder.
    pub fn processes(&self) -> Vec<Process> {
        let holder = Process(self.holder.id());
        let here = holder.network();
        process::all().into_iter().filter(|&one| one != holder && one.is_alive() && one.network() == here).collect()
    }

    /// The processes of the pod that run `ldmesh agent`.
    pub fn agents(&self) -> Vec<Process> {
        let mut found = self.processes();
        found.retain(|one| {
            let line = one.command_line();
            let mut words = line.split(' ');
            words.next().is_some_and(|exe| exe.ends_with("ldmesh")) && words.next() == Some("agent")
        });
        found
    }

    /// The files below `/run/ldmesh` of the pod, through the holder's root.
    pub fn run_dir(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run/ldmesh", self.holder.id()))
    }

    /// Everything a person wants to see when a test of this pod failed.
    pub fn dump(&self) -> String {
        let mut text = String::from("processes of the pod:\n");
        for one in self.processes() {
            let state = one.status("State").unwrap_or_default();
            text.push_str(&format!("  {} [{state}] {}\n", one.0, one.command_line()));
        }
        text.push_str("run directory:\n");
        let mut folders = vec![self.run_dir()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let size = entry.metadata().map(|data| data.len()).unwrap_or_default();
                text.push_str(&format!("  {} {size} bytes\n", entry.path().display()));
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                }
            }
        }
        let mut sockets = self.command("ss");
        sockets.args(["-tanp", "exclude", "time-wait"]);
        let mut commands = vec![("sockets", sockets)];
        // A dump runs in a panicking test, where another panic would abort.
        if artifacts::find().is_ok() {
            commands.push(("status", self.ldmesh(&["status"])));
        }
        for (what, mut command) in commands {
            if let Ok(done) = crate::run::within(&mut command, Duration::from_secs(3)) {
                text.push_str(&format!("{what}:\n{}{}", done.stdout, done.stderr));
            }
        }
        text
    }
}

/// Makes a command run inside the namespaces of a pod.
fn enter<'a>(command: &'a mut Command, namespaces: &Arc<File>) -> &'a mut Command {
    let namespaces = Arc::clone(namespaces);
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    // SAFETY: between fork and exec the closure makes system calls only; what it needs was
    // allocated before (rustix copies so short a path to the stack).
    unsafe {
        command.pre_exec(move || {
            let kinds = ThreadNameSpaceType::USER
                | ThreadNameSpaceType::NETWORK
                | ThreadNameSpaceType::MOUNT
                | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
                | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
            move_into_thread_name_spaces(namespaces.as_fd(), kinds)?;
            // A mount namespace is entered at its root.
            rustix::process::chdir(&folder)?;
            Ok(())
        })
    }
}

fn preload_assignment() -> std::ffi::OsString {
    let mut assignment = std::ffi::OsString::from("LD_PRELOAD=");
    assignment.push(&artifacts::artifacts().library);
    assignment
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.dump());
        }
        // The end of its standard input tells the holder to end everything inside, and itself.
        drop(self.keep.take());
        let _ = self.holder.wait();
    }
}
