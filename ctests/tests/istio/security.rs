//! istiod over TLS: whom it lets in, whom we trust, and what a person is told where either is no.

use ctests::{ISTIO_CA, ISTIOD_TLS_URL, Pod, ROOT_FILE, Running, TOKEN_FILE};

use super::*;

/// A leader with a run directory and an environment of its own.
struct Leader<'pod> {
    pod: &'pod Pod,
    environment: Vec<(String, String)>,
    _agent: Running,
}

impl<'pod> Leader<'pod> {
    fn start(pod: &'pod Pod, name: &str, environment: &[(&str, &str)]) -> Self {
        let run_dir = format!("/run/ldmesh/{name}");
        Finished::of(pod.command("mkdir").args(["-p", "--mode=700", &run_dir])).success();
        let mut all = vec![("LDMESH_XDS", ISTIOD_TLS_URL), ("LDMESH_RUN_DIR", run_dir.as_str())];
        all.extend(environment);
        let environment: Vec<_> = all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut agent = pod.ldmesh(&["agent", "--idle-exit", "1h"]);
        let agent = Running::start(agent.envs(environment.iter().map(|(name, value)| (name, value))));
        Self { pod, environment, _agent: agent }
    }

    /// The line of `ldmesh status` about the control plane.
    fn control_plane(&self) -> String {
        let mut status = self.pod.ldmesh(&["status"]);
        let status = Finished::of(status.envs(self.environment.iter().map(|(name, value)| (name, value))));
        let line = status.stdout.lines().find(|line| line.starts_with("control plane"));
        line.map_or_else(|| status.to_string(), |line| line.trim_start_matches("control plane").trim().to_owned())
    }

    #[track_caller]
    fn check(&self, expected: &str) {
        let told = || self.control_plane().contains(expected);
        wait_until(expected, SOON, || self.control_plane(), told);
        println!("{}", self.control_plane());
    }
}

#[test]
fn istiod_lets_in_whom_it_knows_and_everybody_else_is_told_why_not() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let (kubernetes, istiod) = istio(&pod, "{}");
    kubernetes.project_credentials();
    kubernetes.run_pod("other", "someone-0", "10.244.1.50", &json!({}));

    let well = Leader::start(&pod, "well", &[]);
    well.check("connected (delta)");
    wait_until("SYNCED", SOON, || format!("{:#}", istiod.syncz()), || istiod.is_synced("app-0.default"));

    // Who we are. istiod itself says little more than no.
    Leader::start(&pod, "cluster", &[("ISTIO_META_CLUSTER_ID", "moon")]).check(
        "unauthenticated: authentication failure; the token in /var/run/secrets/tokens/istio-token is of \
                system:serviceaccount:default:app, sent for cluster \"moon\" (ISTIO_META_CLUSTER_ID)",
    );
    Leader::start(&pod, "namespace", &[("POD_NAMESPACE", "other")]).check(
        "the token is of system:serviceaccount:default:app, this node says namespace other, service account app: look \
         at POD_NAMESPACE and SERVICE_ACCOUNT",
    );
    Leader::start(&pod, "account", &[("SERVICE_ACCOUNT", "someone")]).check("permission denied: ");

    // Whom we trust.
    pod.project("strange.pem", &strange_root(&pod));
    for (name, environment, expected) in [
        (
            "roots",
            ("XDS_ROOT_CA", "/run/secrets/strange.pem"),
            "certificate of an unknown issuer: invalid peer certificate: ",
        ),
        ("system", ("XDS_ROOT_CA", "SYSTEM"), "trusted is the system's roots: XDS_ROOT_CA names the file with"),
        ("missing", ("XDS_ROOT_CA", "/nowhere.pem"), "/nowhere.pem: No such file or directory"),
        ("empty", ("XDS_ROOT_CA", "/etc/hosts"), "certificate file: /etc/hosts: no certificate in it"),
        ("name", ("ISTIOD_SAN", "istiod.example"), "expected is istiod.example: ISTIOD_SAN names another"),
        ("plain", ("LDMESH_XDS", "http://127.0.0.1:15012"), "is it a port with TLS? then write https://"),
        ("tls", ("LDMESH_XDS", "https://localhost:15010"), "is it a port without TLS? then write http://"),
        ("closed", ("LDMESH_XDS", "https://localhost:15013"), " port 15013: Connection refused"),
        ("unknown", ("LDMESH_XDS", "https://nowhere.invalid:15012"), "name not found: nowhere.invalid: "),
    ] {
        Leader::start(&pod, name, &[environment]).check(expected);
    }

    // Tokens that are none.
    for (name, text, expected) in [
        (
            "audience",
            kubernetes.token("default", "app", "elsewhere"),
            "is for elsewhere, istiod wants audience istio-ca",
        ),
        ("expired", kubernetes.expired_token("default", "app", 100), "istio-token expired 1"),
        ("nonsense", "nonsense".to_owned(), "istio-token holds no service account token"),
    ] {
        pod.project(TOKEN_FILE, &text);
        Leader::start(&pod, name, &[]).check(expected);
    }
    Finished::of(pod.command("rm").arg(format!("/run/secrets/{TOKEN_FILE}"))).success();
    Leader::start(&pod, "none", &[]).check("no token was sent: /var/run/secrets/tokens/istio-token is not there");
    well.check("connected (delta)");
}

