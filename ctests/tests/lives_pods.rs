//! Pods whose run directory is small, read-only or odd, that hold two files of the library, or whose programs are
//! traced, preloaded with others, or started by a shell that is PID 1.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use ctests::{Backend, Finished, Manifest, Mode, Pod, Trace, artifacts, c_program, portable_library};

/// The pod's VIP answers by itself, as where kube-proxy is; it calls itself `kernel`.
fn kernel_answers(pod: &Pod) -> Backend {
    pod.ip("route add local 10.96.0.0/16 dev lo\n");
    pod.backend_of(Mode::Echo, "10.96.0.10:80", "kernel")
}

fn dial(mut command: Command) -> Finished {
    Finished::of(command.args(["10.96.0.10", "80"]))
}

#[test]
fn with_a_full_or_read_only_run_directory_everything_passes() {
    for (size, read_only) in [("4k", false), ("64k", false), ("64m", true)] {
        let pod = Pod::builder().run_dir_size(size).env("LDMESH_RUN_DIR", "/run/ldmesh").build();
        let _kernel = kernel_answers(&pod);
        let _backends = pod.greeters(Mode::Echo, 1);
        let _control_plane = pod.serve(&Manifest::greeter(1));
        // Each command has the mounts of the pod as they are: the last one may not write.
        let mut shell = pod.mesh("unshare");
        let remount = if read_only { "mount -o remount,ro,bind /run/ldmesh && " } else { "" };
        shell.args(["--mount", "sh", "-c", &format!("{remount}exec \"$0\" \"$@\"")]).arg(c_program("dial"));
        let dialled = dial(shell);
        assert!(dialled.success().contains("backend=kernel"), "{size}, read-only {read_only}: {dialled}");
        assert_eq!(dialled.stderr, "", "{size}, read-only {read_only}");
    }
}

#[test]
fn a_file_system_that_cannot_allocate_does_as_a_run_directory() {
    // ramfs has neither fallocate nor a size.
    let pod = Pod::builder().env("LDMESH_RUN_DIR", "/run/ldmesh").build();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let mut shell = pod.command("unshare");
    let script = format!(
        "mount -t ramfs ramfs /run/ldmesh && export LDMESH_XDS={} LD_PRELOAD={} && \"$0\" \"$@\" && \"$0\" \"$@\"",
        ctests::CONTROL_PLANE_URL,
        artifacts().library.display()
    );
    let dialled = dial({
        shell.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script]).arg(c_program("dial"));
        shell
    });
    assert_eq!(dialled.success().matches("backend=greeter-1").count(), 2, "{dialled}");
}

/// A program of the pod below another file of the library.
fn below(pod: &Pod, library: &Path) -> Command {
    let mut command = pod.mesh(c_program("dial"));
    command.env("LD_PRELOAD", library);
    command
}

#[test]
fn two_files_of_the_library_in_one_pod_share_one_leader() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 2);
    let control_plane = pod.serve(&Manifest::greeter(2));
    let portable = portable_library(pod.folder());
    for library in [&portable, &artifacts().library, &portable, &artifacts().library] {
        let dialled = dial(below(&pod, library));
        assert!(dialled.success().contains("backend=greeter-"), "{}: {dialled}", library.display());
    }
    assert_eq!((pod.agents().len(), control_plane.stats().streams_total()), (1, 1), "{}", pod.dump());
}

#[test]
fn what_another_version_of_the_library_left_is_neither_read_nor_touched() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    dial(below(&pod, &artifacts().library)).success();
    // The same instance, as a version that is to come would have it.
    let user = pod.run_dir().join("0");
    let own = fs::read_dir(&user).unwrap().next().unwrap().unwrap().path();
    let instance = fs::read_dir(&own).unwrap().next().unwrap().unwrap().file_name();
    let other = user.join("v999-x86_64").join(instance);
    fs::create_dir_all(&other).unwrap();
    for file in ["control", "state", "image-1-0", "lock"] {
        fs::write(other.join(file), "of another format").unwrap();
    }
    assert!(dial(below(&pod, &artifacts().library)).success().contains("backend=greeter-1"));
    for file in ["control", "state", "image-1-0", "lock"] {
        assert_eq!(fs::read_to_string(other.join(file)).unwrap(), "of another format", "{file}");
    }
}

#[test]
fn a_library_that_is_preloaded_twice_and_among_others_works() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let library = artifacts().library.to_str().unwrap();
    for preload in [format!("libm.so.6:{library}:libpthread.so.0"), format!("{library} {library}: :libm.so.6")] {
        let dialled = dial(below(&pod, Path::new(&preload)));
        assert!(dialled.success().contains("backend=greeter-1"), "{preload}: {dialled}");
        assert_eq!(dialled.stderr, "", "{preload}");
    }
}

#[test]
fn a_program_that_is_traced_with_its_children_works() {
    let pod = Pod::builder().env("LDMESH_LEAD", "thread").build();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let sweeps = c_program("sweeps");
    let traced = Trace::of(&pod, true, &[], &[sweeps.to_str().unwrap(), "greeter", "80", "closefrom"]);
    let visits = (traced.finished.field("before"), traced.finished.field("after"));
    assert_eq!(visits, (Some("greeter-1"), Some("greeter-1")), "{}", traced.finished);
}

#[test]
fn a_shell_that_is_pid_1_reaps_its_children_and_ends() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    let mut shell = pod.mesh_as_init("sh");
    shell.args(["-c", "\"$0\" \"$@\" & \"$0\" \"$@\" & wait; \"$0\" \"$@\"; exit $?"]).arg(c_program("dial"));
    let dialled = dial(shell);
    assert_eq!(dialled.success().matches("backend=greeter-1").count(), 3, "{dialled}");
}
