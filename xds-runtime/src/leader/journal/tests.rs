use super::*;
use crate::leader::testing::run_dir_at;
use std::fs;

const BOOT: BootId = BootId::from_words([1, 2]);

struct Folder {
    _folder: tempfile::TempDir,
    dir: Arc<RunDir>,
}

fn folder() -> Folder {
    let folder = tempfile::tempdir().unwrap();
    let dir = Arc::new(run_dir_at(folder.path()));
    Folder { _folder: folder, dir }
}

impl Folder {
    fn journal(&self, term: u32) -> Journal {
        Journal::start(&self.dir, BOOT, term, &Seed::new()).unwrap()
    }

    fn file(&self, term: u32) -> std::path::PathBuf {
        self.dir.path().join(file_name(term))
    }

    #[track_caller]
    fn check_seed(&self, before: u32, expected: &[(&str, &str, &[u8])]) {
        let seed = read_predecessor(&self.dir, BOOT, before);
        let found: Vec<_> = seed.iter().map(|((_, name), a)| (name.as_str(), a.version.as_str(), &*a.raw)).collect();
        assert_eq!(found, expected);
    }
}

fn accept(journal: &mut Journal, name: &str, version: &str, raw: &[u8]) {
    journal.accepted(ResourceType::Cluster, name, version, 7, raw).unwrap();
    journal.flush().unwrap();
}

#[test]
fn a_successor_reads_what_its_predecessor_accepted() {
    let folder = folder();
    let mut journal = folder.journal(3);
    accept(&mut journal, "a", "1", b"first");
    accept(&mut journal, "b", "1", b"other");
    accept(&mut journal, "a", "2", b"second");
    folder.check_seed(4, &[("a", "2", b"second"), ("b", "1", b"other")]);
    let times: Vec<_> = read_newest(&folder.dir, BOOT).values().map(|accepted| accepted.updated).collect();
    assert_eq!(times, [7, 7]);
}

#[test]
fn a_removed_resource_does_not_come_back() {
    let folder = folder();
    let mut journal = folder.journal(1);
    accept(&mut journal, "a", "1", b"first");
    journal.removed(ResourceType::Cluster, "a").unwrap();
    journal.flush().unwrap();
    folder.check_seed(2, &[]);
}

#[test]
fn a_torn_tail_costs_only_itself() {
    let folder = folder();
    let mut journal = folder.journal(1);
    accept(&mut journal, "a", "1", b"first");
    let whole = fs::read(folder.file(1)).unwrap();
    accept(&mut journal, "b", "1", b"torn");
    let all = fs::read(folder.file(1)).unwrap();
    for length in whole.len()..all.len() {
        fs::write(folder.file(1), &all[..length]).unwrap();
        folder.check_seed(2, &[("a", "1", b"first")]);
    }
}

#[test]
fn reading_stops_at_a_record_whose_checksum_is_wrong() {
    let folder = folder();
    let mut journal = folder.journal(1);
    accept(&mut journal, "a", "1", b"first");
    let good = fs::read(folder.file(1)).unwrap().len();
    accept(&mut journal, "b", "1", b"second");
    accept(&mut journal, "c", "1", b"third");
    let all = fs::read(folder.file(1)).unwrap();
    for at in good..good + 20 {
        let mut bad = all.clone();
        bad[at] ^= 0x10;
        fs::write(folder.file(1), bad).unwrap();
        folder.check_seed(2, &[("a", "1", b"first")]);
    }
}

#[test]
fn a_journal_of_another_boot_is_not_read() {
    let folder = folder();
    accept(&mut folder.journal(1), "a", "1", b"first");
    assert!(read_predecessor(&folder.dir, BootId::from_words([1, 3]), 2).is_empty());
}

#[test]
fn a_journal_that_is_a_symbolic_link_is_not_read() {
    let folder = folder();
    let elsewhere = self::folder();
    accept(&mut elsewhere.journal(1), "a", "1", b"foreign");
    std::os::unix::fs::symlink(elsewhere.file(1), folder.file(1)).unwrap();
    folder.check_seed(2, &[]);
}

