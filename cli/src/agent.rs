//! `ldmesh agent`: the leader as a program.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::SIGXFSZ;
use tokio::sync::Notify;
use xds_runtime::config::{Settings, parse_duration};
use xds_runtime::leader::host::heap;
use xds_runtime::leader::{Ended, Host, HostKind, NotLeading, attempt};
use xds_runtime::pod::{AttachError, Pod};

use crate::signals;

/// Leads this pod and user: one stream to the control plane, one configuration for every process.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ends after this long without a question and without live connections (`30s`, `5m`)
    /// [default: never; 60s when a program spawned it].
    #[arg(long, value_name = "D", value_parser = duration)]
    idle_exit: Option<Duration>,
    /// Waits while another process leads, and takes over from it, instead of ending.
    #[arg(long)]
    standby: bool,
    /// A program spawned it: it ends with the last process of the pod.
    #[arg(long, hide = true)]
    spawned: bool,
}

const SPAWNED_IDLE_EXIT: Duration = Duration::from_secs(60);
/// Between two looks of a standby, and of an agent that finds CONTROL being made.
const PAUSE: Duration = Duration::from_millis(250);
const ATTACH_ATTEMPTS: u32 = 20;

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|remedy| remedy.to_string())
}

/// Leads until nobody needs a leader, another one took over, or SIGTERM.
pub fn run(args: &Args) -> Result<ExitCode> {
    // Never freed: an attachment holds on to its settings.
    let settings: &'static Settings = Box::leak(Box::new(Settings::from_env(std::env::vars_os())));
    if settings.source.is_none() {
        bail!("no control plane is configured: set LDMESH_XDS as the programs have it");
    }
    raise_descriptor_limit();
    // A write past a limit of file sizes (`ulimit -f`) is to fail, and not to end the leader.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).context("cannot handle SIGXFSZ")?;
    log_as_configured(settings);
    for problem in &settings.problems {
        log::warn!("{problem}");
    }
    let stop = Arc::new(Notify::new());
    let signals = signals::notify_on_stop(Arc::clone(&stop))?;
    let idle_exit = args.idle_exit.or_else(|| args.spawned.then_some(SPAWNED_IDLE_EXIT));
    let kind = HostKind::Agent { idle_exit, spawned: args.spawned };
    let pod = attach(settings)?;
    loop {
        if signals.is_finished() {
            return Ok(ExitCode::SUCCESS);
        }
        let host = Host { kind, enter: || (), stop: Arc::clone(&stop), give_back: heap::give_back };
        match attempt(&pod, settings, host) {
            Ok(Ended::Failed(reason)) => return Err(reason.into()),
            Ok(Ended::Deposed) | Err(NotLeading::Led) if args.standby => std::thread::sleep(PAUSE),
            Ok(ended) => {
                log::info!("the term ended: {ended:?}");
                return Ok(ExitCode::SUCCESS);
            }
            Err(NotLeading::Led) => {
                log::info!("another process leads already");
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The program that spawned it may keep few descriptors for itself (`ulimit -n 8`); a leader needs more.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused, it leads with what it has.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn attach(settings: &'static Settings) -> Result<Pod> {
    for _ in 1..ATTACH_ATTEMPTS {
        match Pod::attach(settings) {
            Err(AttachError::Busy) => std::thread::sleep(PAUSE),
            outcome => return Ok(outcome?),
        }
    }
    Ok(Pod::attach(settings)?)
}

/// `LDMESH_LOG`, `LDMESH_LOG_FILE`: one line a record.
fn log_as_configured(settings: &Settings) {
    struct Lines(Option<Mutex<File>>);
    impl log::Log for Lines {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.target().starts_with("xds_runtime") || metadata.target().starts_with("ldmesh")
        }
        fn log(&self, record: &log::Record<'_>) {
            if !self.enabled(record.metadata()) {
                return;
            }
            let line = format!("ldmesh agent[{}] {}: {}\n", std::process::id(), record.level(), record.args());
            // A log that cannot be written is no reason to stop leading.
            let _ = match &self.0 {
                Some(file) => file.lock().write_all(line.as_bytes()),
                None => std::io::stderr().write_all(line.as_bytes()),
            };
        }
        fn flush(&self) {}
    }
    let path = settings.log_file.as_ref().map(|file| file.path(std::process::id()));
    let file = path.and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
    if log::set_boxed_logger(Box::new(Lines(file.map(Mutex::new)))).is_ok() {
        log::set_max_level(settings.log);
    }
}
