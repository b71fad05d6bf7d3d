//! Running a term of leadership, wherever it is hosted.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Notify;

use super::files::FileError;
use super::run_dir::RunDir;
use super::term::Running;
use crate::boot::BootId;
use crate::config::{MaxStale, Settings, Upstream};
use crate::control::{Control, HEARTBEAT_MS, Term};
use crate::shm::{Millis, now};

/// Stack of the thread that waits for wishes.
const LISTENER_STACK: usize = 64 << 10;

/// Where the leader runs, and what ends it there.
#[derive(Clone)]
pub struct Host {
    /// What `status` calls it.
    pub kind: HostKind,
    /// Called first in every helper thread: sets the flag that lets the runtime's own calls through the hooks.
    pub enter: fn(),
    /// Ends the term in good order (SIGTERM).
    pub stop: Arc<Notify>,
    /// Gives memory back that the allocator keeps, after much of it was used; a program's own allocator is left alone.
    pub give_back: fn(),
}

/// The two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// A process of its own.
    Agent {
        /// Ends after this long without a question and without live connections; `None` = never.
        idle_exit: Option<Duration>,
        /// Spawned by a program, and so PID 1's: it must not hold up the end of its pod.
        spawned: bool,
    },
    /// A thread of a program.
    Thread,
}

/// What a term needs.
pub struct Leadership {
    /// The run directory.
    pub dir: RunDir,
    /// This boot.
    pub boot: BootId,
    /// CONTROL.
    pub control: Control,
    /// The term, just taken.
    pub term: Term,
    /// The settings that hold for the pod.
    pub settings: Settings,
    /// The control plane.
    pub upstream: Upstream,
    /// Where it runs.
    pub host: Host,
}

/// Why a term ended.
#[derive(Debug)]
pub enum Ended {
    /// Another leader took over.
    Deposed,
    /// Nobody needs a leader.
    Idle,
    /// Asked to.
    Asked,
    /// Only this process keeps PID 1 from ending.
    LastProcess,
    /// The run directory is gone, or no longer this user's.
    Vanished,
    /// It could not do its work.
    Failed(Failed),
}

/// What a leader cannot do without.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// No runtime or helper thread.
    #[error("the runtime cannot start: {0}; raise the limits of processes and descriptors")]
    Runtime(#[from] std::io::Error),
    /// No STATE.
    #[error(transparent)]
    State(#[from] FileError),
    /// Several publishes in a row.
    #[error("{0} publishes failed in a row, the last one: {1}")]
    Publishing(u32, String),
    /// The user of the process changed.
    #[error("the process changed its user")]
    UserChanged,
    /// The ADS client ended.
    #[error("the ADS client ended; this is a bug of ldmesh")]
    ClientEnded,
}

/// Leads until the term ends, then gives up the lead. Blocks; prints nothing.
pub fn lead(leadership: Leadership) -> Ended {
    let control = leadership.control;
    let ended = match runtime(leadership.host.enter) {
        Ok(runtime) => runtime.block_on(serve(leadership)),
        Err(error) => {
            leadership.term.resign();
            Ended::Failed(error.into())
        }
    };
    if let Ended::Failed(reason) = &ended {
        log::error!("the leader steps down: {reason}");
        // Put off, not attempted: whoever started this leader holds the present pause.
        control.postpone_attempt(now().saturating_add(next_attempt_in(control.term_failed())));
    }
    ended
}

/// The pause before the pod tries again to lead, after so many terms in a row that failed: it doubles from 1 to 30 s.
pub fn next_attempt_in(failed_terms: u64) -> Millis {
    let doublings = failed_terms.saturating_sub(1).min(5);
    (1_000 << doublings).min(30_000)
}

async fn serve(leadership: Leadership) -> Ended {
    let Leadership { control, host, settings, .. } = &leadership;
    control.set_max_stale(match settings.max_stale {
        MaxStale::After(age) => Millis::try_from(age.as_millis()).unwrap_or(u64::MAX),
        MaxStale::Never => u64::MAX,
    });
    let wishes = match Wishes::listen(*control, host.enter) {
        Ok(wishes) => wishes,
        Err(error) => {
            leadership.term.resign();
            return Ended::Failed(error.into());
        }
    };
    let (stop, heard) = (Arc::clone(&host.stop), Arc::clone(&wishes.heard));
    match Running::start(leadership, random()) {
        Ok(running) => running.run(&stop, &heard).await,
        Err((term, error)) => {
            term.resign();
            Ended::Failed(error.into())
        }
    }
}

fn runtime(enter: fn()) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(1)
        .thread_stack_size(256 << 10)
        .on_thread_start(enter)
        .build()
}

/// Jitter need not be secret: splitmix64 from std's random keys.
fn random() -> impl FnMut() -> u64 + Send + 'static {
    let mut state = RandomState::new().hash_one(0);
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The thread that waits for wishes on CONTROL's futex and wakes the loop.
struct Wishes {
    heard: Arc<Notify>,
    ending: Arc<AtomicBool>,
    control: Control,
    thread: Option<JoinHandle<()>>,
}

impl Wishes {
    fn listen(control: Control, enter: fn()) -> std::io::Result<Self> {
        let (heard, ending) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (notify, stop) = (Arc::clone(&heard), Arc::clone(&ending));
        let listen = move || {
            enter();
            let mut seen = control.wishes();
            while !stop.load(Ordering::Acquire) {
                control.await_wish(seen, Duration::from_millis(HEARTBEAT_MS));
                let wishes = control.wishes();
                if wishes != seen {
                    seen = wishes;
                    notify.notify_one();
                }
            }
        };
        let builder = std::thread::Builder::new().name("ldmesh-wishes".to_owned()).stack_size(LISTENER_STACK);
        Ok(Self { heard, ending, control, thread: Some(builder.spawn(listen)?) })
    }
}

impl Drop for Wishes {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        self.control.tell_wish();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for `stop` on a branch of a select.
pub(super) fn asked(stop: &Notify) -> impl Future<Output = ()> + '_ {
    stop.notified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_with_each_term_that_fails() {
        let pauses: Vec<Millis> = (1..8).map(next_attempt_in).collect();
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(next_attempt_in(u64::MAX), 30_000);
    }
}
