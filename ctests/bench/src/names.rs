//! Look-ups of a service's name: by libc from `/etc/hosts` and from a DNS server beside the client, and in the mesh.

use anyhow::{Context, Result};
use ctests::{CoreDns, Pod};
use std::process::Command;

use crate::place::Place;
use crate::results::Results;
use crate::side_by_side::run;
use crate::{Effort, load, ways};

const FULL: &str = "greeter.default.svc.cluster.local";
const DNS: &str = "127.0.0.53";

/// Measures each name on each way.
pub fn measure(effort: Effort) -> Result<Results> {
    let mut results = Results::default();
    let plain = Pod::builder().resolv_conf(&resolv_conf()).build();
    let _server = CoreDns::start(&plain, DNS, &[(FULL, "10.96.0.10")])?;
    let hosts = format!("127.0.0.1 localhost\n10.244.0.2 app-0\n10.96.0.10 {FULL} greeter\n");
    let listed = Pod::builder().resolv_conf(&resolv_conf()).hosts(&hosts).build();
    let meshed = Pod::builder().resolv_conf(&resolv_conf()).build();
    let place = Place::loopback(&meshed);
    let ldmesh = ways::ldmesh(&place);

    let load = load()?;
    for name in ["greeter", FULL, "10.96.0.10"] {
        for round in 0..effort.rounds() {
            let ways: [(&str, Command); 3] = [
                ("DNS server", plain.command(&load)),
                ("/etc/hosts", listed.command(&load)),
                (ldmesh.name, ldmesh.client(&load)),
            ];
            for (way, mut client) in ways {
                client.args(["resolve", name, "--for", &effort.time().as_millis().to_string()]);
                let figures = run(&mut client).with_context(|| format!("{name}: {way}"))?;
                results.add(&format!("name/{name}"), way, round, figures);
            }
        }
    }
    Ok(results)
}

/// As kubelet writes it for a pod of the namespace `default`.
fn resolv_conf() -> String {
    format!("search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver {DNS}\noptions ndots:5\n")
}
