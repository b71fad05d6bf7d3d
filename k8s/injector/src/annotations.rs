//! Settings of a pod from its annotations, and what is wrong with its labels.
//!
//! `ldmesh.io/SETTING` is for the pod, `ldmesh.io/SETTING.CONTAINER` for one container. Kubernetes allows 63
//! characters behind the slash: a container whose name does not fit beside a setting takes the pod's.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::decide::POD_LABEL;
use crate::settings::{BadValue, OfContainer, Settings};
use crate::shape::{entries, text_of};

/// Of every label and annotation that is ours.
pub(crate) const PREFIX: &str = "ldmesh.io/";

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
}

/// Reads all that is ours; what cannot be taken counts as absent.
pub(crate) fn read(pod: &Map<String, Value>, operator: &Settings) -> Annotated {
    let mut read = Annotated { settings: operator.clone(), containers: BTreeMap::new(), problems: Vec::new() };
    let spec = pod.get("spec").and_then(Value::as_object);
    let names: Vec<&str> = spec
        .into_iter()
        .flat_map(|spec| entries(spec, "initContainers").chain(entries(spec, "containers")))
        .filter_map(|container| text_of(container, "name"))
        .collect();
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
            Some((_, container)) if !names.contains(&container) => {
                let has = names.join(", ");
                Err(BadValue(format!("no container is named {container}; there are {has}")))
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
        for missing in chosen.iter().filter(|name| !names.contains(&name.as_str())) {
            let remedy = format!("no container is named {missing}; there are {}", names.join(", "));
            read.problems.push(problem(Place::Annotation, key, value, remedy));
        }
    }
    read
}

fn ours<'a>(pod: &'a Map<String, Value>, list: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let found = pod.get("metadata").and_then(|metadata| metadata.get(list)).and_then(Value::as_object);
    found.into_iter().flatten().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str()?)))
}

fn problem(place: Place, key: &str, value: &str, remedy: String) -> Problem {
    // Admission's warnings are short.
    let mut short: String = value.chars().take(60).collect();
    if short.len() < value.len() {
        short.push_str("...");
    }
    Problem { place, key: format!("{PREFIX}{key}"), value: short, remedy }
}
