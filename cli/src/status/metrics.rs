//! The report as Prometheus text (OpenMetrics). Endpoints are counted by the pod as a whole, so there is no label of a
//! process; a cluster whose endpoints nobody asked for yet has none to tell of.

use std::collections::HashSet;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use xds_runtime::leader::status::TypeStatus;

use super::{Cluster, Endpoint, Report};

/// The name without its prefix and suffixes, what it is, and where it is taken from.
type Row<T> = (&'static str, &'static str, MetricType, fn(&T) -> u64);

const OF_TYPE: [Row<TypeStatus>; 5] = [
    ("type_answered", "1 once the control plane has answered for the type", MetricType::Gauge, |kind| {
        (kind.state == "answered").into()
    }),
    ("resources", "Resources that are held", MetricType::Gauge, |kind| count(kind.resources)),
    ("resources_rejected", "Resources whose last update is rejected (NACK)", MetricType::Gauge, |kind| {
        count(kind.rejected.len())
    }),
    ("resources_requested", "Resources that are asked for, without an answer yet", MetricType::Gauge, |kind| {
        count(kind.requested.len())
    }),
    ("resources_missing", "Resources that were asked for and do not exist", MetricType::Gauge, |kind| {
        count(kind.missing.len())
    }),
];

const OF_CLUSTER: [Row<Cluster>; 4] = [
    ("cluster_connections", "Connections that are open", MetricType::Gauge, |cluster| cluster.active),
    ("cluster_endpoints", "Endpoints that the control plane gave", MetricType::Gauge, |cluster| {
        count(cluster.endpoints.len())
    }),
    ("cluster_endpoints_healthy", "Endpoints that the control plane calls healthy", MetricType::Gauge, |cluster| {
        cluster.endpoints.iter().map(is_healthy).sum()
    }),
    ("cluster_endpoints_ejected", "Endpoints that are ejected", MetricType::Gauge, |cluster| {
        cluster.endpoints.iter().map(is_ejected).sum()
    }),
];

const OF_ENDPOINT: [Row<Endpoint>; 7] = [
    ("endpoint_healthy", "1 if the control plane calls it healthy", MetricType::Gauge, is_healthy),
    ("endpoint_ejected", "1 while it is ejected", MetricType::Gauge, is_ejected),
    ("endpoint_connections", "Connections that are open", MetricType::Gauge, |endpoint| endpoint.active),
    ("endpoint_picks", "How often it was picked", MetricType::Counter, |endpoint| endpoint.picks),
    ("endpoint_successes", "Connections that succeeded", MetricType::Counter, |endpoint| endpoint.successes),
    ("endpoint_failures", "Connections that failed", MetricType::Counter, |endpoint| endpoint.failures),
    ("endpoint_ejections", "How often it was ejected", MetricType::Counter, |endpoint| endpoint.ejections.into()),
];

/// The text.
pub(super) fn render(report: Report) -> String {
    let mut registry = Registry::with_prefix("ldmesh");
    registry.register_collector(Box::new(report));
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = text::encode(&mut out, &registry);
    out
}

impl Collector for Report {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        let switches = ["on", "off", "tripped"].map(|state| ([("state", state)], u64::from(self.switch == state)));
        family(to, "switch", "1 for what the kill switch of the pod is", MetricType::Gauge, switches)?;
        gauge(to, "left_behind", "Threads that ended or hung inside the library lately", Some(self.left_behind))?;
        let (leader, said) = (&self.leader, self.said.as_ref());
        gauge(to, "leader_alive", "1 while there is a leader", Some(leader.alive.into()))?;
        gauge(to, "leader_epoch", "The term of leadership", Some(leader.epoch.into()))?;
        seconds(to, "leader_heartbeat_age", "Since the leader's last heartbeat", leader.heartbeat_age)?;
        // What a leader said that is gone is not so any more.
        let is_connected = said.map(|said| leader.alive && said.control_plane.connected);
        gauge(to, "control_plane_connected", "1 while there is a stream", is_connected.map(u64::from))?;
        seconds(to, "control_plane_contact_age", "Since the control plane was last heard", leader.contact_age)?;
        gauge(to, "stale", "1 while services with a ClusterIP pass for that age", Some(leader.stale.into()))?;
        let types: Vec<_> = said.iter().flat_map(|said| &said.types).collect();
        for (name, help, metric, value) in OF_TYPE {
            family(to, name, help, metric, types.iter().map(|kind| ([("type", kind.name.as_str())], value(kind))))?;
        }
        let image = self.image.as_ref();
        gauge(to, "image_generation", "What was published last in its term", image.map(|image| image.generation))?;
        seconds(to, "image_age", "Since it was published", image.map(|image| image.age))?;
        gauge(to, "image_names", "Names that resolve in the mesh", image.map(|image| image.names.into()))?;
        let destinations = image.map(|image| image.destinations.into());
        gauge(to, "image_destinations", "Addresses that are led in the mesh", destinations)?;
        let state = self.state.as_ref();
        gauge(to, "connections", "Connections that are counted", state.map(|state| count(state.connections)))?;
        gauge(to, "state_slots", "Room for endpoints and clusters", state.map(|state| count(state.slots)))?;
        gauge(to, "state_slots_used", "What is taken of it", state.map(|state| count(state.slots_used)))?;
        gauge(to, "processes", "Processes seen in the last minute", Some(count(self.processes.len())))?;
        let wanted = [("true", true), ("false", false)].map(|(text, answered)| {
            ([("answered", text)], count(self.wanted.iter().filter(|wish| wish.answered == answered).count()))
        });
        family(to, "wanted_destinations", "Destinations that processes asked for", MetricType::Gauge, wanted)?;
        let clusters: Vec<_> = self.clusters.iter().filter(|cluster| cluster.endpoints_known).collect();
        for (name, help, metric, value) in OF_CLUSTER {
            let samples = clusters.iter().map(|cluster| ([("cluster", cluster.name.as_str())], value(cluster)));
            family(to, name, help, metric, samples)?;
        }
        let endpoints: Vec<_> = clusters.iter().flat_map(|cluster| each_once(cluster)).collect();
        for (name, help, metric, value) in OF_ENDPOINT {
            family(to, name, help, metric, endpoints.iter().map(|(labels, endpoint)| (*labels, value(endpoint))))?;
        }
        Ok(())
    }
}

