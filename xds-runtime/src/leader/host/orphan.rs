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
    /// Reads /proc; `None` when it cannot be read, or this is PID 1 itself.
    pub fn look() -> Option<Self> {
        let own = std::process::id();
        if own == 1 {
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
    fn the_wait_channel_tells_what_init_does() {
        assert_eq!(init_state("do_wait"), InitState::Waiting);
        assert_eq!(init_state("sigsuspend"), InitState::Waiting);
        assert_eq!(init_state("ep_poll"), InitState::Busy);
        assert_eq!(init_state("0"), InitState::Unknown);
    }
}
