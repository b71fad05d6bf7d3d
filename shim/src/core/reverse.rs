//! From an address to a name: a VIP answers with its service's full name.

use std::ffi::{c_char, c_int};
use std::net::IpAddr;

use libc::{sockaddr, socklen_t};
use xds_runtime::config::{Mode, is_never_mesh};
use xds_runtime::control::Switch;
use xds_runtime::shm::{self, WordAddr};

use crate::core::address::{Inet, plausible};
use crate::core::mesh::{Attached, Mesh};
use crate::core::process::{self, Context};
use crate::core::verdict::{Verdict, Why};

/// Longest name and a nul.
const NAME: usize = 256;

/// The name of a VIP.
pub struct VipName {
    bytes: [u8; NAME],
    length: usize,
}

impl VipName {
    /// None yet.
    pub const EMPTY: Self = Self { bytes: [0; NAME], length: 0 };

    /// The name, without a nul.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

/// Fills in the name of a VIP; false = the address is none, and the call is libc's.
pub fn vip_name(ip: IpAddr, name: &mut VipName) -> bool {
    let decided = process::enter().and_then(|context| {
        named(context, ip, name).inspect_err(|why| context.passed(*why, format_args!("name of {ip}")))
    });
    decided.is_ok()
}

fn named(context: &'static Context, ip: IpAddr, name: &mut VipName) -> Result<(), Why> {
    if is_never_mesh(ip) {
        return Err(Why::NeverMesh);
    }
    let now = shm::now();
    let mesh = Attached { context, pod: context.attach(true, now)? };
    find_name(&mesh, WordAddr::new(ip), name)?;
    let text = std::str::from_utf8(name.bytes()).unwrap_or_default();
    if context.settings.scope.excludes_name(text) {
        return Err(Why::Excluded);
    }
    if context.settings.mode == Mode::Shadow { Err(Why::Shadow) } else { Ok(()) }
}

/// The name of a VIP in the image. Headless addresses are pods', and their names the DNS's business.
fn find_name(mesh: &dyn Mesh, address: WordAddr, name: &mut VipName) -> Result<(), Why> {
    if mesh.control().switch() != Switch::On {
        return Err(Why::SwitchedOff);
    }
    let image = mesh.image().ok_or(Why::NoImage)?;
    let known = image.read(|view| {
        let Some(found) = view.name_of(address)?.filter(|found| !found.headless) else { return Ok(false) };
        let room = name.bytes.get_mut(..NAME - 1).unwrap_or_default();
        name.length = view.text(found.text, room)?.len();
        Ok(true)
    });
    if known? { Ok(()) } else { Err(Why::NotInMesh) }
}

/// The host part of getnameinfo.
#[derive(Clone, Copy)]
pub struct HostPart {
    /// Where the name goes.
    pub host: *mut c_char,
    /// Room for it.
    pub length: socklen_t,
}

/// getnameinfo: writes the host part. `Redirect` = written, the service part is libc's; `Fail` = an EAI code.
///
/// # Safety
/// As getnameinfo(3).
pub unsafe fn name_info(
    address: *const sockaddr,
    length: socklen_t,
    part: HostPart,
    flags: c_int,
) -> Verdict<(), c_int> {
    let numeric = flags & libc::NI_NUMERICHOST != 0;
    if part.length == 0 || numeric || !plausible(part.host) {
        return Verdict::Pass(Why::Numeric);
    }
    // SAFETY: as the caller says.
    let Some(inet) = (unsafe { Inet::read(address, length) }) else { return Verdict::Pass(Why::NotInet) };
    let mut name = VipName::EMPTY;
    if !vip_name(inet.ip, &mut name) {
        return Verdict::Pass(Why::NotInMesh);
    }
    let text = name.bytes();
    if text.len() >= part.length as usize {
        return Verdict::Fail(libc::EAI_OVERFLOW);
    }
    // SAFETY: the name and its nul fit into the program's buffer.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), part.host, text.len());
        part.host.add(text.len()).write(0);
    }
    Verdict::Redirect(())
}
