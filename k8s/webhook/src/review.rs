//! An AdmissionReview (admission.k8s.io/v1) and the answer to it.
//!
//! Fields that a later Kubernetes adds are passed over; what is known must have its type, or the review is
//! [`Malformed`]. Everything else is allowed: a webhook that does not understand a pod must not keep it from starting.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use injector::{Namespace, Outcome, Reason, Settings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// Characters of a name, or of a warning.
const TEXT_MOST: usize = 512;

/// Why something is no review; one line with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// What became of a request, as the metrics count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer has a patch.
    Injected,
    /// The pod is one of the mesh already (a reinvocation).
    Unchanged,
    /// It stays as it is; the text is a word for the metrics.
    LeftAlone(&'static str),
    /// The injector failed; it is allowed as it is.
    Failed,
}

/// The answer to a review.
#[derive(Debug)]
pub struct Answer {
    /// An AdmissionReview with a response, as JSON.
    pub body: Vec<u8>,
    /// What became of it.
    pub verdict: Verdict,
    /// The same for people, in one line.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: GroupVersionKind,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    operation: Operation,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
struct GroupVersionKind {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Answers a review. `enabled` is whether the pod's namespace asks for injection, which no review tells: the
/// webhook's path does.
pub fn answer(body: &[u8], enabled: bool, settings: &Settings) -> Result<Answer, Malformed> {
    let request = parse(body)?;
    let decision = guarded(|| decide(&request, enabled, settings));
    let patched = decision.patch.is_some();
    let reply = Reply {
        api_version: API_VERSION,
        kind: KIND,
        response: Response {
            uid: &request.uid,
            allowed: true,
            patch_type: patched.then_some("JSONPatch"),
            patch: decision.patch,
            warnings: decision.warnings.iter().map(|warning| format!("ldmesh: {}", short(warning))).collect(),
        },
    };
    let body = serde_json::to_vec(&reply).map_err(|error| Malformed(error.to_string()))?;
    Ok(Answer { body, verdict: decision.verdict, text: describe(&request, decision.verdict, &decision.warnings) })
}

fn parse(body: &[u8]) -> Result<Request, Malformed> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let review: Review = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.inner());
        // Syntax has no path.
        let place = if path == "." || path == "?" { String::new() } else { format!("{path}: ") };
        Malformed(format!("{place}{error}; send an AdmissionReview of {API_VERSION}"))
    })?;
    json.end().map_err(|error| Malformed(format!("{error}; send one AdmissionReview")))?;
    if review.kind != KIND || review.api_version != API_VERSION {
        let found = format!("{:?} of {:?}", review.kind, review.api_version);
        return Err(Malformed(format!("is {found}; let admissionReviewVersions of the webhook be [v1]")));
    }
    if review.request.uid.is_empty() {
        return Err(Malformed("request.uid: is empty; send the request's uid".into()));
    }
    Ok(review.request)
}

struct Decision {
    verdict: Verdict,
    patch: Option<String>,
    warnings: Vec<String>,
}

impl Decision {
    fn left_alone(why: &'static str, warning: impl Into<String>) -> Self {
        Decision { verdict: Verdict::LeftAlone(why), patch: None, warnings: vec![warning.into()] }
    }

    fn failed(why: &str) -> Self {
        let warnings = vec![format!("the pod is not in the mesh: {why}")];
        Decision { verdict: Verdict::Failed, patch: None, warnings }
    }
}

/// A bug in the injector must not keep a pod from starting.
fn guarded(decide: impl FnOnce() -> Decision) -> Decision {
    catch_unwind(AssertUnwindSafe(decide)).unwrap_or_else(|_| Decision::failed("the injector failed; please report it"))
}

