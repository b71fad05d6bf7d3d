//! `traffic.sidecar.istio.io/*`: what Istio would not capture of a pod's outbound connections stays out of the mesh here.
//!
//! As Istio's iptables rules read them: excluded ports and ranges win, included ports come beside included ranges, and
//! an empty list of ranges includes none. They become `LDMESH_EXCLUDE` and `LDMESH_INCLUDE`, beside what
//! `ldmesh.io/exclude` says; `ldmesh.io/include` wins over Istio's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::annotations::{Place, Problem};

const PREFIX: &str = "traffic.sidecar.istio.io/";
const EXCLUDE: &str = "LDMESH_EXCLUDE";
const INCLUDE: &str = "LDMESH_INCLUDE";

/// Entries for both variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    exclude: Vec<String>,
    include: Vec<String>,
    pub problems: Vec<Problem>,
}

impl Traffic {
    /// Reads a pod's annotations; an entry that does not parse counts as absent.
    pub(crate) fn read(pod: &Map<String, Value>) -> Self {
        let annotations = pod.get("metadata").and_then(|metadata| metadata.get("annotations"));
        let value = |kind: &str| {
            annotations.and_then(|list| list.get(format!("{PREFIX}{kind}"))).and_then(Value::as_str).map(str::trim)
        };
        let mut problems = Vec::new();
        let mut entries = |kind: &str, parse: fn(&str) -> Option<String>| -> Vec<String> {
            let listed = value(kind).unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty());
            let parsed = listed.filter_map(|entry| {
                let parsed = parse(entry);
                if parsed.is_none() {
                    problems.push(Problem {
                        place: Place::Annotation,
                        key: format!("{PREFIX}{kind}"),
                        value: entry.chars().take(60).collect(),
                        remedy: "use CIDRs for ranges, numbers for ports, separated by commas".to_owned(),
                    });
                }
                parsed
            });
            parsed.collect()
        };
        let mut exclude = entries("excludeOutboundIPRanges", range);
        exclude.extend(entries("excludeOutboundPorts", port));
        let mut include = Vec::new();
        // Without the annotation, or with "*", every range is in, and included ports add nothing.
        let ranges = value("includeOutboundIPRanges").filter(|ranges| *ranges != "*");
        if let Some(ranges) = ranges.filter(|_| value("includeOutboundPorts") != Some("*")) {
            include.extend(entries("includeOutboundIPRanges", range));
            include.extend(entries("includeOutboundPorts", port));
            if ranges.is_empty() && include.is_empty() {
                exclude.extend(["0.0.0.0/0", "::/0"].map(str::to_owned));
            }
        }
        Self { exclude, include, problems }
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

    fn traffic(annotations: &[(&str, &str)]) -> Traffic {
        let list: Map<String, Value> =
            annotations.iter().map(|(kind, value)| (format!("{PREFIX}{kind}"), json!(value))).collect();
        Traffic::read(json!({"metadata": {"annotations": list}}).as_object().unwrap())
    }

    /// As the library reads the variables.
    #[track_caller]
    fn check(annotations: &[(&str, &str)], inside: &[(&str, u16)], outside: &[(&str, u16)]) {
        let traffic = traffic(annotations);
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
