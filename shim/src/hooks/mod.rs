//! The C ABI: guard, parse, call the core, turn the verdict into a return value and errno. No logic.
//!
//! pthread_cancel unwinds through a real call, so no frame of ours with a personality may lie below one. A hook
//! whose real is a cancellation point is therefore a plain `extern "C"` function that calls nothing but
//! `extern "C"` functions: decide (which catches inside, and so is never inlined), then the real.

mod attempts;
mod connect;
mod fastopen;
mod getaddrinfo_a;
mod hostbyname;
mod macros;
mod nameinfo;
mod names;
mod peer;
mod reals;
mod resolver;
mod sockopt;
mod system_call;

/// At load: fetches the reals and reads the environment. No file, no descriptor, no thread, no network.
extern "C" fn at_load() {
    let decided = crate::core::guarded(|| {
        reals::fetch_all();
        system_call::fetch();
        // Without configuration the library is inert from here on.
        let _ = crate::core::process::load();
    });
    debug_assert!(decided.is_some());
}

#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

/// The version of this library, nul-terminated.
#[unsafe(no_mangle)]
pub extern "C" fn ldmesh_version() -> *const std::ffi::c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// How often this process left a call alone for the reason of this number; 0 past the last.
#[unsafe(no_mangle)]
pub extern "C" fn ldmesh_passes(reason: usize) -> u64 {
    crate::core::verdict::Why::nth(reason).map_or(0, crate::core::verdict::Why::counted)
}

/// How often the mesh failed a call of this process for the reason of this number; 0 past the last.
#[unsafe(no_mangle)]
pub extern "C" fn ldmesh_refusals(reason: usize) -> u64 {
    crate::core::verdict::Refusal::nth(reason).map_or(0, crate::core::verdict::Refusal::counted)
}