#[test]
fn dead_records_are_compacted_away_and_the_rest_survives() {
    let folder = folder();
    let mut journal = folder.journal(1);
    accept(&mut journal, "kept", "1", b"kept");
    let large = vec![7; 20_000];
    for version in 0..50 {
        accept(&mut journal, "a", &version.to_string(), &large);
        let size = fs::metadata(folder.file(1)).unwrap().len();
        assert!(size < COMPACT_FROM + 2 * 20_100, "grew to {size}");
    }
    folder.check_seed(2, &[("a", "49", &large), ("kept", "1", b"kept")]);
    accept(&mut journal, "b", "1", b"after");
    folder.check_seed(2, &[("a", "49", &large), ("b", "1", b"after"), ("kept", "1", b"kept")]);
}

#[test]
fn a_write_that_fails_leaves_the_last_good_record_in_force_for_good() {
    let folder = folder();
    let mut journal = folder.journal(1);
    accept(&mut journal, "a", "1", b"first");
    accept(&mut journal, "gone", "1", b"not yet");
    // A descriptor that cannot be written to, as little as a full folder can.
    let writable = std::mem::replace(&mut journal.file, fs::File::open(folder.file(1)).unwrap());
    journal.accepted(ResourceType::Cluster, "a", "2", 7, b"lost").unwrap();
    journal.removed(ResourceType::Cluster, "gone").unwrap();
    journal.accepted(ResourceType::Cluster, "new", "1", 7, b"lost").unwrap();
    assert!(journal.flush().is_err());
    journal.file = writable;
    folder.check_seed(2, &[("a", "1", b"first"), ("gone", "1", b"not yet")]);
    for version in 0..10 {
        accept(&mut journal, "b", &version.to_string(), &[7; 20_000]);
    }
    assert!(journal.size < 10 * 20_000, "it was never compacted");
    folder.check_seed(2, &[("a", "1", b"first"), ("b", "9", &[7; 20_000]), ("gone", "1", b"not yet")]);
}

#[test]
fn without_room_for_a_copy_the_journal_goes_on_as_it_is() {
    let folder = folder();
    let mut journal = folder.journal(1);
    accept(&mut journal, "a", "1", b"first");
    // Nothing can be made under this name.
    let in_the_way = folder.dir.path().join(temporary_name(1));
    fs::create_dir(&in_the_way).unwrap();
    let mut failed = 0;
    for version in 0..20 {
        journal.accepted(ResourceType::Cluster, "b", &version.to_string(), 7, &[7; 20_000]).unwrap();
        failed += u32::from(journal.flush().is_err());
        folder.check_seed(2, &[("a", "1", b"first"), ("b", &version.to_string(), &[7; 20_000])]);
    }
    assert!((1..5).contains(&failed), "tried {failed} times");
    fs::remove_dir(&in_the_way).unwrap();
    for version in 20..60 {
        accept(&mut journal, "b", &version.to_string(), &[7; 20_000]);
    }
    assert!(journal.size < 10 * 20_000, "it was never compacted");
    folder.check_seed(2, &[("a", "1", b"first"), ("b", "59", &[7; 20_000])]);
}

#[test]
fn a_journal_that_was_removed_is_written_anew() {
    let folder = folder();
    let mut journal = folder.journal(1);
    accept(&mut journal, "a", "1", b"first");
    assert!(!journal.restore().unwrap());
    fs::remove_file(folder.file(1)).unwrap();
    assert!(journal.restore().unwrap());
    folder.check_seed(2, &[("a", "1", b"first")]);
    accept(&mut journal, "b", "1", b"after");
    folder.check_seed(2, &[("a", "1", b"first"), ("b", "1", b"after")]);
}

#[test]
fn a_successor_that_dies_while_seeding_leaves_its_predecessor_in_force() {
    let folder = folder();
    accept(&mut folder.journal(1), "a", "1", b"first");
    fs::write(folder.dir.path().join(temporary_name(2)), b"half").unwrap();
    folder.check_seed(3, &[("a", "1", b"first")]);
}

#[test]
fn a_new_term_starts_with_its_seed_and_removes_older_journals() {
    let folder = folder();
    accept(&mut folder.journal(1), "a", "1", b"first");
    let seed = read_predecessor(&folder.dir, BOOT, 2);
    let mut journal = Journal::start(&folder.dir, BOOT, 2, &seed).unwrap();
    remove_older(&folder.dir, 2);
    accept(&mut journal, "b", "1", b"second");
    assert!(!folder.file(1).exists());
    folder.check_seed(3, &[("a", "1", b"first"), ("b", "1", b"second")]);
}
