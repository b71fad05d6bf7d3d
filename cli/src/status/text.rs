//! The report as text: one fact a line, the most important first.

use std::fmt::Write;

use super::Report;

/// The text; ends with a newline.
pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    let age = |age: Option<u64>| age.map_or_else(|| "never".to_owned(), |age| format!("{} ago", seconds(age)));
    writeln!(out, "run directory  {}", report.run_dir)?;
    if report.switch != "on" {
        writeln!(out, "switch         {}: everything passes; `ldmesh on` ends that", report.switch)?;
    }
    if report.left_behind > 0 {
        writeln!(out, "breaker        {} threads ended or hung inside the library lately", report.left_behind)?;
    }
    let leader = &report.leader;
    let alive = if leader.alive { "alive" } else { "none" };
    let kind = report.said.as_ref().map_or(String::new(), |said| format!(", {} {}", said.leader.kind, said.leader.pid));
    writeln!(out, "leader         {alive}, epoch {}{kind}, heartbeat {}", leader.epoch, age(leader.heartbeat_age))?;
    let stale = if leader.stale { ", STALE: services with a ClusterIP pass" } else { "" };
    writeln!(out, "contact        {}{stale}", age(leader.contact_age))?;
    if let Some(said) = &report.said {
        let upstream = &said.control_plane;
        let state =
            if upstream.connected { format!("connected ({})", upstream.protocol) } else { upstream.reason.clone() };
        writeln!(out, "control plane  {}: {state}", upstream.uri)?;
        for kind in &said.types {
            let version = if kind.version.is_empty() { String::new() } else { format!(", version {}", kind.version) };
            writeln!(out, "  {}  {}, {} resources{version}", kind.name, kind.state, kind.resources)?;
            for nack in &kind.rejected {
                writeln!(out, "       rejected {}: {}; its last good value stays", nack.name, nack.reason)?;
            }
            if let Some(nack) = kind.last_nack.as_ref().filter(|nack| !kind.rejected.contains(nack)) {
                writeln!(out, "       last NACK (over) {}: {}", nack.name, nack.reason)?;
            }
        }
        for problem in &said.problems {
            writeln!(out, "problem        {problem}")?;
        }
        for note in &said.notes {
            writeln!(out, "note           {note}")?;
        }
    }
    match &report.image {
        Some(image) => writeln!(
            out,
            "image          generation {} of term {}, {} old, {} names, {} destinations",
            image.generation,
            image.term,
            seconds(image.age),
            image.names,
            image.destinations
        )?,
        None => writeln!(out, "image          nothing was published yet: everything passes")?,
    }
    let answered = report.wanted.iter().filter(|wish| wish.answered).count();
    writeln!(out, "wanted         {} destinations, {answered} answered", report.wanted.len())?;
    writeln!(out, "processes      {} seen in the last minute", report.processes.len())?;
    for process in &report.processes {
        writeln!(out, "  {} {}, {} ago", process.pid, process.name, seconds(process.seen_age))?;
    }
    writeln!(out, "clusters       {}", report.clusters.len())?;
    for cluster in &report.clusters {
        let known = if cluster.endpoints_known { "" } else { ", endpoints not asked for yet" };
        writeln!(out, "  {}  {}, {} active{known}", cluster.name, cluster.policy, cluster.active)?;
        for endpoint in &cluster.endpoints {
            let by = endpoint.ejected_by.as_deref().unwrap_or("a detector unknown here");
            let ejected =
                endpoint.ejected_for.map_or(String::new(), |left| format!(", EJECTED for {} by {by}", seconds(left)));
            let sidecar = if endpoint.takes_mtls { ", sidecar" } else { "" };
            writeln!(
                out,
                "    {:<21} {}{sidecar}, priority {}, weight {}, {} picks, {} active, {} failures ({} in a row){ejected}",
                endpoint.address,
                endpoint.health,
                endpoint.priority,
                endpoint.weight,
                endpoint.picks,
                endpoint.active,
                endpoint.failures,
                endpoint.consecutive_failures
            )?;
        }
    }
    Ok(())
}

fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::client_config::ClientConfig;
    use super::super::{Cluster, Endpoint, Leader, Report};
    use super::*;

    pub(in super::super) fn report() -> Report {
        Report {
            run_dir: "/run/ldmesh".to_owned(),
            switch: "tripped",
            left_behind: 3,
            leader: Leader { alive: false, epoch: 2, heartbeat_age: Some(2_340), contact_age: None, stale: true },
            said: None,
            image: None,
            state: None,
            processes: Vec::new(),
            wanted: Vec::new(),
            clusters: vec![Cluster {
                name: "outbound|80||greeter.default.svc.cluster.local".to_owned(),
                policy: "least request of 2".to_owned(),
                endpoints_known: true,
                active: 1,
                endpoints: vec![Endpoint {
                    address: "127.0.1.1:8080".to_owned(),
                    priority: 0,
                    locality: String::new(),
                    weight: 1,
                    health: "healthy".to_owned(),
                    takes_mtls: true,
                    picks: 7,
                    active: 1,
                    failures: 2,
                    successes: 5,
                    consecutive_failures: 1,
                    ejections: 1,
                    ejection_multiplier: 1,
                    ejected_for: Some(4_900),
                    ejected_by: Some("success rate".to_owned()),
                }],
            }],
            client_config: ClientConfig::default(),
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_remedy() {
        let text = render(&report());
        assert!(text.contains("switch         tripped: everything passes; `ldmesh on` ends that"), "{text}");
        assert!(text.contains("leader         none, epoch 2, heartbeat 2.3 s ago"), "{text}");
        assert!(text.contains("contact        never, STALE"), "{text}");
        assert!(text.contains("nothing was published yet"), "{text}");
    }

    #[test]
    fn an_ejected_endpoint_is_seen_at_a_glance() {
        let text = render(&report());
        assert!(
            text.contains("7 picks, 1 active, 2 failures (1 in a row), EJECTED for 4.9 s by success rate"),
            "{text}"
        );
    }
}
