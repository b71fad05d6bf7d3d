//! The real functions: what the next library in the search order exports.
//!
//! Fetched once at load into atomics; a hook that another library's constructor calls earlier fetches its own.
//! No lock: two threads that fetch at once store the same address. Functions that a libc may keep in a library beside
//! it are fetched by their first call: that library may come later, and hardly a program calls them.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{addrinfo, hostent, sigevent, sockaddr, socklen_t};

use super::getaddrinfo_a::Request;
use super::resolver::ResState;

/// A real function of type `F`, which must be a function pointer.
pub struct Real<F> {
    symbol: &'static CStr,
    elsewhere: Option<Elsewhere>,
    address: AtomicPtr<c_void>,
    function: PhantomData<F>,
}

/// Where a function is to be found that is not in every libc under its name.
#[derive(Clone, Copy)]
struct Elsewhere {
    symbol: &'static CStr,
    library: &'static CStr,
}

impl Elsewhere {
    /// Looks in what the program has loaded. The library then stays: its function is kept.
    fn find(self, symbol: &CStr) -> *mut c_void {
        // SAFETY: nul-terminated names; nothing is loaded that is not there.
        unsafe {
            let library = libc::dlopen(self.library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            let handles = [libc::RTLD_NEXT, library];
            // A library that was loaded for itself alone is no `RTLD_NEXT`, and a null handle is `RTLD_DEFAULT`.
            let handles = handles.into_iter().take(if library.is_null() { 1 } else { 2 });
            let places = handles.flat_map(|handle| [symbol, self.symbol].map(|symbol| (handle, symbol)));
            let mut addresses = places.map(|(handle, symbol)| libc::dlsym(handle, symbol.as_ptr()));
            addresses.find(|address| !address.is_null()).unwrap_or(std::ptr::null_mut())
        }
    }
}

/// Takes back what a look-up left for the program's next dlerror(3): musl keeps it until somebody asks.
fn forget_dlerror() {
    // SAFETY: has no precondition.
    unsafe { libc::dlerror() };
}

impl<F: Copy> Real<F> {
    const fn new(symbol: &'static CStr, elsewhere: Option<Elsewhere>) -> Self {
        assert!(size_of::<F>() == size_of::<*mut c_void>(), "F is a function pointer");
        Self { symbol, elsewhere, address: AtomicPtr::new(std::ptr::null_mut()), function: PhantomData }
    }

