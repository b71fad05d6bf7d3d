use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};

use super::*;

fn locality(priority: u32, endpoints: Vec<endpoint::LbEndpoint>) -> LocalityLbEndpoints {
    LocalityLbEndpoints { priority, lb_endpoints: endpoints, ..Default::default() }
}

fn assignment(endpoints: Vec<LocalityLbEndpoints>) -> ClusterLoadAssignment {
    ClusterLoadAssignment { cluster_name: "it".to_owned(), endpoints, ..Default::default() }
}

#[track_caller]
fn check(endpoints: Vec<LocalityLbEndpoints>, reason: &str) {
    check_rejected(ResourceType::Endpoint, &assignment(endpoints), reason);
}

#[test]
fn an_endpoint_keeps_health_weight_and_tls_mode() {
    let mut one = lb_endpoint("10.0.0.1", 8080);
    one.health_status = core::HealthStatus::Draining as i32;
    one.load_balancing_weight = u32v(7);
    let filter_metadata = [("envoy.transport_socket_match".to_owned(), tls_mode("istio"))].into();
    one.metadata = Some(core::Metadata { filter_metadata, ..Default::default() });
    let two = lb_endpoint("::ffff:10.0.0.2", 8080);
    let Resource::Endpoints(found) = valid(ResourceType::Endpoint, &assignment(vec![locality(0, vec![one, two])]))
    else {
        panic!("endpoints")
    };
    assert_eq!(found.overprovisioning_factor, 140);
    let want = |address: &str, health, weight, tls_mode_istio| Endpoint {
        address: EndpointAddress::Socket(address.parse().expect("an address")),
        health,
        weight,
        tls_mode_istio,
        is_gateway: false,
        details: None,
    };
    let list = [want("10.0.0.1:8080", Health::Draining, 7, true), want("10.0.0.2:8080", Health::Healthy, 1, false)];
    assert_eq!(found.localities[0].endpoints, list);
}

#[test]
fn a_policy_that_is_not_honoured_is_named() {
    use endpoint::cluster_load_assignment::{Policy, policy::DropOverload};
    let of = |policy| ClusterLoadAssignment { policy: Some(policy), ..assignment(vec![]) };
    let unsupported = |policy| match valid(ResourceType::Endpoint, &of(policy)) {
        Resource::Endpoints(found) => found.unsupported,
        other => panic!("endpoints, not {other:?}"),
    };
    assert_eq!(unsupported(Policy { overprovisioning_factor: u32v(200), ..Default::default() }), [""; 0]);
    let stale = |seconds| protobuf::Duration { seconds, nanos: 0 };
    let all = Policy {
        weighted_priority_health: true,
        endpoint_stale_after: Some(stale(30)),
        drop_overloads: vec![DropOverload { category: "all".to_owned(), drop_percentage: None }],
        ..Default::default()
    };
    let want = ["weighted_priority_health", "endpoint_stale_after", "drop_overloads"];
    assert_eq!(unsupported(all), want.map(|name| format!("load_assignment.policy.{name}")));
    let wrong = Policy { endpoint_stale_after: Some(stale(0)), ..Default::default() };
    check_rejected(ResourceType::Endpoint, &of(wrong), "policy.endpoint_stale_after: must be over 0");
}

#[test]
fn internal_addresses_and_pipes_are_kept_by_name() {
    let internal = core::EnvoyInternalAddress {
        endpoint_id: "10.0.0.1:80".to_owned(),
        address_name_specifier: Some(core::envoy_internal_address::AddressNameSpecifier::ServerListenerName(
            "connect_originate".to_owned(),
        )),
    };
    let mut wire = lb_endpoint("10.0.0.1", 80);
    let address = core::Address { address: Some(core::address::Address::EnvoyInternalAddress(internal)) };
    wire.host_identifier = Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
        address: Some(address),
        ..Default::default()
    }));
    let Resource::Endpoints(found) = valid(ResourceType::Endpoint, &assignment(vec![locality(0, vec![wire])])) else {
        panic!("endpoints")
    };
    let want = EndpointAddress::Internal("internal:connect_originate/10.0.0.1:80".into());
    assert_eq!(found.localities[0].endpoints[0].address, want);
}

