//! ssh, sshd and git in the mesh, each with servers of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ctests::{Cell, Finished, Manifest, Pod, Port, Running, Service, Works, can_map_users, skipped, wait_until};

/// Keys of a test, and what a server needs beside them.
fn make_keys(pod: &Pod) {
    for key in ["host", "user"] {
        let mut keygen = pod.command("ssh-keygen");
        Finished::of(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(pod.folder().join(key))).success();
    }
    // Where its unprivileged half has its root.
    Finished::of(pod.command("mkdir").arg("/run/sshd")).success();
}

/// A server for root by the test's key.
fn sshd(pod: &Pod, mut command: Command, address: &str) -> Running {
    let folder = pod.folder().display();
    command.args(["-D", "-e", "-f", "/dev/null", "-p", "2222", "-h"]).arg(pod.folder().join("host"));
    for option in [
        format!("ListenAddress={address}"),
        format!("AuthorizedKeysFile={folder}/user.pub"),
        "PidFile=none".to_owned(),
        "StrictModes=no".to_owned(),
        "PermitRootLogin=yes".to_owned(),
    ] {
        command.args(["-o", &option]);
    }
    let running = Running::start(&mut command);
    wait_for_listener(pod, address, 2222);
    running
}

#[track_caller]
fn wait_for_listener(pod: &Pod, address: &str, port: u16) {
    let answers = || {
        let mut probe = pod.command("bash");
        probe.arg("-c").arg(format!("exec 2>&- 3<>/dev/tcp/{address}/{port}"));
        Finished::of(&mut probe).status.success()
    };
    wait_until("the server listens", Duration::from_secs(10), || pod.dump(), answers);
}

