use std::os::fd::AsFd;

use super::*;
use crate::control::ImageId;
use crate::image::{HEADER_WORDS, Mesh, Name, Publisher, encode, file_words};

fn settings(base: &std::path::Path) -> &'static Settings {
    let settings =
        Settings::from_env([("LDMESH_XDS", "http://127.0.0.1:15010"), ("LDMESH_RUN_DIR", base.to_str().unwrap())]);
    Box::leak(Box::new(settings))
}

fn publish(pod: &Pod, id: ImageId, name: &str) {
    publish_names(pod, id, vec![name.to_owned()]);
}

fn publish_many(pod: &Pod, id: ImageId, prefix: &str, count: usize) {
    publish_names(pod, id, (0..count).map(|n| format!("{prefix}{n}.example")).collect());
}

fn publish_names(pod: &Pod, id: ImageId, names: Vec<String>) {
    let addresses: Vec<std::net::IpAddr> = vec!["10.96.0.10".parse().unwrap()];
    let name = |name| Name { name, addresses: addresses.clone(), headless: false };
    let mesh = Mesh { names: names.into_iter().map(name).collect(), ..Mesh::default() };
    let content = encode(&mesh).unwrap();
    let size = file_words(content.len()) as u64 * 8;
    let fd = pod.run_dir().unwrap().create_file(FileName::image(id).as_str(), size).unwrap().unwrap();
    let words = map_write(fd.as_fd(), HEADER_WORDS).unwrap();
    Publisher::format(words, pod.boot(), id.term, 0).unwrap().publish(&content).unwrap();
    assert!(pod.control().set_image(id));
}

fn knows(pod: &Pod, name: &str) -> bool {
    pod.image().is_some_and(|image| image.read(|view| view.name(name.as_bytes())).unwrap().is_some())
}

#[test]
fn two_processes_of_a_pod_meet_in_one_control() {
    let base = tempfile::tempdir().unwrap();
    let (one, two) = (Pod::attach(settings(base.path())).unwrap(), Pod::attach(settings(base.path())).unwrap());
    one.control().heard(77);
    assert_eq!(two.control().contact(), 77);
    assert!(!one.is_orphaned());
}

#[test]
fn whoever_comes_while_control_is_made_waits_for_it() {
    for _ in 0..20 {
        let base = tempfile::tempdir().unwrap();
        let settings = settings(base.path());
        let together = std::sync::Barrier::new(16);
        let attach = || {
            together.wait();
            Pod::attach(settings).map(|pod| pod.control_id.inode).map_err(|error| error.to_string())
        };
        let inodes: std::collections::HashSet<u64> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..16).map(|_| scope.spawn(attach)).collect();
            all.into_iter().map(|one| one.join().unwrap().unwrap()).collect()
        });
        assert_eq!(inodes.len(), 1);
    }
}

#[test]
fn the_image_that_control_names_is_followed_across_terms() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    assert!(pod.image().is_none());
    publish(&pod, ImageId { term: 1, sequence: 0 }, "first.example");
    assert!(knows(&pod, "first.example"));
    publish(&pod, ImageId { term: 2, sequence: 0 }, "second.example");
    assert!(knows(&pod, "second.example") && !knows(&pod, "first.example"));
}

#[test]
fn a_leader_resumed_in_the_middle_of_a_publish_cannot_touch_what_its_successor_publishes() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    let frozen = ImageId { term: 1, sequence: 0 };
    assert_eq!(pod.control().take_lead(1000).unwrap().epoch(), 1);
    publish(&pod, frozen, "first.example");
    assert!(knows(&pod, "first.example"));
    assert_eq!(pod.control().take_lead(9000).unwrap().epoch(), 2);
    publish(&pod, ImageId { term: 2, sequence: 0 }, "second.example");
    // Whatever instruction it was stopped at, all it can still write is its own file..
    let file = pod.run_dir().unwrap().open_file(FileName::image(frozen).as_str(), Open::ReadWrite).unwrap().unwrap();
    for word in map_write(file.as_fd(), HEADER_WORDS).unwrap() {
        word.store(u64::MAX, Ordering::Relaxed);
    }
    assert!(knows(&pod, "second.example"));
    // ..and CONTROL does not take its name again, nor that of a larger file.
    assert!(!pod.control().set_image(frozen));
    assert!(!pod.control().set_image(ImageId { term: 1, sequence: 7 }));
    assert!(knows(&pod, "second.example"));
}

#[test]
fn a_process_that_outlives_many_leaders_pins_two_of_their_files() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    let mut first = None;
    for term in 1..=20 {
        publish(&pod, ImageId { term, sequence: 0 }, &format!("name{term}.example"));
        pod.places.have_rested();
        assert!(knows(&pod, &format!("name{term}.example")));
        first = first.or(pod.image());
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let own = base.path().to_str().unwrap();
    let pinned = maps.lines().filter(|line| line.contains(own) && line.contains(" r--s ")).count();
    assert!((1..=2).contains(&pinned), "{pinned}: {maps}");
    let answer = first.unwrap().read(|view| view.name(b"name20.example").map(|found| found.is_some()));
    assert!(answer.is_err(), "who still reads an old one does not believe what is there now");
}

