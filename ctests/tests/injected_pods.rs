//! A real API server takes every pod that injection made, and says of it what it says of the pod before.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ctests::{Finished, Kubernetes, Pod, has_istio};
use injector::{Namespace, Outcome, Request, Settings, inject_as};
use serde_json::{Value, json};

/// The golden files of `k8s/injector`: name, before, after.
fn golden() -> Vec<(String, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/injector/tests/golden");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".injected.yaml").map(str::to_owned)).collect();
    names.sort();
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let case = |name: String| (read(&format!("{name}.yaml")), read(&format!("{name}.injected.yaml")), name);
    names.into_iter().map(case).map(|(before, after, name)| (name, before, after)).collect()
}

/// The namespaces that a text names.
fn namespaces(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>();
    text.split("namespace: ").skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

/// A namespace with what its controller would put there.
fn populate(kubernetes: &Kubernetes<'_>, namespace: &str) {
    kubernetes.namespace(namespace);
    kubernetes.apply(&format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: default, namespace: {namespace}}}}}"
    ));
}

fn restrict(kubernetes: &Kubernetes<'_>, namespace: &str) {
    kubernetes.apply(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: \
         {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
    ));
}

#[test]
fn the_api_server_says_of_injected_pods_what_it_says_of_them_before() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let kubernetes = pod.kubernetes_with_accounts();
    populate(&kubernetes, "default");
    let golden = golden();
    assert!(golden.len() >= 40, "{} cases", golden.len());
    let mut known = BTreeSet::new();
    for (name, before, after) in &golden {
        for namespace in namespaces(before).into_iter().filter(|namespace| known.insert(namespace.clone())) {
            populate(&kubernetes, &namespace);
        }
        let refused = kubernetes.refusals(before);
        assert_eq!(kubernetes.refusals(after), refused, "{name}");
        for line in refused {
            println!("{name}: refused before and after: {line}");
        }
    }
}

#[test]
fn pods_of_restricted_namespaces_stay_restricted() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let kubernetes = pod.kubernetes_with_accounts();
    populate(&kubernetes, "locked");
    restrict(&kubernetes, "locked");
    let golden = golden();
    let restricted: Vec<_> = golden.iter().filter(|(name, ..)| name.starts_with("restricted")).collect();
    assert_eq!(restricted.len(), 3);
    for (name, before, after) in restricted {
        assert_eq!(kubernetes.refusals(before), Vec::<String>::new(), "{name}");
        assert_eq!(kubernetes.refusals(after), Vec::<String>::new(), "{name}");
        // The namespace does refuse what is not.
        let loose = after.replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true");
        assert_eq!(kubernetes.refusals(&loose).len(), 1, "{name}");
    }
}

/// A pod whose containers have these resources.
fn pod_of(name: &str, resources: &[Value]) -> Value {
    let container = |(number, resources): (usize, &Value)| json!({"name": format!("app-{number}"), "image": "app:1", "resources": resources});
    let containers: Vec<Value> = resources.iter().enumerate().map(container).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "bounded"},
        "spec": {"containers": containers}})
}

/// A namespace that bounds each container and what all pods ask for, as the quota's controller would have it at first.
fn bound(kubernetes: &Kubernetes<'_>) {
    populate(kubernetes, "bounded");
    let range = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "range", "namespace": "bounded"},
        "spec": {"limits": [
            {"type": "Container", "min": {"cpu": "20m", "memory": "100Mi"}, "max": {"cpu": "90m", "memory": "300Mi"},
             "maxLimitRequestRatio": {"cpu": "2", "memory": "1.5"}},
            {"type": "Pod", "max": {"cpu": "130m", "memory": "500Mi"}},
        ]},
    });
    let hard =
        json!({"requests.cpu": "90m", "requests.memory": "400Mi", "limits.cpu": "130m", "limits.memory": "450Mi"});
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota", "namespace": "bounded"},
        "spec": {"hard": hard},
    });
    kubernetes.apply(&format!("{range}\n---\n{quota}"));
    let none = json!({"requests.cpu": "0", "requests.memory": "0", "limits.cpu": "0", "limits.memory": "0"});
    let status = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota", "namespace": "bounded"},
        "status": {"hard": hard, "used": none},
    });
    let verb = ["apply", "--server-side", "--force-conflicts", "--subresource=status"];
    kubernetes.kubectl_with(&verb, &status.to_string()).success();
}

