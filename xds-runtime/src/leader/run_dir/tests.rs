//! What is taken, what is made, and above all what is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

struct Place {
    folder: tempfile::TempDir,
    user: u32,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), user: rustix::process::geteuid().as_raw() }
    }

    fn settings(&self) -> Settings {
        Settings::from_env([("LDMESH_XDS", "http://a:1"), ("LDMESH_RUN_DIR", self.folder.path().to_str().unwrap())])
    }

    fn open(&self) -> Result<RunDir, RunDirError> {
        RunDir::open(&self.settings())
    }

    fn own_level(&self) -> PathBuf {
        self.folder.path().join(self.user.to_string())
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Another user's file needs root to be made; CI runs as root and allows no skip.
fn chown_away(path: &Path) -> bool {
    match std::os::unix::fs::lchown(path, Some(12345), None) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("SKIPPED: cannot give a file to another user: {error}");
            assert!(std::env::var_os("CI").is_none(), "CI allows no skip");
            false
        }
    }
}

#[track_caller]
fn check_refused(place: &Place, fits: fn(&RunDirError) -> bool) {
    let error = place.open().unwrap_err();
    assert!(fits(&error), "{error}");
}

#[test]
fn every_level_of_ours_is_made_private_and_found_again() {
    let place = Place::new();
    set_mode(place.folder.path(), 0o777);
    let first = place.open().unwrap();
    let expected = place.own_level().join(format_and_arch()).join(place.settings().instance(namespaces()));
    assert_eq!(first.path(), expected);
    for level in expected.ancestors().take(3) {
        assert_eq!(mode(level), 0o700, "{}", level.display());
    }
    let again = place.open().unwrap();
    let inode = |dir: &RunDir| rustix::fs::fstat(dir).unwrap().st_ino;
    assert_eq!(inode(&first), inode(&again));
    assert!(rustix::io::fcntl_getfd(&first).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_base_that_is_missing_is_made_but_not_its_parents() {
    let place = Place::new();
    let settings = |path: &str| Settings { run_dir: Some(place.folder.path().join(path)), ..Settings::default() };
    assert!(RunDir::open(&settings("new")).is_ok());
    let error = RunDir::open(&settings("no/such")).unwrap_err();
    assert!(matches!(error, RunDirError::System { error: Errno::NOENT, .. }), "{error}");
}

#[test]
fn a_symbolic_link_in_place_of_a_level_is_refused() {
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), place.own_level()).unwrap();
    check_refused(&place, |error| matches!(error, RunDirError::WrongKind { .. }));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    let deeper = Place::new();
    fs::create_dir(deeper.own_level()).unwrap();
    set_mode(&deeper.own_level(), 0o700);
    symlink(elsewhere.path(), deeper.own_level().join(format_and_arch())).unwrap();
    check_refused(&deeper, |error| matches!(error, RunDirError::WrongKind { .. }));
}

#[test]
fn a_level_of_another_user_is_refused() {
    let place = Place::new();
    place.open().unwrap();
    if chown_away(&place.own_level()) {
        check_refused(&place, |error| matches!(error, RunDirError::ForeignOwner { owner: 12345, .. }));
    }
}

#[test]
fn a_level_that_others_may_enter_is_refused_and_not_repaired() {
    for wrong in [0o770, 0o701, 0o777, 0o600] {
        let place = Place::new();
        place.open().unwrap();
        set_mode(&place.own_level(), wrong);
        // Root may enter a folder of mode 0600; the mode is refused all the same.
        check_refused(&place, |error| {
            matches!(error, RunDirError::WrongMode { .. } | RunDirError::System { error: Errno::ACCESS, .. })
        });
        assert_eq!(mode(&place.own_level()), wrong);
        set_mode(&place.own_level(), 0o700);
    }
}

#[test]
fn a_setgid_bit_taken_over_from_the_volume_does_no_harm() {
    let place = Place::new();
    set_mode(place.folder.path(), 0o2777);
    place.open().unwrap();
    assert_eq!(mode(&place.own_level()), 0o2700);
    place.open().unwrap();
}

#[test]
fn a_plain_file_in_place_of_a_level_is_refused() {
    let place = Place::new();
    fs::write(place.own_level(), "").unwrap();
    check_refused(&place, |error| matches!(error, RunDirError::WrongKind { .. }));
}

#[test]
fn the_base_follows_the_documented_order() {
    let place = Place::new();
    let given = place.settings();
    assert_eq!(Base::choose(&given, 7), Base::Given(place.folder.path().into()));
    if is_writable_folder(Path::new(SHARED_BASE)) {
        assert_eq!(Base::choose(&Settings::default(), 7), Base::Given(SHARED_BASE.into()));
        return;
    }
    let xdg = Settings { xdg_runtime_dir: Some(place.folder.path().into()), ..Settings::default() };
    assert_eq!(Base::choose(&xdg, 7), Base::Own(place.folder.path().into(), "ldmesh".into()));
    let gone = Settings { xdg_runtime_dir: Some("/nowhere".into()), ..Settings::default() };
    assert_eq!(Base::choose(&gone, 7), Base::Own("/dev/shm".into(), "ldmesh-7".into()));
}

