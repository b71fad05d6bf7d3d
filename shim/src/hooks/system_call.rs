//! syscall(2): connect, and sends that connect, go the way of their hooks; everything else is jumped to untouched.
//!
//! The hook is a compare and a jump: the real function finds registers, stack and return address as the program left
//! them (a child that shares its parent's stack returns through no frame of ours). The numbers of the calls that are
//! looked at are close together on each architecture, so one compare tells all of them from the rest.
//!
//! The real function's address is in a word that at first leads to `bind`, which finds it: a constructor of another
//! library may call before ours ran. Our own raw system calls come through here, too.

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

static REAL: AtomicPtr<c_void> = AtomicPtr::new(bind as *const () as *mut c_void);

const _: () = assert!(SYS_connect < SYS_sendto && SYS_sendto < SYS_sendmsg && SYS_sendmsg - SYS_connect < 16);

/// Fetches the real function (at load).
pub fn fetch() {
    find();
}

/// The real function.
pub fn real() -> SystemCall {
    // SAFETY: `bind`, or what `find` found: both are called as syscall(2) is.
    unsafe { std::mem::transmute::<*mut c_void, SystemCall>(REAL.load(Ordering::Relaxed)) }
}

/// Finds the real function and keeps it.
extern "C" fn find() -> *mut c_void {
    // SAFETY: a nul-terminated name; dlsym only reads it.
    let mut real = unsafe { libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr()) };
    if real.is_null() {
        real = unavailable as *const () as *mut c_void;
    }
    REAL.store(real, Ordering::Relaxed);
    real
}

/// Where libc exports none (it always does).
extern "C" fn unavailable() -> c_long {
    socket::set_errno(libc::ENOSYS);
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
        "lea rax, [rdi - {first}]",
        "cmp rax, {last}",
        "jbe {look}",
        "jmp qword ptr [rip + {real}]",
        first = const SYS_connect,
        last = const SYS_sendmsg - SYS_connect,
        look = sym look,
        real = sym REAL,
    )
}

/// The first call's way: finds the real function with the arguments kept.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn bind() {
    naked_asm!(
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "sub rsp, 8",
        "call {find}",
        "add rsp, 8",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "jmp rax",
        find = sym find,
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
        "sub x16, x0, #{first}",
        "cmp x16, #{last}",
        "b.hi 2f",
        "b {look}",
        "2:",
        "adrp x16, {real}",
        "ldr x16, [x16, :lo12:{real}]",
        "br x16",
        first = const SYS_connect,
        last = const SYS_sendmsg - SYS_connect,
        look = sym look,
        real = sym REAL,
    )
}

/// The first call's way: finds the real function with the arguments kept.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn bind() {
    naked_asm!(
        "stp x29, x30, [sp, #-80]!",
        "mov x29, sp",
        "stp x0, x1, [sp, #16]",
        "stp x2, x3, [sp, #32]",
        "stp x4, x5, [sp, #48]",
        "stp x6, x7, [sp, #64]",
        "bl {find}",
        "mov x16, x0",
        "ldp x0, x1, [sp, #16]",
        "ldp x2, x3, [sp, #32]",
        "ldp x4, x5, [sp, #48]",
        "ldp x6, x7, [sp, #64]",
        "ldp x29, x30, [sp], #80",
        "br x16",
        find = sym find,
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
            attempts!(Attempt::CONNECT, socket, address, length, |to, length| unsafe {
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