#[test]
fn what_limit_ranges_and_quotas_allowed_before_they_allow_after() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let kubernetes = pod.kubernetes_with_accounts();
    bound(&kubernetes);
    let some = |cpu: [&str; 2], memory: [&str; 2]| json!({"requests": {"cpu": cpu[0], "memory": memory[0]}, "limits": {"cpu": cpu[1], "memory": memory[1]}});
    let pods = [
        pod_of("one", &[some(["90m", "90m"], ["300Mi", "300Mi"])]),
        // All of the quota.
        pod_of("two", &[some(["70m", "90m"], ["250Mi", "300Mi"]), some(["20m", "40m"], ["150Mi", "150Mi"])]),
        pod_of("limits", &[json!({"limits": {"cpu": "50m", "memory": "100Mi"}})]),
    ];
    let (namespace, settings) = (Namespace::new("bounded"), Settings::default());
    let request = Request { namespace: &namespace, settings: &settings, asked: true, workload: None };
    for pod in pods {
        assert_eq!(kubernetes.refusals(&pod.to_string()), Vec::<String>::new(), "{pod}");
        let Outcome::Injected { pod: mut done, .. } = inject_as(&pod, &request) else { panic!("left alone") };
        assert_eq!(kubernetes.refusals(&done.to_string()), Vec::<String>::new(), "{done:#}");
        // The range does refuse a container that asks for what it does not allow.
        for other in [some(["100m", "100m"], ["100Mi", "100Mi"]), some(["50m", "50m"], ["64Mi", "64Mi"])] {
            done["spec"]["initContainers"][0]["resources"] = other;
            assert_eq!(kubernetes.refusals(&done.to_string()).len(), 1, "{done:#}");
        }
    }
}

/// Numbers that only look like chance (xorshift64).
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below).unwrap()).unwrap()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.next(of.len())].clone()
    }

    /// Up to `most` of them, none twice.
    fn some<T: Clone>(&mut self, of: &[T], most: usize) -> Vec<T> {
        let mut rest = of.to_vec();
        (0..self.next(most + 1).min(of.len())).map(|_| rest.swap_remove(self.next(rest.len()))).collect()
    }
}

const VOLUMES: [&str; 7] =
    ["ldmesh-files", "ldmesh-run", "ldmesh-run-2", "ldmesh-token", "ldmesh-root-cert", "ldmesh-pod-info", "other"];
const PATHS: [&str; 17] = [
    "/ldmesh-files",
    "/ldmesh-files/",
    "/ldmesh-files/below",
    "/ldmesh-library",
    "/ldmesh-run",
    "/ldmesh-root-cert",
    "/run",
    "/run/ldmesh",
    "/run/ldmesh/below",
    "/var/run",
    "/var/run/secrets",
    "/var/run/secrets/tokens",
    "/run/secrets/istio",
    "/var/run/secrets/istio/below",
    "/etc",
    "/etc/istio/pod",
    "/etc/istio/pod/labels",
];

/// A pod in which what injection adds is in the way already: names, paths and variables.
fn unlucky(chance: &mut Chance, name: &str) -> Value {
    let sources = [
        json!({"emptyDir": {}}),
        json!({"emptyDir": {"medium": "Memory"}}),
        json!({"configMap": {"name": "c"}}),
        json!({"secret": {"secretName": "s"}}),
        json!({"hostPath": {"path": "/x"}}),
        json!({"image": {"reference": "i"}}),
        json!({"projected": {"sources": [{"configMap": {"name": "c"}}]}}),
        json!({"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.name"}}]}}),
    ];
    let volumes: Vec<Value> = chance
        .some(&VOLUMES, 5)
        .iter()
        .map(|name| {
            let mut volume = chance.one(&sources);
            volume["name"] = json!(name);
            volume
        })
        .collect();
    let mut names = chance.some(&["ldmesh-install", "ldmesh-agent", "ldmesh-install-2", "app", "web", "job"], 5);
    names.push("main");
    let inits = chance.next(names.len());
    let containers: Vec<Value> =
        names.iter().enumerate().map(|(index, name)| container(chance, name, index < inits, &volumes)).collect();
    let (init, main) = containers.split_at(inits);
    let user = chance.one(&[json!({}), json!({"runAsUser": 0}), json!({"runAsUser": 1000, "runAsNonRoot": true})]);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "initContainers": init, "containers": main, "volumes": volumes, "securityContext": user}})
}

