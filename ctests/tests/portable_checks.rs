//! Each thing that `scripts/check-portable.sh` looks for makes it fail: shown by spoiling the file in one place.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use ctests::{Finished, portable_library};
use object::elf;

/// Packed relative relocations, of which `object` does not know.
const DT_RELR: u32 = 36;

/// A 64-bit ELF file of this machine's byte order, to be spoiled.
struct Elf(Vec<u8>);

impl Elf {
    fn word(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn half(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Where the program header of a type lies.
    fn segment(&self, kind: u32) -> usize {
        let table = self.word(0x20) as usize;
        (0..64).map(|nth| table + nth * 56).find(|&at| self.half(at) == kind).unwrap()
    }

    /// Where the entry of a tag lies in the dynamic section.
    fn dynamic(&self, tag: u32) -> usize {
        let table = self.word(self.segment(elf::PT_DYNAMIC) + 8) as usize;
        (0..64).map(|nth| table + nth * 16).find(|&at| self.word(at) == u64::from(tag)).unwrap()
    }

    fn replace_tag(&mut self, old: u32, new: u32) {
        let at = self.dynamic(old);
        self.put(at, &u64::from(new).to_ne_bytes());
    }

    fn remove_segment(&mut self, kind: u32) {
        let at = self.segment(kind);
        self.put(at, &elf::PT_NULL.to_ne_bytes());
    }

    fn change_text(&mut self, old: &str, new: &str) {
        let text = [b"\0", old.as_bytes(), b"\0"].concat();
        let at = self.0.windows(text.len()).position(|window| window == text);
        self.put(at.unwrap_or_else(|| panic!("no {old}")) + 1, new.as_bytes());
    }
}

#[track_caller]
fn check(file: &Path) -> Finished {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/check-portable.sh");
    Finished::of(Command::new(script).arg(file))
}

/// The spoiled file is refused with these words, and for no other reason.
#[track_caller]
fn check_refused(words: &str, spoil: fn(&mut Elf)) {
    let folder = tempfile::tempdir().unwrap();
    let library = portable_library(folder.path());
    let mut file = Elf(std::fs::read(&library).unwrap());
    spoil(&mut file);
    std::fs::write(&library, &file.0).unwrap();
    let refused = check(&library);
    assert_eq!(refused.status.code(), Some(1), "{refused}");
    let reasons: Vec<_> = refused.stderr.lines().filter(|line| line.contains("libldmesh.so: ")).collect();
    assert!(reasons.len() == 1 && reasons[0].contains(words), "{words}: {refused}");
}

#[test]
fn the_file_as_it_is_passes() {
    let folder = tempfile::tempdir().unwrap();
    let passed = check(&portable_library(folder.path()));
    passed.success();
    assert_eq!(passed.stderr, "");
}

#[test]
fn a_further_needed_library_is_refused() {
    check_refused("needs libq.so.6", |file| file.change_text("libm.so.6", "libq.so.6"));
}

#[test]
fn a_newer_version_of_glibc_is_refused() {
    check_refused("asks for GLIBC_2.18", |file| file.change_text("GLIBC_2.14", "GLIBC_2.18"));
}

#[test]
fn an_export_that_is_no_hook_is_refused() {
    check_refused("exports changed", |file| file.change_text("ldmesh_version", "malloc_version"));
}

#[test]
fn a_function_that_musl_lacks_is_refused() {
    check_refused("musl has no getenw", |file| file.change_text("getenv", "getenw"));
}

#[test]
fn much_thread_local_storage_is_refused() {
    check_refused("PT_TLS has 4096 bytes", |file| {
        let at = file.segment(elf::PT_TLS);
        file.put(at + 40, &4096_u64.to_ne_bytes());
    });
}

#[test]
fn an_executable_stack_is_refused() {
    check_refused("executable stack", |file| {
        let at = file.segment(elf::PT_GNU_STACK);
        file.put(at + 4, &(elf::PF_R | elf::PF_W | elf::PF_X).to_ne_bytes());
    });
    // Without the header, an executable stack is what loaders assume.
    check_refused("executable stack", |file| file.remove_segment(elf::PT_GNU_STACK));
}

#[test]
fn writable_code_is_refused() {
    check_refused("writable and executable", |file| {
        let at = file.segment(elf::PT_LOAD);
        file.put(at + 4, &(elf::PF_R | elf::PF_W | elf::PF_X).to_ne_bytes());
    });
}

#[test]
fn a_file_without_relro_is_refused() {
    check_refused("no RELRO", |file| file.remove_segment(elf::PT_GNU_RELRO));
}

#[test]
fn a_file_that_can_be_unloaded_is_refused() {
    check_refused("nodelete", |file| {
        let at = file.dynamic(elf::DT_FLAGS_1);
        file.put(at + 8, &u64::from(elf::DF_1_NOW).to_ne_bytes());
    });
}

#[test]
fn a_file_whose_constructor_was_lost_is_refused() {
    check_refused("no constructor", |file| file.replace_tag(elf::DT_INIT_ARRAY, elf::DT_DEBUG));
}

#[test]
fn what_loaders_would_do_beside_the_constructor_is_refused() {
    // The count of relative relocations is a hint to the loader; its place is free to take.
    check_refused("text relocations", |file| file.replace_tag(elf::DT_RELACOUNT, elf::DT_TEXTREL));
    check_refused("runs before its constructors", |file| file.replace_tag(elf::DT_RELACOUNT, elf::DT_INIT));
    check_refused("at exit", |file| file.replace_tag(elf::DT_RELACOUNT, elf::DT_FINI));
    check_refused("packed relocations", |file| file.replace_tag(elf::DT_RELACOUNT, DT_RELR));
}

#[test]
fn a_file_over_6_mb_is_refused() {
    check_refused("6291456 is the limit", |file| file.0.resize(7 << 20, 0));
}
