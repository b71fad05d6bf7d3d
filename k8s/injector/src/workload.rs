//! Where the pods are in an object, and which workload a pod is of.

use serde_json::{Map, Value};

use crate::shape::{entries, text_of};

/// A pod, or a template of one, in an object.
pub(crate) struct Template {
    /// Keys from the object to it; empty for a Pod.
    pub path: &'static [&'static str],
}

/// The template of an object; `None` where it has no pods.
pub(crate) fn template(object: &Map<String, Value>) -> Option<Template> {
    let version = text_of(object, "apiVersion")?;
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let path: &[&str] = match (group, text_of(object, "kind")?) {
        ("", "Pod") => &[],
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("", "ReplicationController")
        | ("batch", "Job") => &["spec", "template"],
        ("batch", "CronJob") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    };
    Some(Template { path })
}

/// The name of the workload that a pod is of, as Istio's injector names it: from its controller, else its own name.
pub(crate) fn of_pod(pod: &Map<String, Value>) -> Option<String> {
    let metadata = pod.get("metadata")?.as_object()?;
    let controller = entries(metadata, "ownerReferences")
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
    let Some(owner) = controller else {
        let own = text_of(metadata, "name").filter(|name| !name.is_empty());
        let own = own.or_else(|| text_of(metadata, "generateName").map(|name| name.trim_end_matches('-')));
        return own.filter(|name| !name.is_empty()).map(str::to_owned);
    };
    let name = text_of(owner, "name")?;
    let without = match text_of(owner, "kind")? {
        // A Deployment's ReplicaSet carries the hash of its template.
        "ReplicaSet" => metadata
            .get("labels")
            .and_then(|labels| labels.get("pod-template-hash")?.as_str())
            .and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-')),
        // A CronJob's Job carries the time, in seconds or minutes.
        "Job" => name.rsplit_once('-').filter(|(_, time)| is_time(time)).map(|(cron_job, _)| cron_job),
        _ => None,
    };
    Some(without.unwrap_or(name).to_owned())
}

fn is_time(text: &str) -> bool {
    (8..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_workload(metadata: Value, expected: Option<&str>) {
        let pod = json!({ "metadata": metadata });
        assert_eq!(of_pod(pod.as_object().unwrap()).as_deref(), expected);
    }

    #[test]
    fn a_pod_is_of_its_deployment_its_cron_job_or_itself() {
        let owner = |kind: &str, name: &str| json!([{"kind": kind, "name": name, "controller": true}]);
        check_workload(
            json!({"labels": {"pod-template-hash": "5d4f"}, "ownerReferences": owner("ReplicaSet", "web-5d4f")}),
            Some("web"),
        );
        check_workload(json!({"ownerReferences": owner("ReplicaSet", "web-5d4f")}), Some("web-5d4f"));
        check_workload(json!({"ownerReferences": owner("Job", "backup-29384756")}), Some("backup"));
        check_workload(json!({"ownerReferences": owner("Job", "migrate-v2")}), Some("migrate-v2"));
        check_workload(json!({"name": "web-0", "ownerReferences": owner("StatefulSet", "web")}), Some("web"));
        check_workload(json!({"generateName": "shell-"}), Some("shell"));
        check_workload(json!({"name": "shell"}), Some("shell"));
        check_workload(json!({}), None);
    }
}