fn container(chance: &mut Chance, name: &str, is_init: bool, volumes: &[Value]) -> Value {
    let mut container = json!({"name": name, "image": "app:1"});
    let paths = if volumes.is_empty() { Vec::new() } else { chance.some(&PATHS, 4) };
    let mounts = paths.iter().map(|path| {
        let volume = chance.one(volumes)["name"].clone();
        json!({"name": volume, "mountPath": path, "readOnly": chance.next(2) == 0})
    });
    container["volumeMounts"] = mounts.collect();
    let from = json!({"configMapKeyRef": {"name": "c", "key": "k"}});
    container["env"] = Value::from(chance.some(
        &[
            json!({"name": "LD_PRELOAD", "value": "a.so"}),
            json!({"name": "LD_PRELOAD", "value": "/ldmesh-files/libldmesh.so"}),
            json!({"name": "LD_PRELOAD", "valueFrom": from}),
            json!({"name": "POD_NAME", "value": "x"}),
            json!({"name": "LDMESH_XDS"}),
        ],
        3,
    ));
    container["resources"] = chance.one(&[
        json!({}),
        json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
        json!({"requests": {"cpu": "10m"}, "limits": {"cpu": "20m", "ephemeral-storage": "1Gi"}}),
    ]);
    if is_init && chance.next(2) == 0 {
        container["restartPolicy"] = json!("Always");
    }
    if name.starts_with("ldmesh") && chance.next(2) == 0 {
        container["command"] = json!(["/ldmesh", chance.one(&["install", "agent"]), "/ldmesh-files"]);
    }
    container
}

#[test]
fn no_pod_that_the_api_server_takes_is_refused_after_injection() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let kubernetes = pod.kubernetes_with_accounts();
    populate(&kubernetes, "default");
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let namespace = Namespace::new("default");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for number in 0..400 {
        let pod = unlucky(&mut chance, &format!("pod-{number}"));
        let mut settings = Settings::default();
        settings.set("leader", chance.one(&["auto", "agent", "thread", "sidecar"])).unwrap();
        settings.set("install", chance.one(&["init", "init", "image-volume"])).unwrap();
        settings.set("init-containers", chance.one(&["true", "false"])).unwrap();
        let request = Request { namespace: &namespace, settings: &settings, asked: true, workload: None };
        match inject_as(&pod, &request) {
            Outcome::Injected { pod: done, .. } => after.push(done),
            Outcome::LeftAlone(reason) => panic!("{reason}: {pod:#}"),
        }
        before.push(pod);
    }
    // By what is said of those that are taken: a refusal need not name the pod.
    let taken = |pods: &[Value]| -> (BTreeSet<usize>, Finished) {
        let text: String = pods.iter().map(|pod| format!("---\n{pod}\n")).collect();
        let done = kubernetes.kubectl_with(&["create", "--dry-run=server"], &text);
        let number =
            |line: &str| line.strip_prefix("pod/pod-")?.strip_suffix(" created (server dry run)")?.parse().ok();
        (done.stdout.lines().filter_map(number).collect(), done)
    };
    // One that is refused, so that refusals are seen to be told.
    let mut twice = unlucky(&mut chance, "pod-400");
    let mount = json!({"name": "v", "mountPath": "/v"});
    twice["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    twice["spec"]["initContainers"] = json!([]);
    twice["spec"]["containers"] = json!([{"name": "main", "image": "app:1", "volumeMounts": [mount, mount]}]);
    before.push(twice);
    let ((taken_before, done_before), (taken_after, done_after)) = (taken(&before), taken(&after));
    assert_eq!(taken_before, (0..400).collect(), "{done_before}");
    if let Some(number) = taken_before.difference(&taken_after).next() {
        panic!("{:#}\n{}", before[*number], done_after.stderr);
    }
}
