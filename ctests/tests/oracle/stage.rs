//! Where the cases are played: a real istiod, and an agent for each namespace that calls come from.

use std::cell::Cell;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ctests::namespace::POD_V4;
use ctests::{Finished, Istiod, Kubernetes, Pod, Running, wait_for, wait_until};
use serde_json::{Value, json};

use super::cases::{Call, Case, Given, Source};
use super::outcome::Outcome;

const NAMESPACES: [&str; 3] = ["default", "not-default", "arbitrary"];
/// Where calls come from.
const CALLERS: [&str; 2] = ["default", "not-default"];
/// istiod collects changes for 100 ms; two cores are shared.
const SOON: Duration = Duration::from_secs(20);

pub struct Stage<'pod> {
    pod: &'pod Pod,
    kubernetes: Kubernetes<'pod>,
    istiod: Istiod<'pod>,
    _agents: Vec<Running>,
    played: Cell<u32>,
}

impl<'pod> Stage<'pod> {
    /// Starts all of it with a mesh configuration.
    #[track_caller]
    pub fn set(pod: &'pod Pod, mesh: &str) -> Self {
        let kubernetes = pod.kubernetes();
        let istiod = kubernetes.istiod(mesh);
        for namespace in NAMESPACES {
            kubernetes.namespace(namespace);
        }
        kubernetes.run_pod("default", "app-0", POD_V4, &json!({"app": "app"}));
        let agents = CALLERS.map(|caller| Running::start(&mut ldmesh(pod, caller, &["agent"]))).into();
        Self { pod, kubernetes, istiod, _agents: agents, played: Cell::new(0) }
    }

    /// Gives istiod the case's configuration, compares each call, and takes the configuration away again. What differs
    /// is told in a line each.
    #[track_caller]
    pub fn play(&self, source: &Source, case: &Case) -> Vec<String> {
        let given: Vec<&Given> = source.given.iter().chain(&case.given).collect();
        let given: Vec<Value> = given.into_iter().map(Given::object).collect();
        let all = documents(&given);
        let (before, heard) = (self.pushes(&case.from), self.heard(&case.from));
        if case.in_order {
            for object in &given {
                next_second();
                self.kubernetes.apply(&object.to_string());
            }
        } else if !given.is_empty() {
            self.kubernetes.apply(&all);
        }
        let first = self.played.replace(self.played.get() + 1) == 0;
        if first || !given.is_empty() {
            let pushed = || {
                let now = self.pushes(&case.from);
                !now.is_empty() && now != before && self.istiod.is_synced(&client(&case.from))
            };
            // It says so some beats after it took it over: an answer from the world before the case counts for nothing.
            let took_over = || {
                let told = self.heard(&case.from);
                told != heard && told != Value::Null
            };
            if is_seen(pushed) {
                wait_until("the leader took it over", SOON, || self.dump(case), took_over);
            } else {
                assert!(!first && self.istiod.is_synced(&client(&case.from)), "no push: {}", self.dump(case));
            }
        }
        // What was pushed last may still be on its way: an answer counts when it is the expected one, or when it
        // still is not after a while.
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut differing: Vec<_> = case.calls().filter_map(|call| self.differs(case, &call)).collect();
        while !differing.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            differing = case.calls().filter_map(|call| self.differs(case, &call)).collect();
        }
        if !given.is_empty() {
            let before = self.pushes(&case.from);
            self.kubernetes.delete(&all);
            is_seen(|| self.pushes(&case.from) != before);
        }
        differing
    }

    /// The version of the listeners that the leader of a namespace says it has.
    fn heard(&self, caller: &str) -> Value {
        let status = Finished::of(&mut ldmesh(self.pod, caller, &["status", "--json"]));
        let status: Value = serde_json::from_str(&status.stdout).unwrap_or_default();
        let types = status["said"]["types"].as_array().cloned().unwrap_or_default();
        types.into_iter().find(|of| of["name"] == "LDS").map_or(Value::Null, |mut of| of["version"].take())
    }

    fn dump(&self, case: &Case) -> String {
        format!("{}\n{:#}", case.name, self.istiod.syncz())
    }

    fn differs(&self, case: &Case, call: &Call<'_>) -> Option<String> {
        let mut arguments = vec!["explain", &call.to];
        arguments.extend(call.server_name.iter().flat_map(|name| ["--server-name", name]));
        let explanation = Finished::of(&mut ldmesh(self.pod, &case.from, &arguments)).to_string();
        let (outcome, expected) = (Outcome::of(&explanation), Outcome::expected(call));
        (outcome.as_ref() != Some(&expected)).then(|| {
            let (name, to, protocol) = (&case.name, &call.to, call.protocol);
            format!("{name}: {to} ({protocol}): {expected} is expected\n{explanation}")
        })
    }

    /// What istiod sent last to the agent of a namespace, on each connection that it knows.
    fn pushes(&self, caller: &str) -> Vec<Value> {
        let clients = self.istiod.syncz();
        let of_caller = |one: &&Value| one["proxy"] == client(caller).as_str();
        clients.as_array().into_iter().flatten().filter(of_caller).map(|one| one["resources"].clone()).collect()
    }
}

/// Whether it comes to that. A push need not come: istiod makes one of the end of a case and the beginning of the next when
/// they are close, and sends a client nothing where the two mean the same to it.
fn is_seen(mut what: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn client(namespace: &str) -> String {
    format!("app-0.{namespace}")
}

fn ldmesh(pod: &Pod, namespace: &str, arguments: &[&str]) -> Command {
    let mut command = pod.ldmesh(arguments);
    command.env("POD_NAMESPACE", namespace);
    command
}

fn documents(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("{object}\n---\n")).collect()
}

/// Waits until a second begins: what is created then is younger than anything before.
fn next_second() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = second();
    wait_for("a second", Duration::from_secs(2), String::new, || (second() > now).then_some(()));
}
