//! What injection puts into a container is what the library looks for: its own configuration reads the environment
//! and the files of an injected pod.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use injector::{Namespace, Outcome, Request, Settings, inject_as};
use serde_json::{Value, json};
use tempfile::TempDir;
use xds_runtime::config::{Lead, Mode, Pod, Roots, Settings as Configuration, Upstream};

const LABELS: &str = "app=\"web\"\n";
const ANNOTATIONS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts=\"3306\"\n";

/// Lays out what kubelet would mount, below a folder.
fn mount(pod: &Value, container: &Value, root: &Path) {
    for mounted in container["volumeMounts"].as_array().unwrap() {
        let folder = root.join(mounted["mountPath"].as_str().unwrap().trim_start_matches('/'));
        fs::create_dir_all(&folder).unwrap();
        let volume = pod["spec"]["volumes"].as_array().unwrap().iter().find(|v| v["name"] == mounted["name"]).unwrap();
        for item in volume["downwardAPI"]["items"].as_array().into_iter().flatten() {
            let text = match item["fieldRef"]["fieldPath"].as_str().unwrap() {
                "metadata.labels" => LABELS,
                "metadata.annotations" => ANNOTATIONS,
                other => panic!("{other}"),
            };
            fs::write(folder.join(item["path"].as_str().unwrap()), text).unwrap();
        }
        for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
            assert_eq!(source["serviceAccountToken"]["audience"], "istio-ca");
            fs::write(folder.join(source["serviceAccountToken"]["path"].as_str().unwrap()), "token").unwrap();
        }
        if volume["configMap"]["name"] == "istio-ca-root-cert" {
            fs::write(folder.join("root-cert.pem"), "certificate").unwrap();
        }
    }
}

/// The environment as kubelet makes it.
fn environment(container: &Value) -> Vec<(String, String)> {
    let value = |entry: &Value| match entry["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
        None => entry["value"].as_str().unwrap().to_owned(),
        Some("metadata.name") => "web-0".into(),
        Some("metadata.namespace") => "shop".into(),
        Some("status.podIP") => "10.1.2.3".into(),
        Some("spec.serviceAccountName") => "web".into(),
        Some(other) => panic!("{other}"),
    };
    let variables = container["env"].as_array().unwrap();
    variables.iter().map(|entry| (entry["name"].as_str().unwrap().to_owned(), value(entry))).collect()
}

fn injected(pod: &Value, settings: &Settings) -> Value {
    let namespace = Namespace::new("shop");
    let request = Request { namespace: &namespace, settings, asked: true, workload: Some("web") };
    match inject_as(pod, &request) {
        Outcome::Injected { pod, .. } => pod,
        Outcome::LeftAlone(reason) => panic!("{reason}"),
    }
}

#[track_caller]
fn read(pod: &Value, container: &Value) -> (TempDir, Configuration, Upstream) {
    let root = TempDir::new().unwrap();
    mount(pod, container, root.path());
    let settings = Configuration::from_env(environment(container));
    assert_eq!(settings.problems, []);
    let found = Pod::at(root.path(), "web-0");
    let upstream = Upstream::gather(&settings, &found).unwrap();
    (root, settings, upstream)
}

#[test]
fn the_library_finds_token_certificate_and_identity() {
    let pod = json!({"metadata": {"name": "web-0"}, "spec": {"containers": [{"name": "app"}]}});
    let mut settings = Settings::default();
    for (name, value) in [("mode", "shadow"), ("leader", "thread"), ("cluster-id", "east"), ("trust-domain", "td")] {
        settings.set(name, value).unwrap();
    }
    let pod = injected(&pod, &settings);
    let (root, settings, upstream) = read(&pod, &pod["spec"]["containers"][0]);
    assert_eq!((settings.mode, settings.lead), (Mode::Shadow, Lead::Thread));
    assert_eq!(fs::read_to_string(upstream.token_file.unwrap()).unwrap(), "token");
    let Roots::File(certificate) = upstream.tls.unwrap().roots else { panic!("the system's roots") };
    assert_eq!(fs::read_to_string(certificate).unwrap(), "certificate");
    assert_eq!(upstream.node.id, "sidecar~10.1.2.3~web-0.shop~shop.svc.cluster.local");
    assert_eq!(upstream.node.cluster, "web.shop");
    assert_eq!(upstream.node.metadata["WORKLOAD_NAME"], "web");
    assert_eq!(upstream.node.metadata["SERVICE_ACCOUNT"], "web");
    assert_eq!((upstream.cluster_id.as_str(), upstream.trust_domain.as_str()), ("east", "td"));
    assert!(root.path().join("run/ldmesh").is_dir() && settings.run_dir.is_none());
}

#[test]
fn a_native_sidecar_has_the_mesh_of_the_containers_that_it_leads() {
    let pod = json!({"spec": {"securityContext": {"runAsUser": 7}, "containers": [{"name": "app"}]}});
    let mut settings = Settings::default();
    settings.set("leader", "sidecar").unwrap();
    let pod = injected(&pod, &settings);
    let (_app_root, app, _) = read(&pod, &pod["spec"]["containers"][0]);
    let (_agent_root, agent, _) = read(&pod, &pod["spec"]["initContainers"][1]);
    // Same folder below the run directory: one stream.
    assert_eq!(app.instance(1), agent.instance(1));
    let folder = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["mountPath"] == "/run/ldmesh").unwrap()["name"].clone()
    };
    assert_eq!(folder(&pod["spec"]["containers"][0]), folder(&pod["spec"]["initContainers"][1]));
}

#[test]
fn where_usual_paths_are_taken_the_library_is_told_of_the_others() {
    let mounts = json!([{"name": "own", "mountPath": "/run", "readOnly": true}]);
    let pod = json!({"spec": {"volumes": [{"name": "own", "emptyDir": {}}],
        "containers": [{"name": "app", "volumeMounts": mounts}]}});
    let pod = injected(&pod, &Settings::default());
    let (root, settings, _) = read(&pod, &pod["spec"]["containers"][0]);
    let run = settings.run_dir.unwrap();
    assert!(root.path().join(run.strip_prefix("/").unwrap()).is_dir());
    let certificate = settings.identity.xds_root_ca.unwrap();
    assert!(root.path().join(certificate.trim_start_matches('/')).is_file());
}
