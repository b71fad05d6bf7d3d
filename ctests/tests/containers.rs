//! Injected pods as real containers: Docker Engine, the image of ldmesh as it is shipped, and no network beyond the
//! engine's bridge.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use ctests::{
    ContainerMesh, ContainerPod, Docker, Finished, Manifest, Service, docker, injected, skipped, spring_jars,
    wait_until,
};

/// A pod of restricted Pod Security. Each container is a name, an image, a user and a command.
fn pod(containers: &[(&str, &str, u32, &[&str])]) -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: shop, labels: {app: shop}}\nspec:\n  securityContext: \
         {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}\n  containers:\n",
    );
    for (name, image, user, command) in containers {
        writeln!(
            text,
            "  - name: {name}\n    image: {image}\n    command: {command:?}\n    securityContext: {{runAsUser: {user}, \
             allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}"
        )
        .unwrap();
    }
    text
}

/// A user of no image: OpenShift gives such numbers.
const USER: u32 = 1_000_660_000;
const SLEEPS: &[&str] = &["sleep", "infinity"];
const CURL: &[&str] = &["curl", "-sS", "--max-time", "10", "http://greeter/"];
const PYTHON: &[&str] =
    &["python3", "-c", "import urllib.request as r; print(r.urlopen('http://greeter/', timeout=10).read().decode())"];

/// Starts an injected pod. A busy machine takes longer than programs wait by themselves.
#[track_caller]
fn start<'docker>(
    docker: &'docker Docker,
    mesh: &ContainerMesh<'_>,
    pod: &str,
    flags: &[&str],
) -> ContainerPod<'docker> {
    let usual = ["--xds", mesh.url(), "--image", docker.image(), "--ready-timeout", "20s"];
    docker.pod(&injected(pod, &[&usual, flags].concat()))
}

/// A program is run until each of two greeters has answered it; which one does is a matter of chance.
#[track_caller]
fn check_reaches_both(pod: &ContainerPod<'_>, container: &str, words: &[&str]) {
    let mut answered = BTreeSet::new();
    for _ in 0..40 {
        let answer = pod.exec(container, words);
        let first = answer.success().split_whitespace().next().unwrap_or_default();
        answered.insert(first.trim_start_matches("backend=").to_owned());
        assert_eq!(answer.stderr, "", "{answer}");
        if answered.len() == 2 {
            break;
        }
    }
    assert!(answered.iter().eq(["greeter-1", "greeter-2"]), "{words:?}: {answered:?}");
}

/// It is one of the greeters that answered.
#[track_caller]
fn check_answers(answer: &Finished) {
    assert!(answer.success().starts_with("greeter-"), "{answer}");
}

#[test]
fn curl_and_python_in_a_restricted_container_are_in_the_mesh() {
    let Some(docker) = docker() else { return };
    let mesh = docker.mesh(2);
    let plain = pod(&[("web", Docker::DEBIAN, USER, SLEEPS)]);
    // Without injection there is no such name.
    let outside = docker.pod(&plain).exec("web", CURL);
    assert_eq!(outside.status.code(), Some(6), "{outside}");

    let inside = start(docker, &mesh, &plain, &[]);
    check_reaches_both(&inside, "web", CURL);
    check_reaches_both(&inside, "web", PYTHON);
    // The container is as restricted as the pod says.
    let security = "import os; print(os.getuid(), os.access('/', os.W_OK), *[line.split()[1] for line in \
                    open('/proc/self/status') if line.startswith(('CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp:'))])";
    let security = inside.exec("web", &["python3", "-c", security]);
    let none = "0000000000000000";
    assert_eq!(security.success(), format!("{USER} False {none} {none} 1 2"));
    let status = inside.exec("web", &["/ldmesh-files/ldmesh", "status"]);
    assert!(status.success().contains("greeter"), "{status}");
}

#[test]
fn a_container_that_is_one_program_is_in_the_mesh() {
    let Some(docker) = docker() else { return };
    let mesh = docker.mesh(1);
    let job = start(docker, &mesh, &pod(&[("job", Docker::DEBIAN, USER, CURL)]), &[]);
    let (status, said) = job.ended("job");
    assert_eq!(status, "0", "{said}");
    assert!(said.starts_with("greeter-1 "), "{said}");
}

