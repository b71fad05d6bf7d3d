//! Nobody leads: who of the pod starts a leader, and how.
//!
//! The agent, where its binary stands beside this library and an orphan would not come back to this process as a
//! child; else a thread, and that only from a lookup. One process of the pod tries at a time.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;

use log::Level;
use xds_runtime::config::Lead;
use xds_runtime::leader::host;
use xds_runtime::pod::Pod;
use xds_runtime::shm::Millis;

use crate::core::mesh::Occasion;
use crate::core::process::Context;

/// After one process tried to start a leader, no other tries for this long.
const PAUSE_MS: Millis = 1_000;

/// Starts a leader if this process may.
#[cold]
pub fn call(context: &'static Context, pod: &'static Pod, occasion: Occasion, now: Millis) {
    let lead = context.settings.lead;
    // While another process of the pod tries, not even the binary is looked for.
    if lead == Lead::Never || !pod.control().may_attempt(now, PAUSE_MS) {
        return;
    }
    match agent(context).filter(|_| lead == Lead::Agent || (lead == Lead::Auto && !host::adopts_orphans())) {
        Some(binary) => spawn(context, &binary),
        None => context.log.line(Level::Warn, format_args!("nobody leads, and {occasion:?} cannot start a leader")),
    }
}

fn spawn(context: &Context, binary: &CStr) {
    let mut environment: Vec<*const c_char> = context.environment().map(CStr::as_ptr).collect();
    environment.push(std::ptr::null());
    // SAFETY: nul-terminated copies that live as long as the process.
    match unsafe { host::agent::spawn(binary, &environment) } {
        Ok(()) => context.log.line(Level::Info, format_args!("started an agent to lead")),
        Err(error) => context.log.line(Level::Warn, format_args!("no agent could be started: {error}")),
    }
}

/// The binary beside this library, if there is one.
fn agent(context: &Context) -> Option<CString> {
    let path = context.library.as_ref()?.with_file_name("ldmesh");
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let executable = rustix::fs::access(path.as_c_str(), rustix::fs::Access::EXEC_OK).is_ok();
    executable.then_some(path)
}
