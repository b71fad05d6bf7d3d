use super::*;
use crate::image::{encode, priority_tag};
use crate::quick::QuickSet;
use crate::shm::hash_bytes;
use crate::state::{SlotKind, endpoint_tag, locality_tag, named_tag};

/// A world in which 10.0.0.1:80 leads to the cluster `a`.
fn leading_to(discovery: Discovery, edit: impl FnOnce(&mut Cluster)) -> World {
    let mut a = cluster("a", discovery);
    edit(&mut a);
    World::default().cluster(a).listener("10.0.0.1_80", "10.0.0.1:80", vec![chain(tcp(&[("a", 1)]))], None)
}

/// The endpoints of the first cluster, by priority.
#[track_caller]
fn endpoints(compiled: &Compiled) -> Vec<Vec<String>> {
    let priorities = compiled.mesh.clusters[0].priorities.as_ref().expect("endpoints are known");
    let addresses = |priority: &crate::image::Priority| {
        priority.localities.iter().flat_map(|l| &l.endpoints).map(|e| e.address.to_string()).collect()
    };
    priorities.iter().map(addresses).collect()
}

#[test]
fn endpoints_keep_their_order_whatever_the_order_of_the_update() {
    let order = |addresses: &[&str]| {
        let all = addresses.iter().map(|address| socket(address)).collect();
        leading_to(Discovery::Eds("a".into()), |_| {}).assignment(assignment("a", all)).compile()
    };
    let expected = [["127.0.0.1:80", "127.0.0.2:80", "127.0.0.10:80"]];
    assert_eq!(endpoints(&order(&["127.0.0.10:80", "127.0.0.2:80", "127.0.0.1:80"])), expected);
    assert_eq!(endpoints(&order(&["127.0.0.2:80", "127.0.0.1:80", "127.0.0.10:80", "127.0.0.2:80"])), expected);
}

#[test]
fn endpoints_not_received_are_unknown_but_wanted() {
    let compiled = leading_to(Discovery::Eds("other".into()), |_| {}).compile();
    assert_eq!(compiled.mesh.clusters[0].priorities, None);
    assert_eq!(compiled.wanted[&key("10.0.0.1")], ["other"]);
    assert!(compiled.live_tags.is_empty());
}

#[test]
fn draining_and_internal_endpoints_are_left_out_and_said() {
    let mut draining = socket("127.0.0.1:80");
    draining.health = Health::Draining;
    let internal = endpoint(EndpointAddress::Internal("connect_originate".into()));
    let inline = assignment("a", vec![draining, internal, socket("127.0.0.2:80")]);
    let compiled = leading_to(Discovery::Static(inline), |_| {}).compile();
    assert_eq!(endpoints(&compiled), [["127.0.0.2:80"]]);
    assert_eq!(compiled.notes.len(), 2, "{:?}", compiled.notes);
}

#[test]
fn what_cannot_be_given_passes_by_name() {
    let inline = || inline("127.0.0.1:80");
    let policy = |discovery, edit: &dyn Fn(&mut Cluster)| {
        leading_to(discovery, |a| edit(a)).compile().mesh.clusters[0].policy.clone()
    };
    let tls = policy(inline(), &|a| a.tls = UpstreamTls::Required);
    assert_eq!(tls, Policy::Pass(PassReason::NeedsTls, "a".into()));
    assert_eq!(policy(inline(), &|a| a.tls = UpstreamTls::ByEndpoint), Policy::RoundRobin);
    let own = policy(inline(), &|a| a.policy = LbPolicy::Unsupported("my.policies.Own".into()));
    assert_eq!(own, Policy::Pass(PassReason::Unsupported, "my.policies.Own".into()));
    assert_eq!(policy(inline(), &|a| a.policy = LbPolicy::Maglev { table_size: 7 }), Policy::Maglev);
    let redis = policy(Discovery::Unsupported("envoy.clusters.redis".into()), &|_| {});
    assert_eq!(redis, Policy::Pass(PassReason::Unsupported, "envoy.clusters.redis".into()));
}