#[test]
fn a_thread_that_comes_late_to_follow_takes_nothing_from_who_still_reads_the_former_image() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    publish(&pod, ImageId { term: 1, sequence: 0 }, "first.example");
    let former = pod.image().unwrap();
    publish(&pod, ImageId { term: 2, sequence: 0 }, "second.example");
    assert!(knows(&pod, "second.example"));
    pod.places.have_rested();
    assert!(pod.follow_image().is_some());
    assert!(pod.follow_image().is_some());
    assert!(former.read(|view| view.name(b"first.example")).unwrap().is_some());
}

#[test]
fn a_thousand_leaders_cost_a_process_no_more_addresses_than_ten() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    let dir = pod.run_dir().unwrap();
    let mut addresses = Vec::new();
    for term in 1..=1000 {
        let id = ImageId { term, sequence: 0 };
        publish(&pod, id, "name.example");
        pod.places.have_rested();
        assert!(knows(&pod, "name.example"));
        dir.remove_file(FileName::image(id).as_str()).unwrap();
        if term == 10 || term == 1000 {
            addresses.push(pod.places.in_order());
        }
    }
    assert_eq!(addresses[0], addresses[1]);
    assert_eq!(addresses[0].len(), 3);
}

#[test]
fn leaders_that_come_faster_than_places_rest_leave_the_last_image_in_use() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    for term in 1..=20 {
        publish(&pod, ImageId { term, sequence: 0 }, "name.example");
        pod.retry_at.store(0, Ordering::Relaxed);
        assert!(knows(&pod, "name.example"));
    }
    assert!(pod.places.in_order().len() <= 8);
    pod.places.have_rested();
    pod.retry_at.store(0, Ordering::Relaxed);
    publish(&pod, ImageId { term: 21, sequence: 0 }, "other.example");
    assert!(knows(&pod, "other.example"));
}

#[test]
fn an_image_that_outgrew_every_place_gets_a_larger_one() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    for term in 1..=40 {
        let names = if term < 20 { 1 } else { 5_000 };
        let name = "n".repeat(names.min(60));
        publish_many(&pod, ImageId { term, sequence: 0 }, &name, names);
        pod.places.have_rested();
        assert!(knows(&pod, &format!("{name}0.example")));
    }
    assert!(pod.places.in_order().len() <= 8);
}

#[test]
fn an_image_that_cannot_be_mapped_leaves_the_last_one_in_use() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    publish(&pod, ImageId { term: 1, sequence: 0 }, "first.example");
    assert!(knows(&pod, "first.example"));
    pod.control().set_image(ImageId { term: 5, sequence: 0 });
    assert!(knows(&pod, "first.example"));
}

#[test]
fn a_control_that_is_garbage_or_of_another_boot_is_replaced() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    let dir = pod.run_dir().unwrap();
    for garbage in [b"not a control".to_vec(), vec![0xff; CONTROL_WORDS * 8]] {
        std::fs::write(dir.path().join(names::CONTROL), garbage).unwrap();
        let again = Pod::attach(settings(base.path())).unwrap();
        again.control().heard(5);
        assert_eq!(again.control().contact(), 5);
    }
}

#[test]
fn a_state_that_promises_more_than_it_has_is_mapped_once() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    let dir = pod.run_dir().unwrap();
    let fd = dir.create_file(names::STATE, state_words(4) as u64 * 8).unwrap().unwrap();
    State::format(map_write(fd.as_fd(), state_words(4)).unwrap(), pod.boot()).unwrap();
    let place = pod.state().unwrap().slot_at(0).unwrap();
    pod.state().unwrap().set_allocated_slots(usize::MAX);
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("/state").count();
    let before = mappings();
    for _ in 0..50 {
        pod.retry_at.store(0, Ordering::Relaxed);
        assert_eq!(pod.state().unwrap().slot_at(0).unwrap().tag(), place.tag());
    }
    assert_eq!(mappings(), before);
}

#[test]
fn following_the_pod_makes_no_folder() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    // As a process finds it that changed its root.
    std::fs::rename(base.path(), base.path().with_extension("away")).unwrap();
    pod.control().set_image(ImageId { term: 5, sequence: 0 });
    assert!(pod.image().is_none());
    assert!(pod.state().is_none());
    let _ = pod.is_orphaned();
    assert!(!base.path().exists());
    std::fs::rename(base.path().with_extension("away"), base.path()).unwrap();
}

#[test]
fn a_process_notices_that_its_control_was_replaced() {
    let base = tempfile::tempdir().unwrap();
    let pod = Pod::attach(settings(base.path())).unwrap();
    pod.run_dir().unwrap().remove_file(names::CONTROL).unwrap();
    assert!(pod.is_orphaned());
    let successor = Pod::attach(settings(base.path())).unwrap();
    assert!(!successor.is_orphaned());
    assert!(pod.is_orphaned());
}
