//! The two files, parsed, kept, and read again when they change.
//!
//! A lookup makes one stat(2) per file and compares. A changed file is parsed into a new version that is never freed,
//! so that readers need neither a lock nor a count, in threads and after fork alike. The versions of a process are
//! bounded in number and in bytes; past the bound a changed file is not followed and the lookup passes to libc.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use once_cell::race::OnceRef;
use rustix::fs::Stat;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;

use super::candidates::{absolute, is_host_name};
use super::{
    Candidates, Families, Hosts, LibcName, ResolvConf, ResolverEnv, candidates, is_localhost, is_numeric_host,
};
use crate::config::read::read_regular;

const MAX_VERSIONS: usize = 1000;
const MAX_FILE: usize = 1 << 20;
const MAX_LEAKED: usize = 16 << 20;
/// What parsing takes at most for each byte of a file: names of one letter are kept in some dozens.
const PARSED: usize = 64;
/// Two writes within one tick of the kernel's coarse clock leave the same times behind; a tick is at most 10 ms.
const TICK_MARGIN_NS: i128 = 50_000_000;

/// Why a file's content is not known; the lookup passes to libc.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unknown {
    /// It cannot be read.
    #[error("cannot read {path}: {error}; names pass to libc until it can be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: Errno,
    },
    /// It changed too often in the life of this process.
    #[error("{path} changed too often to be followed; names pass to libc in this process")]
    Bounded {
        /// The file.
        path: PathBuf,
    },
}

/// Who answers a name.
#[derive(Debug)]
pub enum Whose<'a> {
    /// libc, at once.
    Libc(LibcName),
    /// The image, if it knows one of these; else libc.
    Ask(Candidates<'a>),
    /// Nobody can tell: libc.
    Unknown(Unknown),
}

/// resolv.conf and hosts, as of now.
#[derive(Debug)]
pub struct NameFiles {
    resolv_conf: Followed<ResolvConf>,
    hosts: Followed<Hosts>,
    env: ResolverEnv,
}

impl NameFiles {
    /// The system's files. Reads nothing yet.
    pub fn system(env: ResolverEnv) -> NameFiles {
        NameFiles::at("/etc/resolv.conf", "/etc/hosts", env)
    }

    /// Other files.
    pub fn at(resolv_conf: impl Into<PathBuf>, hosts: impl Into<PathBuf>, env: ResolverEnv) -> NameFiles {
        NameFiles { resolv_conf: Followed::new(resolv_conf.into()), hosts: Followed::new(hosts.into()), env }
    }

    /// Who answers this name, asked for in these families. Two system calls and uname(2) while nothing changed.
    pub fn whose<'a>(&self, name: &'a str, asked: Families) -> Whose<'a> {
        if is_numeric_host(name) {
            return Whose::Libc(LibcName::Numeric);
        }
        if !is_host_name(name.strip_suffix('.').unwrap_or(name)) {
            return Whose::Libc(LibcName::Malformed);
        }
        if is_localhost(name) {
            return Whose::Libc(LibcName::Localhost);
        }
        let uname = rustix::system::uname();
        let hostname = uname.nodename().to_str().unwrap_or_default();
        if name.eq_ignore_ascii_case(hostname) {
            return Whose::Libc(LibcName::OwnHostname);
        }
        match self.hosts.get(Hosts::parse) {
            Ok(hosts) if hosts.answers(name, asked) => return Whose::Libc(LibcName::HostsFile),
            Ok(_) => {}
            Err(unknown) => return Whose::Unknown(unknown),
        }
        self.searched(name, hostname)
    }

    /// Who answers this name when the DNS is asked for it: hosts file and host name have no say. `search` = with the
    /// search list, as res_search(3); else it is a full name, as for res_query(3).
    pub fn whose_in_dns<'a>(&self, name: &'a str, search: bool) -> Whose<'a> {
        if !search {
            return Whose::Ask(absolute(name));
        }
        let uname = rustix::system::uname();
        self.searched(name, uname.nodename().to_str().unwrap_or_default())
    }

    fn searched<'a>(&self, name: &'a str, hostname: &str) -> Whose<'a> {
        if self.env.host_aliases && !name.contains('.') {
            return Whose::Libc(LibcName::HostAlias);
        }
        match self.resolv_conf.get(|file| ResolvConf::parse(file, &self.env, hostname)) {
            Ok(conf) => Whose::Ask(candidates(name, conf)),
            Err(unknown) => Whose::Unknown(unknown),
        }
    }
}

/// What tells two contents of a path apart; `None` is a file that is not there.
type Identity = Option<[i128; 4]>;

fn identity(stat: &Stat) -> Identity {
    let nanoseconds = |s: i128, ns: i128| s.saturating_mul(1_000_000_000).saturating_add(ns);
    let changed = nanoseconds(stat.st_ctime.into(), stat.st_ctime_nsec.into());
    let modified = nanoseconds(stat.st_mtime.into(), stat.st_mtime_nsec.into());
    // Device numbers matter when a path is mounted over.
    Some([changed, modified, stat.st_size.into(), (i128::from(stat.st_dev) << 64) | i128::from(stat.st_ino)])
}

