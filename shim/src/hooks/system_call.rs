//! syscall(2): connect, and sends that connect, go the way of their hooks; everything else is jumped to untouched.
//!
//! The hook is a compare and a jump: the real function finds registers, stack and return address as the program left
//! them (a child that shares its parent's stack returns through no frame of ours). The numbers of the calls that are
//! looked at are close together on each architecture, so one compare tells all of them from the rest.
//!
//! The real function's address is in a word that leads to the kernel itself until our constructor found it: a
//! constructor of another library may call before. It must not be found by that call: jemalloc makes system calls this
//! way while it initialises, and dlsym calls calloc in glibc before 2.34. Our own raw system calls come through here,
//! too.

use std::arch::naked_asm;
use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{MSG_FASTOPEN, SYS_connect, SYS_sendmsg, SYS_sendto, msghdr, sockaddr, socklen_t};

use super::attempts::attempts;
use crate::core::address::plausible;
use crate::core::connect::Attempt;
use crate::core::socket;

/// syscall(2), with as many arguments as any call has.
pub type SystemCall = unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;

static REAL: AtomicPtr<c_void> = AtomicPtr::new(enter_kernel as *const () as *mut c_void);

const _: () = assert!(SYS_connect < SYS_sendto && SYS_sendto < SYS_sendmsg && SYS_sendmsg - SYS_connect < 16);

/// Fetches the real function (at load). Where libc exports none (it always does) the kernel stays.
pub fn fetch() {
    // SAFETY: a nul-terminated name; dlsym only reads it.
    let real = unsafe { libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr()) };
    if !real.is_null() {
        REAL.store(real, Ordering::Relaxed);
    }
}

/// The real function.
pub fn real() -> SystemCall {
    // SAFETY: `enter_kernel`, or what `fetch` found: both are called as syscall(2) is.
    unsafe { std::mem::transmute::<*mut c_void, SystemCall>(REAL.load(Ordering::Relaxed)) }
}

/// How syscall(2) answers what the kernel refuses.
extern "C" fn refused(answer: c_long) -> c_long {
    socket::set_errno((-answer) as c_int);
    -1
}

/// syscall(2).
///
/// # Safety
/// As syscall(2).
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall() {
    naked_asm!(
        ".cfi_startproc",
        "lea rax, [rdi - {first}]",
        "cmp rax, {last}",
        "jbe {look}",
        "jmp qword ptr [rip + {real}]",
        ".cfi_endproc",
        first = const SYS_connect,
        last = const SYS_sendmsg - SYS_connect,
        look = sym look,
        real = sym REAL,
    )
}

/// syscall(2) without libc.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn enter_kernel() {
    naked_asm!(
        ".cfi_startproc",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, qword ptr [rsp + 8]",
        "syscall",
        "cmp rax, -4095",
        "jae 2f",
        "ret",
        "2:",
        "mov rdi, rax",
        "jmp {refused}",
        ".cfi_endproc",
        refused = sym refused,
    )
}

/// syscall(2).
///
/// # Safety
/// As syscall(2).
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall() {
    naked_asm!(
        ".cfi_startproc",
        "sub x16, x0, #{first}",
        "cmp x16, #{last}",
        "b.hi 2f",
        "b {look}",
        "2:",
        "adrp x16, {real}",
        "ldr x16, [x16, :lo12:{real}]",
        "br x16",
        ".cfi_endproc",
        first = const SYS_connect,
        last = const SYS_sendmsg - SYS_connect,
        look = sym look,
        real = sym REAL,
    )
}

/// syscall(2) without libc.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn enter_kernel() {
    naked_asm!(
        ".cfi_startproc",
        "mov x8, x0",
        "mov x0, x1",
        "mov x1, x2",
        "mov x2, x3",
        "mov x3, x4",
        "mov x4, x5",
        "mov x5, x6",
        "svc #0",
        "cmn x0, #4095",
        "b.hs 2f",
        "ret",
        "2:",
        "b {refused}",
        ".cfi_endproc",
        refused = sym refused,
    )
}

/// A call whose number is among those that may connect. Not a cancellation point, as syscall(2) is none.
unsafe extern "C" fn look(
    number: c_long,
    fd: c_long,
    second: c_long,
    third: c_long,
    fourth: c_long,
    fifth: c_long,
    sixth: c_long,
) -> c_long {
    let real = real();
    let socket = fd as c_int;
    match number {
        libc::SYS_connect => {
            let (address, length) = (second as *const sockaddr, third as socklen_t);
            // SAFETY: the call as the program made it, or with an address of ours.
            attempts!(Attempt::connect(), socket, address, length, |to, length| unsafe {
                real(number, fd, to as c_long, c_long::from(length), fourth, fifth, sixth)
            })
        }
        libc::SYS_sendto if fourth as c_int & MSG_FASTOPEN != 0 => {
            let (address, length) = (fifth as *const sockaddr, sixth as socklen_t);
            // SAFETY: as above.
            attempts!(Attempt::send(fourth as c_int), socket, address, length, |to, length| unsafe {
                real(number, fd, second, third, fourth, to as c_long, c_long::from(length))
            })
        }
        libc::SYS_sendmsg if third as c_int & MSG_FASTOPEN != 0 && plausible(second as *const msghdr) => {
            // SAFETY: the program's message, as it promises sendmsg(2).
            let own = unsafe { (second as *const msghdr).read_unaligned() };
            let address: *const sockaddr = own.msg_name.cast();
            // SAFETY: its copy, or one with an address of ours.
            attempts!(Attempt::send(third as c_int), socket, address, own.msg_namelen, |to, length| unsafe {
                let message = msghdr { msg_name: to.cast_mut().cast(), msg_namelen: length, ..own };
                real(number, fd, &raw const message as c_long, third, fourth, fifth, sixth)
            })
        }
        // SAFETY: the call as the program made it.
        _ => unsafe { real(number, fd, second, third, fourth, fifth, sixth) },
    }
}
