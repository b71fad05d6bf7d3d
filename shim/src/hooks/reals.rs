//! The real functions: what the next library in the search order exports.
//!
//! Fetched once at load into atomics; a hook that another library's constructor calls earlier fetches its own.
//! No lock: two threads that fetch at once store the same address.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{addrinfo, hostent, sockaddr, socklen_t};

/// A real function of type `F`, which must be a function pointer.
pub struct Real<F> {
    symbol: &'static CStr,
    address: AtomicPtr<c_void>,
    function: PhantomData<F>,
}

impl<F: Copy> Real<F> {
    const fn new(symbol: &'static CStr) -> Self {
        assert!(size_of::<F>() == size_of::<*mut c_void>(), "F is a function pointer");
        Self { symbol, address: AtomicPtr::new(std::ptr::null_mut()), function: PhantomData }
    }

    /// The function; `None` where this libc has none.
    #[inline]
    pub fn get(&self) -> Option<F> {
        let mut address = self.address.load(Ordering::Relaxed);
        if address.is_null() {
            // SAFETY: a nul-terminated name; dlsym only reads it.
            address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.symbol.as_ptr()) };
            if address.is_null() {
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

macro_rules! reals {
    ($($name:ident: $type:ty = $symbol:literal;)*) => {
        $(
            #[doc = concat!("The real `", stringify!($symbol), "`.")]
            pub static $name: Real<$type> = Real::new($symbol);
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