#[derive(Debug)]
struct Version<T> {
    identity: Identity,
    /// Read so soon after a change that another one could hide behind the same times.
    unsettled: bool,
    content: T,
}

#[derive(Debug)]
struct Followed<T: 'static> {
    path: PathBuf,
    versions: Box<[OnceRef<'static, Version<T>>]>,
    /// How many places of `versions` were given away; the last ones may still be empty.
    used: AtomicUsize,
    current: AtomicUsize,
    leaked: AtomicUsize,
}

impl<T: PartialEq + 'static> Followed<T> {
    fn new(path: PathBuf) -> Self {
        let versions = (0..MAX_VERSIONS).map(|_| OnceRef::new()).collect();
        Followed {
            path,
            versions,
            used: AtomicUsize::new(0),
            current: AtomicUsize::new(0),
            leaked: AtomicUsize::new(0),
        }
    }

    fn version(&self, at: usize) -> Option<&'static Version<T>> {
        self.versions.get(at)?.get()
    }

    fn get(&self, parse: impl FnOnce(&[u8]) -> T) -> Result<&'static T, Unknown> {
        let unreadable = |error| Unknown::Unreadable { path: self.path.clone(), error };
        let now = present(rustix::io::retry_on_intr(|| rustix::fs::stat(&self.path)))
            .map_err(unreadable)?
            .and_then(|stat| identity(&stat));
        let current = self.version(self.current.load(Ordering::Acquire));
        if let Some(version) = current.filter(|version| version.identity == now && !version.unsettled) {
            return Ok(&version.content);
        }
        // Another thread may have stored it while `current` moved, or the file is gone again.
        let used = self.used.load(Ordering::Acquire).min(MAX_VERSIONS);
        let known = |at: &usize| self.version(*at).is_some_and(|v| v.identity == now && !v.unsettled);
        if let Some(at) = (0..used).rev().find(known) {
            self.current.store(at, Ordering::Release);
            if let Some(version) = self.version(at) {
                return Ok(&version.content);
            }
        }
        let (bytes, identity, unsettled) = self.read().map_err(unreadable)?;
        let content = parse(&bytes);
        if let Some(version) = current
            && version.identity == identity
            && version.unsettled == unsettled
            && version.content == content
        {
            return Ok(&version.content);
        }
        self.keep(Version { identity, unsettled, content }, bytes.len())
    }

    fn read(&self) -> Result<(Vec<u8>, Identity, bool), Errno> {
        let Some((bytes, stat)) = present(read_regular(Path::new(&self.path), MAX_FILE))? else {
            return Ok((Vec::new(), None, false));
        };
        // Parsing has no answer to a process that may have no more memory: it would end it.
        Vec::<u8>::new().try_reserve_exact(bytes.len().saturating_mul(PARSED)).map_err(|_| Errno::NOMEM)?;
        let identity = identity(&stat);
        let now = clock_gettime(ClockId::Realtime);
        let now = i128::from(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.into());
        let changed = identity.map_or(0, |[changed, ..]| changed);
        Ok((bytes, identity, now.abs_diff(changed) < TICK_MARGIN_NS.unsigned_abs()))
    }

    fn keep(&self, version: Version<T>, bytes: usize) -> Result<&'static T, Unknown> {
        let bounded = || Unknown::Bounded { path: self.path.clone() };
        // Checked before anything is added: a full table stays as it is.
        let leaked = self.leaked.load(Ordering::Relaxed);
        if self.used.load(Ordering::Relaxed) >= MAX_VERSIONS || leaked.saturating_add(bytes) > MAX_LEAKED {
            return Err(bounded());
        }
        let at = self.used.fetch_add(1, Ordering::AcqRel);
        let place = self.versions.get(at).ok_or_else(bounded)?;
        self.leaked.fetch_add(bytes, Ordering::Relaxed);
        let version: &'static Version<T> = Box::leak(Box::new(version));
        // Never taken already: `at` was given to this thread alone.
        let _ = place.set(version);
        self.current.store(at, Ordering::Release);
        Ok(&version.content)
    }
}

