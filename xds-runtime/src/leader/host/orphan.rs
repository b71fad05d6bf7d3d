//! When an agent that belongs to PID 1 holds up the end of its pod: PID 1 waits for its last child, and that is us.

use std::fs;

/// What can be seen of the namespace's PID 1 and the other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Processes other than PID 1 and this one.
    pub others: usize,
    /// What PID 1 is blocked in.
    pub init: InitState,
}

/// What PID 1 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitState {
    /// It sits in wait().
    Waiting,
    /// It does something else.
    Busy,
    /// The kernel does not say.
    Unknown,
}

impl Surroundings {
    /// Reads /proc; `None` when it does not show every process, or this is PID 1 itself.
    pub fn look() -> Option<Self> {
        let own = std::process::id();
        if own == 1 || hides_processes(&fs::read_to_string("/proc/self/mountinfo").ok()?) {
            return None;
        }
        let mut others = 0;
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            others += usize::from(pid.is_some_and(|pid| pid != 1 && pid != own));
            if others > 0 {
                // One is enough to stay.
                return Some(Self { others, init: InitState::Unknown });
            }
        }
        Some(Self { others, init: init_state(&fs::read_to_string("/proc/1/wchan").unwrap_or_default()) })
    }

    /// True when nothing but this process keeps PID 1 from ending. Where the kernel does not say what PID 1 does,
    /// `quiet` (nobody asked for a second) decides: an agent that left too early is spawned again.
    pub const fn is_last(&self, quiet: bool) -> bool {
        match self.init {
            _ if self.others > 0 => false,
            InitState::Waiting => true,
            InitState::Busy => false,
            InitState::Unknown => quiet,
        }
    }
}

/// True where /proc was mounted so that users do not see each other's processes (`hidepid`, proc(5)): whoever is not
/// seen may still be there. `noaccess` (1) hides no more than their contents.
fn hides_processes(mountinfo: &str) -> bool {
    let proc = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some("/proc"));
    let options = proc.and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
    let hidepid = options.split(',').find_map(|option| option.strip_prefix("hidepid="));
    hidepid.is_some_and(|hidepid| !["0", "off", "1", "noaccess"].contains(&hidepid))
}

fn init_state(wchan: &str) -> InitState {
    match wchan.trim() {
        "" | "0" => InitState::Unknown,
        // A shell's `wait` sleeps in sigsuspend(2) until SIGCHLD.
        symbol if ["do_wait", "kernel_wait", "sigsuspend"].iter().any(|part| symbol.contains(part)) => {
            InitState::Waiting
        }
        _ => InitState::Busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_that_waits_for_nobody_else_is_let_go() {
        let alone = |init| Surroundings { others: 0, init };
        assert!(alone(InitState::Waiting).is_last(false));
        assert!(!alone(InitState::Busy).is_last(true));
        assert!(alone(InitState::Unknown).is_last(true));
        assert!(!alone(InitState::Unknown).is_last(false));
        assert!(!Surroundings { others: 1, init: InitState::Waiting }.is_last(true));
    }

    #[test]
    fn a_proc_that_hides_processes_is_not_believed() {
        let mounts = |options: &str| {
            format!("21 1 0:5 / / rw - ext4 /dev/a rw\n22 21 0:20 / /proc rw,nosuid - proc proc rw{options}\n")
        };
        for options in [",hidepid=2", ",gid=5,hidepid=invisible", ",hidepid=ptraceable,gid=0", ",hidepid=4"] {
            assert!(hides_processes(&mounts(options)), "{options}");
        }
        for options in ["", ",hidepid=0", ",hidepid=noaccess", ",hidepid=1"] {
            assert!(!hides_processes(&mounts(options)), "{options}");
        }
        let over = format!("{}{}", mounts(",hidepid=2"), mounts(""));
        assert!(!hides_processes(&over), "the last mount covers the first");
    }

    #[test]
    fn the_wait_channel_tells_what_init_does() {
        assert_eq!(init_state("do_wait"), InitState::Waiting);
        assert_eq!(init_state("sigsuspend"), InitState::Waiting);
        assert_eq!(init_state("ep_poll"), InitState::Busy);
        assert_eq!(init_state("0"), InitState::Unknown);
    }
}
