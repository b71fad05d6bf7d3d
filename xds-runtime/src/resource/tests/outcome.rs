use envoy_types::pb::envoy::config::cluster::v3::Cluster;

use super::*;

#[test]
fn a_name_in_front_of_broken_bytes_is_still_told() {
    let mut bytes = Cluster { name: "it".to_owned(), ..Default::default() }.encode_to_vec();
    bytes.extend([0xff, 0xff]);
    let Decoded::Rejected { name, reason } = decode(ResourceType::Cluster, "", &bytes.into()) else {
        panic!("rejected")
    };
    assert_eq!(name, "it");
    assert!(reason.starts_with("not a Cluster: "), "{reason}");
}

#[test]
fn bytes_without_a_name_are_undecodable_unless_the_envelope_has_one() {
    let broken = Bytes::from_static(&[0xff, 0xff]);
    assert!(matches!(decode(ResourceType::Cluster, "", &broken), Decoded::Undecodable { .. }));
    assert!(matches!(decode(ResourceType::Cluster, "it", &broken), Decoded::Rejected { name, .. } if name == "it"));
    let reason = "address: required and missing".to_owned();
    assert_eq!(decode(ResourceType::Listener, "", &Bytes::new()), Decoded::Undecodable { reason });
}

#[test]
fn a_resource_that_calls_itself_otherwise_is_rejected_under_the_envelopes_name() {
    let bytes = Cluster { name: "other".to_owned(), ..Default::default() }.encode_to_vec().into();
    let want =
        Decoded::Rejected { name: "it".to_owned(), reason: "name: the resource calls itself \"other\"".to_owned() };
    assert_eq!(decode(ResourceType::Cluster, "it", &bytes), want);
}

#[test]
fn the_name_table_needs_no_name_and_its_names_have_one_form() {
    let info = super::super::name_table::WireInfo {
        ips: vec!["10.0.0.1".to_owned(), "::ffff:10.0.0.2".to_owned()],
        registry: "Kubernetes".to_owned(),
        alt_hosts: vec!["Alt.Example.".to_owned()],
        ..Default::default()
    };
    let table = super::super::name_table::WireTable { table: [("Greeter.Default.SVC.".to_owned(), info)].into() };
    let Resource::Names(names) = valid(ResourceType::NameTable, &table) else { panic!("names") };
    let greeter = names.names.get("greeter.default.svc").expect("lower case, no final dot");
    assert_eq!(greeter.addresses, ["10.0.0.1", "10.0.0.2"].map(|a| a.parse::<std::net::IpAddr>().expect("an address")));
    assert_eq!(greeter.alt_hosts, ["alt.example"]);
}

#[test]
fn a_name_table_with_a_bad_address_is_rejected_with_the_host() {
    let info = super::super::name_table::WireInfo { ips: vec!["10.0.0".to_owned()], ..Default::default() };
    let table = super::super::name_table::WireTable { table: [("a.b".to_owned(), info)].into() };
    let reason = "table[\"a.b\"].ips[0]: \"10.0.0\" is no IP address".to_owned();
    let want = Decoded::Rejected { name: String::new(), reason };
    assert_eq!(decode(ResourceType::NameTable, "", &table.encode_to_vec().into()), want);
}
