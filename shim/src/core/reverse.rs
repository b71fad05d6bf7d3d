//! From an address to a name: a VIP answers with its service's full name.

use std::ffi::{c_char, c_int};
use std::net::IpAddr;

use libc::{sockaddr, socklen_t};
use xds_runtime::config::{Mode, is_never_mesh};
use xds_runtime::image::{Torn, View};
use xds_runtime::shm::{Millis, WordAddr};

use crate::core::address::{Inet, plausible};
use crate::core::ask::{Question, ask};
use crate::core::lookup::Fault;
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
    let mesh = Attached { context, pod: context.attach(true)? };
    find_name(context, &mesh, WordAddr::new(ip), name)?;
    if context.settings.mode == Mode::Shadow { Err(Why::Shadow) } else { Ok(()) }
}

/// The name of a VIP in the image, waiting as long as the pod may. Without any configuration the call is libc's,
/// under `LDMESH_FAIL=closed` too: nothing leaves the mesh by a name.
fn find_name(context: &Context, mesh: &dyn Mesh, address: WordAddr, name: &mut VipName) -> Result<(), Why> {
    match ask(context, mesh, &mut Reverse { address, name }) {
        Verdict::Redirect(()) => Ok(()),
        Verdict::Pass(why) => Err(why),
        Verdict::Fail(Fault::Again) => Err(Why::NoImage),
    }
}

/// Which service has an address.
struct Reverse<'a> {
    address: WordAddr,
    name: &'a mut VipName,
}

impl Question for Reverse<'_> {
    /// Headless addresses are pods', and their names the DNS's business.
    fn read(&mut self, view: &View<'_>) -> Result<bool, Torn> {
        let Some(found) = view.name_of(self.address)?.filter(|found| !found.headless) else { return Ok(false) };
        let room = self.name.bytes.get_mut(..NAME - 1).unwrap_or_default();
        self.name.length = view.text(found.text, room)?.len();
        Ok(true)
    }

    fn judge(&self, context: &Context, _mesh: &dyn Mesh, _now: Millis) -> (Verdict<(), Fault>, Millis) {
        let text = std::str::from_utf8(self.name.bytes()).unwrap_or_default();
        let excluded = context.settings.scope.excludes_name(text);
        (if excluded { Verdict::Pass(Why::Excluded) } else { Verdict::Redirect(()) }, 0)
    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use xds_runtime::names::{NameFiles, ResolverEnv};
    use xds_runtime::shm;

    use super::*;
    use crate::core::testing::{MemoryPod, VIP, greeter};

    fn name_of(pod: &MemoryPod, ip: &str) -> (Result<(), Why>, VipName) {
        let context = Context::for_test(&[("LDMESH_READY_TIMEOUT", "30ms")], NameFiles::system(ResolverEnv::default()));
        let mut name = VipName::EMPTY;
        (find_name(context, pod, WordAddr::new(ip.parse().unwrap()), &mut name), name)
    }

    #[test]
    fn a_vip_has_its_services_name_and_an_endpoint_has_none() {
        let pod = MemoryPod::with(&greeter(None));
        let (known, name) = name_of(&pod, VIP);
        assert_eq!((known, name.bytes()), (Ok(()), &b"greeter.shop.svc.cluster.local"[..]));
        assert_eq!(name_of(&pod, "10.1.0.1").0, Err(Why::NotInMesh), "headless");
        assert_eq!(name_of(&pod, "192.0.2.1").0, Err(Why::NotInMesh));
    }

    #[test]
    fn without_configuration_a_reverse_lookup_waits_and_calls_for_a_leader() {
        let pod = MemoryPod::empty();
        let before = shm::now();
        assert_eq!(name_of(&pod, VIP).0, Err(Why::NoImage));
        assert!(shm::now() - before >= 30);
        assert!(pod.called.load(Ordering::Relaxed) > 0);
    }
}
