//! Nobody leads: who of the pod starts a leader, and how.
//!
//! The agent, where its binary stands beside this library and an orphan would not come back to this process as a
//! child; else a thread, and that only from a lookup. One process of the pod tries at a time.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;

use log::Level;
use xds_runtime::config::Lead;
use xds_runtime::leader::{host, lead_in_thread};
use xds_runtime::pod::Pod;
use xds_runtime::shm::Millis;

use crate::core::mesh::Occasion;
use crate::core::process::{self, Context};
use crate::core::socket;
use crate::memory;

/// After one process tried to start a leader, no other tries for this long.
const PAUSE_MS: Millis = 1_000;

/// Starts a leader if this process may.
#[cold]
#[inline(never)]
pub fn call(context: &'static Context, pod: &'static Pod, occasion: Occasion, now: Millis) {
    let lead = context.settings.lead;
    let agent = match lead {
        Lead::Never => return,
        Lead::Thread => None,
        Lead::Agent => agent(context),
        Lead::Auto => agent(context).filter(|_| !host::adopts_orphans()),
    };
    let may_thread =
        occasion == Occasion::Lookup && matches!(lead, Lead::Auto | Lead::Thread) && !memory::has_stopped();
    if (agent.is_none() && !may_thread) || process::is_vfork_child() || !pod.control().may_attempt(now, PAUSE_MS) {
        return;
    }
    if agent.is_some_and(|binary| spawn(context, &binary)) || !may_thread {
        return;
    }
    match lead_in_thread(pod, context.settings, process::enter_runtime_thread) {
        Ok(()) => context.log.line(Level::Info, format_args!("a thread of this process leads")),
        Err(error) => context.log.line(Level::Warn, format_args!("{error}")),
    }
}

fn spawn(context: &Context, binary: &CStr) -> bool {
    // It has cancellation points, its clones in this thread's name.
    let former = socket::cancel_off();
    let spawned = host::agent::spawn(binary, context.environment());
    socket::cancel_restore(former);
    match &spawned {
        Ok(()) => context.log.line(Level::Info, format_args!("started an agent to lead")),
        Err(error) => context.log.line(Level::Warn, format_args!("no agent could be started: {error}")),
    }
    spawned.is_ok()
}

/// The binary beside this library, if there is one.
fn agent(context: &Context) -> Option<CString> {
    let path = context.library.as_ref()?.with_file_name("ldmesh");
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    context.has_agent(|| rustix::fs::access(path.as_c_str(), rustix::fs::Access::EXEC_OK).is_ok()).then_some(path)
}
