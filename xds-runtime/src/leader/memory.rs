//! How much room the memory cgroup has: shared files are charged to whoever touches them first, the leader.

use std::fs;
use std::path::PathBuf;

/// Bytes that can still be charged to this process's cgroup; `None` = no limit, or not known (cgroup v1).
pub fn room() -> Option<u64> {
    let folder = folder(&fs::read_to_string("/proc/self/cgroup").ok()?)?;
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    room_of(&read("memory.max")?, &read("memory.current")?, &read("memory.stat").unwrap_or_default())
}

/// The cgroup's folder; inside a cgroup namespace its path is `/`.
fn folder(cgroups: &str) -> Option<PathBuf> {
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(PathBuf::from(format!("/sys/fs/cgroup/{}", path.trim_start_matches('/'))))
}

/// As kubelet counts: page cache that the kernel can drop is room.
fn room_of(max: &str, current: &str, stat: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let inactive = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok()).unwrap_or(0);
    Some(max.saturating_sub(current.saturating_sub(inactive)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_without_limit_has_room() {
        assert_eq!(room_of("max\n", "4096\n", ""), None);
    }

    #[test]
    fn page_cache_counts_as_room() {
        assert_eq!(room_of("1000", "900", "anon 1\ninactive_file 300\n"), Some(400));
        assert_eq!(room_of("1000", "1200", ""), Some(0));
    }

    #[test]
    fn the_unified_hierarchy_names_the_folder() {
        assert_eq!(folder("1:cpu:/x\n0::/kubepods/a\n"), Some(PathBuf::from("/sys/fs/cgroup/kubepods/a")));
        assert_eq!(folder("0::/\n"), Some(PathBuf::from("/sys/fs/cgroup/")));
        assert_eq!(folder("1:cpu:/x\n"), None);
    }
}
