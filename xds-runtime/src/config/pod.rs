//! What a pod's file system tells the leader about itself: downward API files, service account, addresses.
//!
//! Every answer is optional: outside Kubernetes the files are absent, and that is no problem.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::is_never_mesh;
use super::read::read_regular;

const LABELS: &str = "etc/istio/pod/labels";
const NAMESPACE: &str = "var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// kube-proxy in IPVS mode gives this device the address of every service.
const SERVICE_DEVICE: &str = "kube-ipvs0";
const LIMIT: usize = 1 << 20;

/// The pod around this process.
#[derive(Debug, Clone)]
pub struct Pod {
    root: PathBuf,
    hostname: String,
}

impl Pod {
    /// The pod this process runs in.
    pub fn current() -> Pod {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Pod { root: PathBuf::from("/"), hostname }
    }

    /// A pod whose files lie below `root`.
    pub fn at(root: impl Into<PathBuf>, hostname: impl Into<String>) -> Pod {
        Pod { root: root.into(), hostname: hostname.into() }
    }

    /// The host name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    pub(super) fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    fn text(&self, path: &str) -> Option<String> {
        let (bytes, _) = read_regular(&self.path(path), LIMIT).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// The namespace of the mounted service account.
    pub fn namespace(&self) -> Option<String> {
        let text = self.text(NAMESPACE)?;
        Some(text.trim().to_owned()).filter(|name| !name.is_empty())
    }

    /// The pod's labels, as Istio's injector mounts them.
    pub fn labels(&self) -> Vec<(String, String)> {
        self.text(LABELS).map(|text| parse_downward(&text)).unwrap_or_default()
    }

    /// The first address of this network namespace that others can reach, v4 before v6. Read from /proc: no socket
    /// is made.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses().first().copied()
    }

    /// Every address of this network namespace that others can reach, v4 before v6; the same one is told once.
    /// On a node whose kube-proxy gives it every ClusterIP, IPv4 addresses cannot be told from those: none is.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let is_service_node = self.text("proc/net/dev").is_some_and(|list| list.contains(SERVICE_DEVICE));
        let v4 = self.text("proc/net/fib_trie").filter(|_| !is_service_node);
        let v6 = self.text("proc/net/if_inet6");
        let mut addresses: Vec<IpAddr> = v4.iter().flat_map(|trie| local_v4(trie)).map(IpAddr::V4).collect();
        addresses.extend(v6.iter().flat_map(|list| global_v6(list)).map(IpAddr::V6));
        // The trie has each address in two tables.
        let mut seen = BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        addresses
    }

    pub(super) fn is_file(&self, path: &str) -> bool {
        let path: &Path = &self.path(path);
        rustix::fs::stat(path).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
    }
}

/// `key="value"` a line, the value quoted as Go does (`%q`), which is JSON for all but control characters. A line
/// that does not parse is left out.
fn parse_downward(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (key, quoted) = line.split_once('=')?;
        let value: String = serde_json::from_str(quoted.trim()).ok()?;
        Some((key.trim().to_owned(), value))
    };
    text.lines().filter_map(pair).collect()
}

/// The first `/32 host LOCAL` leaf of `/proc/net/fib_trie` that is not loopback or link-local.
fn local_v4(trie: &str) -> impl Iterator<Item = Ipv4Addr> + '_ {
    let mut leaf = None;
    trie.lines().map(str::trim).filter_map(move |line| {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        }
        leaf.filter(|address| line == "/32 host LOCAL" && !is_never_mesh(IpAddr::V4(*address)))
    })
}

/// The addresses of global scope (`00`) in `/proc/net/if_inet6`: 32 digits, index, length, scope, flags, name.
fn global_v6(list: &str) -> impl Iterator<Item = Ipv6Addr> + '_ {
    list.lines().filter(|line| !line.ends_with(SERVICE_DEVICE)).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let digits = fields.next()?;
        (fields.nth(2)? == "00").then_some(())?;
        u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Pod) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let pod = Pod::at(root.path(), "host");
        (root, pod)
    }

    #[test]
    fn labels_are_unquoted_and_broken_lines_left_out() {
        let (_root, pod) = pod_with(&[(LABELS, "app=\"greeter\"\nodd=\"a\\\"b\\nc\"\nbroken\nworse=unquoted\n")]);
        assert_eq!(pod.labels(), [("app".into(), "greeter".into()), ("odd".into(), "a\"b\nc".into())]);
    }

    #[test]
    fn the_pods_address_comes_from_proc() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.0.0\n        /24 link UNICAST\nLocal:\n  \
            |-- 10.1.0.9\n     /32 host LOCAL\n  |-- 127.0.0.1\n     /32 host LOCAL\n";
        let (_root, pod) = pod_with(&[("proc/net/fib_trie", trie)]);
        assert_eq!(pod.address(), Some("10.1.0.9".parse().unwrap()));
        let six = "00000000000000000000000000000001 01 80 10 80       lo\n\
            fe800000000000000000000000000001 02 40 20 80     eth0\n\
            fd000000000000000000000000000005 02 40 00 80     eth0\n";
        let loopback = "Local:\n  |-- 127.0.0.1\n     /32 host LOCAL\n";
        let (_root, pod) = pod_with(&[("proc/net/fib_trie", loopback), ("proc/net/if_inet6", six)]);
        assert_eq!(pod.address(), Some("fd00::5".parse().unwrap()));
        let (_root, pod) = pod_with(&[]);
        assert_eq!((pod.address(), pod.namespace()), (None, None));
    }

    #[test]
    fn all_the_pods_addresses_are_told_once_and_those_of_services_are_not() {
        let local = "  |-- 10.1.0.9\n     /32 host LOCAL\n  |-- 192.0.2.7\n     /32 host LOCAL\n";
        let trie = format!("Main:\n{local}Local:\n{local}  |-- 127.0.0.1\n     /32 host LOCAL\n");
        let six = "fd000000000000000000000000000005 02 40 00 80     eth0\n\
            fd000000000000000000000000000096 03 80 00 80 kube-ipvs0\n";
        let (_root, pod) = pod_with(&[("proc/net/fib_trie", &trie), ("proc/net/if_inet6", six)]);
        let all = ["10.1.0.9", "192.0.2.7", "fd00::5"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(pod.addresses(), all);
        let device = "  eth0: 0 0\nkube-ipvs0: 0 0\n";
        let files = [("proc/net/fib_trie", trie.as_str()), ("proc/net/if_inet6", six), ("proc/net/dev", device)];
        let (_root, pod) = pod_with(&files);
        assert_eq!(pod.addresses(), ["fd00::5".parse::<IpAddr>().unwrap()]);
    }
}
