//! Requests to valgrind, as valgrind.h and callgrind.h define them: outside of valgrind they do nothing.

use std::arch::asm;
use std::ffi::CString;

/// VG_USERREQ_TOOL_BASE('C', 'T').
const BASE: u64 = (b'C' as u64) << 24 | (b'T' as u64) << 16;
const ZERO_STATS: u64 = BASE + 1;
const DUMP_STATS_AT: u64 = BASE + 3;
const START_INSTRUMENTATION: u64 = BASE + 4;
const STOP_INSTRUMENTATION: u64 = BASE + 5;

/// Forgets what was counted.
pub fn zero() {
    request(ZERO_STATS, 0);
}

/// Writes what was counted since the last time, under a name, and forgets it.
pub fn dump(name: &str) {
    // A name with a nul is cut off there.
    let name = CString::new(name).unwrap_or_default();
    request(DUMP_STATS_AT, name.as_ptr() as u64);
}

/// Counts instructions while `work` runs; what was counted before stays.
#[inline(always)]
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    request(START_INSTRUMENTATION, 0);
    let done = work();
    request(STOP_INSTRUMENTATION, 0);
    done
}

#[inline(always)]
fn request(request: u64, argument: u64) {
    let words = [request, argument, 0, 0, 0, 0];
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the four rotations, 128 bits together, leave rdi as it was, and the exchange changes nothing. Valgrind
    // knows the sequence, reads the six words that rax points to, and writes rdx.
    unsafe {
        asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") words.as_ptr(), inout("rdx") 0_u64 => _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above, with x12, x10, x3 and x4.
    unsafe {
        asm!(
            "ror x12, x12, 3", "ror x12, x12, 13", "ror x12, x12, 51", "ror x12, x12, 61", "orr x10, x10, x10",
            in("x4") words.as_ptr(), inout("x3") 0_u64 => _,
        );
    }
}
