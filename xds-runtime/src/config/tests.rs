//! Behaviour of the configuration as a whole: environment and pod files in, settings and node out.

use std::os::unix::ffi::OsStrExt;

use super::*;

fn settings(variables: &[(&str, &str)]) -> Settings {
    Settings::from_env(variables.iter().copied())
}

#[track_caller]
fn only_problem(settings: &Settings) -> &Problem {
    assert_eq!(settings.problems.len(), 1, "{:?}", settings.problems);
    settings.problems.first().unwrap()
}

fn write(root: &std::path::Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn without_configuration_the_library_is_inert_and_has_the_documented_defaults() {
    let empty = settings(&[("PATH", "/bin"), ("LDMESH_XDS", ""), ("LDMESH_MODE", "")]);
    assert!(empty.is_inert());
    assert_eq!(empty.problems, Vec::new());
    assert_eq!(
        (empty.mode, empty.lead, empty.fail, empty.resolve),
        (Mode::On, Lead::Auto, FailMode::Open, Resolve::Vip)
    );
    assert_eq!(empty.ready_timeout, Duration::from_millis(500));
    assert_eq!(empty.max_stale, MaxStale::After(Duration::from_secs(300)));
    assert_eq!(empty.connect_grace, Duration::from_millis(1));
    assert_eq!(empty.log, log::LevelFilter::Off);
}

#[test]
fn istios_variables_alone_are_no_opt_in() {
    let injected = settings(&[("PROXY_CONFIG", r#"{"discoveryAddress":"istiod:15012"}"#), ("POD_NAME", "a")]);
    assert!(injected.is_inert());
}

#[test]
fn every_variable_reaches_its_setting() {
    let all = settings(&[
        ("LDMESH_XDS", " http://istiod:15010 "),
        ("LDMESH_MODE", "shadow"),
        ("LDMESH_LEAD", "never"),
        ("LDMESH_READY_TIMEOUT", "0"),
        ("LDMESH_MAX_STALE", "inf"),
        ("LDMESH_FAIL", "closed"),
        ("LDMESH_RESOLVE", "endpoint"),
        ("LDMESH_CONNECT_GRACE", "2ms"),
        ("LDMESH_EXCLUDE", "10.0.0.0/8"),
        ("LDMESH_INCLUDE", "*.prod"),
        ("LDMESH_EXCLUDE_EXE", "bash"),
        ("LDMESH_LOG", "debug"),
        ("LDMESH_LOG_FILE", "/tmp/%p"),
        ("LDMESH_RUN_DIR", "/run/x"),
        ("XDG_RUNTIME_DIR", "/run/user/0"),
        ("ISTIO_META_NETWORK", "n1"),
        ("ISTIO_META_NETWORK", "n2"),
        ("INSTANCE_IP", "10.0.0.9"),
        ("LOCALDOMAIN", ""),
        ("RES_OPTIONS", "ndots:5"),
    ]);
    assert_eq!(all.problems, Vec::new());
    assert!(!all.is_inert());
    let Some(Source::Address(address)) = &all.source else { panic!("{:?}", all.source) };
    assert_eq!(address.to_string(), "http://istiod:15010");
    assert_eq!((all.mode, all.lead, all.fail), (Mode::Shadow, Lead::Never, FailMode::Closed));
    assert_eq!((all.resolve, all.max_stale), (Resolve::Endpoint, MaxStale::Never));
    assert_eq!((all.ready_timeout, all.connect_grace), (Duration::ZERO, Duration::from_millis(2)));
    assert!(all.scope.excludes_address("10.1.1.1".parse().unwrap(), 1) && all.scope.excludes_name("a.test"));
    assert!(all.exclude_exe.matches(b"/bin/bash"));
    assert_eq!(all.log, log::LevelFilter::Debug);
    assert_eq!(all.log_file.map(|file| file.path(7)), Some("/tmp/7".into()));
    assert_eq!((all.run_dir, all.xdg_runtime_dir), (Some("/run/x".into()), Some("/run/user/0".into())));
    assert_eq!(all.identity.istio_meta, [("NETWORK".to_owned(), "n1".to_owned())]);
    assert_eq!(all.identity.instance_ip, Some("10.0.0.9".parse().unwrap()));
    assert_eq!(all.resolver.local_domain.as_deref(), Some(""));
    assert_eq!(all.resolver.res_options.as_deref(), Some("ndots:5"));
}

#[test]
fn a_value_that_does_not_parse_counts_as_absent_and_is_named_with_a_remedy() {
    for (variable, bad) in [
        ("LDMESH_XDS", "istiod:15010"),
        ("LDMESH_MODE", "onn"),
        ("LDMESH_LEAD", "maybe"),
        ("LDMESH_READY_TIMEOUT", "5"),
        ("LDMESH_MAX_STALE", "long"),
        ("LDMESH_FAIL", "x"),
        ("LDMESH_RESOLVE", "x"),
        ("LDMESH_CONNECT_GRACE", "inf"),
        ("LDMESH_EXCLUDE", "10.0.0.0/99"),
        ("LDMESH_LOG", "loud"),
        ("LDMESH_RUN_DIR", "relative"),
        ("INSTANCE_IP", "here"),
    ] {
        let found = settings(&[(variable, bad)]);
        let problem = only_problem(&found);
        assert_eq!((problem.variable.as_str(), problem.value.as_str()), (variable, bad));
        let mut without = found.clone();
        without.problems.clear();
        assert_eq!(format!("{without:?}"), format!("{:?}", Settings::default()), "{variable}");
    }
    let not_text = Settings::from_env([("LDMESH_MODE", OsStr::from_bytes(b"o\xffn"))]);
    assert!(only_problem(&not_text).to_string().contains("UTF-8"));
}

#[test]
fn the_bootstrap_counts_only_without_a_usable_address() {
    let file = ("GRPC_XDS_BOOTSTRAP", "/b.json");
    let inline = ("GRPC_XDS_BOOTSTRAP_CONFIG", "{}");
    let source = |variables: &[(&str, &str)]| settings(variables).source;
    assert!(matches!(source(&[file, inline, ("LDMESH_XDS", "http://a:1")]), Some(Source::Address(_))));
    assert_eq!(source(&[inline, file]), Some(Source::BootstrapFile("/b.json".into())));
    assert_eq!(source(&[inline]), Some(Source::BootstrapText("{}".into())));
    assert_eq!(source(&[inline, ("LDMESH_XDS", "nonsense")]), Some(Source::BootstrapText("{}".into())));
}

#[test]
fn processes_share_an_instance_only_with_the_same_control_plane_node_and_network() {
    let base = [("LDMESH_XDS", "http://a:1"), ("POD_NAME", "p"), ("POD_NAMESPACE", "n")];
    let instance = |extra: &[(&str, &str)], netns| {
        // The first of two counts, so `extra` overrides.
        Settings::from_env(extra.iter().chain(&base).copied()).instance(netns)
    };
    let own = instance(&[], 1);
    assert_eq!(own.len(), 32);
    assert_eq!(own, instance(&[("LDMESH_LOG", "debug")], 1));
    for other in [
        instance(&[], 2),
        instance(&[("LDMESH_XDS", "http://a:2")], 1),
        instance(&[("POD_NAME", "pn"), ("POD_NAMESPACE", "x")], 1),
        instance(&[("POD_NAME", "q")], 1),
        instance(&[("INSTANCE_IP", "10.0.0.1")], 1),
    ] {
        assert_ne!(own, other);
    }
}

#[test]
fn a_pod_presents_itself_as_istios_sidecar_would() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "etc/istio/pod/labels", "app=\"web\"\npod-template-hash=\"x\"\nistio-locality=\"r.z.s\"\n");
    let settings = settings(&[
        ("LDMESH_XDS", "http://istiod:15010"),
        ("POD_NAME", "web-1"),
        ("POD_NAMESPACE", "shop"),
        ("INSTANCE_IP", "10.0.0.9"),
        ("SERVICE_ACCOUNT", "web"),
        ("ISTIO_META_CLUSTER_ID", "east"),
        ("ISTIO_META_GENERATOR", "grpc"),
        ("ISTIO_META_INTERCEPTION_MODE", "NONE"),
        ("PROXY_CONFIG", r#"{"proxyMetadata":{"ISTIO_META_NETWORK":"n1","ISTIO_META_CLUSTER_ID":"lost","X":"y"}}"#),
    ]);
    let upstream = Upstream::gather(&settings, &Pod::at(root.path(), "host")).unwrap();
    assert_eq!(upstream.node.id, "sidecar~10.0.0.9~web-1.shop~shop.svc.cluster.local");
    assert_eq!(upstream.node.cluster, "web.shop");
    assert_eq!(
        upstream.node.metadata,
        serde_json::json!({
            "CLUSTER_ID": "east", "NETWORK": "n1", "INSTANCE_IPS": "10.0.0.9", "SERVICE_ACCOUNT": "web",
            "NAMESPACE": "shop", "NAME": "web-1", "LABELS": {"app": "web", "istio-locality": "r.z.s"},
            "DISABLE_HBONE_SEND": "true",
            "PROXY_CONFIG": {"proxyMetadata":
                {"ISTIO_META_NETWORK": "n1", "ISTIO_META_CLUSTER_ID": "lost", "X": "y"}},
        })
    );
    let locality = Locality { region: "r".into(), zone: "z".into(), sub_zone: "s".into() };
    assert_eq!((upstream.node.locality, upstream.cluster_id.as_str()), (locality, "east"));
    assert!(upstream.problems.iter().any(|problem| problem.variable == "INTERCEPTION_MODE"));
    assert_eq!((upstream.tls, upstream.token_file), (None, None), "no secret goes over plaintext");
}

#[test]
fn outside_kubernetes_a_node_is_made_up_that_istiod_accepts() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(&[("LDMESH_XDS", "http://a:1"), ("PROXY_CONFIG", "concurrency: 2")]);
    let upstream = Upstream::gather(&settings, &Pod::at(root.path(), "laptop.home")).unwrap();
    assert_eq!(upstream.node.id, "sidecar~127.0.0.1~laptop.default~default.svc.cluster.local");
    assert_eq!((upstream.node.cluster.as_str(), upstream.cluster_id.as_str()), ("istio-proxy", "Kubernetes"));
    assert!(upstream.problems.iter().any(|problem| problem.variable == "PROXY_CONFIG"));
}

#[test]
fn trust_follows_istios_rules() {
    let root = tempfile::tempdir().unwrap();
    let pod = Pod::at(root.path(), "h");
    let tls = |extra: &[(&str, &str)]| {
        let variables = extra.iter().copied().chain([("LDMESH_XDS", "https://istiod.istio-system.svc:15012")]);
        let upstream = Upstream::gather(&Settings::from_env(variables), &pod).unwrap();
        assert_eq!(upstream.token_file, Some(pod.path("/var/run/secrets/tokens/istio-token")));
        upstream.tls.unwrap()
    };
    assert_eq!(tls(&[]).roots, Roots::System);
    assert_eq!(tls(&[]).server_name, "istiod.istio-system.svc");
    write(root.path(), "var/run/secrets/istio/root-cert.pem", "x");
    assert_eq!(tls(&[]).roots, Roots::File(root.path().join("var/run/secrets/istio/root-cert.pem")));
    assert_eq!(tls(&[("XDS_ROOT_CA", "SYSTEM")]).roots, Roots::System);
    assert_eq!(tls(&[("XDS_ROOT_CA", "/r.pem")]).roots, Roots::File("/r.pem".into()));
    assert_eq!(tls(&[("ISTIOD_SAN", "san")]).server_name, "san");
    assert_eq!(tls(&[("LDMESH_XDS", "https://localhost:1")]).server_name, "istiod.istio-system.svc");
}

#[test]
fn a_bootstraps_node_and_credentials_are_used_and_no_token_is_sent_to_its_server() {
    let root = tempfile::tempdir().unwrap();
    let text = r#"{"xds_servers":[{"server_uri":"a:1","channel_creds":[{"type":"tls"}]}],
        "node":{"id":"sidecar~1.1.1.1~x.y~y.svc.cluster.local","cluster":"c","metadata":{"GENERATOR":"grpc","K":"v"}}}"#;
    write(root.path(), "b.json", text);
    let path = root.path().join("b.json");
    let pod = Pod::at(root.path(), "h");
    let from_file = settings(&[("GRPC_XDS_BOOTSTRAP", path.to_str().unwrap())]);
    let from_text = settings(&[("GRPC_XDS_BOOTSTRAP_CONFIG", text)]);
    let upstream = Upstream::gather(&from_file, &pod).unwrap();
    assert_eq!(upstream, Upstream::gather(&from_text, &pod).unwrap());
    assert_eq!(upstream.node.id, "sidecar~1.1.1.1~x.y~y.svc.cluster.local");
    assert_eq!((upstream.node.metadata_text("K"), upstream.node.metadata_text("GENERATOR")), (Some("v"), None));
    assert_eq!((upstream.token_file, upstream.tls.map(|tls| tls.roots)), (None, Some(Roots::System)));

    let missing = settings(&[("GRPC_XDS_BOOTSTRAP", "/nowhere/b.json")]);
    assert!(Upstream::gather(&missing, &pod).unwrap_err().to_string().contains("/nowhere/b.json"));
    assert!(matches!(Upstream::gather(&Settings::default(), &pod), Err(ConfigError::Inert)));
}