#[test]
fn addresses_must_be_addresses() {
    let at = "endpoints[0].lb_endpoints[0].endpoint.address";
    check(
        vec![locality(0, vec![lb_endpoint("a.b", 80)])],
        &format!("{at}.socket_address.address: \"a.b\" is no IP address"),
    );
    check(
        vec![locality(0, vec![lb_endpoint("10.0.0.1", 65536)])],
        "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: 65536 is over 65535",
    );
    let missing = endpoint::LbEndpoint::default();
    check(vec![locality(0, vec![missing])], "endpoints[0].lb_endpoints[0].endpoint: required and missing");
}

#[test]
fn of_the_same_address_twice_the_first_counts_in_the_whole_assignment() {
    let of = |address, weight| endpoint::LbEndpoint { load_balancing_weight: u32v(weight), ..lb_endpoint(address, 80) };
    let first = locality(0, vec![of("10.0.0.1", 2), of("::ffff:10.0.0.1", 3), of("10.0.0.2", 4)]);
    let second = locality(1, vec![of("10.0.0.2", 5), of("10.0.0.3", 6)]);
    let Resource::Endpoints(found) = valid(ResourceType::Endpoint, &assignment(vec![first, second])) else {
        panic!("endpoints")
    };
    let kept = |nth: usize| -> Vec<(EndpointAddress, u32)> {
        found.localities[nth].endpoints.iter().map(|e| (e.address.clone(), e.weight)).collect()
    };
    let socket = |address: &str| EndpointAddress::Socket(address.parse().expect("an address"));
    assert_eq!(kept(0), [(socket("10.0.0.1:80"), 2), (socket("10.0.0.2:80"), 4)]);
    assert_eq!(kept(1), [(socket("10.0.0.3:80"), 6)]);
}

#[test]
fn priorities_may_have_gaps_and_end_at_128() {
    check(vec![locality(129, vec![])], "endpoints[0].priority: 129 is over 128");
    valid(ResourceType::Endpoint, &assignment(vec![locality(4, vec![]), locality(1, vec![])]));
}

#[test]
fn weights_are_at_least_1_and_their_sums_stay_within_32_bits() {
    let weighted =
        |address, weight| endpoint::LbEndpoint { load_balancing_weight: u32v(weight), ..lb_endpoint(address, 80) };
    check(
        vec![locality(0, vec![weighted("10.0.0.1", 0)])],
        "endpoints[0].lb_endpoints[0].load_balancing_weight: must be at least 1",
    );
    check(
        vec![locality(0, vec![weighted("10.0.0.1", u32::MAX), weighted("10.0.0.2", 1)])],
        "endpoints[0].lb_endpoints.load_balancing_weight: the sum of weights is over 4294967295",
    );
    let heavy =
        |priority, weight| LocalityLbEndpoints { load_balancing_weight: u32v(weight), ..locality(priority, vec![]) };
    check(
        vec![heavy(0, u32::MAX), heavy(0, 1)],
        "endpoints.load_balancing_weight: the sum of weights is over 4294967295",
    );
    valid(ResourceType::Endpoint, &assignment(vec![heavy(0, u32::MAX), heavy(1, u32::MAX)]));
}

