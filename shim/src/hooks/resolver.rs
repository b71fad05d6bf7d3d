//! res_query and its kin, each also under the `__` name that binaries built before glibc 2.34 ask for.
//!
//! Their reals ask the DNS and are cancellation points.

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_ushort, c_void};

use super::hostbyname::{Rest, set_h_errno};
use super::reals::{
    RES_NQUERY, RES_NQUERYDOMAIN, RES_NSEARCH, RES_NSEND, RES_QUERY, RES_QUERYDOMAIN, RES_SEARCH, RES_SEND,
};
use crate::core::query::{Form, Outcome, Room, by_name, by_packet};
use crate::core::{guarded_lookup, socket};

/// h_errno values of netdb.h.
const TRY_AGAIN: c_int = 2;
const NO_DATA: c_int = 4;

/// glibc's `struct __res_state`, up to what is used of it. musl has none.
#[repr(C)]
pub struct ResState {
    times: [c_int; 2],
    options: c_ulong,
    servers: c_int,
    addresses: [libc::sockaddr_in; 3],
    id: c_ushort,
    search: [*mut c_char; 7],
    domain: [c_char; 256],
    pfcode: c_ulong,
    bits: c_uint,
    sort: [[u32; 2]; 10],
    hooks: [*mut c_void; 2],
    h_errno: c_int,
}

/// Both names of a function: what `$decide` leaves over is the real call.
macro_rules! both_names {
    ($(
        $(#[$doc:meta])*
        $name:ident, $alias:ident($($argument:ident: $type:ty),*) => $decide:expr, $real:ident;
    )*) => {$(
        both_names!(@one $(#[$doc])* $name($($argument: $type),*) => $decide, $real);
        both_names!(@one $(#[$doc])* $alias($($argument: $type),*) => $decide, $real);
    )*};
    (@one $(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) => $decide:expr, $real:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As its documentation says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            // SAFETY: the program's arguments.
            match unsafe { $decide } {
                Rest::Done(length) => length,
                // SAFETY: the call as the program made it.
                Rest::Whole => unsafe { $real($($argument),*) },
            }
        }
    };
}

const NO_STATE: *mut ResState = std::ptr::null_mut();

both_names! {
    /// res_query(3).
    res_query, __res_query(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, length: c_int)
        => queried(NO_STATE, name, Form::Full, class, kind, answer, length), real_query;
    /// res_nquery(3).
    res_nquery, __res_nquery(
        state: *mut ResState, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, length: c_int
    ) => queried(state, name, Form::Full, class, kind, answer, length), real_nquery;
    /// res_search(3).
    res_search, __res_search(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, length: c_int)
        => queried(NO_STATE, name, Form::Searched, class, kind, answer, length), real_search;
    /// res_nsearch(3).
    res_nsearch, __res_nsearch(
        state: *mut ResState, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, length: c_int
    ) => queried(state, name, Form::Searched, class, kind, answer, length), real_nsearch;
    /// res_querydomain(3).
    res_querydomain, __res_querydomain(
        name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut u8, length: c_int
    ) => queried(NO_STATE, name, Form::Below(domain), class, kind, answer, length), real_querydomain;
    /// res_nquerydomain(3).
    res_nquerydomain, __res_nquerydomain(
        state: *mut ResState, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int,
        answer: *mut u8, length: c_int
    ) => queried(state, name, Form::Below(domain), class, kind, answer, length), real_nquerydomain;
    /// res_send(3).
    res_send, __res_send(packet: *const u8, packet_length: c_int, answer: *mut u8, length: c_int)
        => sent(packet, packet_length, answer, length), real_send;
    /// res_nsend(3).
    res_nsend, __res_nsend(
        state: *mut ResState, packet: *const u8, packet_length: c_int, answer: *mut u8, length: c_int
    ) => sent(packet, packet_length, answer, length), real_nsend;
}

/// Answers a query for a name; one without records is an error here, though its message is written.
#[inline(never)]
unsafe extern "C" fn queried(
    state: *mut ResState,
    name: *const c_char,
    form: Form,
    class: c_int,
    kind: c_int,
    answer: *mut u8,
    length: c_int,
) -> Rest<c_int> {
    // SAFETY: the program's name, domain and room.
    let outcome = guarded_lookup(|| unsafe { by_name(name, form, class, kind, Room { answer, length }) });
    let h_errno = match outcome {
        None | Some(Outcome::Pass) => return Rest::Whole,
        Some(Outcome::Answered(length)) => return Rest::Done(length),
        Some(Outcome::NoData(_)) => NO_DATA,
        Some(Outcome::TryAgain) => TRY_AGAIN,
    };
    set_h_errno(h_errno);
    // SAFETY: null, or the program's state.
    if let Some(state) = unsafe { state.as_mut() } {
        state.h_errno = h_errno;
    }
    Rest::Done(-1)
}

/// Answers a packet.
#[inline(never)]
unsafe extern "C" fn sent(packet: *const u8, packet_length: c_int, answer: *mut u8, length: c_int) -> Rest<c_int> {
    // SAFETY: the program's packet and room.
    let outcome = guarded_lookup(|| unsafe { by_packet(packet, packet_length, Room { answer, length }) });
    match outcome {
        None | Some(Outcome::Pass) => Rest::Whole,
        Some(Outcome::Answered(length) | Outcome::NoData(length)) => Rest::Done(length),
        Some(Outcome::TryAgain) => {
            socket::set_errno(libc::ETIMEDOUT);
            Rest::Done(-1)
        }
    }
}

super::macros::or_unavailable! {
    RES_QUERY => real_query(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, length: c_int)
        -> c_int = -1;
    RES_SEARCH => real_search(name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, length: c_int)
        -> c_int = -1;
    RES_NQUERY => real_nquery(
        state: *mut ResState, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, length: c_int
    ) -> c_int = -1;
    RES_NSEARCH => real_nsearch(
        state: *mut ResState, name: *const c_char, class: c_int, kind: c_int, answer: *mut u8, length: c_int
    ) -> c_int = -1;
    RES_QUERYDOMAIN => real_querydomain(
        name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut u8, length: c_int
    ) -> c_int = -1;
    RES_NQUERYDOMAIN => real_nquerydomain(
        state: *mut ResState, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int,
        answer: *mut u8, length: c_int
    ) -> c_int = -1;
    RES_SEND => real_send(packet: *const u8, packet_length: c_int, answer: *mut u8, length: c_int) -> c_int = -1;
    RES_NSEND => real_nsend(
        state: *mut ResState, packet: *const u8, packet_length: c_int, answer: *mut u8, length: c_int
    ) -> c_int = -1;
}
