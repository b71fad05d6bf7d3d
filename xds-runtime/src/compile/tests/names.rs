use super::*;

const FQDN: &str = "greeter.default.svc.cluster.local";

#[test]
fn a_service_s_name_is_its_full_one_only() {
    let short = ["greeter", "greeter.default", "greeter.default.svc", "greeter.example"];
    let compiled = World::default()
        .eds(&["a"])
        .listener("10.0.0.1_80", "10.0.0.1:80", vec![chain(tcp(&[("a", 1)]))], None)
        .name(FQDN, "Kubernetes", &["10.0.0.1"], &short)
        .compile();
    let names: Vec<_> = compiled.mesh.names.iter().map(|name| (name.name.as_str(), name.headless)).collect();
    assert_eq!(names, [(FQDN, false), ("greeter.example", false)]);
    assert_eq!(destination(&compiled, "10.0.0.1:80").unwrap().name, Some(0));
}

#[test]
fn a_label_that_begins_alike_is_no_short_form() {
    let compiled = World::default().name(FQDN, "Kubernetes", &["10.0.0.1"], &["greet"]).compile();
    assert!(compiled.mesh.names.iter().any(|name| name.name == "greet"));
}

#[test]
fn a_service_whose_addresses_only_pass_is_headless() {
    let compiled = World::default()
        .cluster(cluster("pods", Discovery::OriginalDst))
        .listener("10.1.0.1_5432", "10.1.0.1:5432", vec![chain(tcp(&[("pods", 1)]))], None)
        .name("db.default.svc.cluster.local", "Kubernetes", &["10.1.0.1", "10.1.0.2"], &[])
        .name("empty.default.svc.cluster.local", "Kubernetes", &[], &[])
        .name("external.example", "External", &["10.2.0.1"], &[])
        .compile();
    let headless: Vec<_> = compiled.mesh.names.iter().map(|name| name.headless).collect();
    assert_eq!(headless, [true, true, false]);
}

#[test]
fn wildcard_names_are_left_out_and_said() {
    let compiled = World::default().name("*.example", "External", &["10.0.0.1"], &[]).compile();
    assert_eq!(compiled.mesh.names, []);
    assert_eq!(compiled.notes.len(), 1);
}

/// A mesh in which `api.example` has an automatic address, which leads to a cluster, and a name after it.
fn automatic(leads_to: Cluster) -> Compiled {
    World::default()
        .listener("240.240.0.1_80", "240.240.0.1:80", vec![chain(tcp(&[(&leads_to.name, 1)]))], None)
        .cluster(leads_to)
        .eds(&["other"])
        .listener("10.0.0.2_80", "10.0.0.2:80", vec![chain(tcp(&[("other", 1)]))], None)
        .name("api.example", "External", &["240.240.0.1"], &[])
        .name("other.example", "External", &["10.0.0.2"], &[])
        .compile()
}

#[track_caller]
fn check_names(compiled: &Compiled, expected: &[&str]) {
    let names: Vec<_> = compiled.mesh.names.iter().map(|name| name.name.as_str()).collect();
    assert_eq!(names, expected);
    let index = destination(compiled, "10.0.0.2:80").unwrap().name.unwrap();
    assert_eq!(names[index as usize], "other.example", "a destination knows its name");
}

#[test]
fn an_automatic_address_that_the_mesh_leads_on_is_a_names() {
    check_names(&automatic(cluster("a", Discovery::Eds("a".into()))), &["api.example", "other.example"]);
}

#[test]
fn a_name_whose_automatic_address_only_passes_is_left_to_dns() {
    let originates_tls = Cluster { tls: UpstreamTls::Required, ..cluster("a", Discovery::Eds("a".into())) };
    for leads_to in [cluster("a", Discovery::OriginalDst), originates_tls] {
        let compiled = automatic(leads_to);
        check_names(&compiled, &["other.example"]);
        assert!(compiled.notes.iter().any(|note| note.contains("api.example")), "{:?}", compiled.notes);
    }
}
