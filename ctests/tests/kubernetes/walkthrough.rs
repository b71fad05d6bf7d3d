//! docs/kubernetes.md: every command of its chapters on installing, trying, rolling out and back, uninstalling and
//! injecting a file, in its order, and those of the table of what may be wrong. Between them, the test does what a
//! cluster would.

use std::fs;

use ctests::{Finished, Kubernetes, Pod, Replica, has_helm, wait_until};

use super::{NAMESPACE, SOON, WEBHOOK, injected, is_injected, namespace, object, pod_of, run, try_out, variable};

const DOCUMENT: &str = include_str!("../../../docs/kubernetes.md");

const STEPS: [&str; 11] = [
    "install",
    "try",
    "shadow",
    "one",
    "all",
    "strict",
    "back-workload",
    "back-namespace",
    "back-chart",
    "uninstall",
    "inject",
];

/// The shell commands behind a mark.
fn commands(mark: &str) -> String {
    let (_, rest) = DOCUMENT.split_once(&format!("<!-- run: {mark} -->\n")).expect(mark);
    let (opening, rest) = rest.split_once("```sh\n").expect(mark);
    assert_eq!(opening.trim(), "", "{mark}");
    rest.split_once("```").expect(mark).0.to_owned()
}

/// The marks of the document's shell commands, in its order; none is without.
fn marks() -> Vec<&'static str> {
    let lines: Vec<&str> = DOCUMENT.lines().map(str::trim).collect();
    let marks = lines.windows(2).filter(|pair| pair[1] == "```sh").map(|pair| pair[0]);
    let mark = |line: &'static str| line.strip_prefix("<!-- ")?.strip_suffix(" -->");
    marks.map(|line| mark(line).unwrap_or_else(|| panic!("no mark above shell commands: {line:?}"))).collect()
}

#[test]
fn every_command_of_the_document_is_run_or_says_why_not() {
    let (not_run, run): (Vec<_>, Vec<_>) = marks().into_iter().partition(|mark| mark.starts_with("not run: "));
    assert_eq!(not_run.len(), 2, "{not_run:#?}");
    assert_eq!(run, STEPS.map(|step| format!("run: {step}")), "and the walk below goes through each");
}

/// The rows of the table of what may be wrong.
fn symptoms() -> Vec<&'static str> {
    let (_, rest) = DOCUMENT.split_once("## When it does not work\n").expect("the chapter");
    let table = rest.split("\n\n").next().expect("the table");
    table.lines().skip(2).collect()
}

/// What stands in backticks.
fn quoted(row: &str) -> impl Iterator<Item = &str> {
    row.split('`').skip(1).step_by(2)
}

/// Runs every command of the table, and sees that the metric is there that it names.
#[track_caller]
fn look_for_symptoms(kubernetes: &Kubernetes<'_>, replicas: &[Replica<'_>]) {
    let symptoms = symptoms();
    let commands = symptoms.iter().flat_map(|row| quoted(row)).filter(|text| text.starts_with("kubectl "));
    let commands: Vec<String> = commands.map(|command| command.replace("NAME", "default")).collect();
    assert_eq!(commands.len(), 2, "{symptoms:#?}");
    for command in commands {
        let done = kubernetes.shell(&command);
        assert!(done.status.success() && done.stdout.lines().count() > 1, "{command}: {done}");
    }
    let metrics: Vec<&str> = symptoms.iter().flat_map(|row| quoted(row)).filter(|text| text.ends_with("\"}")).collect();
    assert_eq!(metrics.len(), 1, "{symptoms:#?}");
    for replica in replicas {
        let text = replica.get("/metrics").unwrap();
        assert!(text.lines().any(|line| line.starts_with(metrics[0])), "{metrics:?}: {text}");
    }
}

#[track_caller]
fn follow(kubernetes: &Kubernetes<'_>, mark: &str) -> Finished {
    let done = kubernetes.shell(&commands(mark));
    assert!(done.status.success(), "{mark}: {done}");
    done
}

/// Waits until a pod of the Deployment `shop` has this mode, once kubelet has brought new settings to the webhook.
#[track_caller]
fn check_mode(kubernetes: &Kubernetes<'_>, replicas: &[Replica<'_>], wanted: &str) {
    for replica in replicas {
        kubernetes.refresh(NAMESPACE, WEBHOOK, replica);
    }
    let shop = || pod_of(kubernetes, "default", "shop");
    let mode = || variable(&shop(), "LDMESH_MODE").map(str::to_owned);
    wait_until(&format!("mode {wanted}"), SOON, || shop().to_string(), || mode().as_deref() == Some(wanted));
}