#[test]
fn tokens_and_roots_are_read_again_and_the_last_good_endpoints_serve_meanwhile() {
    if !has_istio() {
        return;
    }
    let pod = Pod::in_cluster();
    let _backends = [1, 2].map(|n| pod.backend(&format!("10.244.1.{n}:8080"), &format!("web-{n}")));
    let (kubernetes, mut istiod) = istio(&pod, "{}");
    kubernetes.project_credentials();
    let web = |n: u8| include_str!("../../istio/services.yaml").replace("[10.244.1.1]", &format!("[10.244.1.{n}]"));
    kubernetes.apply(&web(1));
    let who = || {
        let finished = Finished::of(pod.curl("http://web/").env("LDMESH_XDS", ISTIOD_TLS_URL));
        finished.stdout.split(' ').next().unwrap_or_default().to_owned()
    };
    let status = || Finished::of(pod.ldmesh(&["status"]).env("LDMESH_XDS", ISTIOD_TLS_URL)).stdout;
    wait_until("it answers", SOON, status, || who() == "web-1");

    // A token that is over, at the next stream: the last good endpoints serve on.
    pod.project(TOKEN_FILE, &kubernetes.expired_token("default", "app", 100));
    istiod.kill();
    istiod.start();
    wait_until("refused", SOON, status, || status().contains("istio-token expired"));
    kubernetes.apply(&web(2));
    (0..10).for_each(|_| assert_eq!(who(), "web-1"));
    // kubelet brings a new one.
    pod.project(TOKEN_FILE, &kubernetes.token("default", "app", ISTIO_CA));
    wait_until("the new endpoint", SOON, status, || who() == "web-2");

    // The same with a root certificate that is not istiod's any more.
    let root = kubernetes.istio_root();
    pod.project(ROOT_FILE, &strange_root(&pod));
    istiod.kill();
    istiod.start();
    wait_until("not trusted", SOON, status, || status().contains("certificate of an unknown issuer"));
    kubernetes.apply(&web(1));
    (0..10).for_each(|_| assert_eq!(who(), "web-2"));
    // Both roots, as while one takes the other's place.
    pod.project(ROOT_FILE, &format!("{}{root}", strange_root(&pod)));
    wait_until("the new endpoint", SOON, status, || who() == "web-1");
}

/// A certificate of nobody's CA, PEM.
fn strange_root(pod: &Pod) -> String {
    let mut openssl = pod.command("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=strange", "-days", "1"]);
    Finished::of(openssl.args(["-keyout", "/dev/null", "-out", "-"])).success().to_owned() + "\n"
}