    /// The function; `None` where this libc has none.
    #[inline]
    pub fn get(&self) -> Option<F> {
        let mut address = self.address.load(Ordering::Relaxed);
        if address.is_null() {
            address = match self.elsewhere {
                Some(elsewhere) => elsewhere.find(self.symbol),
                // SAFETY: a nul-terminated name; dlsym only reads it.
                None => unsafe { libc::dlsym(libc::RTLD_NEXT, self.symbol.as_ptr()) },
            };
            if address.is_null() {
                forget_dlerror();
                return None;
            }
            self.address.store(address, Ordering::Relaxed);
        }
        // SAFETY: F is a function pointer of this size, and the symbol's C prototype is F (see the table below).
        Some(unsafe { std::mem::transmute_copy::<*mut c_void, F>(&address) })
    }
}

/// connect(2).
pub type Connect = unsafe extern "C" fn(c_int, *const sockaddr, socklen_t) -> c_int;
/// sendto(2).
pub type SendTo =
    unsafe extern "C" fn(c_int, *const c_void, libc::size_t, c_int, *const sockaddr, socklen_t) -> libc::ssize_t;
/// sendmsg(2).
pub type SendMsg = unsafe extern "C" fn(c_int, *const libc::msghdr, c_int) -> libc::ssize_t;
/// getsockopt(2).
pub type GetSockOpt = unsafe extern "C" fn(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int;
/// getpeername(2).
pub type GetPeerName = unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
/// getaddrinfo(3).
pub type GetAddrInfo = unsafe extern "C" fn(*const c_char, *const c_char, *const addrinfo, *mut *mut addrinfo) -> c_int;
/// getnameinfo(3).
pub type GetNameInfo =
    unsafe extern "C" fn(*const sockaddr, socklen_t, *mut c_char, socklen_t, *mut c_char, socklen_t, c_int) -> c_int;
/// gethostbyname(3).
pub type GetHostByName = unsafe extern "C" fn(*const c_char) -> *mut hostent;
/// gethostbyname2(3).
pub type GetHostByName2 = unsafe extern "C" fn(*const c_char, c_int) -> *mut hostent;
/// gethostbyname_r(3).
pub type GetHostByNameR = unsafe extern "C" fn(
    *const c_char,
    *mut hostent,
    *mut c_char,
    libc::size_t,
    *mut *mut hostent,
    *mut c_int,
) -> c_int;
/// gethostbyname2_r(3).
pub type GetHostByName2R = unsafe extern "C" fn(
    *const c_char,
    c_int,
    *mut hostent,
    *mut c_char,
    libc::size_t,
    *mut *mut hostent,
    *mut c_int,
) -> c_int;
/// gethostbyaddr(3).
pub type GetHostByAddr = unsafe extern "C" fn(*const c_void, socklen_t, c_int) -> *mut hostent;
/// gethostbyaddr_r(3).
pub type GetHostByAddrR = unsafe extern "C" fn(
    *const c_void,
    socklen_t,
    c_int,
    *mut hostent,
    *mut c_char,
    libc::size_t,
    *mut *mut hostent,
    *mut c_int,
) -> c_int;

/// getaddrinfo_a(3).
pub type GetAddrInfoA = unsafe extern "C" fn(c_int, *mut *mut Request, c_int, *mut sigevent) -> c_int;
/// res_query(3) and res_search(3).
pub type ResQuery = unsafe extern "C" fn(*const c_char, c_int, c_int, *mut u8, c_int) -> c_int;
/// res_nquery(3) and res_nsearch(3).
pub type ResNQuery = unsafe extern "C" fn(*mut ResState, *const c_char, c_int, c_int, *mut u8, c_int) -> c_int;
/// res_querydomain(3).
pub type ResQueryDomain = unsafe extern "C" fn(*const c_char, *const c_char, c_int, c_int, *mut u8, c_int) -> c_int;
/// res_nquerydomain(3).
pub type ResNQueryDomain =
    unsafe extern "C" fn(*mut ResState, *const c_char, *const c_char, c_int, c_int, *mut u8, c_int) -> c_int;
/// res_send(3).
pub type ResSend = unsafe extern "C" fn(*const u8, c_int, *mut u8, c_int) -> c_int;
/// res_nsend(3).
pub type ResNSend = unsafe extern "C" fn(*mut ResState, *const u8, c_int, *mut u8, c_int) -> c_int;

macro_rules! reals {
    ($($name:ident: $type:ty = $symbol:literal;)*) => {
        $(
            #[doc = concat!("The real `", stringify!($symbol), "`.")]
            pub static $name: Real<$type> = Real::new($symbol, None);
        )*

        /// Fetches every real (at load).
        pub fn fetch_all() {
            $($name.get();)*
        }
    };
}

reals! {
    CONNECT: Connect = c"connect";
    CONNECT_ALIAS: Connect = c"__connect";
    SENDTO: SendTo = c"sendto";
    SENDMSG: SendMsg = c"sendmsg";
    GETSOCKOPT: GetSockOpt = c"getsockopt";
    GETPEERNAME: GetPeerName = c"getpeername";
    GETADDRINFO: GetAddrInfo = c"getaddrinfo";
    GETNAMEINFO: GetNameInfo = c"getnameinfo";
    GETHOSTBYNAME: GetHostByName = c"gethostbyname";
    GETHOSTBYNAME2: GetHostByName2 = c"gethostbyname2";
    GETHOSTBYNAME_R: GetHostByNameR = c"gethostbyname_r";
    GETHOSTBYNAME2_R: GetHostByName2R = c"gethostbyname2_r";
    GETHOSTBYADDR: GetHostByAddr = c"gethostbyaddr";
    GETHOSTBYADDR_R: GetHostByAddrR = c"gethostbyaddr_r";
}

macro_rules! reals_elsewhere {
    ($($name:ident: $type:ty = $symbol:literal, $other:literal, $library:literal;)*) => {$(
        #[doc = concat!("The real `", stringify!($symbol), "`.")]
        pub static $name: Real<$type> =
            Real::new($symbol, Some(Elsewhere { symbol: $other, library: $library }));
    )*};
}

// Before glibc 2.34 these were in libraries of their own, the resolver's partly under their `__` names alone.
reals_elsewhere! {
    GETADDRINFO_A: GetAddrInfoA = c"getaddrinfo_a", c"getaddrinfo_a", c"libanl.so.1";
    RES_QUERY: ResQuery = c"res_query", c"__res_query", c"libresolv.so.2";
    RES_SEARCH: ResQuery = c"res_search", c"__res_search", c"libresolv.so.2";
    RES_NQUERY: ResNQuery = c"res_nquery", c"__res_nquery", c"libresolv.so.2";
    RES_NSEARCH: ResNQuery = c"res_nsearch", c"__res_nsearch", c"libresolv.so.2";
    RES_QUERYDOMAIN: ResQueryDomain = c"res_querydomain", c"__res_querydomain", c"libresolv.so.2";
    RES_NQUERYDOMAIN: ResNQueryDomain = c"res_nquerydomain", c"__res_nquerydomain", c"libresolv.so.2";
    RES_SEND: ResSend = c"res_send", c"__res_send", c"libresolv.so.2";
    RES_NSEND: ResNSend = c"res_nsend", c"__res_nsend", c"libresolv.so.2";
}
