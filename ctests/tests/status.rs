//! What `ldmesh status` tells of a pod.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use ctests::{Finished, Manifest, Mode, Pod, c_program};

#[test]
fn each_process_that_looked_something_up_is_listed_by_its_name() {
    let pod = Pod::new();
    let _backends = pod.greeters(Mode::Echo, 1);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    Finished::of(pod.mesh(c_program("lookup")).args(["greeter", "80"])).success();
    // A child that looks something up right after its fork is another process.
    Finished::of(pod.mesh(c_program("fork_after_lookup")).args(["greeter", "80", "2"])).success();
    let status = pod.status();
    let processes = status["processes"].as_array().unwrap();
    let named = |name: &str| processes.iter().filter(|process| process["name"] == name).count();
    // The kernel keeps 15 bytes of a name.
    assert_eq!((named("lookup"), named("fork_after_look")), (1, 3), "{processes:?}");
    assert!(processes.iter().all(|process| process["pid"].as_u64() > Some(1)), "{processes:?}");
}