/// An address may stand in several localities; its counts are the same in each.
fn each_once(cluster: &Cluster) -> impl Iterator<Item = ([(&'static str, &str); 2], &Endpoint)> {
    let mut seen = HashSet::new();
    let endpoints = cluster.endpoints.iter().filter(move |endpoint| seen.insert(endpoint.address.as_str()));
    endpoints.map(|endpoint| ([("cluster", cluster.name.as_str()), ("endpoint", endpoint.address.as_str())], endpoint))
}

fn is_healthy(endpoint: &Endpoint) -> u64 {
    (endpoint.health == "healthy").into()
}

fn is_ejected(endpoint: &Endpoint) -> u64 {
    endpoint.ejected_for.is_some().into()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn family<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: MetricType,
    samples: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    let mut encoder = encoder.encode_descriptor(name, help, None, metric)?;
    for (labels, value) in samples {
        let mut sample = encoder.encode_family(&labels)?;
        match metric {
            MetricType::Counter => sample.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
            _ => sample.encode_gauge(&value)?,
        }
    }
    Ok(())
}

/// Without labels; what is not known is not shown.
fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: Option<u64>) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

/// The same of milliseconds.
fn seconds(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, millis: Option<u64>) -> fmt::Result {
    let Some(millis) = millis else { return Ok(()) };
    let seconds = std::time::Duration::from_millis(millis).as_secs_f64();
    encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?.encode_gauge(&seconds)
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::report;
    use super::*;

    #[test]
    fn what_is_known_is_there_by_name_and_what_is_not_is_absent() {
        let text = render(report());
        let lines: HashSet<&str> = text.lines().collect();
        for line in [
            "# TYPE ldmesh_switch gauge",
            "ldmesh_switch{state=\"on\"} 0",
            "ldmesh_switch{state=\"tripped\"} 1",
            "ldmesh_left_behind 3",
            "ldmesh_leader_alive 0",
            "ldmesh_leader_epoch 2",
            "# UNIT ldmesh_leader_heartbeat_age_seconds seconds",
            "ldmesh_leader_heartbeat_age_seconds 2.34",
            "ldmesh_stale 1",
            "ldmesh_cluster_endpoints_ejected{cluster=\"outbound|80||greeter.default.svc.cluster.local\"} 1",
            "# TYPE ldmesh_endpoint_picks counter",
            "ldmesh_endpoint_picks_total{cluster=\"outbound|80||greeter.default.svc.cluster.local\",endpoint=\"127.0.1.1:8080\"} 7",
            "# EOF",
        ] {
            assert!(lines.contains(line), "{line}:\n{text}");
        }
        for absent in ["ldmesh_control_plane_contact_age", "ldmesh_image", "ldmesh_state_slots"] {
            assert!(!text.contains(absent), "{absent}:\n{text}");
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_its_label() {
        let mut report = report();
        report.clusters[0].name = "a\"} 1\nldmesh_stale 0\\".to_owned();
        let text = render(report);
        assert!(text.contains("ldmesh_cluster_connections{cluster=\"a\\\"} 1\\nldmesh_stale 0\\\\\"} 1\n"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("ldmesh_stale 0")), "{text}");
    }

    #[test]
    fn an_endpoint_of_two_localities_is_there_once_and_one_nobody_asked_for_is_not() {
        let mut report = report();
        let twice = super::super::text::tests::report().clusters.remove(0).endpoints;
        report.clusters[0].endpoints.extend(twice);
        let mut unknown = super::super::text::tests::report().clusters.remove(0);
        (unknown.name, unknown.endpoints_known) = ("unknown".to_owned(), false);
        report.clusters.push(unknown);
        let text = render(report);
        assert_eq!(text.matches("ldmesh_endpoint_connections{").count(), 1, "{text}");
        assert!(!text.contains("unknown"), "{text}");
    }
}
