//! `traffic.sidecar.istio.io/*`: what Istio would not capture of a pod's outbound connections stays out of the mesh here.
//! In a pod that has the sidecar, too, it is the other way round: what the sidecar captures is its own, since it would
//! take an endpoint that ldmesh chose for an address outside the mesh.
//!
//! As Istio's iptables rules read them: excluded ports and ranges win, included ports come beside included ranges, and
//! an empty list of ranges includes none. They become `LDMESH_EXCLUDE` and `LDMESH_INCLUDE`, beside what
//! `ldmesh.io/exclude` says; `ldmesh.io/include` wins over Istio's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::annotations::{Place, Problem};
use crate::decide::metadata;

const PREFIX: &str = "traffic.sidecar.istio.io/";
/// With an empty value the sidecar captures no outbound connection.
pub(crate) const NO_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
const INTERCEPTION: &str = "sidecar.istio.io/interceptionMode";
const EVERYTHING: [&str; 2] = ["0.0.0.0/0", "::/0"];
const EXCLUDE: &str = "LDMESH_EXCLUDE";
const INCLUDE: &str = "LDMESH_INCLUDE";

/// Entries for both variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    exclude: Vec<String>,
    include: Vec<String>,
    /// The sidecar captures everything.
    pub leaves_nothing: bool,
    pub problems: Vec<Problem>,
}

impl Traffic {
    /// Reads a pod's annotations; an entry that does not parse counts as absent.
    pub(crate) fn read(pod: &Map<String, Value>) -> Self {
        let mut read = Self::default();
        let excluded = read.excluded(pod);
        let captured = read.captured(pod);
        match captured {
            None => read.exclude = excluded,
            Some(captured) if captured.is_empty() => {
                read.exclude = excluded.into_iter().chain(EVERYTHING.map(str::to_owned)).collect();
            }
            Some(captured) => (read.exclude, read.include) = (excluded, captured),
        }
        read
    }

    /// As [`Traffic::read`] of a pod that has the sidecar: ldmesh's is what the sidecar leaves.
    pub(crate) fn beside_sidecar(pod: &Map<String, Value>) -> Self {
        let mut read = Self::default();
        let excluded = read.excluded(pod);
        let captured = match metadata(pod, "annotations", INTERCEPTION) {
            Some("NONE") => Some(Vec::new()),
            _ => read.captured(pod),
        };
        read.leaves_nothing = captured.is_none();
        let captured = captured.unwrap_or_else(|| EVERYTHING.map(str::to_owned).into());
        read.exclude = excluded.into_iter().chain(captured).collect();
        read
    }

    fn excluded(&mut self, pod: &Map<String, Value>) -> Vec<String> {
        let mut excluded = self.entries(pod, "excludeOutboundIPRanges", range);
        excluded.extend(self.entries(pod, "excludeOutboundPorts", port));
        excluded
    }

    /// What the sidecar captures, but for the excluded; `None` for everything.
    fn captured(&mut self, pod: &Map<String, Value>) -> Option<Vec<String>> {
        // Without the annotation, or with "*", every range is in, and included ports add nothing.
        let all = |kind| value(pod, kind) == Some("*");
        if value(pod, "includeOutboundIPRanges").is_none()
            || all("includeOutboundIPRanges")
            || all("includeOutboundPorts")
        {
            return None;
        }
        let mut captured = self.entries(pod, "includeOutboundIPRanges", range);
        captured.extend(self.entries(pod, "includeOutboundPorts", port));
        Some(captured)
    }

    /// The entries of a list that parse.
    fn entries(&mut self, pod: &Map<String, Value>, kind: &str, parse: fn(&str) -> Option<String>) -> Vec<String> {
        let listed = value(pod, kind).unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let parsed = listed.filter_map(|entry| {
            let parsed = parse(entry);
            if parsed.is_none() {
                self.problems.push(Problem {
                    place: Place::Annotation,
                    key: format!("{PREFIX}{kind}"),
                    value: entry.chars().take(60).collect(),
                    remedy: "use CIDRs for ranges, numbers for ports, separated by commas".to_owned(),
                });
            }
            parsed
        });
        parsed.collect()
    }

