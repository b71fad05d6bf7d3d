//! `ldmesh inject`: files in, YAML out, one line where that cannot be.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web # the only one\nspec:\n  containers:\n  - name: web\n    image: nginx\n";
const SERVICE: &str = "# a service\napiVersion: v1\nkind: Service\nmetadata: {name: web}\n";

struct Folder(TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn inject(&self, arguments: &[&str]) -> Output {
        self.inject_with(arguments, "")
    }

    fn inject_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ldmesh"));
        command.arg("inject").args(arguments).current_dir(self.0.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

#[track_caller]
fn text(done: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

/// Fails with exactly this line, and writes nothing.
#[track_caller]
fn check_refused(done: &Output, status: i32, line: &str) {
    assert_eq!(text(done), (Some(status), String::new(), format!("ldmesh: {line}\n")));
}

#[test]
fn a_pod_is_injected_and_the_rest_of_the_file_stays() {
    let folder = Folder::with(&[("web.yaml", &format!("{SERVICE}---\n{POD}"))]);
    let (status, out, err) = text(&folder.inject(&["-f", "web.yaml", "--mode", "shadow", "--image", "mesh:1"]));
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert!(
        out.starts_with(&format!("{SERVICE}---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: web # the only one\n"))
    );
    assert!(out.contains("    - name: LDMESH_MODE\n      value: shadow\n"), "{out}");
    assert!(out.contains("    image: mesh:1\n"), "{out}");
}

#[test]
fn files_follow_each_other_and_a_dash_is_standard_input() {
    let other = POD.trim_end().replace("name: web", "name: other");
    let folder = Folder::with(&[("a.yaml", &other), ("b.yaml", SERVICE)]);
    let (status, out, err) = text(&folder.inject_with(&["-f", "a.yaml", "-f", "-", "-f", "b.yaml"], POD));
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert_eq!(out.matches("\n---\n").count(), 2, "{out}");
    assert_eq!(out.matches("value: /ldmesh-files/libldmesh.so\n").count(), 2, "{out}");
    assert!(out.ends_with(&format!("---\n{SERVICE}")), "{out}");
    let (_, again, _) = text(&folder.inject_with(&["-f", "-"], &out));
    assert_eq!(again, out);
}

#[test]
fn what_is_left_alone_is_told_on_standard_error() {
    let refuses = POD.replace("  name: web", "  labels: {ldmesh.io/inject: \"false\"}\n  name: web");
    let folder = Folder::with(&[("web.yaml", &refuses)]);
    let told = "ldmesh: web.yaml: document 1: Pod web is left alone: its label ldmesh.io/inject is \"false\"\n";
    assert_eq!(text(&folder.inject(&["-f", "web.yaml"])), (Some(0), refuses, told.to_owned()));
}

#[test]
fn an_invalid_file_is_one_line_with_document_field_and_remedy_and_no_output() {
    let bad = POD.replace("  - name: web\n    image", "  - image");
    let refuses = POD.replace("  name: web", "  labels: {ldmesh.io/inject: \"false\"}\n  name: web");
    let folder = Folder::with(&[("good.yaml", POD), ("bad.yaml", &format!("{refuses}---\n{bad}"))]);
    let done = folder.inject(&["-f", "good.yaml", "-f", "bad.yaml"]);
    check_refused(&done, 1, "bad.yaml: document 2: spec.containers[0].name: is missing; it is required");
    let done = folder.inject_with(&["-f", "-"], "kind: [\n");
    let (status, out, err) = text(&done);
    assert_eq!((status, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
    assert!(err.starts_with("ldmesh: standard input: document 1: line "), "{err}");
    let annotated = POD.replace("  name: web", "  annotations: {ldmesh.io/mod: shadow}\n  name: web");
    let (status, out, err) = text(&folder.inject_with(&["-f", "-"], &annotated));
    assert_eq!((status, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
    let start = "ldmesh: standard input: document 1: metadata.annotations[ldmesh.io/mod]: \"shadow\" is not taken; there is no such setting; there are inject, ";
    assert!(err.starts_with(start), "{err}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = Folder::with(&[]);
    fs::write(folder.0.path().join("latin.yaml"), b"a: \xe9\n").unwrap();
    let done = folder.inject(&["-f", "none.yaml"]);
    check_refused(&done, 1, "none.yaml: No such file or directory (os error 2); name a file that can be read");
    check_refused(&folder.inject(&["-f", "latin.yaml"]), 1, "latin.yaml: is no UTF-8 text; write YAML in UTF-8");
}

#[test]
fn a_flag_wins_over_the_settings_file_and_a_bad_one_is_named() {
    let folder =
        Folder::with(&[("web.yaml", POD), ("mesh.yaml", "mode: shadow\nlog: warn\n"), ("bad.yaml", "mode: loud\n")]);
    let (status, out, _) = text(&folder.inject(&["-f", "web.yaml", "--settings", "mesh.yaml", "--log", "debug"]));
    assert_eq!(status, Some(0));
    assert!(
        out.contains("value: shadow\n") && out.contains("value: debug\n") && !out.contains("value: warn\n"),
        "{out}"
    );
    let done = folder.inject(&["-f", "web.yaml", "--settings", "bad.yaml"]);
    check_refused(&done, 1, "bad.yaml: mode: \"loud\": use on, off or shadow");
    let done = folder.inject(&["-f", "web.yaml", "--leader", "nobody"]);
    check_refused(&done, 1, "--leader: \"nobody\" is not taken; use auto, agent, thread or sidecar");
}

#[test]
fn wrong_usage_is_status_2() {
    let folder = Folder::with(&[]);
    assert_eq!(folder.inject(&[]).status.code(), Some(2));
    assert_eq!(folder.inject(&["-f", "a.yaml", "--colour", "blue"]).status.code(), Some(2));
}
