//! What becomes of pods while the webhook is away.

use ctests::{Kubernetes, Pod, Replica, has_helm, wait_until};

use super::{
    CHART, LABELLED, NAMESPACE, REPLICAS, SOON, WEBHOOK, cluster, create, injected, install, installed, is_injected,
    pod, run, try_out, wait_until_injecting,
};

#[test]
fn pods_start_without_the_mesh_while_the_webhook_is_down() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, replicas) = installed(&inside, &[]);
    for replica in replicas {
        let ended = replica.terminate();
        assert!(ended.status.success(), "{ended}");
    }
    // Still among the endpoints, and then not.
    assert!(!injected(&create(&kubernetes, &pod("default", "refused", LABELLED, "", "")).0));
    kubernetes.endpoints(NAMESPACE, WEBHOOK, &[]);
    assert!(!injected(&create(&kubernetes, &pod("default", "nowhere", LABELLED, "", "")).0));
    // There again: the same certificate, so nothing has to be told to anybody.
    let _replicas = run(&kubernetes);
}

#[test]
fn in_strict_mode_pods_wait_for_the_webhook_and_the_webhook_does_not() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let kubernetes = cluster(&inside);
    install(&kubernetes, &["--set", "failurePolicy=Fail"]);
    // Nothing runs yet, and nobody trusts it.
    check_refused(&kubernetes, "early");
    let replicas = run(&kubernetes);
    for replica in replicas {
        replica.terminate();
    }
    kubernetes.endpoints(NAMESPACE, WEBHOOK, &[]);
    check_refused(&kubernetes, "late");
    let (created, _) = create(&kubernetes, &pod("default", "nobody-asks", "", "", ""));
    assert!(!injected(&created), "pods that are not asked for are nobody's business");
    for (name, annotations, spec) in [
        ("host-network", "", "  hostNetwork: true\n"),
        ("windows", "", "  os: {name: windows}\n"),
        ("mirror", "kubernetes.io/config.mirror: \"1\"", "  nodeName: node\n"),
    ] {
        let (created, _) = create(&kubernetes, &pod("default", name, LABELLED, annotations, spec));
        assert!(!injected(&created), "{name} can never be in the mesh");
    }
    // The replicas' own pods are created meanwhile.
    let _replicas = run(&kubernetes);
    assert!(injected(&create(&kubernetes, &pod("default", "again", LABELLED, "", "")).0));
}

#[track_caller]
fn check_refused(kubernetes: &Kubernetes<'_>, name: &str) {
    let yaml = pod("default", name, LABELLED, "", "");
    let refused = || kubernetes.kubectl_with(&["create", "--dry-run=server"], &yaml);
    // The API server sees a new configuration a little later.
    wait_until("a pod is refused", SOON, || refused().to_string(), || !refused().status.success());
    let done = refused();
    assert!(done.stderr.contains("failed calling webhook \"pod.ldmesh.io\""), "{done}");
}

#[test]
fn replicas_are_replaced_one_by_one_and_no_pod_is_missed() {
    if !has_helm() {
        return;
    }
    let inside = Pod::in_cluster();
    let (kubernetes, replicas) = installed(&inside, &[]);
    let [first, second] = <[_; 2]>::try_from(replicas).unwrap();
    let admit = |what: &str| {
        for _ in 0..10 {
            let created = try_out(&kubernetes);
            assert!(is_injected(&created), "{what}: {created}");
        }
    };
    // A pod leaves the endpoints when it is told to end; the webhook serves a little longer, and then says goodbye to
    // the API server's connections.
    let end = |replica: Replica<'_>, others: &[&str]| {
        let ended = std::thread::scope(|scope| {
            let ending = scope.spawn(|| replica.terminate());
            kubernetes.endpoints(NAMESPACE, WEBHOOK, others);
            admit("one is ending");
            ending.join().unwrap()
        });
        assert!(ended.status.success(), "{ended}");
        admit("one is gone");
    };
    end(first, &REPLICAS[1..]);
    let new = kubernetes.replica(NAMESPACE, WEBHOOK, "10.244.1.13");
    end(second, &["10.244.1.13"]);
    let counted = new.get("/metrics").unwrap();
    assert!(counted.contains("result=\"injected\""), "{counted}");
    // A chart that changes nothing changes nothing.
    kubernetes.helm(&["upgrade", "ldmesh", CHART, "--namespace", NAMESPACE]).success();
    wait_until_injecting(&kubernetes);
}