fn hostname(name: &str) -> Endpoint {
    endpoint(EndpointAddress::Hostname(name.into(), 443))
}

#[test]
fn dns_clusters_have_the_addresses_of_their_names() {
    let inline = assignment("a", vec![hostname("x.example"), hostname("y.example")]);
    let mut world = leading_to(Discovery::StrictDns(inline.clone(), Box::default()), |_| {});
    let compiled = world.compile();
    assert_eq!(compiled.hostnames.keys().collect::<Vec<_>>(), ["x.example", "y.example"]);
    assert_eq!(compiled.mesh.clusters[0].priorities, None, "nothing was answered yet");
    let ips = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
    world.resolved.insert("x.example".into(), ips(&["192.0.2.2", "192.0.2.1"]));
    assert_eq!(endpoints(&world.compile()), [["192.0.2.1:443", "192.0.2.2:443"]]);
    world.resolved.insert("x.example".into(), Vec::new());
    world.resolved.insert("y.example".into(), Vec::new());
    assert_eq!(endpoints(&world.compile()), [[""; 0]], "answered without an address");

    let mut world =
        leading_to(Discovery::LogicalDns(assignment("a", vec![hostname("x.example")]), Box::default()), |_| {});
    world.resolved.insert("x.example".into(), ips(&["192.0.2.2", "192.0.2.1"]));
    assert_eq!(endpoints(&world.compile()), [["192.0.2.2:443"]]);
}

fn inline(address: &str) -> Discovery {
    Discovery::Static(assignment("x", vec![socket(address)]))
}

fn aggregate(name: &str, members: &[&str]) -> Cluster {
    let members = members.iter().map(|member| (*member).into()).collect();
    Cluster { policy: LbPolicy::ClusterProvided, ..cluster(name, Discovery::Aggregate(members)) }
}

/// The names of an aggregate's members.
#[track_caller]
fn members(compiled: &Compiled, name: &str) -> Vec<String> {
    let clusters = &compiled.mesh.clusters;
    let found = clusters.iter().find(|cluster| cluster.name == name).expect("the aggregate");
    let Policy::Aggregate(members) = &found.policy else { panic!("no aggregate: {found:?}") };
    members.iter().map(|index| clusters[*index as usize].name.clone()).collect()
}

fn leading_to_aggregate(of: &[&str]) -> World {
    World::default().cluster(aggregate("a", of)).listener(
        "10.0.0.1_80",
        "10.0.0.1:80",
        vec![chain(tcp(&[("a", 1)]))],
        None,
    )
}

#[test]
fn an_aggregate_is_its_clusters_in_order_each_as_it_is_by_itself() {
    let mut second = cluster("second", Discovery::Eds("second".into()));
    (second.policy, second.max_connections) = (LbPolicy::Random, Some(3));
    let mut world =
        leading_to_aggregate(&["first", "second"]).cluster(cluster("first", inline("127.0.0.1:80"))).cluster(second);
    let compiled = world.compile();
    assert_eq!(members(&compiled, "a"), ["first", "second"]);
    let known = |compiled: &Compiled, name: &str| {
        compiled.mesh.clusters.iter().find(|c| c.name == name).expect("a cluster").priorities.is_some()
    };
    assert!(known(&compiled, "a") && !known(&compiled, "second"), "a part that is not known yet is skipped");
    assert_eq!(compiled.wanted[&key("10.0.0.1")], ["second"]);

    world = world.assignment(assignment("second", vec![socket("127.0.0.2:80")]));
    world = world.listener("10.0.0.2_80", "10.0.0.2:80", vec![chain(tcp(&[("second", 1)]))], None);
    let compiled = world.compile();
    assert_eq!(compiled.mesh.clusters.len(), 3, "the member is the cluster that is also used directly");
    check_clusters(&compiled, "10.0.0.2:80", &[("second", 1)]);
    let second = compiled.mesh.clusters.iter().find(|c| c.name == "second").unwrap();
    assert_eq!((&second.policy, second.max_connections), (&Policy::Random, Some(3)));
}

