//! The one file for every libc: it works, and threads can be cancelled inside the calls that it hooks.
//!
//! pthread_cancel unwinds with the program's libgcc_s through our frames, while the portable file carries an
//! unwinder of its own; the two must never meet in a frame of ours that has a personality.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use ctests::{Finished, Manifest, Mode, Pod, c_program, portable_library, wait_until};
use gimli::{BaseAddresses, CieOrFde, EhFrame, EndianSlice, NativeEndian, UnwindSection};
use object::{Object, ObjectSection, ObjectSymbol};

/// The hooks whose reals block and so are cancellation points.
const CANCELLED_INSIDE: [&str; 26] = [
    "__connect",
    "__res_nquery",
    "__res_nquerydomain",
    "__res_nsearch",
    "__res_nsend",
    "__res_query",
    "__res_querydomain",
    "__res_search",
    "__res_send",
    "connect",
    "getaddrinfo",
    "gethostbyaddr",
    "gethostbyaddr_r",
    "gethostbyname",
    "gethostbyname2",
    "gethostbyname2_r",
    "gethostbyname_r",
    "getnameinfo",
    "res_nquery",
    "res_nquerydomain",
    "res_nsearch",
    "res_nsend",
    "res_query",
    "res_querydomain",
    "res_search",
    "res_send",
];

/// A command in the mesh by the portable file.
fn portable(pod: &Pod, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = pod.mesh(program);
    command.env("LD_PRELOAD", pod.folder().join("libldmesh.so"));
    command
}

/// A pod with the portable file in its folder, whose nameserver is the program itself.
fn pod() -> (Pod, PathBuf) {
    let search = "search default.svc.cluster.local svc.cluster.local cluster.local";
    let pod = Pod::builder().resolv_conf(&format!("{search}\nnameserver 127.0.0.1\noptions timeout:30\n")).build();
    let library = portable_library(pod.folder());
    (pod, library)
}

/// Which functions of a file have a personality.
struct UnwindTable {
    functions: Vec<(std::ops::Range<u64>, bool)>,
}

impl UnwindTable {
    fn of(library: &Path) -> Self {
        let bytes = std::fs::read(library).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let section = file.section_by_name(".eh_frame").unwrap();
        let bases = BaseAddresses::default().set_eh_frame(section.address());
        let data = section.uncompressed_data().unwrap();
        let frames = EhFrame::from(EndianSlice::new(&data, NativeEndian));
        let mut functions = Vec::new();
        let mut entries = frames.entries(&bases);
        while let Some(entry) = entries.next().unwrap() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let entry = partial.parse(|_, bases, offset| frames.cie_from_offset(bases, offset)).unwrap();
            let range = entry.initial_address()..entry.initial_address() + entry.len();
            functions.push((range, entry.cie().personality().is_some()));
        }
        Self { functions }
    }

    /// Whether the function around an address has a personality; panics when no entry covers it.
    #[track_caller]
    fn has_personality(&self, address: u64) -> bool {
        let covering = self.functions.iter().find(|(range, _)| range.contains(&address));
        covering.unwrap_or_else(|| panic!("no unwind entry for {address:#x}")).1
    }
}

#[test]
fn no_hook_of_a_cancellation_point_has_a_personality() {
    let folder = tempfile::tempdir().unwrap();
    let library = portable_library(folder.path());
    let table = UnwindTable::of(&library);
    // Without any personality in the file the test would look at the wrong thing.
    assert!(table.functions.iter().any(|(_, has)| *has));
    let bytes = std::fs::read(&library).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    for hook in CANCELLED_INSIDE {
        let symbol = file.dynamic_symbols().find(|symbol| symbol.name() == Ok(hook) && symbol.is_definition());
        let address = symbol.unwrap_or_else(|| panic!("{hook} is not exported")).address();
        assert!(!table.has_personality(address), "{hook}");
    }
}

#[test]
fn a_program_finds_and_reaches_a_service() {
    let (pod, _) = pod();
    let _backends = pod.greeters(Mode::Http, 3);
    let _control_plane = pod.serve(&Manifest::greeter(3));
    let answer = Finished::of(portable(&pod, "curl").args(["-sS", "--max-time", "10", "http://greeter/"]));
    assert!(answer.success().starts_with("greeter-"), "{answer}");
    assert_eq!(pod.agents().len(), 1, "{}", pod.dump());
}

#[test]
fn a_thread_cancelled_in_a_call_of_the_mesh_ends_alone() {
    let (pod, _) = pod();
    let _backends = pod.greeters(Mode::Http, 2);
    let _control_plane = pod.serve(&Manifest::greeter(2));
    for arguments in [&["lookup", "greeter"][..], &["connect", "10.96.0.10", "80"]] {
        let cancelled = Finished::of(portable(&pod, c_program("cancel")).args(arguments));
        cancelled.success();
        assert_eq!(cancelled.field("cancelled"), Some("5"), "{arguments:?}: {cancelled}");
        assert_eq!(cancelled.field("cleanups"), Some("5"), "{arguments:?}: {cancelled}");
    }
}

/// Cancels a thread that is blocked in a call; gives our frames below the real call.
#[track_caller]
fn check_cancelled_while_blocked(pod: &Pod, table: &UnwindTable, call: &str, target: &str) -> usize {
    let cancelled = Finished::of(portable(pod, c_program("cancel_blocked")).args([call, target]));
    cancelled.success();
    assert_eq!(cancelled.field("cancelled"), Some("1"), "{call} {target}: {cancelled}");
    assert_eq!(cancelled.field("cleanups"), Some("1"), "{call} {target}: {cancelled}");
    let frames = cancelled.field("frames").map(|list| list.split(',').collect::<Vec<_>>()).unwrap_or_default();
    for frame in &frames {
        let offset = u64::from_str_radix(frame.trim_start_matches("0x"), 16).unwrap();
        assert!(!table.has_personality(offset), "{call} {target}: a personality at {frame}");
    }
    frames.len()
}

#[test]
fn a_thread_cancelled_in_a_blocked_connect_ends_alone() {
    let (pod, library) = pod();
    let table = UnwindTable::of(&library);
    let _endpoints = pod.greeters(Mode::Hang, 2);
    let _stranger = pod.backend_of(Mode::Hang, "10.244.0.2:9090", "stranger");
    let _control_plane = pod.serve(&Manifest::greeter(2));
    let known = || Finished::of(portable(&pod, c_program("lookup")).args(["greeter", "80", "inet"])).status.success();
    wait_until("the mesh knows the greeter", std::time::Duration::from_secs(5), || pod.dump(), known);
    for call in ["connect", "__connect"] {
        // A redirected call comes back to us, so a frame of ours is there.
        assert_ne!(check_cancelled_while_blocked(&pod, &table, call, "10.96.0.10:80"), 0, "{call}");
        check_cancelled_while_blocked(&pod, &table, call, "10.244.0.2:9090");
    }
}

#[test]
fn a_thread_cancelled_in_a_lookup_that_libc_answers_ends_alone() {
    let (pod, library) = pod();
    let table = UnwindTable::of(&library);
    let _control_plane = pod.serve(&Manifest::greeter(1));
    for call in CANCELLED_INSIDE.into_iter().filter(|call| !call.ends_with("connect")) {
        let by_name = call.starts_with("gethostbyname") || call.contains("res_") || call == "getaddrinfo";
        let target = if by_name { "elsewhere.example" } else { "198.51.100.7:80" };
        check_cancelled_while_blocked(&pod, &table, call, target);
    }
}