#[test]
fn containers_of_one_user_share_one_stream() {
    let Some(docker) = docker() else { return };
    let mesh = docker.mesh(2);
    let containers = [("web", Docker::DEBIAN, USER, SLEEPS), ("cron", Docker::DEBIAN, USER, SLEEPS)];
    let pod = start(docker, &mesh, &pod(&containers), &[]);
    for _ in 0..3 {
        check_answers(&pod.exec("web", CURL));
        check_answers(&pod.exec("cron", PYTHON));
    }
    let stats = mesh.wait_for_stats("one stream", |stats| stats.streams_open() == 1);
    assert_eq!((stats.streams_peak(), stats.streams_total()), (1, 1));
}

#[test]
fn containers_of_two_users_have_a_stream_each() {
    let Some(docker) = docker() else { return };
    let mesh = docker.mesh(2);
    let containers = [("web", Docker::DEBIAN, 10_001, SLEEPS), ("cron", Docker::DEBIAN, 10_002, SLEEPS)];
    let pod = start(docker, &mesh, &pod(&containers), &[]);
    for _ in 0..3 {
        check_answers(&pod.exec("web", CURL));
        check_answers(&pod.exec("cron", CURL));
    }
    let stats = mesh.wait_for_stats("two streams", |stats| stats.streams_open() == 2);
    assert_eq!((stats.streams_peak(), stats.streams_total()), (2, 2));
}

#[test]
fn a_restarted_container_is_in_the_mesh_again_and_the_other_stays() {
    let Some(docker) = docker() else { return };
    let mesh = docker.mesh(2);
    let containers = [("web", Docker::DEBIAN, USER, SLEEPS), ("cron", Docker::DEBIAN, USER, SLEEPS)];
    let pod = start(docker, &mesh, &pod(&containers), &[]);
    check_answers(&pod.exec("web", CURL));
    // The leader goes with the container that it was started in.
    mesh.wait_for_stats("the stream of the first leader", |stats| stats.streams_open() == 1);
    assert!(pod.processes("web").iter().any(|line| line.contains("ldmesh agent")), "{:?}", pod.processes("web"));
    std::thread::scope(|scope| {
        let restart = scope.spawn(|| pod.restart("web"));
        while !restart.is_finished() {
            check_answers(&pod.exec("cron", CURL));
        }
    });
    check_answers(&pod.exec("web", PYTHON));
    // Until the old leader is known to have gone, programs go by what it left.
    let stats = mesh.wait_for_stats("the stream of the next leader", |stats| {
        check_answers(&pod.exec("cron", CURL));
        check_answers(&pod.exec("web", CURL));
        stats.streams_open() == 1 && stats.streams_total() == 2
    });
    assert_eq!(stats.streams_peak(), 1);
}

#[test]
fn the_image_as_a_native_sidecar_leads_for_the_pod() {
    let Some(docker) = docker() else { return };
    let mesh = docker.mesh(2);
    let containers = [("web", Docker::DEBIAN, USER, SLEEPS), ("cron", Docker::MUSL, USER, &["node", "-e", NODE_WAITS])];
    let pod = start(docker, &mesh, &pod(&containers), &["--leader", "sidecar"]);
    mesh.wait_for_stats("the stream of the sidecar", |stats| stats.streams_open() == 1);
    check_reaches_both(&pod, "web", CURL);
    check_reaches_both(&pod, "cron", NODE);
    let agents = |container| pod.processes(container).iter().filter(|line| line.contains("ldmesh agent")).count();
    assert_eq!((agents("ldmesh-agent"), agents("web"), agents("cron")), (1, 0, 0));
    assert_eq!(mesh.wait_for_stats("its counters", |_| true).streams_total(), 1);
}

const NODE: &[&str] = &["node", "-e", "fetch('http://greeter/').then(answer => answer.text()).then(console.log)"];
const NODE_WAITS: &str = "setInterval(() => {}, 1e6)";

#[test]
fn programs_of_a_musl_image_are_in_the_mesh() {
    let Some(docker) = docker() else { return };
    let mesh = docker.mesh(2);
    let plain = pod(&[("web", Docker::MUSL, USER, &["node", "-e", NODE_WAITS])]);
    let outside = docker.pod(&plain).exec("web", &["lookup", "greeter"]);
    assert_eq!(outside.field("code"), Some("EAI_AGAIN"), "{outside}");

    let inside = start(docker, &mesh, &plain, &[]);
    let lookup = inside.exec("web", &["lookup", "greeter", "80", "stream"]);
    assert_eq!((lookup.field("code"), lookup.field("addr")), (Some("OK"), Some("10.96.0.10")), "{lookup}");
    check_reaches_both(&inside, "web", NODE);
    mesh.wait_for_stats("one stream", |stats| stats.streams_open() == 1 && stats.streams_total() == 1);
}

