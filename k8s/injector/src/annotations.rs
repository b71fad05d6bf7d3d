//! Settings of a pod from its annotations, and what is wrong with its labels.
//!
//! `ldmesh.io/SETTING` is for the pod, `ldmesh.io/SETTING.CONTAINER` for one container. Kubernetes allows 63
//! characters behind the slash: a container whose name does not fit beside a setting takes the pod's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::decide::{self, POD_LABEL};
use crate::settings::{BadValue, OfContainer, Settings};
use crate::shape::{entries, text_of};
use crate::traffic::{self, Traffic};

/// Of every label and annotation that is ours.
pub(crate) const PREFIX: &str = "ldmesh.io/";

/// What a pod may say is larger than what an answer should hold: whoever may create pods writes it.
const PROBLEMS_MOST: usize = 16;
const NAMES_MOST: usize = 8;
const TEXT_MOST: usize = 63;

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Among the labels.
    Label,
    /// Among the annotations.
    Annotation,
}

/// A label or an annotation that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// Its key.
    pub key: String,
    /// Its value, cut to what fits a line.
    pub value: String,
    /// What is allowed.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Label => "label",
            Place::Annotation => "annotation",
        };
        write!(f, "{place} {}: {:?} is not taken; {}", self.key, self.value, self.remedy)
    }
}

/// What the annotations make of the operator's settings.
#[derive(Debug)]
pub(crate) struct Annotated {
    pub settings: Settings,
    pub containers: BTreeMap<String, OfContainer>,
    pub problems: Vec<Problem>,
    /// What a person should know of those that are.
    pub left: Vec<String>,
}

/// Reads all that is ours; what cannot be taken counts as absent.
pub(crate) fn read(pod: &Map<String, Value>, operator: &Settings) -> Annotated {
    let (containers, problems, left) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut read = Annotated { settings: operator.clone(), containers, problems, left };
    let spec = pod.get("spec").and_then(Value::as_object);
    let listed: Vec<&str> = spec
        .into_iter()
        .flat_map(|spec| entries(spec, "initContainers").chain(entries(spec, "containers")))
        .filter_map(|container| text_of(container, "name"))
        .collect();
    let names: BTreeSet<&str> = listed.iter().copied().collect();
    let there_are = some_of(&listed);
    for (key, value) in ours(pod, "labels") {
        let remedy = match (key, value) {
            ("inject", "true" | "false") => continue,
            ("inject", _) => "use \"true\" or \"false\"".to_owned(),
            _ => format!("the only label of a pod is {POD_LABEL}; settings are annotations"),
        };
        read.problems.push(problem(Place::Label, key, value, remedy));
    }
    for (key, value) in ours(pod, "annotations") {
        let taken = match key.split_once('.') {
            None if key == "inject" => Err(BadValue(format!("{POD_LABEL} is a label: move it there"))),
            None => read.settings.set(key, value),
            Some((_, container)) if !names.contains(container) => {
                Err(BadValue(format!("no container is named {}; there are {there_are}", short(container))))
            }
            Some((name, container)) => read.containers.entry(container.to_owned()).or_default().set(name, value),
        };
        if let Err(BadValue(remedy)) = taken {
            read.problems.push(problem(Place::Annotation, key, value, remedy));
        }
    }
    if let crate::settings::Chosen::Named(chosen) = &read.settings.containers
        && let Some((key, value)) = ours(pod, "annotations").find(|(key, _)| *key == "containers")
    {
        for missing in chosen.iter().filter(|name| !names.contains(name.as_str())) {
            let remedy = format!("no container is named {missing}; there are {there_are}");
            read.problems.push(problem(Place::Annotation, key, value, remedy));
        }
    }
    let beside_sidecar = read.settings.mixed && decide::sidecar(pod).is_some();
    let mut traffic = if beside_sidecar { Traffic::beside_sidecar(pod) } else { Traffic::read(pod) };
    if traffic.leaves_nothing {
        read.left.push(format!(
            "the sidecar takes all of the pod's outbound connections, so that ldmesh leads none; it does with annotation \
             {}: \"\"",
            traffic::NO_RANGES
        ));
    }
    read.problems.append(&mut traffic.problems);
    traffic.add_to(&mut read.settings.variables);
    read.containers.values_mut().for_each(|container| traffic.add_to_own(&mut container.variables));
    if let Some(more) = read.problems.len().checked_sub(PROBLEMS_MOST).filter(|more| *more > 0) {
        read.problems.truncate(PROBLEMS_MOST);
        read.problems.push(problem(
            Place::Annotation,
            "*",
            &format!("{more} more"),
            "mend the ones above first".into(),
        ));
    }
    read
}

/// Some names of a list, as a line has room for.
fn some_of(names: &[&str]) -> String {
    let first: Vec<String> = names.iter().take(NAMES_MOST).map(|name| short(name)).collect();
    let more = names.len().saturating_sub(NAMES_MOST);
    if more == 0 { first.join(", ") } else { format!("{} and {more} more", first.join(", ")) }
}

/// Cut to what fits a line.
fn short(text: &str) -> String {
    let mut cut: String = text.chars().take(TEXT_MOST).collect();
    if cut.len() < text.len() {
        cut.push_str("...");
    }
    cut
}

fn ours<'a>(pod: &'a Map<String, Value>, list: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let found = pod.get("metadata").and_then(|metadata| metadata.get(list)).and_then(Value::as_object);
    found.into_iter().flatten().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str()?)))
}

fn problem(place: Place, key: &str, value: &str, remedy: String) -> Problem {
    // Admission's warnings are short.
    Problem { place, key: format!("{PREFIX}{}", short(key)), value: short(value), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_said_of_a_pod_stays_small_whatever_the_pod_says() {
        let name = |n: usize| format!("{n}-{}", "x".repeat(200));
        let containers: Vec<Value> = (0..500).map(|n| json!({"name": name(n)})).collect();
        let annotations: Map<String, Value> =
            (0..3_000).map(|n| (format!("{PREFIX}mode.{}{n}", "y".repeat(200)), json!("z".repeat(500)))).collect();
        let pod = json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers}});
        let read = read(pod.as_object().unwrap(), &Settings::default());
        assert_eq!(read.problems.len(), PROBLEMS_MOST + 1);
        let said: usize = read.problems.iter().map(|problem| problem.to_string().len()).sum();
        assert!(said < 32 << 10, "{said} bytes");
        assert!(read.problems.iter().any(|problem| problem.value == format!("{} more", 3_000 - PROBLEMS_MOST)));
    }
}