/// A file that is not there is an empty one; any other failure is one.
fn present<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Files {
        folder: tempfile::TempDir,
        files: NameFiles,
    }

    fn files(env: ResolverEnv) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let files = NameFiles::at(folder.path().join("resolv.conf"), folder.path().join("hosts"), env);
        Files { folder, files }
    }

    impl Files {
        fn write(&self, file: &str, text: &str) {
            fs::write(self.folder.path().join(file), text).unwrap();
        }

        #[track_caller]
        fn asked(&self, name: &str) -> Vec<String> {
            match self.files.whose(name, Families::ANY) {
                Whose::Ask(candidates) => candidates.map(|c| c.as_str().to_owned()).collect(),
                other => panic!("{name}: {other:?}"),
            }
        }

        #[track_caller]
        fn check_libc(&self, name: &str, asked: Families, expected: LibcName) {
            match self.files.whose(name, asked) {
                Whose::Libc(found) => assert_eq!(found, expected, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn libc_keeps_what_is_its_business() {
        let files = files(ResolverEnv { host_aliases: true, ..ResolverEnv::default() });
        files.write("hosts", "10.0.0.1 pinned\n");
        files.check_libc("pinned", Families::V4, LibcName::HostsFile);
        files.check_libc("127.1", Families::ANY, LibcName::Numeric);
        files.check_libc("fe80::1%eth0", Families::ANY, LibcName::Numeric);
        files.check_libc("LocalHost.", Families::ANY, LibcName::Localhost);
        files.check_libc("a.localhost", Families::ANY, LibcName::Localhost);
        files.check_libc("a b", Families::ANY, LibcName::Malformed);
        files.check_libc("short", Families::ANY, LibcName::HostAlias);
        let uname = rustix::system::uname();
        let hostname = uname.nodename().to_str().unwrap();
        files.check_libc(&hostname.to_ascii_uppercase(), Families::ANY, LibcName::OwnHostname);
        assert_eq!(files.asked("notlocalhost.x").first().map(String::as_str), Some("notlocalhost.x"));
        assert!(matches!(files.files.whose("pinned.", Families::ANY), Whose::Ask(_)), "the file has no final dot");
    }

    #[test]
    fn a_hosts_line_of_the_other_family_does_not_hide_the_mesh() {
        let files = files(ResolverEnv::default());
        files.write("hosts", "10.0.0.1 pinned\n");
        assert!(matches!(files.files.whose("pinned", Families::V6), Whose::Ask(_)));
    }

    #[test]
    fn each_change_of_a_file_is_seen_by_the_next_lookup() {
        let files = files(ResolverEnv { local_domain: None, ..ResolverEnv::default() });
        files.write("resolv.conf", "search none\noptions ndots:5\n");
        for round in 0..50 {
            // The same length each time: only the content differs, within one tick of the clock.
            files.write("resolv.conf", &format!("search d{round:02}\noptions ndots:5\n"));
            assert_eq!(files.asked("x"), [format!("x.d{round:02}"), "x".to_owned()]);
        }
        fs::remove_file(files.folder.path().join("resolv.conf")).unwrap();
        assert_eq!(files.asked("x.y").first().map(String::as_str), Some("x.y"), "an absent file is an empty one");
    }

    #[test]
    fn a_file_replaced_by_another_is_seen() {
        let files = files(ResolverEnv::default());
        files.write("hosts", "10.0.0.1 one\n");
        files.check_libc("one", Families::V4, LibcName::HostsFile);
        files.write("new", "10.0.0.1 two\n");
        fs::rename(files.folder.path().join("new"), files.folder.path().join("hosts")).unwrap();
        files.check_libc("two", Families::V4, LibcName::HostsFile);
        assert!(matches!(files.files.whose("one", Families::V4), Whose::Ask(_)));
    }

    #[test]
    fn lookups_without_a_change_keep_one_version() {
        let files = files(ResolverEnv::default());
        files.write("hosts", "10.0.0.1 one\n");
        for _ in 0..MAX_VERSIONS.saturating_mul(2) {
            files.check_libc("one", Families::V4, LibcName::HostsFile);
        }
        // One read while unsettled, one after.
        assert!(files.files.hosts.used.load(Ordering::Relaxed) <= 2);
    }

    #[test]
    fn past_the_bound_a_changed_file_passes_and_memory_stays() {
        let files = files(ResolverEnv::default());
        for round in 0..=MAX_VERSIONS {
            files.write("hosts", &format!("10.0.0.1 n{round}\n"));
            let name = format!("n{round}");
            let whose = files.files.whose(&name, Families::V4);
            if round < MAX_VERSIONS {
                assert!(matches!(whose, Whose::Libc(LibcName::HostsFile)), "{round}: {whose:?}");
            }
        }
        let whose = files.files.whose("x", Families::V4);
        assert!(matches!(whose, Whose::Unknown(Unknown::Bounded { .. })), "{whose:?}");
        assert_eq!(files.files.hosts.used.load(Ordering::Relaxed), MAX_VERSIONS);
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_never_blocks() {
        let files = files(ResolverEnv::default());
        let hosts = files.folder.path().join("hosts");
        rustix::fs::mknodat(rustix::fs::CWD, &hosts, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(files.files.whose("x", Families::V4), Whose::Unknown(Unknown::Unreadable { .. })));
        fs::remove_file(&hosts).unwrap();
        fs::write(&hosts, vec![b'#'; MAX_FILE + 1]).unwrap();
        assert!(matches!(files.files.whose("x", Families::V4), Whose::Unknown(Unknown::Unreadable { .. })));
    }

    #[test]
    fn threads_agree_while_the_file_changes() {
        let files = files(ResolverEnv::default());
        files.write("hosts", "10.0.0.1 always n0\n");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        files.check_libc("always", Families::V4, LibcName::HostsFile);
                    }
                });
            }
            for round in 0..100 {
                files.write("new", &format!("10.0.0.1 always n{round}\n"));
                fs::rename(files.folder.path().join("new"), files.folder.path().join("hosts")).unwrap();
            }
        });
    }
}
