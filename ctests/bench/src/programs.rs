//! What it costs to start a program: one that never connects, and curl.

use anyhow::{Context, Result};
use ctests::{Pod, artifacts};

use crate::place::Place;
use crate::results::Results;
use crate::side_by_side::run;
use crate::{Effort, load, ways};

/// Measures each program on each way.
pub fn measure(effort: Effort) -> Result<Results> {
    let mut results = Results::default();
    let (pod, node_pod) = (Pod::new(), Pod::new());
    let (place, node_place) = (Place::loopback(&pod), Place::loopback(&node_pod));
    let _servers = (ways::servers(&place), ways::servers(&node_place));
    let envoys = ways::envoys(&place);
    let mut all = vec![ways::direct(&place), ways::ldmesh(&place)];
    all.extend(envoys.ways());
    all.extend([ways::proxychains(&place), ways::socket_wrapper(&place), ways::kube_proxy(&node_place)]);
    let inert = ("ldmesh, without a control plane", vec![("LD_PRELOAD", artifacts().library.display().to_string())]);

    let time = effort.time().as_millis().to_string();
    let load = load()?;
    for round in 0..effort.rounds() {
        let preloads = all.iter().filter(|way| way.name == "direct" || !way.env.is_empty());
        let environments = preloads.map(|way| {
            let env = way.env.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            (way.name, env)
        });
        for (name, env) in environments.chain([inert.clone()]) {
            let mut client = pod.command(&load);
            client.args(["exec", "--for", &time]);
            client.args(env.iter().flat_map(|(name, value)| ["--env".to_owned(), format!("{name}={value}")]));
            let figures = run(client.args(["--", "/bin/true"])).with_context(|| format!("true: {name}"))?;
            results.add("exec/true", name, round, figures);
        }
    }
    for round in 0..effort.rounds() {
        for way in &all {
            let mut client = way.place.pod.command(&load);
            client.args(["exec", "--for", &time]);
            client.args(way.env.iter().flat_map(|(name, value)| ["--env".to_owned(), format!("{name}={value}")]));
            client.args(["--", "curl", "-sS", "--max-time", "10", "-o", "/dev/null", &format!("http://{}/", way.at)]);
            let figures = run(&mut client).with_context(|| format!("curl: {}", way.name))?;
            results.add("exec/curl", way.name, round, figures);
        }
    }
    Ok(results)
}
