//! `ldmesh check`: what is said of each kind of program.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ctests::skipped;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// A program of `flags` that does nothing.
    fn program(&self, name: &str, flags: &[&str]) -> PathBuf {
        let source = self.file("empty.c", "int main(void) { return 0; }\n", 0o644);
        let path = self.0.path().join(name);
        let built = Command::new("gcc").args(flags).arg("-o").arg(&path).arg(source).status();
        assert!(built.unwrap().success());
        path
    }
}

/// Runs `check` and gives the exit code and the line for `program`, without its name.
#[track_caller]
fn check(program: &Path) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_ldmesh")).arg("check").arg(program).output();
    let done = done.unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    let line = said.strip_prefix(&format!("{}: ", program.display()));
    (done.status.code(), line.expect(&said).trim_end().to_owned())
}

#[track_caller]
fn check_ok(program: &Path) {
    assert_eq!(check(program), (Some(0), "ok".to_owned()));
}

#[track_caller]
fn check_obstacle(program: &Path, expected: &str) {
    let (code, line) = check(program);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(expected), "{line:?} does not say {expected:?}");
}

#[test]
fn a_dynamic_program_and_a_position_dependent_one_are_ok() {
    let folder = Folder::new();
    check_ok(&folder.program("dynamic", &[]));
    check_ok(&folder.program("fixed", &["-no-pie"]));
    check_ok(Path::new("sh"));
}

#[test]
fn static_programs_have_no_loader() {
    let folder = Folder::new();
    check_obstacle(&folder.program("static", &["-static"]), "statically linked");
    check_obstacle(&folder.program("static-pie", &["-static-pie"]), "statically linked");
}

#[test]
fn a_program_of_another_machine_or_word_size_is_named() {
    let folder = Folder::new();
    let mut other = fs::read(folder.program("dynamic", &[])).unwrap();
    // e_machine, at offset 18: EM_S390.
    other[18..20].copy_from_slice(&22_u16.to_le_bytes());
    check_obstacle(&folder.file("s390x", &other, 0o755), "built for s390x");
    let header32 = [&b"\x7fELF\x01\x01\x01"[..], &[0; 9], &[2, 0, 3, 0, 1, 0, 0, 0], &[0; 28]].concat();
    check_obstacle(&folder.file("i386", header32, 0o755), "built for i386");
}

#[test]
fn a_program_whose_loader_is_missing_is_named() {
    let folder = Folder::new();
    let program = folder.program("lost", &["-Wl,--dynamic-linker=/lib/no-such-loader.so"]);
    check_obstacle(&program, "/lib/no-such-loader.so is missing");
}

#[test]
fn set_id_programs_ignore_the_preload() {
    let folder = Folder::new();
    let program = folder.program("dynamic", &[]);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    check_obstacle(&program, "set-user-ID");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o2755)).unwrap();
    check_obstacle(&program, "set-group-ID");
}

#[test]
fn file_capabilities_make_the_loader_ignore_the_preload() {
    let folder = Folder::new();
    let program = folder.program("dynamic", &[]);
    // struct vfs_cap_data, version 2: cap_net_raw, permitted and effective.
    let mut value = [0; 20];
    value[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    value[4..8].copy_from_slice(&(1_u32 << 13).to_le_bytes());
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(error) = rustix::fs::setxattr(&program, "security.capability", &value, flags) {
        return skipped(&format!("file capabilities cannot be set here: {error}"));
    }
    check_obstacle(&program, "file capabilities");
}

#[test]
fn scripts_are_judged_by_their_interpreter() {
    let folder = Folder::new();
    check_ok(&folder.file("script", "#! /bin/sh -e\n:", 0o755));
    check_ok(&folder.file("env", "#!/usr/bin/env -S A=b sh -e", 0o755));
    let fixed = folder.program("static", &["-static"]);
    let script = folder.file("of-static", format!("#!{}\n", fixed.display()), 0o755);
    check_obstacle(&script, &format!("a script for {}, which is statically", fixed.display()));
    check_obstacle(&folder.file("lost", "#!/no/such\n", 0o755), "/no/such, which is not found");
    let circle = folder.0.path().join("circle");
    folder.file("circle", format!("#!{}\n", circle.display()), 0o755);
    check_obstacle(&circle, "too many interpreters");
}

#[test]
fn what_cannot_be_started_is_named() {
    let folder = Folder::new();
    check_obstacle(&folder.0.path().join("nothing"), "not found");
    check_obstacle(Path::new("ldmesh-no-such-program"), "not found in PATH");
    check_obstacle(&folder.file("closed", "#!/bin/sh\n", 0o644), "not executable");
    check_obstacle(&folder.file("text", "hello, this is no program at all", 0o755), "no ELF file");
    check_obstacle(&folder.file("empty", "", 0o755), "no ELF file");
    check_obstacle(&folder.file("short", "\x7fELF\x02\x01\x01", 0o755), "no ELF file");
}

#[test]
fn one_obstacle_among_several_fails_and_each_has_a_line() {
    let done =
        Command::new(env!("CARGO_BIN_EXE_ldmesh")).args(["check", "sh", "ldmesh-no-such-program"]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "sh: ok\nldmesh-no-such-program: not found in PATH\n");
}

#[test]
fn no_program_is_wrong_usage() {
    let done = Command::new(env!("CARGO_BIN_EXE_ldmesh")).arg("check").output().unwrap();
    assert_eq!(done.status.code(), Some(2));
}