#[track_caller]
fn check_not_injected(kubernetes: &Kubernetes<'_>) {
    let shop = || pod_of(kubernetes, "default", "shop");
    wait_until("the shop is left alone", SOON, || shop().to_string(), || !injected(&shop()));
}

#[test]
fn the_commands_of_the_document_do_what_it_says() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = inside.kubernetes_with_webhooks();
    namespace(&kubernetes, "default", "");
    kubernetes.shell("kubectl create deployment shop --image=registry.example/shop").success();

    follow(&kubernetes, "install");
    let replicas = run(&kubernetes);
    let tried = follow(&kubernetes, "try");
    assert!(tried.stdout.contains("image: registry.example/ldmesh:0.1.0"), "{tried}");
    check_not_injected(&kubernetes);
    look_for_symptoms(&kubernetes, &replicas);

    follow(&kubernetes, "shadow");
    check_mode(&kubernetes, &replicas, "shadow");
    follow(&kubernetes, "one");
    check_mode(&kubernetes, &replicas, "on");
    follow(&kubernetes, "all");
    let other = || try_out(&kubernetes);
    for replica in &replicas {
        kubernetes.refresh(NAMESPACE, WEBHOOK, replica);
    }
    let is_on = || variable(&object(&other()), "LDMESH_MODE") == Some("on");
    wait_until("mode on for everybody", SOON, || other().to_string(), is_on);

    follow(&kubernetes, "strict");
    let policies = || {
        let found = kubernetes.get(&["mutatingwebhookconfiguration", "ldmesh"]);
        [0, 1].map(|index| found["webhooks"][index]["failurePolicy"].as_str().unwrap().to_owned())
    };
    assert_eq!(policies(), ["Fail", "Fail"]);
    follow(&kubernetes, "back-chart");
    assert_eq!(policies(), ["Ignore", "Ignore"]);
    follow(&kubernetes, "back-workload");
    check_not_injected(&kubernetes);
    kubernetes
        .shell(
            "kubectl patch deployment shop --type=json --patch \
        '[{\"op\": \"remove\", \"path\": \"/spec/template/metadata/labels/ldmesh.io~1inject\"}]'",
        )
        .success();
    check_mode(&kubernetes, &replicas, "on");
    follow(&kubernetes, "back-namespace");
    check_not_injected(&kubernetes);
    assert!(!is_injected(&try_out(&kubernetes)), "the namespace wins over a pod's label");

    follow(&kubernetes, "uninstall");
    let left = kubernetes.shell(
        "kubectl get mutatingwebhookconfigurations,clusterroles,clusterrolebindings \
         --selector=app.kubernetes.io/part-of=ldmesh --output=name",
    );
    assert_eq!(left.success(), "");
    inject_files(&kubernetes);
}

/// Follows the chapter on injecting a file, with a manifest and a chart that make the Deployment.
#[track_caller]
fn inject_files(kubernetes: &Kubernetes<'_>) {
    let made = "kubectl create deployment shop --image=registry.example/shop --dry-run=client --output=yaml";
    let shop = kubernetes.shell(made).success().to_owned();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("chart/templates")).unwrap();
    fs::write(folder.path().join("shop.yaml"), &shop).unwrap();
    fs::write(folder.path().join("chart/templates/shop.yaml"), &shop).unwrap();
    fs::write(folder.path().join("chart/Chart.yaml"), "{apiVersion: v2, name: shop, version: 0.1.0}\n").unwrap();
    let text = commands("inject");
    let commands: Vec<&str> = text.lines().collect();
    assert_eq!(commands.len(), 2, "{text}");
    for (command, mode, image) in
        [(commands[0], None, "registry.example/ldmesh:1.0"), (commands[1], Some("shadow"), "ldmesh")]
    {
        kubernetes.shell("kubectl delete deployment shop").success();
        kubernetes.shell(&format!("cd '{}'\n{command}", folder.path().display())).success();
        let shop = kubernetes.get(&["deployment", "shop"]);
        let template = &shop["spec"]["template"];
        assert_eq!(template["spec"]["initContainers"][0]["image"], image, "{shop}");
        assert_eq!(variable(template, "LDMESH_MODE"), mode, "{shop}");
    }
}