    /// Adds them to the variables of the pod.
    pub(crate) fn add_to(&self, variables: &mut BTreeMap<&'static str, String>) {
        if !self.include.is_empty() {
            variables.entry(INCLUDE).or_insert_with(|| self.include.join(","));
        }
        if !self.exclude.is_empty() {
            let entry = variables.entry(EXCLUDE).or_default();
            let own = (!entry.is_empty()).then(|| entry.clone());
            *entry = own.into_iter().chain(self.exclude.iter().cloned()).collect::<Vec<_>>().join(",");
        }
    }

    /// Adds them to the variables of a container, which replace the pod's where it has its own.
    pub(crate) fn add_to_own(&self, variables: &mut BTreeMap<&'static str, String>) {
        if variables.contains_key(EXCLUDE) {
            let include = variables.remove(INCLUDE);
            self.add_to(variables);
            variables.remove(INCLUDE);
            variables.extend(include.map(|include| (INCLUDE, include)));
        }
    }
}

fn value<'a>(pod: &'a Map<String, Value>, kind: &str) -> Option<&'a str> {
    metadata(pod, "annotations", &format!("{PREFIX}{kind}")).map(str::trim)
}

/// A CIDR or an address.
fn range(entry: &str) -> Option<String> {
    let (address, length) = entry.split_once('/').map_or((entry, None), |(address, length)| (address, Some(length)));
    let most = if address.parse::<IpAddr>().ok()?.is_ipv4() { 32 } else { 128 };
    let fits = length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= most));
    fits.then(|| entry.to_owned())
}

