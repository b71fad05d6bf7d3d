//! Endpoints that changed by themselves.

use super::*;
use crate::shm::hash_words;

/// Three listeners that lead to a cluster each.
fn world() -> World {
    let names = ["a", "b", "c"];
    let listening = (1..).zip(names).fold(World::default(), |world, (nth, name)| {
        world.listener(name, &format!("10.0.0.{nth}:80"), vec![chain(tcp(&[(name, 1)]))], None)
    });
    let world = listening.eds(&names);
    world.assignment(assignment("a", vec![socket("127.0.0.1:80"), socket("127.0.0.2:80")]))
}

/// Slots that depend on nothing but what they count.
fn slot(tag: u64) -> Option<u32> {
    Some(hash_words(&[tag]) as u32)
}

/// What an update makes of a compiled world, after these assignments came.
fn updated(mut world: World, came: Vec<LoadAssignment>) -> (Option<Vec<u32>>, Compiled, Compiled) {
    let mut compiled = world.compile_with(&mut slot);
    let names = came.iter().map(|assignment| assignment.cluster_name.clone()).collect();
    world.endpoints.extend(came.into_iter().map(|assignment| (assignment.cluster_name.clone(), assignment)));
    let places = update_endpoints(&mut compiled, &world.input(), &names, &mut slot);
    (places, compiled, world.compile_with(&mut slot))
}

/// The same as a compile of everything.
#[track_caller]
fn check_same(world: World, came: Vec<LoadAssignment>, expected: &[u32]) {
    let (places, updated, whole) = updated(world, came);
    assert_eq!(places.as_deref(), Some(expected));
    assert_eq!(updated, whole);
}

#[track_caller]
fn check_not_by_itself(world: World, came: Vec<LoadAssignment>) {
    assert_eq!(updated(world, came).0, None);
}

#[test]
fn endpoints_that_come_and_go_give_what_a_compile_of_everything_gives() {
    check_same(world(), vec![assignment("a", vec![socket("127.0.0.2:80"), socket("127.0.0.3:80")])], &[0]);
    check_same(world(), vec![assignment("a", Vec::new())], &[0]);
    let several = vec![assignment("c", vec![socket("127.0.0.9:80")]), assignment("b", vec![socket("127.0.0.8:80")])];
    check_same(world(), several, &[1, 2]);
}

#[test]
fn endpoints_of_no_cluster_change_nothing() {
    check_same(world(), vec![assignment("nobody", vec![socket("127.0.0.1:80")])], &[]);
}

#[test]
fn notes_that_would_change_call_for_everything() {
    let draining = || Endpoint { health: Health::Draining, ..socket("127.0.0.3:80") };
    check_not_by_itself(world(), vec![assignment("a", vec![draining()])]);
    let noted = || world().assignment(assignment("a", vec![draining()]));
    check_not_by_itself(noted(), vec![assignment("a", vec![socket("127.0.0.1:80")])]);
    check_same(noted(), vec![assignment("a", vec![draining(), socket("127.0.0.1:80")])], &[0]);
}

#[test]
fn clusters_that_depend_on_others_call_for_everything() {
    let change = || vec![assignment("a", vec![socket("127.0.0.3:80")])];
    let shared = world().cluster(cluster("b", Discovery::Eds("a".into())));
    check_not_by_itself(shared, change());
    let aggregated = world().cluster(cluster("b", Discovery::Aggregate(vec!["a".into()])));
    check_not_by_itself(aggregated, change());
    check_not_by_itself(World { local_cluster: Some("c"), ..world() }, change());
    let mut subsets = world();
    subsets.clusters.get_mut("a").unwrap().balancing.subsets = Some(Box::new(Subsets {
        fallback: Fallback::AnyEndpoint,
        default_subset: Metadata::new(),
        selectors: Vec::new(),
        locality_weight_aware: false,
        scale_locality_weight: false,
        panic_mode_any: false,
        list_as_any: false,
        allow_redundant_keys: false,
    }));
    check_not_by_itself(subsets, change());
}

#[test]
fn a_slot_that_is_missing_calls_for_everything() {
    let mut world = world();
    let mut compiled = world.compile_with(&mut slot);
    world = world.assignment(assignment("a", vec![socket("127.0.0.7:80")]));
    assert_eq!(update_endpoints(&mut compiled, &world.input(), &["a".to_owned()].into(), &mut |_| None), None);
}

#[test]
fn many_at_once_call_for_everything() {
    let names: Vec<String> = (0..100).map(|nth| format!("cluster-{nth}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let listening = (0..).zip(&names).fold(World::default().eds(&names), |world, (nth, name)| {
        world.listener(name, &format!("10.0.1.{nth}:80"), vec![chain(tcp(&[(name, 1)]))], None)
    });
    let mut compiled = listening.compile_with(&mut slot);
    let mut update = |count| {
        let changed = names.iter().take(count).map(|name| (*name).to_owned()).collect();
        update_endpoints(&mut compiled, &listening.input(), &changed, &mut slot).map(|places| places.len())
    };
    assert_eq!(update(25), Some(25));
    assert_eq!(update(26), None);
}