fn decide(request: &Request, enabled: bool, settings: &Settings) -> Decision {
    let GroupVersionKind { group, version, kind } = &request.kind;
    if !group.is_empty() || version != "v1" || kind != "Pod" {
        let found = format!("{kind:?} of group {group:?}");
        return Decision::left_alone("no_pod", format!("{found} is no pod; let the webhook's rules name pods only"));
    }
    if request.operation != Operation::Create || !request.sub_resource.is_empty() {
        let why = "pods are injected when they are created; let the webhook's rules name CREATE of pods only";
        return Decision::left_alone("no_creation", why);
    }
    let mut namespace = Namespace::new(request.namespace.as_str());
    if enabled {
        namespace.labels.insert("ldmesh.io/injection".to_owned(), "enabled".to_owned());
    }
    match injector::inject(&request.object, &namespace, settings) {
        Outcome::LeftAlone(reason) => {
            let word = word(&reason);
            // Who did not ask, or said no, knows.
            if matches!(reason, Reason::NotAsked | Reason::OptedOut) {
                return Decision { verdict: Verdict::LeftAlone(word), patch: None, warnings: Vec::new() };
            }
            Decision::left_alone(word, format!("the pod is not in the mesh: {reason}"))
        }
        Outcome::Injected { pod, warnings } => {
            let warnings = warnings.iter().map(ToString::to_string).collect();
            let patch = injector::patch(&request.object, &pod);
            if patch.0.is_empty() {
                return Decision { verdict: Verdict::Unchanged, patch: None, warnings };
            }
            match serde_json::to_vec(&patch) {
                Ok(patch) => Decision { verdict: Verdict::Injected, patch: Some(STANDARD.encode(patch)), warnings },
                Err(error) => Decision::failed(&error.to_string()),
            }
        }
    }
}

fn word(reason: &Reason) -> &'static str {
    match reason {
        Reason::NotAsked => "not_asked",
        Reason::OptedOut => "opted_out",
        Reason::SystemNamespace(_) => "system_namespace",
        Reason::HostNetwork => "host_network",
        Reason::Windows => "windows",
        Reason::Mirror => "mirror",
        Reason::Sidecar | Reason::SidecarAsked => "sidecar",
        Reason::NoContainer => "no_container",
        Reason::Storage => "storage",
        Reason::Malformed(_) => "malformed_pod",
    }
}

/// Names come before Kubernetes has checked them, so they are escaped.
fn describe(request: &Request, verdict: Verdict, warnings: &[String]) -> String {
    let metadata = request.object.get("metadata").and_then(Value::as_object);
    let text = |key: &str| metadata.and_then(|metadata: &Map<String, Value>| metadata.get(key)?.as_str());
    let name = if request.name.is_empty() {
        text("name").or_else(|| text("generateName")).unwrap_or_default()
    } else {
        &request.name
    };
    let (namespace, name) = (short(&request.namespace).escape_debug(), short(name).escape_debug());
    let dry = if request.dry_run == Some(true) { " (dry run)" } else { "" };
    let what = match verdict {
        Verdict::Injected => "is put into the mesh",
        Verdict::Unchanged => "is in the mesh already",
        Verdict::LeftAlone("not_asked") => "is left alone: nobody asked",
        Verdict::LeftAlone("opted_out") => "is left alone: its label says so",
        Verdict::LeftAlone(_) | Verdict::Failed => "is left alone",
    };
    let mut line = format!("{namespace}/{name} {what}{dry}");
    for warning in warnings {
        line.push_str("; ");
        line.extend(short(warning).escape_debug());
    }
    line
}

/// Whoever may create pods, or reaches our port, writes what this is made of.
fn short(text: &str) -> &str {
    text.char_indices().nth(TEXT_MOST).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_injector_allows_the_pod_with_a_warning() {
        let decision = guarded(|| panic!("a bug"));
        assert_eq!(decision.verdict, Verdict::Failed);
        assert_eq!(decision.patch, None);
        assert_eq!(decision.warnings, ["the pod is not in the mesh: the injector failed; please report it"]);
    }
}