#[test]
fn an_aggregate_of_which_nothing_is_known_is_not_known() {
    let compiled = leading_to_aggregate(&["first", "missing"]).eds(&["first"]).compile();
    assert_eq!(compiled.mesh.clusters[1].priorities, None);
    assert_eq!(compiled.notes, ["cluster a: missing was not received or is too deep"]);
}

#[test]
fn an_aggregate_passes_when_a_member_cannot_be_had() {
    let mut tls = cluster("tls", inline("127.0.0.1:80"));
    tls.tls = UpstreamTls::Required;
    let compiled = leading_to_aggregate(&["plain", "tls"])
        .cluster(cluster("plain", inline("127.0.0.2:80")))
        .cluster(tls)
        .compile();
    let found = compiled.mesh.clusters.iter().find(|cluster| cluster.name == "a").unwrap();
    assert_eq!(found.policy, Policy::Pass(PassReason::NeedsTls, "tls".into()));
}

#[test]
fn aggregates_inside_are_taken_in_their_place_once_and_may_name_each_other() {
    let world = leading_to_aggregate(&["b", "z", "x"])
        .cluster(aggregate("b", &["x", "a", "c"]))
        .cluster(aggregate("c", &["b", "y", "x"]));
    let world = ["x", "y", "z"].iter().fold(world, |world, name| world.cluster(cluster(name, inline("127.0.0.1:80"))));
    assert_eq!(members(&world.compile(), "a"), ["x", "y", "z"]);
    let empty = leading_to_aggregate(&["b"]).cluster(aggregate("b", &["a"])).compile();
    assert_eq!(members(&empty, "a"), Vec::<String>::new());
}

#[test]
fn slots_are_asked_for_by_what_they_count() {
    let a = hash_bytes(b"a");
    let inline = Discovery::Static(assignment("a", vec![socket("127.0.0.1:80")]));
    let address = WordAddr::new([127, 0, 0, 1].into());
    let mut expected =
        QuickSet::from_iter([named_tag(SlotKind::Cluster, a), priority_tag(a, 0), endpoint_tag(a, address, 80)]);
    let world = leading_to(inline.clone(), |_| {});
    let mut asked = QuickSet::default();
    let compiled = world.compile_with(&mut |tag| {
        asked.insert(tag);
        None
    });
    assert_eq!((&asked, &compiled.live_tags), (&expected, &expected));
    let weighted = leading_to(inline, |a| a.locality_weighted = true).compile();
    expected.insert(locality_tag(a, 0, hash_bytes(b"")));
    assert_eq!(weighted.live_tags, expected);
}

#[test]
fn the_same_resources_give_the_same_words() {
    let world = || {
        let names: Vec<String> = (0..50).map(|n| format!("c{n}")).collect();
        let chains = |n: usize| vec![chain(tcp(&[(names[n].as_str(), 1), (names[49 - n].as_str(), 2)]))];
        (0..50).fold(World::default(), |world, n| {
            world
                .cluster(cluster(&names[n], Discovery::Static(assignment("x", vec![socket("127.0.0.1:80")]))))
                .name(&format!("s{n}.ns.svc"), "Kubernetes", &[&format!("10.0.0.{n}")], &["alias.example"])
                .listener(&format!("l{n}"), &format!("10.0.0.{n}:80"), chains(n), None)
        })
    };
    let (one, two) = (world().compile(), world().compile());
    assert_eq!(one, two);
    assert_eq!(encode(&one.mesh).unwrap(), encode(&two.mesh).unwrap());
}

#[test]
fn a_cluster_nobody_leads_to_is_not_compiled() {
    let compiled = leading_to(Discovery::Eds("a".into()), |_| {}).eds(&["unused"]).compile();
    assert_eq!(compiled.mesh.clusters.len(), 1);
}