fn port(entry: &str) -> Option<String> {
    entry.parse::<u16>().ok().filter(|port| *port > 0).map(|port| format!(":{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use xds_runtime::config;

    fn pod(annotations: &[(&str, &str)]) -> Map<String, Value> {
        let list: Map<String, Value> =
            annotations.iter().map(|(kind, value)| (format!("{PREFIX}{kind}"), json!(value))).collect();
        Map::from_iter([("metadata".to_owned(), json!({"annotations": list}))])
    }

    fn traffic(annotations: &[(&str, &str)]) -> Traffic {
        Traffic::read(&pod(annotations))
    }

    /// As the library reads the variables.
    #[track_caller]
    fn check(annotations: &[(&str, &str)], inside: &[(&str, u16)], outside: &[(&str, u16)]) {
        check_scope(&traffic(annotations), inside, outside);
    }

    /// The same where the pod has the sidecar.
    #[track_caller]
    fn check_beside(annotations: &[(&str, &str)], inside: &[(&str, u16)], outside: &[(&str, u16)]) {
        let traffic = Traffic::beside_sidecar(&pod(annotations));
        assert_eq!(traffic.leaves_nothing, inside.is_empty());
        check_scope(&traffic, inside, outside);
    }

    #[track_caller]
    fn check_scope(traffic: &Traffic, inside: &[(&str, u16)], outside: &[(&str, u16)]) {
        assert_eq!(traffic.problems, []);
        let mut variables = BTreeMap::new();
        traffic.add_to(&mut variables);
        let settings = config::Settings::from_env(variables);
        assert_eq!(settings.problems, []);
        for (list, excluded) in [(inside, false), (outside, true)] {
            for (ip, port) in list {
                let found = settings.scope.excludes_address(ip.parse().unwrap(), *port);
                assert_eq!(found, excluded, "{ip} port {port}");
            }
        }
        assert!(!settings.scope.has_names());
    }

    #[test]
    fn what_istio_would_not_capture_stays_out() {
        check(&[], &[("10.0.0.1", 80)], &[]);
        check(
            &[("excludeOutboundIPRanges", "10.0.0.0/8, 192.0.2.1"), ("excludeOutboundPorts", "53,3306")],
            &[("11.0.0.1", 80)],
            &[("10.0.0.1", 80), ("192.0.2.1", 1), ("11.0.0.1", 3306), ("::ffff:10.0.0.1", 80)],
        );
        check(
            &[("includeOutboundIPRanges", "10.0.0.0/8"), ("includeOutboundPorts", "8080")],
            &[("10.0.0.1", 80), ("11.0.0.1", 8080)],
            &[("11.0.0.1", 80)],
        );
        check(&[("includeOutboundIPRanges", "*")], &[("10.0.0.1", 80)], &[]);
        check(&[("includeOutboundIPRanges", "")], &[], &[("10.0.0.1", 80), ("fd00::1", 80)]);
        check(
            &[("includeOutboundIPRanges", ""), ("includeOutboundPorts", "80")],
            &[("10.0.0.1", 80)],
            &[("10.0.0.1", 81)],
        );
        check(&[("includeOutboundIPRanges", "10.0.0.0/8"), ("includeOutboundPorts", "*")], &[("11.0.0.1", 80)], &[]);
    }

    #[test]
    fn what_a_sidecar_captures_is_its_own() {
        let anywhere = [("10.0.0.1", 80), ("fd00::1", 80)];
        check_beside(&[], &[], &anywhere);
        check_beside(&[("includeOutboundIPRanges", "*"), ("excludeOutboundPorts", "80")], &[], &anywhere);
        check_beside(&[("includeOutboundIPRanges", ""), ("includeOutboundPorts", "*")], &[], &anywhere);
        check_beside(&[("includeOutboundIPRanges", "")], &anywhere, &[]);
        check_beside(
            &[("includeOutboundIPRanges", ""), ("excludeOutboundPorts", "3306")],
            &anywhere,
            &[("10.0.0.1", 3306)],
        );
        check_beside(
            &[("includeOutboundIPRanges", "10.0.0.0/8"), ("includeOutboundPorts", "8080")],
            &[("11.0.0.1", 80)],
            &[("10.0.0.1", 80), ("11.0.0.1", 8080)],
        );
        let none = json!({"metadata": {"annotations": {INTERCEPTION: "NONE"}}});
        check_scope(&Traffic::beside_sidecar(none.as_object().unwrap()), &anywhere, &[]);
    }

    #[test]
    fn a_bad_entry_is_named_and_the_others_hold() {
        let traffic = traffic(&[("excludeOutboundPorts", "80,http,0"), ("excludeOutboundIPRanges", "10.0.0.0/33")]);
        assert_eq!(traffic.exclude, [":80"]);
        let values: Vec<_> = traffic.problems.iter().map(|problem| problem.value.as_str()).collect();
        assert_eq!(values, ["10.0.0.0/33", "http", "0"]);
        assert!(traffic.problems.iter().all(|problem| problem.key.starts_with(PREFIX)));
    }

    #[test]
    fn our_own_settings_stand_beside_them() {
        let traffic = traffic(&[("excludeOutboundPorts", "80"), ("includeOutboundIPRanges", "10.0.0.0/8")]);
        let mut pod = BTreeMap::from([(EXCLUDE, "*.internal".to_owned()), (INCLUDE, "10.96.0.0/12".to_owned())]);
        traffic.add_to(&mut pod);
        assert_eq!(pod, BTreeMap::from([(EXCLUDE, "*.internal,:80".to_owned()), (INCLUDE, "10.96.0.0/12".to_owned())]));
        let mut container = BTreeMap::from([(EXCLUDE, "db".to_owned())]);
        traffic.add_to_own(&mut container);
        assert_eq!(container, BTreeMap::from([(EXCLUDE, "db,:80".to_owned())]), "the rest is the pod's");
        let mut without = BTreeMap::new();
        traffic.add_to_own(&mut without);
        assert_eq!(without, BTreeMap::new());
    }
}
