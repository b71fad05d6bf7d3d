//! Libraries that visit services while they are loaded and unloaded: by dlopen and dlclose, and preloaded beside ours.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use ctests::{CONTROL_PLANE_URL, Finished, Manifest, Mode, Pod, artifacts, c_library, c_program};

const TIMES: usize = 100;

/// A pod where `neighbour` is the first greeter without the mesh, and `greeter` is the service in it.
fn with_neighbour(check: impl FnOnce(&Pod)) {
    let hosts = "127.0.0.1 localhost\n127.0.1.1 neighbour\n";
    let pod = Pod::builder().hosts(hosts).build();
    let _backends = pod.greeters(Mode::Echo, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    check(&pod);
}

/// The library visits `neighbour`.
fn outside(mut command: Command) -> Finished {
    Finished::of(command.env("VISIT_NAME", "neighbour").env("VISIT_PORT", "8080"))
}

/// The library visits `greeter`.
fn inside(mut command: Command) -> Finished {
    Finished::of(command.env("LDMESH_XDS", CONTROL_PLANE_URL).env("VISIT_NAME", "greeter").env("VISIT_PORT", "80"))
}

/// So many constructors and as many destructors, in turns, each reached a backend; both backends where there were many.
#[track_caller]
fn check_balanced(visited: &Finished, times: usize, how: &str) {
    let said = visited.success();
    assert_eq!(visited.stderr, "", "{how}");
    let lines: Vec<_> = said.lines().map(|line| line.split_once("=greeter-").expect(said)).collect();
    let whens: Vec<_> = lines.iter().map(|(when, _)| *when).collect();
    assert_eq!(whens, ["constructor", "destructor"].repeat(times), "{how}");
    let first = lines.iter().filter(|(_, backend)| *backend == "1").count();
    // Two visits may well go to the same one.
    assert!(times == 1 || (first > 0 && first < lines.len()), "{how}: {visited}");
}

#[test]
fn a_library_loaded_a_hundred_times_visits_as_without_us_and_in_the_mesh_is_balanced() {
    with_neighbour(|pod| {
        let library = c_library("visits_around");
        for (ways, thread) in [(&[][..], false), (&["thread"], false), (&[], true)] {
            let how = format!("{ways:?}, visits in a thread: {thread}");
            let loads = |preloaded: bool| {
                let mut command = pod.command(c_program("loads_again"));
                command.arg(&library).arg(TIMES.to_string()).args(ways);
                if thread {
                    command.env("VISIT_THREAD", "1");
                }
                if preloaded {
                    command.env("LD_PRELOAD", &artifacts().library);
                }
                command
            };
            let (plain, inert) = (outside(loads(false)), outside(loads(true)));
            assert_eq!(plain.success(), "constructor=greeter-1\ndestructor=greeter-1\n".repeat(TIMES).trim(), "{how}");
            assert_eq!((&inert.stdout, &inert.stderr, inert.status), (&plain.stdout, &plain.stderr, plain.status));
            check_balanced(&inside(loads(true)), TIMES, &how);
        }
    });
}

/// Constructors run from the last to the first, destructors the other way round: theirs runs before and after ours.
#[test]
fn a_library_preloaded_before_or_after_ours_visits_in_its_constructor_and_destructor() {
    with_neighbour(|pod| {
        let (theirs, ours) = (c_library("visits_around"), &artifacts().library);
        let (theirs, ours) = (theirs.display(), ours.display());
        for thread in [false, true] {
            let preloads = |preload: &str| {
                let mut command = pod.command("env");
                command.arg(format!("LD_PRELOAD={preload}")).arg("true");
                if thread {
                    command.env("VISIT_THREAD", "1");
                }
                command
            };
            let plain = outside(preloads(&theirs.to_string()));
            assert_eq!(plain.success(), "constructor=greeter-1\ndestructor=greeter-1");
            for preload in [format!("{theirs} {ours}"), format!("{ours} {theirs}")] {
                let inert = outside(preloads(&preload));
                assert_eq!((&inert.stdout, &inert.stderr), (&plain.stdout, &plain.stderr), "{preload}: {inert}");
                check_balanced(&inside(preloads(&preload)), 1, &preload);
            }
        }
    });
}