#[test]
fn a_base_of_ours_is_checked_like_every_level() {
    let place = Place::new();
    let base = Base::Own(place.folder.path().into(), "ldmesh".into());
    assert!(RunDir::open_below(&base, place.user, "i").is_ok());
    set_mode(&place.folder.path().join("ldmesh"), 0o777);
    let error = RunDir::open_below(&base, place.user, "i").unwrap_err();
    assert!(matches!(error, RunDirError::WrongMode { mode: 0o777, .. }), "{error}");
}

#[test]
fn a_new_file_is_private_allocated_in_full_and_exclusive() {
    let place = Place::new();
    let dir = place.open().unwrap();
    let fd = dir.create_file("image", 1 << 20).unwrap().unwrap();
    let stat = rustix::fs::fstat(&fd).unwrap();
    assert_eq!((stat.st_size, stat.st_mode & 0o7777), (1 << 20, 0o600));
    assert!(stat.st_blocks >= (1 << 20) / 512, "a hole was left: {} blocks", stat.st_blocks);
    assert!(dir.create_file("image", 1).unwrap().is_none());
    assert!(dir.open_file("image", Open::ReadWrite).unwrap().is_some());
    assert!(dir.open_file("none", Open::Read).unwrap().is_none());
}

#[test]
fn where_fallocate_is_unknown_zeros_are_written() {
    let place = Place::new();
    let dir = place.open().unwrap();
    let fd = dir.create_file("file", 0).unwrap().unwrap();
    write_zeros(fd.as_fd(), 10_000).unwrap();
    assert_eq!(fs::metadata(dir.path().join("file")).unwrap().size(), 10_000);
}

#[test]
fn a_file_there_is_no_room_for_is_gone_again() {
    let place = Place::new();
    let dir = place.open().unwrap();
    let error = dir.create_file("image", 1 << 60).unwrap_err();
    assert!(matches!(error, RunDirError::NoSpace { .. }), "{error}");
    assert!(dir.open_file("image", Open::Read).unwrap().is_none());
}

#[test]
fn a_file_that_is_not_plainly_ours_is_refused() {
    let place = Place::new();
    let dir = place.open().unwrap();
    let refused = |name: &str| dir.open_file(name, Open::ReadWrite).unwrap_err();
    let path = |name: &str| dir.path().join(name);
    for name in ["target", "linked", "open", "foreign"] {
        dir.create_file(name, 8).unwrap().unwrap();
    }

    symlink(path("target"), path("symlink")).unwrap();
    assert!(matches!(refused("symlink"), RunDirError::WrongKind { found: "a symbolic link", .. }));
    fs::hard_link(path("linked"), path("other-name")).unwrap();
    assert!(matches!(refused("linked"), RunDirError::WrongKind { .. }));
    set_mode(&path("open"), 0o640);
    assert!(matches!(refused("open"), RunDirError::WrongMode { mode: 0o640, .. }));
    fs::create_dir(path("folder")).unwrap();
    assert!(matches!(refused("folder"), RunDirError::WrongKind { .. }));
    if chown_away(&path("foreign")) {
        assert!(matches!(refused("foreign"), RunDirError::ForeignOwner { owner: 12345, .. }));
    }
    assert!(dir.open_file("target", Open::ReadWrite).unwrap().is_some());
}

#[test]
fn a_fifo_in_place_of_a_file_is_refused_without_waiting() {
    let place = Place::new();
    let dir = place.open().unwrap();
    rustix::fs::mknodat(&dir, "fifo", FileType::Fifo, FILE_MODE, 0).unwrap();
    for access in [Open::Read, Open::ReadWrite] {
        let error = dir.open_file("fifo", access).unwrap_err();
        assert!(matches!(error, RunDirError::WrongKind { .. }), "{error}");
    }
}

#[test]
fn a_file_gets_its_final_name_at_once() {
    let place = Place::new();
    let dir = place.open().unwrap();
    for name in ["a", "b"] {
        dir.create_file(name, 8).unwrap().unwrap();
    }
    assert!(dir.rename_new("a", "control").unwrap());
    assert!(!dir.rename_new("b", "control").unwrap());
    dir.rename_over("b", "control").unwrap();
    assert!(dir.open_file("b", Open::Read).unwrap().is_none());
    assert!(dir.remove_file("control").unwrap());
    assert!(!dir.remove_file("control").unwrap());
}

#[test]
fn a_name_that_leaves_the_folder_is_refused() {
    let place = Place::new();
    let dir = place.open().unwrap();
    for name in ["", ".", "..", "a/b", "/etc/passwd", "a\0b", &"x".repeat(256)] {
        assert!(matches!(dir.open_file(name, Open::Read), Err(RunDirError::BadName { .. })), "{name:?}");
        assert!(matches!(dir.create_file(name, 1), Err(RunDirError::BadName { .. })), "{name:?}");
        assert!(matches!(dir.rename_over("a", name), Err(RunDirError::BadName { .. })), "{name:?}");
    }
}

#[test]
fn a_folder_renamed_away_stays_ours_and_the_next_process_makes_another() {
    let place = Place::new();
    let held = place.open().unwrap();
    fs::rename(place.own_level(), place.folder.path().join("stolen")).unwrap();
    held.create_file("late", 8).unwrap().unwrap();
    let fresh = place.open().unwrap();
    assert!(fresh.open_file("late", Open::Read).unwrap().is_none());
    assert!(held.open_file("late", Open::Read).unwrap().is_some());
}