fn ssh(pod: &Pod, mut command: Command, to: &[&str]) -> Command {
    command.args(["-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
    command.args(["-o", "BatchMode=yes", "-l", "root", "-i"]).arg(pod.folder().join("user")).args(to);
    command
}

#[test]
fn the_ssh_client() {
    if !can_map_users() {
        return skipped("sshd needs more users than one");
    }
    let cell = Cell::application("ssh");
    let pod = Pod::new();
    make_keys(&pod);
    let endpoints = ["127.0.4.1", "127.0.4.2", "127.0.4.3"];
    let _servers = endpoints.map(|address| sshd(&pod, pod.command("/usr/sbin/sshd"), address));
    let shell = Service::new("shell", "default", &["10.96.0.40"], &endpoints).ports(&[Port::new("tcp-ssh", 22, 2222)]);
    let _control_plane = pod.serve(&Manifest::of(&[shell]).and_in_turn("shell"));
    let mut servers: Vec<_> = (0..6)
        .map(|_| {
            let done = Finished::of(&mut ssh(&pod, pod.mesh("ssh"), &["-v", "shell", "echo $SSH_CONNECTION"]));
            assert!(done.stderr.contains("Connecting to shell [10.96.0.40] port 22"), "{done}");
            done.success().split(' ').nth(2).unwrap().to_owned()
        })
        .collect();
    servers.sort();
    assert_eq!(servers, endpoints.map(|address| [address; 2]).concat());
    let unknown = Finished::of(&mut ssh(&pod, pod.mesh("ssh"), &["nobody", "true"]));
    let without = Finished::of(&mut ssh(&pod, pod.command("ssh"), &["nobody", "true"]));
    assert_eq!((unknown.status.code(), &unknown.stderr), (Some(255), &without.stderr));
    cell.is(Works::Balanced, "in turn over 3 endpoints");
}

#[test]
fn a_preloaded_sshd_serves_and_forwards_into_the_mesh() {
    if !can_map_users() {
        return skipped("sshd needs more users than one");
    }
    let cell = Cell::application("sshd");
    let pod = Pod::new();
    make_keys(&pod);
    let _neighbours = pod.neighbours();
    let mut server = sshd(&pod, pod.mesh("/usr/sbin/sshd"), "127.0.0.1");
    let to = ["-p", "2222", "127.0.0.1"];
    let shell =
        Finished::of(&mut ssh(&pod, pod.command("ssh"), &[&to[..], &["id -un; echo ${LD_PRELOAD-none}"]].concat()));
    assert_eq!(shell.success(), "root\nnone");
    // sshd itself connects, in a process of the session.
    let mut names: Vec<_> = (0..3)
        .map(|_| {
            let mut forward = ssh(&pod, pod.command("ssh"), &[&["-W", "echo:7"], &to[..]].concat());
            Finished::of(&mut forward).success().to_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["echo-1", "echo-2", "echo-3"]);
    assert!(!server.has_ended());
    cell.is(Works::Balanced, "serves sessions as ever; forwarded connections (ssh -W) in turn over 3 endpoints");
}

/// One bare repository, of which each server shows another namespace: `main` there is its own.
fn make_repository(pod: &Pod, names: &[&str]) {
    let script = "
        set -e
        cd \"$1\"
        shift
        export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q --bare repository.git
        git -C repository.git config uploadpack.allowAnySHA1InWant true
        cd repository.git
        for name; do
          blob=$(echo \"$name\" | git hash-object -w --stdin)
          tree=$(printf '100644 blob %s\\tserver\\n' \"$blob\" | git mktree)
          git update-ref \"refs/namespaces/$name/refs/heads/main\" \"$(git commit-tree -m \"$name\" \"$tree\")\"
          git symbolic-ref \"refs/namespaces/$name/HEAD\" \"refs/namespaces/$name/refs/heads/main\"
        done";
    let mut make = pod.command("bash");
    Finished::of(make.args(["-c", script, "bash"]).arg(pod.folder()).args(names)).success();
}

/// A web server with `git http-backend`.
fn git_server(pod: &Pod, name: &str, address: &str) -> Running {
    let site = pod.folder().join(name);
    let program = site.join("cgi-bin/git");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    let text = format!(
        "#!/bin/sh\nexport GIT_PROJECT_ROOT={} GIT_HTTP_EXPORT_ALL=1 GIT_NAMESPACE={name}\nexec git http-backend\n",
        pod.folder().display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut httpd = pod.command("busybox");
    let running = Running::start(httpd.args(["httpd", "-f", "-p", &format!("{address}:8080"), "-h"]).arg(site));
    wait_for_listener(pod, address, 8080);
    running
}

fn clone(pod: &Pod, from: &str, into: &Path) -> Command {
    let mut git = pod.mesh("git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.args(["clone", "-q", &format!("http://{from}/cgi-bin/git/repository.git")]).arg(into);
    git
}

#[test]
fn git_over_http() {
    let cell = Cell::application("git (http)");
    let pod = Pod::new();
    // A clone is three connections here, so with two endpoints the one that tells it what `main` is alternates.
    let names = ["git-1", "git-2"];
    make_repository(&pod, &names);
    let endpoints = ["127.0.5.1", "127.0.5.2"];
    let _servers = [0, 1].map(|n| git_server(&pod, names[n], endpoints[n]));
    let service = Service::new("git", "default", &["10.96.0.50"], &endpoints);
    let _control_plane = pod.serve(&Manifest::of(&[service]).and_in_turn("git"));
    let mut servers = Vec::new();
    for n in 0..4 {
        let folder = pod.folder().join(format!("clone-{n}"));
        Finished::of(&mut clone(&pod, "git", &folder)).success();
        servers.push(std::fs::read_to_string(folder.join("server")).unwrap());
    }
    servers.sort();
    assert_eq!(servers, ["git-1\n", "git-1\n", "git-2\n", "git-2\n"]);
    let unknown = |plain: bool| {
        let mut git = clone(&pod, "nobody", &pod.folder().join("never"));
        if plain {
            git.env_remove("LD_PRELOAD").env_remove("LDMESH_XDS");
        }
        let done = Finished::of(&mut git);
        (done.status.code(), done.stderr)
    };
    assert_eq!(unknown(false), unknown(true));
    assert_eq!(unknown(false).0, Some(128));
    cell.is(Works::Balanced, "clones; the connections of each in turn over 2 endpoints");
}