#[test]
fn settings_that_are_not_honoured_are_said() {
    let compiled = leading_to(Discovery::Eds("a".into()), |a| a.unsupported = vec!["slow_start".into()]).compile();
    assert_eq!(compiled.notes, ["cluster a: slow_start is not honoured"]);

    let whole = Cluster { unsupported: vec!["health_checks".into()], ..aggregate("a", &["b"]) };
    let compiled = leading_to_aggregate(&["b"]).eds(&["b"]).cluster(whole).compile();
    assert_eq!(compiled.notes, ["cluster a: health_checks is not honoured"]);

    let told = LoadAssignment { unsupported: vec!["drop_overloads".into()], ..assignment("a", Vec::new()) };
    let by_eds = leading_to(Discovery::Eds("a".into()), |_| {}).assignment(told.clone()).compile();
    assert_eq!(by_eds.notes, ["cluster a: drop_overloads is not honoured"]);
    let inline = leading_to(Discovery::Static(told), |_| {}).compile();
    assert_eq!(inline.notes, ["cluster a: drop_overloads is not honoured"]);
}

#[test]
fn the_node_s_own_cluster_is_wanted_wherever_zones_count() {
    let zone = |zone: &str, address: &str| LocalityEndpoints {
        locality: Locality { zone: zone.into(), ..Locality::default() },
        priority: 0,
        weight: None,
        endpoints: vec![socket(address)],
    };
    let spread = |name: &str| LoadAssignment {
        localities: vec![zone("a", "127.0.0.1:80"), zone("b", "127.0.0.2:80")],
        ..assignment(name, Vec::new())
    };
    let mut world = leading_to(Discovery::Static(spread("a")), |_| {});
    world.locality.zone = "b".into();
    let zones = |world: &World| {
        let compiled = world.compile();
        let found = compiled.mesh.clusters.iter().find(|cluster| cluster.name == "a").unwrap();
        (found.balancing.zone_aware, compiled.wanted.get(&ALWAYS_WANTED).cloned())
    };
    assert_eq!(zones(&world), (None, None), "nobody said which cluster is the node's");
    world.local_cluster = Some("own");
    assert_eq!(zones(&world), (None, None), "it was not received");
    // It is counted even where nobody could connect to it.
    let own = Cluster { tls: UpstreamTls::Required, ..cluster("own", Discovery::Eds("own".into())) };
    world = world.cluster(own);
    assert_eq!(zones(&world), (None, Some(vec!["own".into()])));
    world = world.assignment(spread("own"));
    let found = zones(&world).0.expect("zones count");
    assert_eq!((found.own, found.min_cluster_size, found.routing_enabled), (Some(1), 6, 100));
    world.locality.zone = "c".into();
    assert_eq!(zones(&world).0, None, "the node's zone has none of its cluster's endpoints");
    world.locality.zone = "b".into();
    world.clusters.get_mut("a").unwrap().policy = LbPolicy::Maglev { table_size: 7 };
    assert_eq!(zones(&world).0, None, "tables know no zones");
}

#[test]
fn endpoints_behind_a_gateway_of_another_network_are_left_out_and_said() {
    let gateway = Endpoint { tls_mode_istio: true, is_gateway: true, ..socket("203.0.113.9:15443") };
    let direct = Endpoint { tls_mode_istio: true, ..socket("10.1.0.1:80") };
    let compiled = World::default()
        .cluster(Cluster { tls: UpstreamTls::ByEndpoint, ..cluster("c", Discovery::Eds("c".into())) })
        .assignment(assignment("c", vec![gateway, direct]))
        .listener("10.0.0.1_1", "10.0.0.1:1", vec![chain(tcp(&[("c", 1)]))], None)
        .compile();
    let priorities = compiled.mesh.clusters[0].priorities.as_ref().unwrap();
    let endpoints = &priorities[0].localities[0].endpoints;
    assert_eq!(endpoints.iter().map(|e| e.address.to_string()).collect::<Vec<_>>(), ["10.1.0.1:80"]);
    assert_eq!(compiled.notes, ["cluster c: endpoints behind a TLS gateway of another network were left out"]);
}