#[test]
fn a_gateway_of_another_network_is_told_by_its_lack_of_a_workload() {
    let is_gateway = |port, tls: &str, workload: Option<&str>| {
        let mut wire = lb_endpoint("203.0.113.9", port);
        let mut metadata = core::Metadata::default();
        metadata.filter_metadata.insert("envoy.transport_socket_match".to_owned(), tls_mode(tls));
        if let Some(workload) = workload {
            let kind = Some(protobuf::value::Kind::StringValue(workload.to_owned()));
            let fields = [("workload".to_owned(), protobuf::Value { kind })].into();
            metadata.filter_metadata.insert("istio".to_owned(), protobuf::Struct { fields });
        }
        wire.metadata = Some(metadata);
        let group = endpoint::LocalityLbEndpoints { lb_endpoints: vec![wire], ..Default::default() };
        let wire = endpoint::ClusterLoadAssignment {
            cluster_name: "it".to_owned(),
            endpoints: vec![group],
            ..Default::default()
        };
        let Resource::Endpoints(found) = valid(ResourceType::Endpoint, &wire) else { panic!("no endpoints") };
        found.localities[0].endpoints[0].is_gateway
    };
    assert!(is_gateway(15443, "istio", Some(";;;;cluster-2")));
    assert!(is_gateway(443, "istio", Some(";;;;cluster-2")), "whatever its port");
    assert!(is_gateway(15443, "istio", None), "without metadata the port tells");
    assert!(!is_gateway(8080, "istio", None));
    assert!(!is_gateway(15443, "istio", Some("gateway;istio-system;gateway;;cluster-1")), "a pod that listens there");
    assert!(!is_gateway(15443, "istio", Some(";shop;;;cluster-1")), "a ServiceEntry's endpoint");
    assert!(!is_gateway(15443, "disabled", Some(";;;;cluster-2")), "one that takes plain text");
}

#[test]
fn what_is_not_read_is_not_looked_at() {
    #[derive(Clone, PartialEq, Message)]
    struct Broken {
        #[prost(string, tag = "1")]
        cluster_name: String,
        #[prost(message, repeated, tag = "2")]
        endpoints: Vec<BrokenLocality>,
    }
    /// Proximity and the metadata of a locality are messages in the specification.
    #[derive(Clone, PartialEq, Message)]
    struct BrokenLocality {
        #[prost(bytes = "vec", tag = "6")]
        proximity: Vec<u8>,
        #[prost(bytes = "vec", tag = "9")]
        metadata: Vec<u8>,
    }
    let locality = BrokenLocality { proximity: vec![0xff], metadata: vec![0xff] };
    let assignment = Broken { cluster_name: "it".to_owned(), endpoints: vec![locality] };
    let Resource::Endpoints(found) = valid(ResourceType::Endpoint, &assignment) else { panic!("endpoints") };
    assert_eq!(found.localities.len(), 1);
}

#[test]
fn broken_metadata_rejects_where_it_is_read() {
    let with = |filter: &'static str| {
        let entry = wire::FilterMetadata { filter: filter.into(), fields: Bytes::from_static(&[0xff]) };
        let mut one: wire::LbEndpoint = read(&lb_endpoint("10.0.0.1", 80));
        one.metadata = Some(wire::Metadata { filter_metadata: vec![entry] });
        let locality = wire::LocalityLbEndpoints { lb_endpoints: vec![one], ..Default::default() };
        wire::ClusterLoadAssignment { cluster_name: "it".to_owned(), endpoints: vec![locality], ..Default::default() }
    };
    valid(ResourceType::Endpoint, &with("somebody.else"));
    match decode(ResourceType::Endpoint, "", &with("envoy.lb").encode_to_vec().into()) {
        Decoded::Rejected { name, reason } => {
            assert_eq!(name, "it");
            let field = "endpoints[0].lb_endpoints[0].metadata.filter_metadata[\"envoy.lb\"]: ";
            assert!(reason.starts_with(field), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_two_entries_of_metadata_for_one_filter_the_last_counts() {
    let entry = |mode| wire::FilterMetadata {
        filter: "envoy.transport_socket_match".into(),
        fields: tls_mode(mode).encode_to_vec().into(),
    };
    let says = |first, last| {
        let metadata = wire::Metadata { filter_metadata: vec![entry(first), entry(last)] };
        let mut one: wire::LbEndpoint = read(&lb_endpoint("10.0.0.1", 80));
        one.metadata = Some(metadata);
        let locality = wire::LocalityLbEndpoints { lb_endpoints: vec![one], ..Default::default() };
        let endpoints = vec![locality];
        let whole = wire::ClusterLoadAssignment { cluster_name: "it".to_owned(), endpoints, ..Default::default() };
        let Resource::Endpoints(found) = valid(ResourceType::Endpoint, &whole) else { panic!("endpoints") };
        found.localities[0].endpoints[0].tls_mode_istio
    };
    assert!(says("disabled", "istio") && !says("istio", "disabled"));
}
