//! `ldmesh off` and `ldmesh on`: the kill switch of this pod and user.

use std::process::ExitCode;

use anyhow::{Result, bail};
use xds_runtime::config::Settings;
use xds_runtime::control::Switch;
use xds_runtime::pod::Pod;
use xds_runtime::shm;

/// Turns every attached process of this pod and user into a pass-through, at once.
#[derive(Debug, clap::Args)]
pub struct OffArgs {}

/// Puts the pod back into the mesh, after `ldmesh off` or after the crash breaker tripped.
#[derive(Debug, clap::Args)]
pub struct OnArgs {}

/// Switches off. Works before any process attached: the switch is there when the first one does.
pub fn off(_: &OffArgs) -> Result<ExitCode> {
    attach()?.control().set_switch(Switch::Off);
    println!("off: every process of this pod and user passes everything through");
    Ok(ExitCode::SUCCESS)
}

/// Switches on, and forgets what tripped the breaker.
pub fn on(_: &OnArgs) -> Result<ExitCode> {
    let control = attach()?.control();
    let (found, left) = (control.switch(), control.left_behind(shm::now()));
    control.reset_breaker();
    control.set_switch(Switch::On);
    match found {
        Switch::Tripped => println!("on: the breaker had tripped, {left} threads ended or hung inside the library"),
        Switch::Off | Switch::On => println!("on"),
    }
    Ok(ExitCode::SUCCESS)
}

fn attach() -> Result<Pod> {
    let settings: &'static Settings = Box::leak(Box::new(Settings::from_env(std::env::vars_os())));
    if settings.source.is_none() {
        bail!("no control plane is configured, so there is no pod to switch: set LDMESH_XDS as the programs have it");
    }
    Ok(Pod::attach(settings)?)
}