#[test]
fn keepalive_is_what_the_cluster_says_a_zero_turns_it_off_and_too_much_is_said() {
    let keepalive = |probes, time, interval| {
        let keepalive = Some(TcpKeepalive { probes, time, interval });
        let compiled = World::default()
            .cluster(Cluster {
                keepalive,
                ..cluster("c", Discovery::Static(assignment("c", vec![socket("10.1.0.1:80")])))
            })
            .listener("10.0.0.1_1", "10.0.0.1:1", vec![chain(tcp(&[("c", 1)]))], None)
            .compile();
        (compiled.mesh.clusters[0].keepalive, compiled.notes)
    };
    let stated = |probes, idle, interval| Some(crate::image::Keepalive { probes, idle, interval });
    assert_eq!(keepalive(Some(3), Some(7200), Some(75)), (stated(Some(3), Some(7200), Some(75)), vec![]));
    assert_eq!(keepalive(None, None, None), (stated(None, None, None), vec![]), "on, with the system's values");
    assert_eq!(keepalive(None, Some(0), Some(75)), (None, vec![]));
    let too_much = "cluster c: keepalive_time over 32767 is not honoured".to_owned();
    assert_eq!(keepalive(Some(3), Some(86_400), None), (stated(Some(3), None, None), vec![too_much]));
}

#[test]
fn the_lookup_family_of_a_dns_cluster_says_which_addresses_count() {
    let (v4, v6) = ("192.0.2.1:443", "[2001:db8::1]:443");
    let check = |family, answer: &[&str], strict: &[&str], logical: &[&str]| {
        let inline = assignment("a", vec![hostname("x.example")]);
        let dns = Dns { family, ..Dns::default() };
        for (discovery, expected) in [
            (Discovery::StrictDns(inline.clone(), dns.into()), strict),
            (Discovery::LogicalDns(inline, dns.into()), logical),
        ] {
            let mut world = leading_to(discovery, |_| {});
            world.resolved.insert("x.example".into(), answer.iter().map(|ip| ip.parse().unwrap()).collect());
            assert_eq!(endpoints(&world.compile()), [expected], "{family:?} of {answer:?}");
        }
    };
    let both = ["192.0.2.1", "2001:db8::1"];
    check(DnsFamily::Auto, &both, &[v6], &[v6]);
    check(DnsFamily::Auto, &both[..1], &[v4], &[v4]);
    check(DnsFamily::V4Only, &both, &[v4], &[v4]);
    check(DnsFamily::V4Only, &both[1..], &[], &[]);
    check(DnsFamily::V6Only, &both, &[v6], &[v6]);
    check(DnsFamily::V4Preferred, &both, &[v4], &[v4]);
    check(DnsFamily::V4Preferred, &both[1..], &[v6], &[v6]);
    check(DnsFamily::All, &both, &[v4, v6], &[v4]);
}

#[test]
fn a_name_of_two_clusters_is_looked_up_as_the_more_eager_says() {
    let named = |name: &str, interval, respect_ttl| {
        let interval = Duration::from_secs(interval);
        let dns = Dns { refresh: DnsRefresh { interval, respect_ttl, ..DnsRefresh::default() }, ..Dns::default() };
        cluster(name, Discovery::StrictDns(assignment(name, vec![hostname("x.example")]), dns.into()))
    };
    let compiled = World::default()
        .cluster(named("slow", 60, true))
        .cluster(named("fast", 10, false))
        .listener("10.0.0.1_1", "10.0.0.1:1", vec![chain(tcp(&[("slow", 1), ("fast", 1)]))], None)
        .compile();
    let refresh = compiled.hostnames["x.example"];
    assert_eq!((refresh.interval, refresh.respect_ttl), (Duration::from_secs(10), false));
}
