//! `ldmesh install` and `ldmesh run`, from a folder that holds both files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with the binary and, instead of the library, a small one that a loader takes.
struct Release(TempDir);

impl Release {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        fs::copy(env!("CARGO_BIN_EXE_ldmesh"), path.join("ldmesh")).unwrap();
        fs::write(path.join("empty.c"), "").unwrap();
        let mut gcc = Command::new("gcc");
        gcc.args(["-shared", "-o", "libldmesh.so", "empty.c"]).current_dir(path);
        assert!(gcc.status().unwrap().success());
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn ldmesh(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("ldmesh"));
        command.args(arguments);
        for name in ["LD_PRELOAD", "LDMESH_XDS", "GRPC_XDS_BOOTSTRAP", "PROXY_CONFIG"] {
            command.env_remove(name);
        }
        command
    }
}

#[track_caller]
fn check_output(done: &Output, code: i32, stdout: &str, stderr: &str) {
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!((done.status.code(), out.trim()), (Some(code), stdout), "{err}");
    assert!(err.contains(stderr) && err.is_empty() == stderr.is_empty(), "stderr: {err}");
}

#[test]
fn both_files_are_installed_executable_and_an_open_copy_is_left_alone() {
    let release = Release::new();
    let target = release.path("a/b");
    let dir = target.to_str().unwrap().to_owned();
    for round in 0..2 {
        let before = fs::metadata(target.join("libldmesh.so")).ok().map(|data| data.ino());
        check_output(&release.ldmesh(&["install", &dir]).output().unwrap(), 0, "", "");
        for name in ["libldmesh.so", "ldmesh"] {
            let installed = target.join(name);
            assert_eq!(fs::read(&installed).unwrap(), fs::read(release.path(name)).unwrap());
            assert_eq!(installed.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        }
        let after = target.join("libldmesh.so").metadata().unwrap().ino();
        assert_ne!(before, Some(after), "round {round}: written in place");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 2, "something was left behind");
    }
    let mut installed = Command::new(target.join("ldmesh"));
    installed.args(["run", "--xds", "http://127.0.0.1:1", "--", "sh", "-c", "echo $LD_PRELOAD"]);
    installed.env_remove("LD_PRELOAD");
    let library = format!("{dir}/libldmesh.so");
    check_output(&installed.output().unwrap(), 0, &library, "");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let release = Release::new();
    fs::write(release.path("file"), "").unwrap();
    let dir = release.path("file/below");
    let done = release.ldmesh(&["install", dir.to_str().unwrap()]).output().unwrap();
    check_output(&done, 1, "", &format!("cannot make {}", dir.display()));
}

#[test]
fn a_missing_library_is_named() {
    let release = Release::new();
    fs::remove_file(release.path("libldmesh.so")).unwrap();
    let done = release.ldmesh(&["run", "--", "true"]).output().unwrap();
    check_output(&done, 1, "", "libldmesh.so is neither in");
}

#[test]
fn run_sets_the_variables_and_gives_the_exit_status_of_the_command() {
    let release = Release::new();
    let show = "echo $LD_PRELOAD $LDMESH_XDS; exit 7";
    let arguments = ["run", "--xds", "http://127.0.0.1:1", "--", "sh", "-c", show];
    let library = release.path("libldmesh.so").display().to_string();
    let done = release.ldmesh(&arguments).output().unwrap();
    check_output(&done, 7, &format!("{library} http://127.0.0.1:1"), "");
    let other = release.path("other.so");
    fs::copy(&library, &other).unwrap();
    let done = release.ldmesh(&arguments).env("LD_PRELOAD", &other).output().unwrap();
    check_output(&done, 7, &format!("{library}:{} http://127.0.0.1:1", other.display()), "");
}

#[test]
fn run_says_that_it_has_no_control_plane() {
    let release = Release::new();
    let done = release.ldmesh(&["run", "--", "true"]).output().unwrap();
    check_output(&done, 0, "", "no control plane");
}

#[test]
fn run_says_first_that_a_program_cannot_be_preloaded_and_starts_it_all_the_same() {
    let release = Release::new();
    let static_program = release.path("static");
    fs::write(release.path("hello.c"), "int puts(const char *); int main(void) { puts(\"hello\"); }").unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-o", "static", "hello.c"]).current_dir(release.0.path());
    assert!(gcc.status().unwrap().success());
    let program = static_program.to_str().unwrap();
    let done = release.ldmesh(&["run", "--xds", "http://127.0.0.1:1", "--", program]).output();
    let expected = format!("{program} will not be in the mesh: statically linked");
    check_output(&done.unwrap(), 0, "hello", &expected);
}

#[test]
fn a_command_that_cannot_start_gives_the_status_of_env() {
    let release = Release::new();
    let xds = ["run", "--xds", "http://127.0.0.1:1", "--"];
    let done = release.ldmesh(&xds).arg("ldmesh-no-such-program").output().unwrap();
    check_output(&done, 127, "", "cannot start ldmesh-no-such-program");
    let done = release.ldmesh(&xds).arg(release.path("empty.c")).output().unwrap();
    check_output(&done, 126, "", "not executable");
}
