//! Builds the inside of a pod: namespaces, mounts and network, for the calling process.
//!
//! Works without root. An ordinary user may map one user id only, so there the pod has no user but
//! root; where the caller is root, the first 65,536 ids are mapped as they are, and a test can
//! change to another user inside.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change};
use rustix::thread::UnshareFlags;

/// The pod's own IPv4 address, on `eth0`.
pub const POD_V4: &str = "10.244.0.2";
/// The pod's own IPv6 address, on `eth0`.
pub const POD_V6: &str = "2001:db8::2";

/// What a pod looks like from inside.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The host name of the pod.
    pub hostname: String,
    /// A file that becomes `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// A file that becomes `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// Size of the tmpfs at `/run/ldmesh`, as mount(8) takes it (`64m`).
    pub run_dir_size: String,
    /// The root of another system, for programs that change to [`OTHER_ROOT`].
    pub other_root: Option<PathBuf>,
    /// Folders that are seen from the other root, too, under the same paths.
    pub shared: Vec<PathBuf>,
    /// There is `lo` only; somebody else gives it an `eth0`.
    pub without_eth0: bool,
}

/// Where a pod has the root of another system.
pub const OTHER_ROOT: &str = "/run/other-root";

/// Moves the calling process into a new pod. It must be single-threaded.
///
/// `map_helper` starts a program that writes this process's id maps from outside when its standard
/// input is closed; it is used by root only.
pub fn enter_new(shape: &Shape, map_helper: Command) -> Result<()> {
    unshare_and_map(map_helper)?;
    rustix::system::sethostname(shape.hostname.as_bytes()).context("sethostname")?;
    mounts(shape)?;
    if shape.without_eth0 { ip("link set lo up\n") } else { network() }
}

fn unshare_and_map(mut map_helper: Command) -> Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC;
    let helper = if uid == 0 {
        Some(map_helper.stdin(Stdio::piped()).spawn().context("start the id-map helper")?)
    } else {
        None
    };
    // SAFETY: CLONE_FILES, the one flag that makes descriptors of others invalid, is not among them.
    unsafe { rustix::thread::unshare_unsafe(flags) }.context("unshare: this machine does not allow user namespaces")?;
    match helper {
        Some(mut helper) => {
            drop(helper.stdin.take());
            ensure!(helper.wait()?.success(), "the id-map helper failed");
        }
        None => {
            fs::write("/proc/self/setgroups", "deny").context("setgroups")?;
            fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("uid_map")?;
            fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("gid_map")?;
        }
    }
    Ok(())
}

/// The id-map helper: waits for the end of its standard input, then maps the ids of process `pid`.
pub fn map_ids_when_told(pid: u32) -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for map in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{map}");
        // Root in a container of few ids may have only its own to give.
        fs::write(&path, "0 0 65536").or_else(|_| fs::write(&path, "0 0 1")).with_context(|| path)?;
    }
    Ok(())
}

fn mounts(shape: &Shape) -> Result<()> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).context("make mounts private")?;
    // Hides the sockets of the host's name services, too.
    tmpfs(Path::new("/run"), "mode=755")?;
    tmpfs(Path::new("/dev/shm"), "mode=1777")?;
    let run_dir = Path::new("/run/ldmesh");
    fs::create_dir(run_dir)?;
    // As Kubernetes makes an emptyDir: open to all users, not sticky.
    tmpfs(run_dir, &format!("mode=0777,size={}", shape.run_dir_size))?;
    if let Some(file) = &shape.resolv_conf {
        bind_file(file, Path::new("/etc/resolv.conf"))?;
    }
    if let Some(file) = &shape.hosts {
        bind_file(file, Path::new("/etc/hosts"))?;
    }
    match &shape.other_root {
        Some(root) => other_root(root, shape),
        None => Ok(()),
    }
}

/// Makes [`OTHER_ROOT`]: the folders of `root`, each bound, and what is the pod's own. The root itself is a tmpfs,
/// so that no mount point has to be made in `root`.
fn other_root(root: &Path, shape: &Shape) -> Result<()> {
    let at = Path::new(OTHER_ROOT);
    fs::create_dir(at)?;
    tmpfs(at, "mode=755")?;
    let pods_own = ["dev", "proc", "run", "sys", "tmp"];
    for entry in fs::read_dir(root).with_context(|| root.display().to_string())? {
        let entry = entry?;
        let place = at.join(entry.file_name());
        if entry.file_type()?.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, place)?;
        } else if entry.file_type()?.is_dir() && !pods_own.iter().any(|name| entry.file_name() == *name) {
            bind_folder(&entry.path(), &place)?;
        }
    }
    for folder in
        ["/dev", "/proc", "/run/ldmesh"].map(Path::new).into_iter().chain(shape.shared.iter().map(|one| &**one))
    {
        bind_folder(folder, &at.join(folder.strip_prefix("/").unwrap_or(folder)))?;
    }
    for file in ["etc/resolv.conf", "etc/hosts"] {
        mount_bind(Path::new("/").join(file), at.join(file)).with_context(|| format!("bind /{file}"))?;
    }
    Ok(())
}

fn bind_folder(folder: &Path, at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    // With what is mounted below it, as the kernel demands of another user's mounts.
    mount_bind_recursive(folder, at).with_context(|| format!("bind {} at {}", folder.display(), at.display()))
}

fn tmpfs(at: &Path, options: &str) -> Result<()> {
    let options = std::ffi::CString::new(options)?;
    mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
        .with_context(|| format!("mount a tmpfs at {}", at.display()))
}

/// Binds `file` over `at`; where `at` is a link into the `/run` that is now hidden, its target is
/// made first.
fn bind_file(file: &Path, at: &Path) -> Result<()> {
    if !at.exists() {
        let link = fs::read_link(at).with_context(|| format!("{} does not exist on this machine", at.display()))?;
        let target = at.parent().unwrap_or(Path::new("/")).join(link);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create(&target).with_context(|| target.display().to_string())?;
    }
    mount_bind(file, at).with_context(|| format!("bind {} over {}", file.display(), at.display()))
}

/// `lo`, and an `eth0` that leads nowhere: its other end is in the same namespace.
/// There is no default route, so a connection to a VIP fails with ENETUNREACH at once.
fn network() -> Result<()> {
    // Without duplicate address detection: a tentative address cannot be bound to.
    ip(&format!(
        "link set lo up
         link add eth0 type veth peer name eth0-peer
         link set eth0-peer up
         link set eth0 up
         address add {POD_V4}/24 dev eth0
         address add {POD_V6}/64 dev eth0 nodad
        "
    ))
}

/// Runs a batch of `ip` commands (without the word `ip`) in the current network namespace.
pub fn ip(batch: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start `ip`: install iproute2")?;
    if let Some(stdin) = child.stdin.as_mut() {
        stdin.write_all(batch.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip -batch: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
