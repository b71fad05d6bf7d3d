//! Where the pods are in an object, and which workload a pod is of.

use serde_json::{Map, Value};

use crate::decide;
use crate::shape::{entries, text_of};

const NAME_LABEL: &str = "service.istio.io/workload-name";

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

/// The name of the workload that a pod is of, as Istio's injector names it (`pkg/kube/util.go`): from its label, its
/// template's object, its controller, else its own name.
pub(crate) fn name(pod: &Map<String, Value>, of_template: Option<&str>) -> Option<String> {
    let named = decide::metadata(pod, "labels", NAME_LABEL);
    named.or(of_template).map(str::to_owned).or_else(|| by_controller(pod))
}

fn by_controller(pod: &Map<String, Value>) -> Option<String> {
    let metadata = pod.get("metadata")?.as_object()?;
    let controller = entries(metadata, "ownerReferences")
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
    let Some(owner) = controller else {
        let own = text_of(metadata, "name").filter(|name| !name.is_empty());
        let own = own.or_else(|| text_of(metadata, "generateName").map(|name| name.trim_end_matches('-')));
        return own.filter(|name| !name.is_empty()).map(str::to_owned);
    };
    let name = text_of(owner, "name")?;
    let label = |key: &str| decide::metadata(pod, "labels", key);
    let without = match text_of(owner, "kind")? {
        // The ReplicaSet of a Deployment, or of a Rollout of Argo, carries the hash of its template.
        "ReplicaSet" => ["pod-template-hash", "rollouts-pod-template-hash"]
            .iter()
            .find_map(|key| name.strip_suffix(label(key)?)?.strip_suffix('-')),
        // OpenShift's DeploymentConfig.
        "ReplicationController" => label("deploymentconfig").filter(|config| !config.is_empty()),
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
        assert_eq!(name(pod.as_object().unwrap(), None).as_deref(), expected);
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
        check_workload(
            json!({"labels": {"rollouts-pod-template-hash": "5d4f"}, "ownerReferences": owner("ReplicaSet", "web-5d4f")}),
            Some("web"),
        );
        let configured = json!({"deploymentconfig": "web"});
        check_workload(
            json!({"labels": configured, "ownerReferences": owner("ReplicationController", "web-3")}),
            Some("web"),
        );
        check_workload(json!({"ownerReferences": owner("ReplicationController", "web-3")}), Some("web-3"));
        check_workload(json!({"generateName": "shell-"}), Some("shell"));
        check_workload(json!({"name": "shell"}), Some("shell"));
        check_workload(json!({}), None);
    }

    #[test]
    fn its_label_names_the_workload_whatever_else_does() {
        let labels = json!({"service.istio.io/workload-name": "shop", "deploymentconfig": "web"});
        let owner = json!([{"kind": "ReplicationController", "name": "web-3", "controller": true}]);
        check_workload(json!({"labels": labels, "ownerReferences": owner}), Some("shop"));
        let template = json!({"metadata": {"labels": labels}});
        assert_eq!(name(template.as_object().unwrap(), Some("web")).as_deref(), Some("shop"));
    }
}