/// A pod of the demo's, which may write below `/tmp` only, as Tomcat must.
fn spring(application: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {application}}}
spec:
  securityContext: {{runAsUser: {USER}, runAsNonRoot: true}}
  containers:
  - name: app
    image: {application}
    securityContext: {{readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    env:
    - {{name: JAVA_TOOL_OPTIONS, value: -Xmx64m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC}}
    - {{name: GREETING_VERSION, value: v1}}
    - {{name: GREETING_ADDRESS, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
    - {{name: GREETING_NAMESPACE, valueFrom: {{fieldRef: {{fieldPath: metadata.namespace}}}}}}
    volumeMounts:
    - {{name: tmp, mountPath: /tmp}}
  - name: shell
    image: {}
    command: [sleep, infinity]
  volumes:
  - {{name: tmp, emptyDir: {{}}}}
",
        Docker::DEBIAN
    )
}

#[test]
fn the_demos_spring_applications_run_from_their_images() {
    let Some(docker) = docker() else { return };
    if spring_jars().is_none() {
        return skipped("no JDK or no Maven for the demo's applications");
    }
    docker.make_demo_images();
    let server = docker.pod(&spring("spring-server"));
    let service = Service::new("spring-server", "default", &["10.96.0.40"], &[server.address()]);
    let mesh = docker.serve(&Manifest::of(&[service]));
    let client = start(docker, &mesh, &spring("spring-client"), &["--containers", "app"]);
    let get = |pod: &ContainerPod<'_>, path: &str| {
        let url = format!("http://127.0.0.1:8080{path}");
        pod.exec("shell", &["curl", "-sS", "--max-time", "30", "--fail-with-body", &url])
    };
    for pod in [&server, &client] {
        let log = || docker.logs(&pod.name("app"));
        wait_until("an application that listens", Duration::from_secs(120), log, || {
            // 7: nobody listens yet.
            get(pod, "/hello").status.code() != Some(7)
        });
    }
    let expected = format!("Greetings from http://{}:8080 : hello, spring-server v1 of default", server.address());
    for _ in 0..3 {
        assert_eq!(get(&client, "/hello").success(), expected);
    }
}

#[test]
fn the_image_is_two_files_and_says_what_it_is() {
    let Some(docker) = docker() else { return };
    let container = docker.run(&["create", docker.image()]);
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("files.tar");
    docker.run(&["export", "--output", tar.to_str().unwrap(), &container]);
    docker.run(&["rm", &container]);
    let listed = Finished::of(std::process::Command::new("tar").arg("-tvf").arg(&tar));
    // The engine adds mount points of its own, empty.
    let files: Vec<_> = listed.success().lines().filter(|line| line.starts_with('-')).collect();
    let files: Vec<_> = files.iter().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let files: BTreeSet<_> = files.iter().filter(|file| file[2] != "0").map(|file| file[5]).collect();
    assert_eq!(files, BTreeSet::from(["ldmesh", "libldmesh.so"]), "{listed}");

    let of = |format: &str| docker.run(&["image", "inspect", "--format", format, docker.image()]);
    let size: u64 = of("{{.Size}}").parse().unwrap();
    println!("the image has {size} bytes");
    assert!(size < 20_000_000, "{size} bytes");
    assert_eq!(
        of("{{.Config.User}} {{.Config.Entrypoint}} {{.Os}} {{.Architecture}}"),
        "65532:65532 [/ldmesh] linux amd64"
    );
    let label = |name: &str| of(&format!("{{{{index .Config.Labels \"org.opencontainers.image.{name}\"}}}}"));
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), "Apache-2.0");
    let revision = label("revision");
    assert!(revision.trim_end_matches("-dirty").bytes().all(|byte| byte.is_ascii_hexdigit()), "{revision}");
    assert_eq!(
        docker.run(&["run", "--rm", docker.image(), "--version"]),
        format!("ldmesh {}", env!("CARGO_PKG_VERSION"))
    );
}
